"""Series and history: every row known once, newest first, nothing twice, nothing mixed."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
import trio

from piker import clock
from piker.clock import NS, ClockSpec
from piker.data._sharedmem import open_shm_array
from piker.errors import ConnectionLost, DataUnavailable, NoData
from piker.model.bars import BAR_DTYPE, FILLED, PARTIAL, REPAIRED
from piker.storage.bars import open_bar_store
from piker.tsp._bars import BarBuilder
from piker.tsp.history import HistoryLoader
from piker.tsp.series import BarSeries

NOW_S = 1_700_000_000 // 60 * 60 + 30
FQME = "btcusdt.spot.binance"


@pytest.fixture(autouse=True)
def standing_clock():
    """Let the run's clock stand at NOW_S."""
    clock.use_source(lambda: ClockSpec(NOW_S * NS, 1 << 62, 1.0))
    yield
    clock.use_source(lambda: None)


class Venue:
    """A venue's bars by formula: the close of a bar is its open time."""

    def __init__(self, period_s: int, first_s: int = 0) -> None:
        self.period_s = period_s
        self.first_s = first_s
        self.asked: list[tuple[int, int]] = []
        self.failures: list[Exception] = []
        self.holes: set[int] = set()

    async def get_hist(self, timeframe, end_dt=None, start_dt=None):
        await trio.lowlevel.checkpoint()
        start_s, stop_s = int(start_dt.timestamp()), int(end_dt.timestamp())
        self.asked.append((start_s, stop_s))
        if self.failures:
            raise self.failures.pop(0)
        if stop_s <= self.first_s:
            raise DataUnavailable("nothing earlier")
        times = [
            time_s
            for time_s in range(-(-start_s // self.period_s) * self.period_s, stop_s, self.period_s)
            if time_s >= self.first_s and time_s not in self.holes
        ]
        if not times:
            raise NoData("nothing here")
        rows = bars(times)
        return rows, datetime.fromtimestamp(times[0], UTC), datetime.fromtimestamp(times[-1], UTC)


def bars(times, flags=0):
    rows = np.zeros(len(times), BAR_DTYPE)
    rows["time"] = times
    for name in ("open", "high", "low", "close"):
        rows[name] = times
    rows["volume"] = rows["count"] = 1
    rows["flags"] = flags
    return rows


@pytest.fixture
def make(tmp_path: Path):
    """Make `(series, loader, venue, events)` of one period."""
    made = []

    def build(period_s=60, size=2000, days=1.0, venue=None):
        events = []
        array = open_shm_array(
            f"{FQME}.p{period_s}", size, shm_dir=tmp_path, run_id="test", actor="datad"
        )
        made.append(array)
        builder = BarBuilder(period_s, Decimal("0.001"))
        series = BarSeries(FQME, period_s, array, builder, events.append, clock.now_s)
        venue = venue or Venue(period_s)
        store = open_bar_store(tmp_path / "bars")
        loader = HistoryLoader(
            series, venue.get_hist, {"erlangs": 2}, store, days, events.append, "test"
        )
        return series, loader, venue, events

    yield build
    for array in made:
        array.unlink()
        array.close()


async def load(loader: HistoryLoader) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(loader.run)
        with trio.fail_after(5):
            while not loader.is_done:
                await trio.sleep(0.01)
        nursery.cancel_scope.cancel()


def assert_dense(series: BarSeries) -> None:
    assert set(np.diff(series.array.array["time"])) <= {series.period_s}


# ---- series -------------------------------------------------------------------------------


def test_history_before_the_live_rows_is_joined_with_placeholders(make):
    series, *_ = make()
    minute = NOW_S // 60 * 60
    series.apply(series.builder.add_trade(5, minute * NS, 7.0, 1.0))
    series.put_history(bars(range(minute - 600, minute - 120, 60)))
    rows = series.array.array
    assert_dense(series)
    assert rows["time"].tolist() == list(range(minute - 600, minute + 60, 60))
    assert rows["flags"][-3:].tolist() == [FILLED | PARTIAL, FILLED | PARTIAL, PARTIAL]
    assert series.unknown_ranges(minute, 1000) == [(minute - 120, minute)]


def test_a_fetched_bar_replaces_unknown_rows_only(make):
    series, *_ = make()
    minute = NOW_S // 60 * 60
    series.apply(series.builder.add_trade(5, minute * NS, 7.0, 1.0))
    series.put_history(bars(range(minute - 600, minute - 120, 60)))
    fetched = bars(range(minute - 600, minute + 60, 60))
    fetched["close"] = 1.0
    assert series.repair(fetched) == 2
    rows = series.array.array
    assert rows["close"].tolist()[-4:] == [minute - 180, 1.0, 1.0, 7.0]
    assert rows["flags"].tolist()[-3:] == [REPAIRED, REPAIRED, PARTIAL]
    assert series.unknown_ranges(minute, 1000) == []


def test_rows_that_wait_for_their_trades_are_not_repaired_from_bars(make):
    series, *_ = make(period_s=1)
    builder = series.builder
    series.apply(builder.add_trade(1, NOW_S * NS, 7.0, 1.0))
    series.apply(builder.rebuild([], [], [], [], first_tid=None, last_tid=0))
    series.apply(builder.mark_lost())
    series.apply(builder.add_trade(9, (NOW_S + 5) * NS, 8.0, 1.0))
    series.apply(builder.announce(NOW_S + 10))
    assert series.unknown_ranges(NOW_S + 10, 100) == []
    [gap] = builder.gaps
    series.apply(builder.give_up(gap))
    assert series.unknown_ranges(NOW_S + 10, 100)


def test_flat_rows_go_on_from_fresh_history_in_a_quiet_market(make):
    series, *_ = make(period_s=1)
    series.put_history(bars(range(NOW_S - 20, NOW_S)))
    series.apply(series.builder.announce(NOW_S + 2))
    rows = series.array.last(3)
    assert rows["time"].tolist() == [NOW_S, NOW_S + 1, NOW_S + 2]
    assert rows["close"].tolist() == [NOW_S - 1] * 3


def test_stale_history_is_not_continued_row_by_row(make):
    series, *_ = make(period_s=1)
    series.put_history(bars(range(NOW_S - 2000, NOW_S - 1000)))
    series.apply(series.builder.announce(NOW_S))
    assert series.last_time == NOW_S - 1001
    series.apply(series.builder.add_trade(1, NOW_S * NS, 7.0, 1.0))
    assert_dense(series)
    assert series.last_time == NOW_S


def test_more_history_than_fits_keeps_the_newest(make):
    series, *_ = make(size=50)
    minute = NOW_S // 60 * 60
    series.put_history(bars(range(minute - 600, minute, 60)))
    series.put_history(bars(range(minute - 60_000, minute - 600, 60)))
    assert series.count == 50
    assert series.last_time == minute - 60
    assert_dense(series)


def test_rewritten_ranges_are_told_once_joined(make):
    series, _, _, events = make()
    minute = NOW_S // 60 * 60
    series.put_history(bars(range(minute - 120, minute, 60)))
    series.put_history(bars(range(minute - 600, minute - 120, 60)))
    series.flush_dirty()
    series.flush_dirty()
    told = [event for event in events if event["event"] == "dirty"]
    assert told == [{"event": "dirty", "period_s": 60, "t0": minute - 600, "t1": minute, "rev": 1}]


def test_only_known_rows_are_handed_to_the_store_and_once(make):
    series, *_ = make(period_s=1)
    builder = series.builder
    series.apply(builder.add_trade(1, NOW_S * NS, 7.0, 1.0))
    series.apply(builder.add_trade(2, (NOW_S + 3) * NS, 7.0, 1.0))
    assert series.take_unsaved(NOW_S + 3)["time"].tolist() == [NOW_S + 1, NOW_S + 2]
    series.apply(builder.rebuild([], [], [], [], first_tid=None, last_tid=0))
    assert series.take_unsaved(NOW_S + 3)["time"].tolist() == [NOW_S]
    assert len(series.take_unsaved(NOW_S + 3)) == 0


# ---- loader -------------------------------------------------------------------------------


async def test_backfill_goes_from_the_newest_to_the_oldest_and_is_stored(make):
    series, loader, venue, events = make(days=1.2, size=2000)
    await load(loader)
    assert series.last_time == NOW_S // 60 * 60 - 60
    assert series.count >= 1.2 * 1440 - 1
    assert_dense(series)
    assert venue.asked[0][1] > max(stop_s for _, stop_s in venue.asked[1:])
    stored = loader.store.load(FQME, 60)
    assert stored["time"].tolist() == series.array.array["time"].tolist()
    done = [event for event in events if event["event"] == "load"][-1]
    assert done["done"]
    assert done["have"] == done["total"]


async def test_stored_rows_are_not_fetched_again(make):
    series, loader, venue, _ = make(days=1.0)
    minute = NOW_S // 60 * 60
    loader.store.append(FQME, 60, bars(range(minute - 86_400, minute - 72_000, 60)), "old")
    await load(loader)
    assert_dense(series)
    assert series.count == 1440
    latest, *older = venue.asked
    assert min(start_s for start_s, _ in older) == minute - 72_000
    assert latest[1] > minute


async def test_what_the_array_has_no_room_for_goes_into_the_store_only(make):
    series, loader, *_ = make(days=2.0, size=1000)
    await load(loader)
    assert series.count <= 1000
    stored = loader.store.load(FQME, 60)
    assert len(stored) >= 2 * 1440 - 2
    assert np.all(np.diff(stored["time"]) == 60)


async def test_the_venues_beginning_ends_the_backfill(make):
    minute = NOW_S // 60 * 60
    series, loader, *_ = make(days=5.0, size=10_000, venue=Venue(60, first_s=minute - 90_000))
    await load(loader)
    assert series.first_time == minute - 90_000


async def test_a_lost_connection_is_asked_again_and_said(make):
    series, loader, venue, events = make(days=0.5)
    venue.failures = [ConnectionLost("venue: reset")]
    await load(loader)
    assert series.count >= 719
    assert loader.statistics()["retries"] == 1
    assert any(event.get("cause") == "venue: reset" for event in events)


async def test_holes_of_the_venue_are_accepted_as_flat_after_some_tries(make):
    minute = NOW_S // 60 * 60
    venue = Venue(60)
    venue.holes = {minute - 600, minute - 660}
    series, loader, *_ = make(days=0.5, venue=venue)
    await load(loader)
    assert series.unknown_ranges(minute, 1000) == [(minute - 660, minute - 540)]
    for _ in range(6):
        await loader.repair_once()
    assert series.unknown_ranges(minute, 1000) == []
    rows = series.array.slice_time(minute - 660, minute - 540)
    assert rows["flags"].tolist() == [FILLED, FILLED]
    assert rows["close"].tolist() == [minute - 720, minute - 720]


async def test_a_hole_that_the_venue_fills_later_is_repaired(make):
    minute = NOW_S // 60 * 60
    venue = Venue(60)
    venue.holes = {minute - 600}
    series, loader, *_ = make(days=0.5, venue=venue)
    await load(loader)
    venue.holes = set()
    assert await loader.repair_once() == 1
    row = series.array.slice_time(minute - 600, minute - 540)[0]
    assert row["close"] == minute - 600
    assert row["flags"] == REPAIRED
