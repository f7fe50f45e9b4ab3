"""
Boots and teardowns: none hangs, nothing is left on the machine, two runs never meet.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest
import trio
from helpers import open_test_pikerd

from piker.data.feed import open_feed
from piker.service import rpc
from system.harness import (
    descendants,
    free_port,
    is_soak,
    leftovers,
    open_pikerd,
    open_process,
    open_venue,
    pid_of,
    piker_json,
    processes_of,
    read_line,
    rounds,
    run_file,
    scripts,
    segments,
    sockets,
    until,
)

pytestmark = pytest.mark.tree

MARKETS = ["btcusdt.spot.binance", "ethusdt.spot.binance"]


async def test_boots_in_one_process_leave_nothing(tmp_path: Path) -> None:
    descriptors = 0
    for group in rounds(1, 5):  # a venue each: ten cold starts a minute is what its limits bear
        state = tmp_path / f"venue{group}"
        async with open_venue(state, "--synthetic", "--seed", "7") as venue:
            for number in range(10 if is_soak() else 5):
                with trio.fail_after(30):
                    async with open_test_pikerd(venues={"binance": venue.url}):
                        run = await boot_with_a_consumer()
                assert not segments(run) + sockets(run), f"round {group}.{number}"
                left = descendants(os.getpid(), besides=venue.process.pid)
                assert not left, f"round {group}.{number}"
            # The first boots open what the process keeps (log files, caches).
            held = len(os.listdir("/proc/self/fd"))
            assert not descriptors or held <= descriptors
            descriptors = held


async def boot_with_a_consumer() -> str:
    """Open a feed on two markets, read until ticks come; return the run's id."""
    async with (
        open_feed(MARKETS) as feed,
        feed.flumes[MARKETS[0]].open_ticks() as ticks,
    ):
        run = rpc.run_id()
        assert segments(run)
        async for batch in ticks:
            if len(batch):
                break
    return run


async def test_boots_as_processes_with_a_chart_leave_nothing(tmp_path: Path) -> None:
    piker, _ = scripts()
    async with open_venue(tmp_path / "venue", "--synthetic", "--seed", "7") as venue:
        state = tmp_path / "state"
        for _ in rounds(3, 50):
            with trio.fail_after(60):
                async with open_pikerd(state, venue):
                    run = run_file(state)
                    assert run is not None
                    chart = [*piker, "chart", MARKETS[0], "--no-browser"]
                    async with open_process(chart, state, log=tmp_path / "chart.log") as process:
                        url = await read_line(process)
                        assert "http://127.0.0.1:" in url
                        await until(lambda: pid_of(state, "datad.binance"), "datad.binance runs")
            left = await until(
                lambda: leftovers(state, run["run_id"]) == [], "nothing is left", seconds=2
            )
            assert left


async def test_sigkill_of_pikerd_ends_all_descendants_within_two_seconds(tmp_path: Path) -> None:
    state = tmp_path / "state"
    async with (
        open_venue(tmp_path / "venue", "--synthetic", "--seed", "7") as venue,
        open_pikerd(state, venue) as pikerd,
    ):
        assert await piker_json(state, "quote", MARKETS[0])
        tree = descendants(pikerd.pid)
        assert len(tree) >= 2, "samplerd and datad.binance run"
        pikerd.send_signal(signal.SIGKILL)
        await until(lambda: not descendants_alive(tree), "all descendants are gone", seconds=2)


def descendants_alive(pids: list[int]) -> list[int]:
    """Return those of `pids` that still run (a zombie counts as gone)."""
    alive = []
    for pid in pids:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if state not in "ZX":
            alive.append(pid)
    return alive


async def test_two_runs_side_by_side_never_disturb_each_other(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    async with open_venue(tmp_path / "venue", "--synthetic", "--seed", "7") as venue:
        async with open_pikerd(first, venue):
            assert await piker_json(first, "quote", MARKETS[0])
            run, before = run_file(first), set(processes_of(first))
            assert run is not None
            held = segments(run["run_id"])
            async with open_pikerd(second, venue):
                assert await piker_json(second, "quote", MARKETS[1])
                rows = await piker_json(second, "services")
                assert {row["name"] for row in rows} >= {"pikerd", "samplerd", "datad.binance"}
            assert set(processes_of(first)) == before
            assert segments(run["run_id"]) == held
            assert await piker_json(first, "quote", MARKETS[0])


async def test_a_second_pikerd_on_one_state_folder_says_who_has_it(tmp_path: Path) -> None:
    _, pikerd = scripts()
    state = tmp_path / "state"
    async with open_pikerd(state) as first:
        done = await trio.run_process(
            [*pikerd, "-c", str(state), "--port", str(free_port())],
            check=False,
            capture_stderr=True,
        )
        text = done.stderr.decode()
        assert done.returncode == 1
        assert str(first.pid) in text, text
        assert len(text.strip().splitlines()) == 1, text


def test_the_harness_runs_the_scripts_of_this_environment() -> None:
    assert all(Path(command[0]).exists() for command in scripts()), sys.executable
