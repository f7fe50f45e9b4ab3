"""
A private run outlives its clients while it holds orders, and says so to whoever pressed Ctrl-C.

`holder_kind` stands for emsd: it says how many orders it holds, no more.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path

import holder_kind as kind
import psutil
import pytest
import trio
import trio.testing
from helpers import TEST_CONF, free_port, open_test_pikerd

from piker import config
from piker.cli.pikerd import any_journal
from piker.errors import ServiceUnavailable
from piker.service import _mngr, open_piker_runtime
from piker.service._actor_runtime import _end_when_unused
from piker.service._attach import describe_use
from piker.service._mngr import Attached
from piker.service._registry import connect
from piker.service._run_file import RunInfo, claim_folder, read_run
from piker.service.private import open_run
from piker.service.rpc import HEARTBEAT_S

KIND = ("holder_kind",)


@pytest.fixture
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PRIVATE_FIRST_S", "PRIVATE_IDLE_S"):
        monkeypatch.setattr(f"piker.service._actor_runtime.{name}", 0.3)


async def test_a_private_run_stays_while_orders_are_held(short_waits: None) -> None:
    async with open_test_pikerd(root_modules=KIND) as (_, _, _, services):
        addr = await kind.spawn_holder(2)
        with trio.move_on_after(1.5) as staying:
            await _end_when_unused(services)
        assert staying.cancelled_caught, "it ended although two orders are held"
        assert services.held_orders == 2
        async with connect(addr) as emsd:
            await emsd.run(kind.hold, held=0)
        with trio.fail_after(3):
            await _end_when_unused(services)
        assert services.stop_requested.is_set()


async def test_what_a_daemon_that_is_away_holds_is_not_forgotten() -> None:
    async with open_test_pikerd(root_modules=KIND) as (_, _, _, services):
        assert services.held_orders == 0
        await kind.spawn_holder(2)
        with trio.fail_after(3):
            while services.held_orders != 2:
                await trio.sleep(0.02)
        unit = services.service_tasks["emsd"]
        assert unit.pid is not None
        os.kill(unit.pid, signal.SIGKILL)
        with trio.fail_after(1):
            while services.held_orders is not None:
                await trio.sleep(0.001)
        unit._state = "degraded"  # as after a storm of restarts
        assert unit.is_up or services.held_orders == 2


async def test_an_order_placed_just_now_counts_as_held() -> None:
    async with open_test_pikerd(root_modules=KIND) as (_, _, _, services):
        address = await kind.spawn_holder(0)
        with trio.fail_after(3):
            while services.held_orders != 0:
                await trio.sleep(0.02)
        await services.service_tasks["emsd"].beat.wait()
        async with connect(address) as emsd:
            await emsd.run(kind.hold, held=2)
        assert (await describe_use())["held"] == 2


async def test_what_is_held_is_asked_for_and_not_waited_for() -> None:
    async with open_test_pikerd(root_modules=KIND) as (_, _, _, services):
        address = await kind.spawn_holder(1)
        async with connect(address) as emsd:
            for held in range(20):
                await emsd.run(kind.hold, held=held)
                with trio.fail_after(HEARTBEAT_S / 2):
                    assert await services.hear_orders() == held


async def test_nobody_says_what_an_order_daemon_that_gives_no_answer_holds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_mngr, "HEAR_ORDERS_S", 0.2)
    async with open_test_pikerd(root_modules=KIND) as (_, _, _, services):
        await kind.spawn_holder(1)
        assert await services.hear_orders() == 1
        unit = services.service_tasks["emsd"]
        assert unit.pid is not None
        os.kill(unit.pid, signal.SIGSTOP)
        assert await services.hear_orders() is None
        os.kill(unit.pid, signal.SIGCONT)


async def test_an_order_daemon_that_dies_when_it_is_asked_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_mngr, "HEAR_ORDERS_S", 30.0)
    async with open_test_pikerd(root_modules=KIND) as (_, _, _, services):
        await kind.spawn_holder(1)
        unit = services.service_tasks["emsd"]
        assert unit.pid is not None
        os.kill(unit.pid, signal.SIGSTOP)
        async with trio.open_nursery() as nursery:

            async def kill() -> None:
                await trio.testing.wait_all_tasks_blocked()
                os.kill(unit.pid or 0, signal.SIGKILL)

            nursery.start_soon(kill)
            with trio.fail_after(3):
                assert await services.hear_orders() is None


# ---- Ctrl-C at a client ----

RUN = """
import signal, sys, trio
from pathlib import Path
import holder_kind as kind
from piker.service import open_pikerd
async def main():
    async with open_pikerd([("127.0.0.1", int(sys.argv[1]))], private=True,
                           root_modules=["holder_kind"]) as services:
        await kind.spawn_holder(int(sys.argv[2]))
        with trio.open_signal_receiver(signal.SIGTERM) as signals:
            Path(sys.argv[3]).touch()
            async for _ in signals:
                return
trio.run(main)
"""
LEAVE = """
import trio
import piker.service._boot
from piker.service.private import leave_private_run
async def main():
    await leave_private_run(lambda text: print(text, flush=True))
    print("left", flush=True)
trio.run(main)
"""


@contextmanager
def started(folder: Path, code: str, *args: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", code, *args],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=os.environ | {"PIKER_CONFIG_DIR": str(folder)},
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@asynccontextmanager
async def private_run(folder: Path, held: int) -> AsyncIterator[RunInfo]:
    (folder / "conf.toml").write_text(TEST_CONF)
    up = folder / f"up{held}"
    with started(folder, RUN, str(free_port()), str(held), str(up)) as process:
        with trio.fail_after(15):
            while not up.exists():
                assert process.poll() is None
                await trio.sleep(0.02)
        run = read_run(folder / "run")
        assert run is not None
        yield run


async def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    with trio.fail_after(15):
        return (await trio.to_thread.run_sync(process.stdout.readline)).rstrip("\n")


def runs(run: RunInfo) -> bool:
    return psutil.pid_exists(run.pid) and (psutil.Process(run.pid).status() != psutil.STATUS_ZOMBIE)


async def test_ctrl_c_says_what_stays_armed_and_a_second_one_ends_it_too(tmp_path: Path) -> None:
    async with private_run(tmp_path, 3) as run:
        with started(tmp_path, LEAVE) as client:
            said = await line(client)
            assert said.startswith("3 orders and alerts stay armed: pikerd (pid ")
            client.send_signal(signal.SIGINT)
            assert (await line(client)).startswith("Stopped: nothing is watched until")
            assert await line(client) == "left"
            assert client.wait() == 0
        with trio.fail_after(5):
            while runs(run):
                await trio.sleep(0.05)


async def test_without_a_second_ctrl_c_the_run_stays(tmp_path: Path) -> None:
    async with private_run(tmp_path, 1) as run:
        with started(tmp_path, LEAVE) as client:
            assert (await line(client)).startswith("1 order or alert stays armed")
            assert await line(client) == "left"
        assert runs(run)


async def test_nothing_is_said_when_nothing_is_held_or_others_are_there(tmp_path: Path) -> None:
    async with private_run(tmp_path, 0):
        with started(tmp_path, LEAVE) as client:
            assert await line(client) == "left"
    async with private_run(tmp_path, 2) as run, open_piker_runtime("chart", [run.address]):
        with started(tmp_path, LEAVE) as client:
            assert await line(client) == "left"


# ---- the next start ----


async def test_a_client_waits_out_a_run_that_is_just_ending(tmp_conf: Path) -> None:
    (tmp_conf / "conf.toml").write_text(TEST_CONF + f"[network]\nport = {free_port()}\n")
    released = False
    with ExitStack() as ending:
        ending.enter_context(claim_folder(tmp_conf / "run"))
        async with trio.open_nursery() as nursery:

            async def end() -> None:
                nonlocal released
                await trio.sleep(0.5)
                released = True
                ending.close()

            nursery.start_soon(end)
            async with open_run("bot"):
                assert released
                run = read_run(tmp_conf / "run")
                assert run is not None
                assert run.private
    os.kill(run.pid, signal.SIGTERM)
    with trio.fail_after(5):
        while runs(run):
            await trio.sleep(0.05)


async def test_a_run_that_ends_takes_no_client_and_is_not_found() -> None:
    async with open_test_pikerd() as (_, _, _, services):
        services.stop_requested.set()
        with pytest.raises(ServiceUnavailable, match="the run ends right now"):
            services.attach(Attached("chart", "chart", 1, 1, ("chart", "x")))
        folder = config.run_dir()
        assert read_run(folder) is not None
    assert read_run(folder) is None


def test_a_start_knows_by_its_journals_that_there_may_be_orders(
    tmp_conf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not any_journal()
    (tmp_conf / "venues" / "demo" / "journal" / "binance.paper").mkdir(parents=True)
    assert not any_journal(), "another venue's orders are another run's"
    (tmp_conf / "brokers.toml").write_text("[binance]\nvenue_url = 'http://127.0.0.1:1#demo'\n")
    assert any_journal()
