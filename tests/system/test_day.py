"""
A day of market time through small rings: every bar equals the venue's, one row a period.
"""

from __future__ import annotations

from pathlib import Path

import httpx
import numpy as np
import pytest
import trio
from helpers import open_test_pikerd

from piker import clock
from piker.data.feed import Flume, open_feed
from piker.model.bars import FILLED, PARTIAL
from piker.model.ticks import GAP
from system.harness import is_soak, open_venue

pytestmark = pytest.mark.tree

MARKET = "btcusdt.spot.binance"
CONF = "[data]\nring_1s = 7200\nring_1m = 600\nbackfill_1s_days = 0.01\nbackfill_1m_days = 0.1\n"


class Rows:
    """Every closed row that was seen of one array, by its time; a changed row replaces itself."""

    def __init__(self, period_s: int) -> None:
        self.period_s = period_s
        self.by_time: dict[int, np.void] = {}
        self.duplicates = 0

    def take(self, array: np.ndarray) -> None:
        """Keep the closed rows of `array`; count times that stand twice in it."""
        self.duplicates += len(array) - len(np.unique(array["time"]))
        for row in array[:-1]:
            self.by_time[int(row["time"])] = row


async def follow(flume: Flume, rows: Rows, until_ns: int) -> None:
    """Read the array every quarter of its roll until the run's clock reaches `until_ns`."""
    size = 7200 if rows.period_s == 1 else 600
    step_ns = size * rows.period_s * clock.NS // 4
    while clock.now_ns() < until_ns:
        await clock.sleep_until_ns(min(clock.now_ns() + step_ns, until_ns))
        shm = flume.rt_shm if rows.period_s == 1 else flume.hist_shm
        rows.take(shm.array)


async def count_gaps(flume: Flume, gaps: list[int], task_status: trio.TaskStatus[None]) -> None:
    """Follow the ring eagerly across every roll; keep what was lost."""
    async with flume.open_ticks() as ticks:
        task_status.started()
        async for batch in ticks:
            gaps += [int(row["tid"]) for row in batch[batch["type"] == GAP]]


async def venue_bars(url: str, period_s: int, first_s: int, last_s: int) -> dict[int, list[str]]:
    """Return the venue's own bars `{time: [open, high, low, close, volume, count]}` of a range."""
    found: dict[int, list[str]] = {}
    name = {1: "1s", 60: "1m"}[period_s]
    async with httpx.AsyncClient(trust_env=False, base_url=url, timeout=60) as client:
        start_ms = first_s * 1000
        while start_ms <= last_s * 1000:
            query = {"symbol": "BTCUSDT", "interval": name, "startTime": start_ms, "limit": 1000}
            answer = await client.get("/api/v3/klines", params=query)
            if answer.status_code == 429:
                await trio.sleep(float(answer.headers.get("retry-after", "1")))
                continue
            rows = answer.raise_for_status().json()
            if not rows:
                break
            for row in rows:
                found[row[0] // 1000] = [*row[1:6], row[8]]
            start_ms = rows[-1][0] + period_s * 1000
    return found


def assert_equal(rows: Rows, venue: dict[int, list[str]], first_s: int, last_s: int) -> int:
    """Compare every closed bar of a range field by field; returns how many were compared."""
    period = rows.period_s
    first_s += -first_s % period
    last_s -= last_s % period
    assert rows.duplicates == 0
    wrong = []
    times = range(first_s, last_s, period)
    for time in times:
        row = rows.by_time.get(time)
        if row is None:
            wrong.append(f"{time}: missing")
            continue
        if time not in venue or venue[time][5] == 0:
            if not row["flags"] & FILLED:
                wrong.append(f"{time}: {row}, the venue has nothing")
            continue
        *prices, volume, count = venue[time]
        ours = [row[name] for name in ("open", "high", "low", "close")]
        same = [float(price) for price in prices] == ours and int(count) == row["count"]
        if not same or round(row["volume"] * 1e5) != round(float(volume) * 1e5):
            wrong.append(f"{time}: {row}, the venue has {venue[time]}")
        elif row["flags"] & PARTIAL:
            wrong.append(f"{time}: still partial")
    assert not wrong, f"{len(wrong)} of {len(times)} bars differ: {wrong[:5]}"
    return len(times)


async def test_every_bar_of_a_fast_day_equals_the_venues(tmp_path: Path) -> None:
    hours, speed = (24, 200) if is_soak() else (2, 400)
    options = ("--synthetic", "--seed", "11", "--speed", str(speed), "--start-in", "4")
    seconds = hours * 3600 / speed + 120
    with trio.fail_after(seconds):
        async with open_venue(tmp_path / "venue", *options) as venue:
            assert venue.clock is not None
            spec = clock.parse_spec(venue.clock)
            gaps: list[int] = []
            async with open_test_pikerd(
                venues={"binance": venue.url}, clock=spec, conf=CONF, seconds=seconds
            ):
                async with open_feed([MARKET]) as feed:
                    flume = feed.flumes[MARKET]
                    first_s = clock.now_ns() // clock.NS + 60
                    until_ns = (first_s + hours * 3600) * clock.NS
                    second, minute = Rows(1), Rows(60)
                    async with trio.open_nursery() as nursery:
                        await nursery.start(count_gaps, flume, gaps)
                        async with trio.open_nursery() as readers:
                            readers.start_soon(follow, flume, second, until_ns)
                            readers.start_soon(follow, flume, minute, until_ns)
                        await clock.sleep_until_ns(until_ns + 10 * clock.NS)
                        second.take(flume.rt_shm.array)
                        minute.take(flume.hist_shm.array)
                        nursery.cancel_scope.cancel()
            last_s = first_s + hours * 3600 - 120
            for rows in (second, minute):
                theirs = await venue_bars(venue.url, rows.period_s, first_s, last_s)
                assert assert_equal(rows, theirs, first_s, last_s) > 0
            assert not gaps, "an eager reader goes on across the roll without a loss"
