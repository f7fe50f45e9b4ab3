"""
A daemon that supervises others: restarts, rows of the table, and nothing left behind.

`nested_kind` runs one `sleeperd` below a daemon of its own.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import holder_kind
import msgspec
import nested_kind as kind
import psutil
import pytest
import sleeper_kind
import trio
from helpers import open_test_pikerd

from piker.errors import ServiceUnavailable
from piker.service._actor_runtime import _end_when_unused
from piker.service._mngr import Services
from piker.service._procfs import start_ticks
from piker.service._units import Unit

KIND = ("nested_kind",)


async def wait_until(is_so: Callable[[], Any], seconds: float = 5) -> None:
    with trio.fail_after(seconds):
        while not is_so():
            await trio.sleep(0.02)


def row(services: Services, name: str) -> dict[str, Any]:
    return next((row for row in services.table() if row["name"] == name), {})


def gone(pids: list[int]) -> bool:
    alive = [psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)]
    return not [p for p in alive if p.status() != psutil.STATUS_ZOMBIE]


async def test_a_supervised_daemon_has_its_row_in_the_runs_table() -> None:
    async with open_test_pikerd(root_modules=KIND) as (_, _, _, services):
        async with kind.maybe_spawn_nestd() as portal:
            pid = await portal.run(kind.get_inner_pid)
            await wait_until(lambda: row(services, "sleeperd.inner").get("stats"))
            found = row(services, "sleeperd.inner")
            assert (found["kind"], found["pid"]) == ("sleeperd", pid)
            assert (found["state"], found["restarts"]) == ("ready", 0)
            assert found["stats"] == {"pid": pid}
            assert found["address"].startswith("127.0.0.1:")
            names = [row["name"] for row in services.table()]
            assert names == ["pikerd", "nestd", "sleeperd.inner"]


async def test_a_supervised_daemon_is_restarted_by_its_own_supervisor() -> None:
    async with open_test_pikerd(root_modules=KIND) as (_, _, _, services):
        async with kind.maybe_spawn_nestd() as portal:
            outer, inner = row(services, "nestd")["pid"], await portal.run(kind.get_inner_pid)
            for lives in (1, 2):
                os.kill(inner, signal.SIGKILL)
                again = await portal.run(kind.get_inner_pid)
                assert again != inner
                inner = again
                restarted = {"restarts": lives, "state": "ready", "pid": inner}
                await wait_until(
                    lambda r=restarted: r.items() <= row(services, "sleeperd.inner").items()
                )
            assert row(services, "nestd")["pid"] == outer
            assert row(services, "nestd")["restarts"] == 0


async def test_a_supervised_row_is_never_ready_without_its_process() -> None:
    async with open_test_pikerd(root_modules=KIND) as (_, _, _, services):
        async with kind.maybe_spawn_nestd() as portal:
            inner = await portal.run(kind.get_inner_pid)
            await wait_until(lambda: row(services, "sleeperd.inner").get("pid") == inner)
            os.kill(inner, signal.SIGKILL)
            while start_ticks(inner) is not None:  # nothing else runs: its supervisor is not heard
                pass
            dead = {"state": "restarting", "pid": 0, "address": "", "uptime_s": 0.0}
            assert dead.items() <= row(services, "sleeperd.inner").items()


async def test_a_supervised_daemon_goes_with_its_supervisor_and_comes_back_with_it() -> None:
    async with open_test_pikerd(root_modules=KIND) as (_, _, _, services):
        async with kind.maybe_spawn_nestd() as portal:
            inner = await portal.run(kind.get_inner_pid)
        os.kill(row(services, "nestd")["pid"], signal.SIGKILL)
        await wait_until(lambda: gone([inner]), 2)
        async with kind.maybe_spawn_nestd() as portal:
            again = await portal.run(kind.get_inner_pid)
            await wait_until(lambda: row(services, "sleeperd.inner").get("pid") == again)
        assert len([r for r in services.table() if r["name"] == "sleeperd.inner"]) == 1
    assert gone([inner, again])


async def test_an_inner_daemon_that_does_not_start_says_why_through_both() -> None:
    async with open_test_pikerd(root_modules=KIND):
        with pytest.raises(ServiceUnavailable, match=r"this one never starts"):
            async with kind.maybe_spawn_nestd("broken"):
                pass


async def test_a_stopped_inner_daemon_does_not_outlive_the_tree() -> None:
    async with open_test_pikerd(root_modules=KIND):
        async with kind.maybe_spawn_nestd() as portal:
            inner = await portal.run(kind.get_inner_pid)
            os.kill(inner, signal.SIGSTOP)
    await wait_until(lambda: gone([inner]), 1)


async def test_a_stopped_inner_daemon_does_not_outlive_its_killed_supervisor() -> None:
    async with open_test_pikerd(root_modules=KIND) as (_, _, _, services):
        async with kind.maybe_spawn_nestd() as portal:
            inner = await portal.run(kind.get_inner_pid)
            await wait_until(lambda: row(services, "sleeperd.inner").get("pid") == inner)
        os.kill(inner, signal.SIGSTOP)
        os.kill(row(services, "nestd")["pid"], signal.SIGKILL)
        await wait_until(lambda: gone([inner]), 4)


RUN = """
import trio
import holder_kind
import msgspec
import nested_kind as kind
from helpers import open_test_pikerd
async def main():
    async with open_test_pikerd(root_modules=("nested_kind",)) as (_, _, _, services):
        async with kind.maybe_spawn_nestd() as portal:
            await portal.run(kind.get_inner_pid)
            print("up", flush=True)
            await trio.sleep_forever()
trio.run(main)
"""


async def test_sigkill_of_pikerd_ends_grandchildren_within_two_seconds() -> None:
    pikerd = subprocess.Popen(
        [sys.executable, "-c", RUN], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    try:
        assert pikerd.stdout is not None
        assert await trio.to_thread.run_sync(pikerd.stdout.readline) == b"up\n"
        tree = psutil.Process(pikerd.pid).children(recursive=True)
        assert sorted(p.name() for p in tree) == ["nestd", "sleeperd.inner"]
        pikerd.kill()
        await wait_until(lambda: gone([p.pid for p in tree]), 2)
    finally:
        pikerd.kill()
        pikerd.communicate()


async def test_a_supervised_row_is_no_client_of_a_private_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("PRIVATE_FIRST_S", "PRIVATE_IDLE_S"):
        monkeypatch.setattr(f"piker.service._actor_runtime.{name}", 0.5)
    async with open_test_pikerd(root_modules=KIND) as (_, _, _, services):
        async with kind.maybe_spawn_nestd():
            await wait_until(lambda: services.attached)
            with trio.fail_after(3):
                await _end_when_unused(services)
            assert services.stop_requested.is_set()


async def test_the_order_daemon_stops_before_the_daemons_it_uses() -> None:
    gone_in_order: list[str] = []

    async def note(unit: Unit) -> None:
        await unit.done.wait()
        gone_in_order.append(unit.name)

    async with trio.open_nursery() as nursery:
        async with open_test_pikerd(root_modules=("holder_kind", "sleeper_kind")) as opened:
            services = opened[3]
            await holder_kind.spawn_holder(1)
            for name in ("a", "b"):
                await sleeper_kind.spawn_sleeperd(name)
            for unit in services.service_tasks.values():
                nursery.start_soon(note, unit)
    assert gone_in_order == ["emsd", "sleeperd.b", "sleeperd.a"]
    with pytest.raises(ServiceUnavailable, match="its supervisor ends"):
        await services.ensure(sleeper_kind.sleeperd_init("c", "calm"))


async def test_a_late_heartbeat_is_said_before_the_daemon_is_called_hung(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("piker.service._units.ALARM_S", 1.5)
    spec = msgspec.structs.replace(sleeper_kind.sleeperd_init("a", "calm"), hang_s=30.0)

    def state() -> str:
        return str(row(services, "sleeperd.a")["state"])

    async with open_test_pikerd() as (_, _, _, services):
        await services.ensure(spec)
        pid = row(services, "sleeperd.a")["pid"]
        os.kill(pid, signal.SIGSTOP)
        await wait_until(lambda: state() == "degraded")
        assert row(services, "sleeperd.a")["cause"] == "no heartbeat for 1.5 s"
        os.kill(pid, signal.SIGCONT)
        await wait_until(lambda: state() == "ready")
        assert row(services, "sleeperd.a")["pid"] == pid
