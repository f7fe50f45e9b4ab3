"""The page's pure modules in a real browser: golden vectors, numbers, calendar, frames, camera."""

import json
from pathlib import Path

import numpy as np
import pytest

from piker.ui import frames

pytestmark = pytest.mark.browser
GOLDEN = json.loads((Path(__file__).parents[1] / "golden_ladder.json").read_text())


def test_slots_blocks_and_levels_equal_the_golden_vectors(module):
    slots = module(
        "ladder.js",
        "rows => rows.map(([t, p]) => { const s = m.slotOf(t, p);"
        " return [t, p, s, m.blockOf(s), m.timeOf(s, p)]; })",
        GOLDEN["slots"],
    )
    assert slots == GOLDEN["slots"]
    levels = module(
        "ladder.js", "rows => rows.map(([p, s]) => [p, s, m.rungFor(p, s)])", GOLDEN["levels"]
    )
    assert levels == GOLDEN["levels"]


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (61250, 1, "61\u2009250.0"),
        (-0.25, 2, "\u22120.25"),
        (0.0000012345, 10, "0.0₅12345"),
        (1234567.5, 2, "1\u2009234\u2009567.50"),
        (0, 2, "0.00"),
        (None, 2, "–"),
    ],
)
def test_prices_are_written_with_thin_spaces_a_true_minus_and_counted_zeros(
    module, value, digits, text
):
    assert (
        module("num.js", "([v, d]) => m.formatPrice(v === null ? NaN : v, d)", [value, digits])
        == text
    )


@pytest.mark.parametrize(
    ("least", "tick", "step"), [(0.3, 0.25, 0.5), (0.1, 0.25, 0.25), (46, 0.1, 50)]
)
def test_price_steps_are_whole_multiples_of_the_tick(module, least, tick, step):
    assert module("num.js", "([a, b]) => m.niceStep(a, b)", [least, tick]) == pytest.approx(step)


def test_snapping_keeps_the_ticks_digits(module):
    assert module("num.js", "() => [m.snap(61250.149, 0.1), m.snap(1.37, 0.25)]") == [
        61250.1,
        1.25,
    ]


def test_an_hour_that_happens_twice_is_labelled_twice(module):
    ticks = module(
        "cal.js",
        "([t0, t1]) => m.timeTicks(t0, t1, 120 / 3600, 110, 'America/New_York', 60)",
        [1762056000, 1762074000],  # 2025-11-02 00:00 to 05:00 EDT/EST
    )
    labels = [tick["label"] for tick in ticks]
    assert labels.count("01:00") == 2
    assert labels[0] == "2 Nov"


def test_days_begin_at_local_midnight_across_dst(module):
    ticks = module(
        "cal.js",
        "() => m.timeTicks(1743120000, 1743379200, 120 / 86400, 110, 'Europe/Berlin', 3600)",
    )  # 2025-03-28 to 03-31; clocks go forward on the 30th
    assert np.diff([tick["t"] for tick in ticks]).tolist() == [86400, 82800]


@pytest.mark.parametrize(
    ("text", "t"), [("-3d", 1_732_147_237 - 259200), ("2024-11-03 14:30", 1730644200), ("x", None)]
)
def test_a_typed_date_is_a_time_or_nothing(module, text, t):
    assert module("cal.js", "x => m.parseWhen(x, 1732147237, 'UTC')", text) == t


def test_periods_can_be_typed(module):
    texts = ["15", "30s", "4h", "1d", "x"]
    assert module("ladder.js", "x => x.map(m.parsePeriod)", texts) == [
        900,
        30,
        14400,
        86400,
        None,
    ]


def test_a_block_is_read_as_it_was_packed(module):
    columns = np.arange(18, dtype=float).reshape(6, 3)
    data = frames.pack_block(
        columns, chan=2, seq=9, gen=7, rung=60, key=123, ver=5, rev=4, flags=frames.COMPLETE
    )
    read = module(
        "frames.js",
        "x => { const f = m.decode(new Uint8Array(x).buffer);"
        " return {...f, t: [...f.t], v: [...f.v], o: 0, h: 0, l: 0, c: 0}; }",
        list(data),
    )
    expected = {"kind": 1, "flags": 1, "chan": 2, "seq": 9, "gen": 7, "n": 3, "rung": 60}
    assert {k: read[k] for k in expected} == expected
    assert (read["key"], read["ver"], read["rev"]) == (123, 5, 4)
    assert (read["t"], read["v"]) == (columns[0].tolist(), columns[5].tolist())


def test_a_cut_or_foreign_frame_is_no_frame(module):
    data = frames.pack_block(
        np.ones((6, 3)), chan=1, seq=1, gen=1, rung=60, key=1, ver=1, rev=1, flags=0
    )
    foreign = bytes([1, 2]) + data[2:]
    for broken in (data[:39], data[:-1], foreign):
        read = module("frames.js", "x => m.decode(new Uint8Array(x).buffer)", list(broken))
        assert read is None


def test_zooming_keeps_the_place_under_the_pointer(module):
    before, after = module(
        "view.js",
        "() => { const v = m.makeView(60); v.right = 1000;"
        " const a = m.posAt(v, 800, 300); m.zoomAt(v, 800, 300, 1.7);"
        " return [a, m.posAt(v, 800, 300)]; }",
    )
    assert after == pytest.approx(before)


def test_y_zoom_is_reversible(module):
    span = module(
        "view.js",
        "() => { const v = m.makeView(60); v.lo = 100; v.hi = 110;"
        " for (let i = 0; i < 20; i += 1) m.zoomY(v, 1.3, 0.3, 101, 109);"
        " for (let i = 0; i < 20; i += 1) m.zoomY(v, 1 / 1.3, 0.3, 101, 109);"
        " return [v.lo, v.hi]; }",
    )
    assert span == pytest.approx([100, 110])


def test_the_block_cache_stays_within_its_budget(module):
    held = module(
        "cache.js",
        "() => { const c = new m.BlockCache(1000); for (let i = 0; i < 50; i += 1) {"
        " c.put('k' + i, { bytes: 100 }); c.get('k0'); }"
        " return [c.bytes, c.map.has('k0'), c.map.size]; }",
    )
    assert held == [1000, True, 10]


def test_every_key_of_the_sheet_is_bound_once(module):
    keys = module("keys.js", "() => m.keyTable().flatMap(e => e.keys)")
    assert len(keys) == len(set(keys))
