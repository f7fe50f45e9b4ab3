"""
Seeded faults against a running tree, one after the other; after each the data is live again, and
at the end every bar equals the venue's.

`make chaos SECONDS=600 SEED=1` runs the long form; the same seed plays the same faults.
"""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

from system.harness import (
    VenueProcess,
    discard_output,
    open_pikerd,
    open_process,
    open_venue,
    pid_of,
    piker_json,
    scripts,
)

pytestmark = pytest.mark.tree

MARKET = "btcusdt.spot.binance"
SECONDS = float(os.environ.get("PIKER_CHAOS_SECONDS", "20"))
SEED = int(os.environ.get("PIKER_CHAOS_SEED", "1"))
ROUND_S = 12.0  # a daemon that lives shorter than 10 s counts against its restart intensity
HEALED_MAX_S = 20.0


async def kill(state: Path, venue: VenueProcess, name: str) -> None:
    """End a daemon by SIGKILL."""
    if pid := pid_of(state, name):
        os.kill(pid, signal.SIGKILL)


async def pause(state: Path, venue: VenueProcess, name: str) -> None:
    """Stop a daemon for two seconds."""
    if pid := pid_of(state, name):
        os.kill(pid, signal.SIGSTOP)
        await trio.sleep(2)
        os.kill(pid, signal.SIGCONT)


async def fault(state: Path, venue: VenueProcess, **what: Any) -> None:
    """Let the venue misbehave on its open sockets or its next requests."""
    async with httpx.AsyncClient(trust_env=False, base_url=venue.url) as client:
        (await client.post("/venue/faults", json=what)).raise_for_status()


Action = tuple[Callable[..., Awaitable[None]], dict[str, Any]]
ACTIONS: list[Action] = [
    (kill, {"name": "datad.binance"}),
    (kill, {"name": "samplerd"}),
    (pause, {"name": "datad.binance"}),
    (fault, {"kind": "close", "where": "socket"}),
    (fault, {"kind": "reset", "where": "socket"}),
    (fault, {"kind": "half_frame", "where": "socket"}),
    (fault, {"kind": "rubbish", "where": "socket"}),
    (fault, {"kind": "html", "path": "/api/v3/klines"}),
    (fault, {"kind": "status", "path": "/api/v3", "status": 429, "retry_after_s": 1}),
]


async def newest(state: Path) -> dict[str, Any]:
    """Return the market's quote as a person would ask for it."""
    (row,) = await piker_json(state, "quote", MARKET)
    return dict(row)


async def wait_healed(state: Path, since_ns: int, what: str) -> None:
    """Return when the feed is live with data newer than `since_ns`."""
    seen: Any = None
    with trio.move_on_after(HEALED_MAX_S):
        while True:
            try:
                seen = await newest(state)
            except AssertionError as refused:  # the command said in one line why it cannot
                seen = refused
            else:
                if seen["state"] == "live" and seen["time_ns"] > since_ns:
                    return
            await trio.sleep(0.3)
    pytest.fail(f"seed {SEED}: not live within {HEALED_MAX_S} s of {what}: {seen}")


async def venue_bars(venue: VenueProcess) -> dict[int, list[float]]:
    """Return the venue's own last minute bars as `{time: [o, h, l, c, v]}`."""
    query = {"symbol": "BTCUSDT", "interval": "1m", "limit": "30"}
    async with httpx.AsyncClient(trust_env=False, base_url=venue.url) as client:
        rows = (await client.get("/api/v3/klines", params=query)).raise_for_status().json()
    return {row[0] // 1000: [float(value) for value in row[1:6]] for row in rows}


@pytest.mark.timeout(max(300, 3 * SECONDS))
async def test_chaos_leaves_every_bar_equal_to_the_venues(tmp_path: Path) -> None:
    rng = random.Random(SEED)
    piker, _ = scripts()
    state = tmp_path / "state"
    chart = [*piker, "chart", MARKET, "--no-browser"]  # a client that stays all the time
    async with (
        open_venue(tmp_path / "venue", "--synthetic", "--seed", str(SEED)) as venue,
        open_pikerd(state, venue),
        open_process(chart, state, log=tmp_path / "chart.log") as client,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(discard_output, client)
        await wait_healed(state, 0, "the start")
        ends_at = trio.current_time() + SECONDS
        while trio.current_time() < ends_at:
            act, options = rng.choice(ACTIONS)
            begun, before = trio.current_time(), await newest(state)
            await act(state, venue, **options)
            await wait_healed(state, before["time_ns"], f"{act.__name__} {options}")
            await trio.sleep(max(0.0, begun + ROUND_S - trio.current_time()))
        # Ours first: a minute that ends in between is then closed in both, or in theirs alone.
        ours = await piker_json(state, "bars", MARKET, "-n", "20")
        theirs = await venue_bars(venue)
        nursery.cancel_scope.cancel()
    assert not [row for row in ours if row["is_partial"]]
    names = ("open", "high", "low", "close", "volume")
    wrong = [
        (row["time"], mine, theirs[row["time"]])
        for row in ours
        if (mine := [row[name] for name in names]) != pytest.approx(theirs[row["time"]], abs=1e-9)
    ]
    assert not wrong, f"seed {SEED}: {wrong}"
