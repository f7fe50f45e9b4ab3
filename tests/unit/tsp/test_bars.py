"""Bars from trades: against a naive oracle, against recordings, and rule by rule."""

from __future__ import annotations

import gzip
import json
import os
import random
from collections import defaultdict
from decimal import Decimal
from pathlib import Path

import pytest

from piker.model.bars import FILLED, PARTIAL, REPAIRED
from piker.tsp._bar_rows import BarChanges, BarRow
from piker.tsp._bars import BarBuilder
from piker.tsp._trade_ids import TradeIds

NS = 1_000_000_000
TICK = Decimal("0.00001")
T0 = 1_723_161_240  # a full minute

Trade = tuple[int, int, float, float]  # tid, venue time, price, size


class Rows:
    """What an array would hold: rows by time, in the order they were appended."""

    def __init__(self) -> None:
        self.rows: dict[int, BarRow] = {}
        self.closed: list[BarRow] = []
        self.newest = 0
        self.revisions: dict[int, int] = defaultdict(int)

    def apply(self, changes: BarChanges) -> None:
        for row in changes.updated:
            assert row.time in self.rows, "an update is of a row that is there"
            self.rows[row.time] = row
            self.revisions[row.time] += 1
        for row in changes.appended:
            assert row.time > self.newest, "rows are appended in order"
            self.rows[row.time] = row
            self.newest = row.time
        self.closed += [row for _, row in changes.closed]

    def __getitem__(self, time_s: int) -> BarRow:
        return self.rows[time_s]


def at(second: float) -> int:
    return T0 * NS + round(second * NS)


def columns(trades: list[Trade]) -> list[tuple]:  # type: ignore[type-arg]
    return [*zip(*trades, strict=True)] if trades else [(), (), (), ()]


def oracle(trades: list[Trade], period_s: int) -> dict[int, tuple]:  # type: ignore[type-arg]
    """Bars from all trades at once; a dict by bar, nothing clever."""
    groups: dict[int, list[Trade]] = defaultdict(list)
    for trade in trades:
        groups[trade[1] // NS // period_s * period_s].append(trade)
    out = {}
    for epoch, group in groups.items():
        group.sort(key=lambda t: (t[1], t[0]))
        prices = [t[2] for t in group]
        volume = sum((Decimal(repr(t[3])) for t in group), Decimal(0))
        bar = (prices[0], max(prices), min(prices), prices[-1], float(volume), len(group))
        out[epoch] = bar
    close = None
    for epoch in range(min(groups), max(groups), period_s):
        close = out[epoch][3] if epoch in groups else close
        out.setdefault(epoch, (close, close, close, close, 0.0, 0))
    return out


def random_trades(seed: int, count: int, mean_gap_s: float) -> list[Trade]:
    rng = random.Random(seed)
    time_ns, price, out = T0 * NS, 61_000.0, []
    for tid in range(1000, 1000 + count):
        time_ns += int(rng.expovariate(1 / mean_gap_s) * NS)
        price = round(price + rng.choice((-0.01, 0, 0.01, 0.5, -0.5)), 2)
        out.append((tid, time_ns, price, round(rng.random() * 3 + 1e-5, 5)))
    return out


def shuffled(trades: list[Trade], seed: int, within_s: float) -> list[Trade]:
    """Order of arrival: each trade up to `within_s` of venue time behind the newest."""
    rng = random.Random(seed)
    head, tail = trades[:1], trades[1:]
    return head + sorted(tail, key=lambda t: t[1] + rng.random() * within_s * NS)


@pytest.mark.parametrize("seed", range(12))
def test_bars_equal_the_oracle_when_trades_arrive_within_two_seconds(seed: int) -> None:
    rng = random.Random(seed)
    trades = random_trades(seed, 600, rng.choice((0.01, 0.2, 1.5)))
    arrivals = shuffled(trades, seed, 1.99)
    for period_s in (1, 60):
        builder, rows, start = BarBuilder(period_s, TICK), Rows(), 0
        while start < len(arrivals):
            stop = start + rng.choice((1, 1, 2, 7, 50))
            batch = arrivals[start:stop]
            rows.apply(builder.add_trades(*columns(batch)))
            if rng.random() < 0.3:  # a clock that runs behind, or up to three seconds ahead
                now_s = batch[-1][1] // NS + rng.randint(-3, 3)
                rows.apply(builder.announce(now_s // period_s * period_s))
            start = stop
        expected = oracle(trades, period_s)
        last = max(expected)
        assert {t: row[1:7] for t, row in rows.rows.items() if t <= last} == expected
        assert builder.statistics().too_late == 0
        for row in rows.rows.values():
            assert bool(row.flags & FILLED) == (row.count == 0)


@pytest.mark.parametrize("batch", [1, 64, 100_000])
def test_recorded_trades_give_the_venues_own_minute_bars(batch: int) -> None:
    trades = _recorded_trades()
    verified = json.loads((_data() / "VERIFIED.json").read_text())
    expected = verified["binance spot btcusdt 2024-08-08/09"]["ohlcv_1m_from_trades"]
    builder, rows = BarBuilder(60, TICK), Rows()
    for start in range(0, len(trades), batch):
        rows.apply(builder.add_trades(*columns(trades[start : start + batch])))
    found = [[row.time * 1000, *row[1:5], row.volume, row.count] for row in rows.rows.values()]
    assert len(found) == 12
    assert found == expected
    assert [row.flags for row in rows.rows.values()] == [PARTIAL] + [0] * 11


def test_recorded_seconds_equal_the_oracle_with_announcements_that_run_behind() -> None:
    trades = _recorded_trades()
    builder, rows = BarBuilder(1, TICK), Rows()
    for start in range(0, len(trades), 37):
        batch = trades[start : start + 37]
        rows.apply(builder.add_trades(*columns(batch)))
        rows.apply(builder.announce(batch[-1][1] // NS - 1))  # venue stamps run 1.3 s ahead
    assert {t: row[1:7] for t, row in rows.rows.items()} == oracle(trades, 1)


def _data() -> Path:
    root = Path(__file__).resolve().parents[3]
    folder = Path(os.environ.get("PIKER_TEST_DATA", root.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"recordings are not at {folder}")
    return folder


def _recorded_trades() -> list[Trade]:
    out = []
    for day in ("20240808", "20240809"):
        path = _data() / "hftbacktest" / "binance-spot" / f"btcusdt_{day}.gz"
        with gzip.open(path, "rt") as lines:
            for line in lines:
                if '"btcusdt@trade"' in line:
                    trade = json.loads(line.partition(" ")[2])["data"]
                    price, size = float(trade["p"]), float(trade["q"])
                    out.append((trade["t"], trade["T"] * 1_000_000, price, size))
    return out


# ---- opening and closing ------------------------------------------------------------------


def test_announcement_closes_the_row_and_opens_a_flat_one() -> None:
    builder, rows = BarBuilder(1, TICK), Rows()
    rows.apply(builder.add_trade(1, at(0.5), 100.0, 1.0))
    rows.apply(builder.announce(T0 + 1))
    assert rows[T0 + 1] == BarRow(T0 + 1, 100.0, 100.0, 100.0, 100.0, 0.0, 0, FILLED)
    assert [row.time for row in rows.closed] == [T0]


def test_announcement_of_an_open_or_passed_epoch_does_nothing() -> None:
    builder, rows = BarBuilder(1, TICK), Rows()
    rows.apply(builder.add_trade(1, at(3.3), 100.0, 1.0))
    for epoch in (T0 + 1, T0 + 2, T0 + 3):
        assert builder.announce(epoch) == BarChanges()


def test_announcement_that_skips_epochs_closes_each_in_turn() -> None:
    builder, rows = BarBuilder(60, TICK), Rows()
    rows.apply(builder.add_trade(1, at(1), 100.0, 1.0))
    rows.apply(builder.announce(T0 + 240))
    assert [*rows.rows] == [T0, T0 + 60, T0 + 120, T0 + 180, T0 + 240]
    assert [row.time for row in rows.closed] == [T0, T0 + 60, T0 + 120, T0 + 180]
    assert all(rows[t].flags == FILLED for t in range(T0 + 60, T0 + 241, 60))


def test_first_trade_past_the_boundary_closes_the_row_without_an_announcement() -> None:
    builder, rows = BarBuilder(1, TICK), Rows()
    rows.apply(builder.add_trade(1, at(0.5), 100.0, 1.0))
    rows.apply(builder.add_trades(*columns([(2, at(0.9), 101.0, 1.0), (3, at(3.0), 102.0, 2.0)])))
    assert rows[T0][1:7] == (100.0, 101.0, 100.0, 101.0, 2.0, 2)
    assert rows[T0 + 1].flags == rows[T0 + 2].flags == FILLED
    assert rows[T0 + 3][1:7] == (102.0, 102.0, 102.0, 102.0, 2.0, 1)


def test_closed_names_the_trade_of_the_batch_that_closed_the_row() -> None:
    builder = BarBuilder(1, TICK)
    batch = [(1, at(0.1), 1.0, 1.0), (2, at(0.2), 2.0, 1.0), (3, at(1.2), 3.0, 1.0)]
    [(n, row)] = builder.add_trades(*columns(batch)).closed
    assert (n, row.time, row.close) == (2, T0, 2.0)


def test_closed_market_gets_no_flat_rows() -> None:
    builder, rows = BarBuilder(60, TICK, is_continuous=False), Rows()
    rows.apply(builder.add_trade(1, at(1), 100.0, 1.0))
    rows.apply(builder.announce(T0 + 60))
    rows.apply(builder.announce(T0 + 120))
    assert [row.time for row in rows.closed] == [T0]
    rows.apply(builder.add_trade(2, at(600), 100.0, 1.0))
    assert [*rows.rows] == [T0, T0 + 600]


def test_seed_gives_flat_rows_their_close_before_the_first_trade() -> None:
    builder, rows = BarBuilder(60, TICK), Rows()
    builder.seed(T0 - 60, 99.0)
    rows.apply(builder.announce(T0 + 60))
    assert [(t, row.close, row.flags) for t, row in rows.rows.items()] == [
        (T0, 99.0, FILLED | PARTIAL),
        (T0 + 60, 99.0, FILLED | PARTIAL),
    ]


def test_stamp_far_ahead_is_rejected_and_fills_no_memory() -> None:
    builder, rows = BarBuilder(1, TICK), Rows()
    rows.apply(builder.add_trade(1, at(0.5), 100.0, 1.0))
    assert builder.add_trade(2, 4_000_000_000 * NS, 1.0, 1.0) == BarChanges()
    assert builder.statistics().rejected == 1
    rows.apply(builder.announce(T0 + 3 * 86_400))
    assert len(rows.rows) == 1 + 86_400 + 1


# ---- late ---------------------------------------------------------------------------------


def test_late_trade_corrects_its_row_and_rebases_the_flat_rows_after() -> None:
    builder, rows = BarBuilder(1, TICK), Rows()
    rows.apply(builder.add_trade(1, at(0.5), 100.0, 1.0))
    rows.apply(builder.announce(T0 + 3))
    rows.apply(builder.add_trade(2, at(0.9), 107.0, 0.5))
    assert rows[T0][1:7] == (100.0, 107.0, 100.0, 107.0, 1.5, 2)
    assert [rows[T0 + i].close for i in (1, 2, 3)] == [107.0] * 3
    assert all(rows.revisions[T0 + i] == 1 for i in range(4))
    rows.apply(builder.add_trade(3, at(2.5), 90.0, 0.5))
    assert [rows[T0 + i].close for i in range(4)] == [107.0, 107.0, 90.0, 90.0]
    assert rows[T0 + 2].flags == 0


def test_late_is_counted_behind_the_newest_venue_time_and_not_behind_the_clock() -> None:
    builder, rows = BarBuilder(1, TICK), Rows()
    rows.apply(builder.add_trade(1, at(0.5), 100.0, 1.0))
    rows.apply(builder.announce(T0 + 30))  # our clock is far ahead of the venue's
    rows.apply(builder.add_trade(2, at(1.5), 101.0, 1.0))
    assert rows[T0 + 1].count == 1
    assert rows[T0 + 30].close == 101.0
    assert builder.statistics().too_late == 0


def test_later_than_two_seconds_is_counted_and_left_to_history() -> None:
    builder, rows = BarBuilder(1, TICK), Rows()
    rows.apply(builder.add_trade(1, at(0.5), 100.0, 1.0))
    rows.apply(builder.add_trade(3, at(2.6), 101.0, 1.0))
    before = rows[T0]
    rows.apply(builder.add_trade(2, at(0.55), 50.0, 1.0))
    assert rows[T0].low == before.low
    assert builder.repairs == [T0]
    assert builder.statistics().too_late == 1
    rows.apply(builder.adopt(T0, 50.0))
    assert builder.repairs == []
    assert rows[T0 + 1].close == 50.0, "flat rows take the close of the row from history"


def test_open_and_close_go_by_venue_time_and_id_and_not_by_arrival() -> None:
    builder, rows = BarBuilder(60, TICK), Rows()
    rows.apply(builder.add_trade(5, at(10), 100.0, 1.0))
    rows.apply(builder.add_trade(7, at(10), 102.0, 1.0))
    rows.apply(builder.add_trade(6, at(10), 101.0, 1.0))
    rows.apply(builder.add_trade(4, at(9), 99.0, 1.0))
    assert rows[T0][1:5] == (99.0, 102.0, 99.0, 102.0)


@pytest.mark.parametrize("tick", ["0.00001", "0.25", "1", "0", "100"])
def test_volume_is_exact_on_the_grid_of_the_size_tick(tick: str) -> None:
    step = Decimal(tick) or Decimal("0.00000001")
    rng = random.Random(4)
    sizes = [step * rng.randint(1, 10**6) for _ in range(5000)]
    builder, rows = BarBuilder(60, Decimal(tick)), Rows()
    for i, size in enumerate(sizes):
        rows.apply(builder.add_trade(i, at(i / 100), 1.0, float(size)))
    assert rows.rows.popitem()[1].volume == float(sum(sizes))


# ---- losses -------------------------------------------------------------------------------


def feed(builder: BarBuilder, rows: Rows, trades: list[Trade]) -> None:
    rows.apply(builder.add_trades(*columns(trades)))


def test_first_row_is_partial_until_rebuilt_from_the_trades_before_it() -> None:
    trades = random_trades(5, 400, 0.5)
    live = trades[150:]
    for period_s in (1, 60):
        builder, rows = BarBuilder(period_s, TICK), Rows()
        feed(builder, rows, live[:100])
        first = min(rows.rows)
        assert rows[first].flags & PARTIAL
        [gap] = builder.gaps
        assert (gap.first_tid, gap.last_tid, gap.t0_s) == (None, live[0][0] - 1, first)
        missed = [t for t in trades[:150] if t[1] >= (first - 60) * NS]
        rows.apply(builder.rebuild(*columns(missed), first_tid=None, last_tid=gap.last_tid or 0))
        feed(builder, rows, live[100:])
        assert builder.gaps == []
        assert rows[first].flags == REPAIRED
        expected = oracle(trades, period_s)
        assert {t: row[1:7] for t, row in rows.rows.items()} == {
            t: bar for t, bar in expected.items() if t >= first
        }


@pytest.mark.parametrize("seed", range(8))
def test_rebuild_after_losses_gives_the_rows_of_an_unbroken_stream(seed: int) -> None:
    rng = random.Random(seed)
    trades = random_trades(seed, 500, 0.4)
    cuts = sorted(rng.sample(range(60, 440), 4))
    stretches = (trades[: cuts[0]], trades[cuts[1] : cuts[2]], trades[cuts[3] :])
    for period_s in (1, 60):
        builder, rows = BarBuilder(period_s, TICK), Rows()
        for stretch in stretches:
            feed(builder, rows, stretch)
            rows.apply(builder.mark_lost())
            rows.apply(builder.announce((stretch[-1][1] // NS + 2) // period_s * period_s))
        lost = builder.gaps[1:]
        assert [(gap.first_tid, gap.last_tid) for gap in lost] == [
            (trades[cuts[0]][0], trades[cuts[1]][0] - 1),
            (trades[cuts[2]][0], trades[cuts[3]][0] - 1),
        ]
        for gap in rng.sample(lost, 2):
            assert gap.last_tid is not None
            assert gap.first_tid is not None
            missed = [t for t in trades if gap.first_tid <= t[0] <= gap.last_tid]
            rng.shuffle(missed)
            rows.apply(
                builder.rebuild(*columns(missed), first_tid=gap.first_tid, last_tid=gap.last_tid)
            )
        expected = oracle(trades, period_s)
        assert {t: row[1:7] for t, row in rows.rows.items() if t in expected} == expected


def broken_stream(trades: list[Trade], rng: random.Random) -> list[Trade | None]:
    """A stream that drops stretches (None: and says so), repeats trades and shuffles a little."""
    out: list[Trade | None] = []
    arrivals = shuffled(trades, rng.randrange(1000), rng.choice((0.0, 0.1)))
    at = 0
    while at < len(arrivals):
        out.append(arrivals[at])
        if rng.random() < 0.02:
            out.append(arrivals[max(0, at - 3)])
        if rng.random() < 0.03:
            at += rng.randint(0, 12)
            out += [None] * rng.randint(0, 1)
        at += 1
    return [*out, *arrivals[-1:]]


@pytest.mark.parametrize("seed", range(10))
def test_bars_equal_the_oracle_through_losses_duplicates_and_rebuilds(seed: int) -> None:
    rng = random.Random(seed)
    trades = random_trades(seed, 300, rng.choice((0.05, 0.4, 2.0)))
    stream = broken_stream(trades, rng)
    for period_s in (1, 60):
        ids, builder, rows, is_lost = TradeIds(), BarBuilder(period_s, TICK), Rows(), True

        def repair(builder: BarBuilder = builder, rows: Rows = rows) -> None:
            gap = rng.choice(builder.gaps)
            assert gap.last_tid is not None
            missed = [t for t in trades if (gap.first_tid or 0) <= t[0] <= gap.last_tid]
            changes = builder.rebuild(
                *columns(missed), first_tid=gap.first_tid, last_tid=gap.last_tid
            )
            rows.apply(changes)

        for trade in stream:
            if trade is None:
                rows.apply(builder.mark_lost())
                is_lost = True
                continue
            admitted = ids.admit(trade[0])
            if admitted is False:
                continue
            if admitted is not True and not is_lost:
                rows.apply(builder.mark_lost())
            is_lost = False
            rows.apply(builder.add_trade(*trade))
            if rng.random() < 0.2:
                epoch = (trade[1] // NS + rng.randint(-3, 2)) // period_s * period_s
                rows.apply(builder.announce(epoch))
            if builder.gaps and rng.random() < 0.05:
                repair()
        while builder.gaps:
            repair()
        expected = {t: bar for t, bar in oracle(trades, period_s).items() if t >= min(rows.rows)}
        assert {t: row[1:7] for t, row in rows.rows.items() if t in expected} == expected
        assert not any(row.flags & PARTIAL for row in rows.rows.values())


def test_rows_of_a_loss_are_partial_and_whole_again_after_the_rebuild() -> None:
    builder, rows = BarBuilder(1, TICK), Rows()
    feed(builder, rows, [(1, at(-1), 9.0, 1.0), (2, at(0.5), 10.0, 1.0)])
    rows.apply(builder.mark_lost())
    rows.apply(builder.announce(T0 + 2))
    feed(builder, rows, [(5, at(3.5), 13.0, 1.0), (6, at(4.5), 14.0, 1.0)])
    assert [rows[T0 + i].flags & PARTIAL for i in range(-1, 5)] == [1 * PARTIAL] + [PARTIAL] * 4 + [
        0
    ]
    rows.apply(
        builder.rebuild(
            *columns([(3, at(0.7), 8.0, 1.0), (4, at(1.5), 11.0, 2.0)]), first_tid=3, last_tid=4
        )
    )
    assert [rows[T0 + i].flags & PARTIAL for i in range(5)] == [0] * 5
    assert rows[T0][1:7] == (10.0, 10.0, 8.0, 8.0, 2.0, 2)
    assert rows[T0 + 1][1:7] == (11.0, 11.0, 11.0, 11.0, 2.0, 1)
    assert rows[T0 + 2][1:7] == (11.0, 11.0, 11.0, 11.0, 0.0, 0)


def test_trade_of_a_gap_that_comes_after_all_is_counted_once() -> None:
    builder, rows = BarBuilder(60, TICK), Rows()
    feed(builder, rows, [(1, at(1), 10.0, 1.0)])
    rows.apply(builder.mark_lost())
    feed(builder, rows, [(4, at(4), 10.0, 1.0), (3, at(3.5), 10.0, 1.0)])
    missed = columns([(2, at(2), 10.0, 1.0), (3, at(3.5), 10.0, 1.0)])
    rows.apply(builder.rebuild(*missed, first_tid=2, last_tid=3))
    feed(builder, rows, [(2, at(2), 10.0, 1.0)])
    assert rows[T0].count == 4


def test_reconnect_that_lost_no_id_leaves_no_partial_row() -> None:
    builder, rows = BarBuilder(1, TICK), Rows()
    feed(builder, rows, [(1, at(-5), 10.0, 1.0), (2, at(0.5), 10.0, 1.0)])
    rows.apply(builder.mark_lost())
    assert rows[T0].flags & PARTIAL
    rows.apply(builder.announce(T0 + 1))
    feed(builder, rows, [(3, at(1.5), 10.0, 1.0)])
    assert rows[T0].flags == rows[T0 + 1].flags == 0


def test_loss_that_is_given_up_leaves_its_rows_partial() -> None:
    builder, rows = BarBuilder(1, TICK), Rows()
    feed(builder, rows, [(1, at(-5), 10.0, 1.0), (2, at(0.5), 10.0, 1.0)])
    rows.apply(builder.mark_lost())
    feed(builder, rows, [(9, at(2.5), 12.0, 1.0)])
    for gap in builder.gaps:
        rows.apply(builder.give_up(gap))
    assert builder.gaps == []
    rows.apply(builder.announce(T0 + 4))
    assert all(rows[T0 + i].flags & PARTIAL for i in (0, 1, 2))
    assert not rows[T0 + 3].flags & PARTIAL


# ---- trade ids ----------------------------------------------------------------------------


def test_trade_ids_drop_duplicates_and_name_jumps() -> None:
    ids = TradeIds()
    assert [ids.admit(tid) for tid in (7, 8, 8, 12, 10, 10, 13)] == [
        True, True, False, (9, 11), True, False, True,
    ]  # fmt: skip
    assert ids.missing == [(9, 9), (11, 11)]
    ids.recovered(9, 11)
    assert ids.missing == []
    assert ids.admit(9) is False
    assert ids.duplicates == 3
