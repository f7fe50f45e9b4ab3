"""What the feed tests share: a venue process, a tree on it, klines as the venue says them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import trio
from helpers import TEST_CONF, open_test_pikerd
from system.harness import VenueProcess, open_venue

from piker.clock import parse_spec
from piker.data.flume import Flume
from piker.model.bars import PARTIAL


@asynccontextmanager
async def open_market_tree(
    folder: Path, *options: str, conf: str = TEST_CONF, seconds: float = 60
) -> AsyncIterator[tuple[VenueProcess, Any]]:
    """Serve a local venue in a process of its own and boot a tree on it; yields it and Services."""
    async with open_venue(folder / "venue", *options) as venue:
        clock = parse_spec(venue.clock) if venue.clock else None
        async with open_test_pikerd(
            venues={"binance": venue.url}, clock=clock, conf=conf, seconds=seconds
        ) as (_, _, _, services):
            yield venue, services


async def fetch_klines(url: str, symbol: str, period_s: int, start_s: int, stop_s: int) -> Any:
    """Return `{open time: [open, high, low, close, volume, count]}` as the venue's REST says."""
    interval = {1: "1s", 60: "1m"}[period_s]
    found = {}
    async with httpx.AsyncClient(trust_env=False, timeout=10) as client:
        for begin_s in range(start_s, stop_s, 1000 * period_s):
            answer = await client.get(
                f"{url}/api/v3/klines",
                params={
                    "symbol": symbol,
                    "interval": interval,
                    "startTime": begin_s * 1000,
                    "endTime": min(stop_s, begin_s + 1000 * period_s) * 1000 - 1,
                    "limit": 1000,
                },
            )
            for row in json.loads(answer.content):
                found[row[0] // 1000] = [float(cell) for cell in row[1:6]] + [int(row[8])]
    return found


async def newest_trade(url: str, symbol: str) -> int:
    """Return the id of the venue's newest trade."""
    async with httpx.AsyncClient(trust_env=False, base_url=url) as client:
        query = {"symbol": symbol, "limit": 1}
        answer = await client.get("/api/v3/trades", params=query)
        return int(answer.raise_for_status().json()[-1]["id"])


async def arm(url: str, **fault: Any) -> None:
    """Have the venue play a fault (`POST /venue/faults`)."""
    async with httpx.AsyncClient(trust_env=False) as client:
        answer = await client.post(f"{url}/venue/faults", json=fault)
        assert answer.status_code == 200, answer.text


async def clear_faults(url: str) -> None:
    """Have the venue play no fault any more."""
    async with httpx.AsyncClient(trust_env=False) as client:
        await client.delete(f"{url}/venue/faults")


def plain_rows(rows: np.ndarray) -> dict[int, list[float]]:
    """Return bars in the form of `fetch_klines`."""
    names = ("open", "high", "low", "close", "volume", "count")
    return {int(row["time"]): [float(row[name]) for name in names] for row in rows}


async def wait_for(what: Callable[[], Any], why: str, seconds: float = 10) -> Any:
    """Return what `what()` gives once it is neither None nor False; fails with `why` in the end."""
    with trio.move_on_after(seconds):
        while (value := what()) is None or value is False:
            await trio.sleep(0.05)
        return value
    raise AssertionError(f"not within {seconds:g} s: {why}")


def known_rows(flume: Flume, period_s: int, count: int) -> np.ndarray | None:
    """Return the newest `count` closed rows when none of them is flagged PARTIAL, else None."""
    rows = flume.shm(period_s).last(count + 4)[:-3][-count:]
    if len(rows) < count or np.any(rows["flags"] & PARTIAL):
        return None
    return rows
