"""What the page holds of a market: which rows win, what is dropped, what is asked again."""

import pytest

pytestmark = pytest.mark.browser

# A store of generation 7, and makers of the frames it takes.
SETUP = """
const { BlockCache } = await import('/cache.js');
const store = new m.Store(new BlockCache(), 1);
const k = 1000, t0 = k * 1024 * 60;
store.setMarket({ gen: 7, rev: 4, first: {'60': t0, '1': null},
  last: {'60': t0 + 600, '1': null} });
const block = (n, ver, extra = {}) => ({ kind: 1, gen: 7, flags: 0, rung: 60, key: k, n, ver,
  rev: 4, bytes: 40 + 48 * n, t: Float64Array.from({length: n}, (_, i) => t0 + 60 * i),
  ...Object.fromEntries([...'ohlcv'].map(c => [c, new Float64Array(n).fill(ver)])), ...extra });
const row = (i, ver, c = ver) => ({ rung: 60, t: t0 + 60 * i, o: c, h: c, l: c, c, v: 1, ver });
const tail = (...rows) => ({ gen: 7, ver: rows[0].ver, last: 1, rows });
const closes = () => { const out = []; store.visit(60, t0, t0 + 6e6, (b, a, z) => {
  for (let i = a; i < z; i += 1) out.push(b.c[i]); }); const last = store.tail(60);
  return last ? [...out, last.c] : out; };
"""


@pytest.fixture
def run(chromium, module):
    """Runs a script with the store set up and returns its value."""
    return lambda script: module("store.js", f"async () => {{ {SETUP} {script} }}")


def test_a_late_tail_never_overrides_a_newer_block(run):
    assert run(
        "store.addBlock(block(3, 10)); store.addTail(tail(row(2, 9))); return closes();"
    ) == [10, 10, 10]


def test_a_late_block_never_overrides_a_newer_tail(run):
    assert run(
        "store.addTail(tail(row(2, 12))); store.addBlock(block(3, 10)); return closes();"
    ) == [10, 10, 12]


def test_a_bar_that_closed_before_its_block_came_keeps_its_last_value(run):
    script = (
        "store.addTail(tail(row(2, 12), row(3, 12))); store.addBlock(block(3, 10));"
        " store.addTail(tail(row(3, 13))); return closes();"
    )
    assert run(script) == [10, 10, 12, 13]


def test_applying_a_tail_twice_does_no_harm(run):
    script = (
        "store.addBlock(block(3, 10)); const one = tail(row(3, 11));"
        " store.addTail(one); store.addTail(one); return closes();"
    )
    assert run(script) == [10, 10, 10, 11]


def test_a_bar_that_was_skipped_has_its_block_asked_again(run):
    script = (
        "store.addBlock(block(3, 10)); store.addTail(tail(row(2, 11)));"
        " store.addTail(tail(row(6, 12))); return store.missing(60, k, k, []);"
    )
    assert run(script) == [1000]


def test_a_bar_that_is_known_late_takes_its_place_between_others(run):
    script = (
        "const at = (...rows) => Float64Array.from(rows, i => t0 + 60 * i);"
        " store.addBlock(block(3, 10, { t: at(0, 1, 3) })); store.addTail(tail(row(4, 11)));"
        " store.addTail(tail(row(2, 12), row(3, 13)));"
        " return [closes(), Array.from(at(0, 1, 2, 3)).every((t, i) =>"
        " store.cache.peek(store.keyOf(60, k)).t[i] === t)];"
    )
    assert run(script) == [[10, 10, 12, 13, 11], True]


def test_a_block_read_before_a_repair_is_ignored(run):
    script = (
        "store.addBlock(block(3, 10)); store.setDirty({ t0, t1: t0 + 60, rev: 5 });"
        " const asked = store.missing(60, k, k, []);"
        " const old = store.addBlock(block(3, 11));"
        " const fresh = store.addBlock(block(3, 12, { rev: 5 }));"
        " return [asked, old, fresh, store.counts.ignored];"
    )
    assert run(script) == [[1000], False, True, 1]


def test_another_generation_keeps_the_rows_dimmed_and_asks_for_all(run):
    script = (
        "store.addBlock(block(3, 10)); store.setMarket({ gen: 8, rev: 1, first: {'60': t0},"
        " last: {'60': t0 + 600} }); const held = closes();"
        " const asked = store.missing(60, k, k, []);"
        " return [held.length, store.dimmed, asked, store.addBlock(block(3, 11))];"
    )
    assert run(script) == [3, True, [1000], False]


def renewed(script):
    """Rows 0 to 3 of generation 7, the last one forming, then the market of generation 8."""
    return (
        "store.addBlock(block(3, 10)); store.addTail(tail(row(3, 900)));"
        " store.setMarket({ gen: 8, rev: 1, first: {'60': t0}, last: {'60': t0 + 600} });"
        f" const next = (...rows) => ({{ ...tail(...rows), gen: 8 }}); {script}"
    )


def test_another_generation_holds_the_last_bar_and_price_until_a_row_comes(run):
    script = renewed(
        "const held = [store.tail(60).c, store.tail(60).held, store.l1.last, store.l1.held];"
        " store.addTail(next(row(3, 2))); return [held, store.tail(60).c, store.l1.held];"
    )
    assert run(script) == [[900, True, 1, True], 2, None]


def test_a_held_bar_is_replaced_by_an_older_row_and_never_patched_in(run):
    script = renewed("store.addTail(next(row(5, 2))); return closes();")
    assert run(script) == [10, 10, 10, 2]
    script = renewed("store.addTail(next(row(1, 2))); return closes();")
    assert run(script) == [10, 2]


def test_a_new_block_goes_beyond_a_held_bar(run):
    script = renewed("store.addBlock(block(6, 3, { gen: 8 })); return closes();")
    assert run(script) == [3] * 6


def test_a_block_without_rows_is_not_asked_twice(run):
    script = "store.absent.add(store.keyOf(60, k)); return store.missing(60, k - 1, k + 1, []);"
    assert run(script) == []


def test_rows_that_are_no_numbers_are_counted(run):
    script = (
        "store.addBlock(block(3, 10, { h: Float64Array.of(10, NaN, 9) })); return store.counts;"
    )
    assert run(script) == {"nan": 1, "odd": 1, "ignored": 0}


def test_a_filled_gap_replaces_those_reported_inside_it(run):
    script = (
        "const gap = (t0, t1, filled) => store.addGap({ t0, t1, kind: 'feed', n: 0, filled });"
        " gap(10, 20, false); gap(10, 30, false); gap(50, 60, false); gap(5, 40, true);"
        " return store.gaps.map(g => [g.t0, g.t1, g.filled]);"
    )
    assert run(script) == [[50, 60, False], [5, 40, True]]
