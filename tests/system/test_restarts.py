"""
A killed daemon, with a chart open: the page says so, and the candles go on by themselves.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

from system.browser import Page, open_chart
from system.harness import (
    VenueProcess,
    pid_of,
    rounds,
    until,
)

pytestmark = [pytest.mark.tree, pytest.mark.browser]

APART_S = 12.0  # a daemon that lives shorter than 10 s counts against its restart intensity


async def venue_bars(venue: VenueProcess, interval: str, first_s: int) -> dict[int, list[float]]:
    """Return the venue's closed bars since `first_s` as `{time: [o, h, l, c, v]}`."""
    query: dict[str, Any] = {"symbol": "BTCUSDT", "interval": interval, "limit": 1000}
    async with httpx.AsyncClient(trust_env=False, base_url=venue.url) as client:
        answer = await client.get("/api/v3/klines", params=query | {"startTime": first_s * 1000})
        rows = answer.raise_for_status().json()
    return {row[0] // 1000: [float(value) for value in row[1:6]] for row in rows[:-1]}


async def page_bars(page: Page, first_s: int, last_s: int) -> dict[int, list[float]]:
    """Return the bars the page holds for its period as `{time: [o, h, l, c, v]}`."""
    script = "([t0, t1]) => window.piker.debug.bars(t0, t1)"
    bars = await page.evaluate(script, [first_s, last_s])
    return {int(bar["t"]): [bar[name] for name in "ohlcv"] for bar in bars}


async def differences(page: Page, venue: VenueProcess, first_s: int) -> list[str]:
    """Return how the page's closed 1 s bars since `first_s` differ from the venue's."""
    theirs = await venue_bars(venue, "1s", first_s)
    ours = await page_bars(page, first_s, max(theirs))
    return [
        f"{time}: {ours.get(time)} is not {bar}"
        for time, bar in theirs.items()
        if bar[4] and time < max(theirs) - 2 and not same(ours.get(time), bar)
    ]


def same(ours: list[float] | None, theirs: list[float]) -> bool:
    """Whether two bars agree: prices exactly, volume to the size tick."""
    return ours is not None and ours[:4] == theirs[:4] and abs(ours[4] - theirs[4]) < 5e-6


async def test_candles_go_on_after_datad_is_killed(tmp_path: Path) -> None:
    async with open_chart(tmp_path) as (venue, state, page):
        await page.call(lambda tab: (tab.keyboard.type("1s"), tab.keyboard.press("Enter")))
        facts = await page.until(
            lambda facts: facts["period"] == 1 and facts["last"], "the page shows seconds"
        )
        first_s = int(facts["last"]["t"]) - 20
        for _ in rounds(2, 20):
            next_at = trio.current_time() + APART_S
            old = await until(lambda: pid_of(state, "datad.binance"), "datad.binance runs")
            os.kill(old, signal.SIGKILL)
            killed_at = trio.current_time()
            await page.until(lambda facts: facts["feed"] != "live", "the page says so", 3)
            before = (await page.until(lambda facts: facts["last"], "a last bar stands"))["last"]
            await page.until(
                lambda facts, before=before: (
                    facts["feed"] == "live" and facts["last"] and facts["last"]["t"] > before["t"]
                ),
                "candles move again",
                killed_at + 5 - trio.current_time(),
            )
            await trio.sleep(max(0.0, next_at - trio.current_time()))
        left = ["not asked yet"]
        with trio.move_on_after(20):
            while left := await differences(page, venue, first_s):
                await trio.sleep(0.5)
        assert not left


async def test_no_bar_is_missed_when_samplerd_is_killed(tmp_path: Path) -> None:
    async with open_chart(tmp_path) as (venue, state, page):
        await page.call(lambda tab: (tab.keyboard.type("1s"), tab.keyboard.press("Enter")))
        facts = await page.until(
            lambda facts: facts["period"] == 1 and facts["last"], "the page shows seconds"
        )
        first_s = int(facts["last"]["t"]) - 5
        for _ in rounds(2, 20):
            next_at = trio.current_time() + APART_S
            old = await until(lambda: pid_of(state, "samplerd"), "samplerd runs")
            os.kill(old, signal.SIGKILL)
            before = (await page.facts())["last"]
            await page.until(
                lambda facts, before=before: facts["last"]["t"] > before["t"] + 1,
                "candles go on",
                5,
            )
            await trio.sleep(max(0.0, next_at - trio.current_time()))
        last_s = int((await page.facts())["last"]["t"])
        ours = await page_bars(page, first_s, last_s)
        assert [time for time in range(first_s, last_s) if time not in ours] == []
        assert await differences(page, venue, first_s) == []
