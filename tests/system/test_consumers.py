"""
A stopped consumer costs nobody anything, and learns exactly what it missed.
"""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
import trio

from system.harness import (
    is_soak,
    open_pikerd,
    open_process,
    open_venue,
    pid_of,
    rss_kb,
    until,
)

pytestmark = pytest.mark.tree

MARKET = "btcusdt.spot.binance"
CONSUMER = [sys.executable, str(Path(__file__).with_name("consumer.py")), MARKET]
RING_TICKS = 4096
CONF = f"""
[data]
ring_ticks = {RING_TICKS}
ring_1s = 7200
ring_1m = 1440
backfill_1s_days = 0.02
"""


class Watched:
    """What a consumer process has said so far."""

    def __init__(self, process: trio.Process) -> None:
        self.process = process
        self.said: list[dict[str, Any]] = []

    async def read(self) -> None:
        """Collect its lines until it ends."""
        assert self.process.stdout is not None
        text = b""
        while chunk := await self.process.stdout.receive_some(65536):
            *lines, text = (text + chunk).split(b"\n")
            self.said += [json.loads(line) for line in lines]

    def facts(self, name: str) -> list[Any]:
        """Return every value it has said under `name`, oldest first."""
        return [line[name] for line in self.said if name in line]


async def test_a_stopped_consumer_sees_one_gap_with_the_exact_count(tmp_path: Path) -> None:
    stopped_s = 60.0 if is_soak() else 8.0
    state = tmp_path / "state"
    state.mkdir()
    (state / "conf.toml").write_text(CONF)
    options = ("--synthetic", "--seed", "5", "--speed", "60")
    async with (
        open_venue(tmp_path / "venue", *options) as venue,
        open_pikerd(state, venue),
        open_process(CONSUMER, state, log=tmp_path / "a.log") as first,
        open_process(CONSUMER, state, log=tmp_path / "b.log") as second,
        trio.open_nursery() as nursery,
    ):
        stopped, other = Watched(first), Watched(second)
        nursery.start_soon(stopped.read)
        nursery.start_soon(other.read)
        for one in (stopped, other):
            await until(lambda one=one: one.facts("bars"), "the consumer reads", seconds=30)
        datad = pid_of(state, "datad.binance")
        assert datad is not None
        await trio.sleep(30 if is_soak() else 3)  # its caches and first parts are made by then
        memory_before, before = rss_kb(datad), other.facts("ticks")[-1]

        first.send_signal(signal.SIGSTOP)
        await trio.sleep(stopped_s)
        assert other.facts("ticks")[-1] > before + 1000, "others go on"
        # a busy machine makes fewer ticks in that time than the ring holds: then nothing was missed
        turned = before + 2 * RING_TICKS
        await until(lambda: other.facts("ticks")[-1] > turned, "the ring has turned", seconds=60)
        assert rss_kb(datad) - memory_before < 8_000, "datad's memory stays flat"
        first.send_signal(signal.SIGCONT)

        await until(lambda: stopped.facts("gap"), "it learns of the gap")
        await until(lambda: stopped.facts("resumed"), "its throttled stream says it resumed")
        await trio.sleep(3)
        assert len(stopped.facts("gap")) == 1
        assert stopped.facts("holes")[-1] == 0, "the gap's count explains every missing record"
        assert not other.facts("gap")
        assert other.facts("holes")[-1] == 0
        newest = {time: close for time, close in other.facts("bars")[-1][:-2]}
        seen = {time: close for time, close in stopped.facts("bars")[-1][:-2]}
        both = newest.keys() & seen.keys()
        assert len(both) >= 5
        assert all(newest[time] == seen[time] for time in both)
        nursery.cancel_scope.cancel()
