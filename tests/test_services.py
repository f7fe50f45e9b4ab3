"""
The tree: boot, find-or-spawn, restart, teardown, and who may call what.

Daemons are real processes; `sleeper_kind` is a complete kind of its own, so that supervision is
tested without a market. The invariant sentences of the contract are test names.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
import shim_targets
import sleeper_kind as kind
import tractor
import trio
from helpers import TEST_CONF, ensure_service, free_port, open_test_pikerd
from tractor._exceptions import ModuleNotExposed

from piker import config
from piker.errors import ConfigError, ConnectionLost, ServiceUnavailable
from piker.service import (
    _actor_runtime,
    _client,
    _units,
    check_for_service,
    find_service,
    maybe_open_pikerd,
    maybe_spawn_datad,
    open_piker_runtime,
    open_pikerd,
    spawn_datad,
)
from piker.service._registry import probe
from piker.service._run_file import RunInfo, read_run
from piker.service.private import ensure_pikerd
from piker.service.rpc import EXPOSED, service_rows, translate_errors

BOOTS = 5
ROOT = Path(__file__).parent.parent
KIND = ("sleeper_kind",)


def descendants() -> list[psutil.Process]:
    """Return this process's living descendants; a zombie counts as gone."""
    found = psutil.Process().children(recursive=True)
    return [p for p in found if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]


async def wait_until(claim: Callable[[], Any], seconds: float = 5) -> None:
    with trio.fail_after(seconds):
        while not claim():
            await trio.sleep(0.02)


# ---- boot and teardown ----


async def test_runtime_boot() -> None:
    async with open_test_pikerd() as (host, port, _, services):
        async with tractor.wait_for_actor("pikerd") as portal:
            assert portal.channel.raddr == (host, port)
        assert services.service_tasks == {}
        assert await check_for_service("pikerd") == (host, port)
        async with maybe_open_pikerd() as nothing:
            assert nothing is None


async def boot_many(boots: int) -> None:
    files, variables = len(os.listdir("/proc/self/fd")), dict(_actor_runtime.get_runtime_vars())
    for _ in range(boots):
        async with open_test_pikerd(root_modules=KIND):
            async with kind.maybe_spawn_sleeperd("a") as portal:
                assert await portal.run(kind.get_pid) != os.getpid()
    assert descendants() == []
    assert len(os.listdir("/proc/self/fd")) <= files + 1
    assert _actor_runtime.get_runtime_vars() == variables


async def test_boots_and_teardowns_follow_each_other_in_one_process() -> None:
    await boot_many(BOOTS)


@pytest.mark.soak
async def test_fifty_boots_and_teardowns_in_one_process() -> None:
    await boot_many(50)


async def test_a_run_leaves_no_file_behind(tmp_path: Path) -> None:
    async with open_test_pikerd(conf_dir=tmp_path) as (host, port, _, _):
        run = json.loads((tmp_path / "run" / "run.json").read_text())
        assert (run["host"], run["port"], run["pid"]) == (host, port, os.getpid())
        token = tmp_path / "run" / "token"
        assert token.stat().st_mode & 0o777 == 0o600
        assert len(token.read_bytes()) == 32
        assert (tmp_path / "run").stat().st_mode & 0o777 == 0o700
        assert list(config.shm_dir().glob(f"piker.{run['run_id']}.*")), "the run's mark"
    assert [p.name for p in (tmp_path / "run").iterdir()] == ["lock"]
    assert not list(Path("/dev/shm").glob(f"piker.{run['run_id']}.*"))


async def test_an_error_in_the_body_ends_the_tree() -> None:
    with pytest.raises(KeyError):  # noqa: PT012
        async with open_test_pikerd(root_modules=KIND):
            async with kind.maybe_spawn_sleeperd("a"):
                raise KeyError
    assert descendants() == []


# ---- find or spawn ----


async def test_a_daemon_is_found_and_outlives_its_client() -> None:
    async with open_test_pikerd(root_modules=KIND) as (_, _, pikerd, _):
        assert await check_for_service("sleeperd.a") is None
        async with find_service("sleeperd.a") as portal:
            assert portal is None
        async with kind.maybe_spawn_sleeperd("a") as portal:
            first = await portal.run(kind.get_pid)
        addr = await ensure_service("sleeperd.a")
        async with kind.maybe_spawn_sleeperd("a") as portal:
            assert await portal.run(kind.get_pid) == first
        assert tuple(await pikerd.run(kind.spawn_sleeperd, name="a")) == addr
        async with find_service("sleeperd.a") as portal:
            assert await portal.run(kind.get_pid) == first


async def test_a_daemon_that_does_not_start_says_why_and_harms_nobody() -> None:
    async with open_test_pikerd(root_modules=KIND) as (_, _, pikerd, _):
        async with kind.maybe_spawn_sleeperd("a") as sibling:
            with pytest.raises(ServiceUnavailable, match=r"sleeperd\.b does not start: .*never"):
                async with kind.maybe_spawn_sleeperd("b", "broken"):
                    pass
            with translate_errors(), pytest.raises(tractor.RemoteActorError, match="never starts"):
                await pikerd.run(kind.spawn_sleeperd, name="b", mood="broken")
            assert await sibling.run(kind.get_pid)


CLIENT = """
import json, sys, trio
import sleeper_kind as kind
from piker.service import open_piker_runtime
async def main():
    async with open_piker_runtime(sys.argv[1]):
        if "idle" in sys.argv:
            print("joined", flush=True)
            await trio.sleep_forever()
        if "samplerd" in sys.argv:
            from piker.service import maybe_open_samplerd
            async with maybe_open_samplerd() as portal:
                print(portal.channel.uid[1], flush=True)
            return
        async with trio.open_nursery() as nursery:
            async def one():
                async with kind.maybe_spawn_sleeperd("a") as portal:
                    print(await portal.run(kind.get_pid), flush=True)
            for _ in range(3):
                nursery.start_soon(one)
        if len(sys.argv) > 2:
            await trio.sleep_forever()
if __name__ == "__main__":
    trio.run(main)
"""


def start_client(folder: Path, host: str, port: int, *args: str) -> subprocess.Popen[str]:
    script = folder / "client.py"
    script.write_text(CLIENT)
    return subprocess.Popen(
        [sys.executable, str(script), *args],
        env=os.environ | {"PIKER_REGISTRY": f"{host}:{port}", "PIKER_CONFIG_DIR": str(folder)},
        stdout=subprocess.PIPE,
        text=True,
    )


async def read_all(clients: list[subprocess.Popen[str]]) -> list[str]:
    """Return the words that all clients print until they end."""
    said: list[str] = []
    async with trio.open_nursery() as nursery:

        async def one(client: subprocess.Popen[str]) -> None:
            out, _ = await trio.to_thread.run_sync(client.communicate)
            said.extend(out.split())

        for client in clients:
            nursery.start_soon(one, client)
    return said


async def test_find_or_spawn_from_several_processes_spawns_once(tmp_path: Path) -> None:
    async with open_test_pikerd(root_modules=KIND) as (host, port, _, services):
        clients = [start_client(tmp_path, host, port, f"client.{n}") for n in range(3)]
        pids = await read_all(clients)
        assert len(pids) == 9
        assert len(set(pids)) == 1
        os.kill(int(pids[0]), signal.SIGKILL)
        clients = [start_client(tmp_path, host, port, f"client.{n}") for n in range(2)]
        again = await read_all(clients)
        assert len(again) == 6
        assert len(set(again)) == 1
        assert services.service_tasks["sleeperd.a"].lives == 2


# ---- restarts ----


async def test_a_killed_daemon_is_restarted_and_its_registry_entry_replaced() -> None:
    async with open_test_pikerd(root_modules=KIND) as (_, _, _, services):
        async with kind.maybe_spawn_sleeperd("b") as sibling:
            with pytest.raises(ConnectionLost), translate_errors("sleeperd.a"):  # noqa: PT012
                async with kind.maybe_spawn_sleeperd("a") as portal:
                    before = await portal.run(kind.get_pid)
                    os.kill(before, signal.SIGKILL)
                    await portal.run(kind.sleep, seconds=100)
            unit = services.service_tasks["sleeperd.a"]
            await wait_until(lambda: unit.is_up)
            registry = tractor.current_actor()._registry
            assert [name for name, _ in registry].count("sleeperd.a") == 1
            async with kind.maybe_spawn_sleeperd("a") as portal:
                assert await portal.run(kind.get_pid) not in (before, None)
            assert await sibling.run(kind.get_pid)
            await wait_until(lambda: unit.reported)
            row = next(row for row in services.table() if row["name"] == "sleeperd.a")
            assert (row["cause"], row["stats"]) == ("calm", {"pid": unit.pid})
            assert (row["restarts"], row["state"]) == (1, "ready")


async def test_a_row_is_never_ready_without_its_process() -> None:
    def row() -> dict[str, Any]:
        return next(row for row in services.table() if row["name"] == "sleeperd.a")

    async with open_test_pikerd(root_modules=KIND) as (_, _, _, services):
        await services.ensure(kind.sleeperd_init("a", "calm"))
        await wait_until(lambda: row()["cause"] == "calm")
        before = row()["pid"]
        os.kill(before, signal.SIGKILL)
        os.waitid(os.P_PID, before, os.WEXITED | os.WNOWAIT)  # nothing else runs meanwhile
        gone = {"state": "restarting", "pid": 0, "address": "", "uptime_s": 0.0}
        assert gone.items() <= row().items()
        with trio.fail_after(5):
            while row()["state"] == "restarting":
                assert (row()["address"], row()["pid"] == before) == ("", False)
                assert row()["cause"].startswith("sleeperd.a: ")
                await trio.lowlevel.checkpoint()
        assert row()["state"] == "ready"
        assert row()["pid"] not in (0, before)
        assert services.service_tasks["sleeperd.a"].lives == 2


async def test_a_row_of_a_daemon_that_is_stopped_says_so_while_it_ends() -> None:
    async with open_test_pikerd(root_modules=KIND) as (_, _, _, services):
        await services.ensure(kind.sleeperd_init("a", "calm"))
        unit, states = services.service_tasks["sleeperd.a"], []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(unit.stop)
            while not unit.done.is_set():
                found = next(row for row in services.table() if row["name"] == "sleeperd.a")
                states += [(found["state"], bool(found["pid"]))]
                await trio.lowlevel.checkpoint()
        assert set(states) == {("ready", True), ("stopped", False)}


async def test_a_hung_daemon_is_killed_and_restarted() -> None:
    async with open_test_pikerd(root_modules=KIND) as (_, _, _, services):
        async with kind.maybe_spawn_sleeperd("a", "calm") as portal:
            before = await portal.run(kind.get_pid)
            unit = services.service_tasks["sleeperd.a"]
            begun = trio.current_time()
            os.kill(before, signal.SIGSTOP)
            with pytest.raises(ConnectionLost), translate_errors():
                await portal.run(kind.get_pid)
            assert 4 < trio.current_time() - begun < 7
        await wait_until(lambda: unit.is_up and unit.pid != before)
        assert "no heartbeat for 5 s" in str(unit.last_error)


async def test_a_daemon_that_dies_while_it_starts_is_started_again_at_once() -> None:
    async with open_test_pikerd(root_modules=KIND) as (_, _, _, services):
        async with trio.open_nursery() as nursery:

            async def kill_the_first() -> None:
                await wait_until(descendants)
                descendants()[0].kill()

            nursery.start_soon(kill_the_first)
            begun = trio.current_time()
            async with kind.maybe_spawn_sleeperd("a") as portal:
                assert await portal.run(kind.get_pid)
            assert trio.current_time() - begun < 3
        unit = services.service_tasks["sleeperd.a"]
        assert "ended before it could answer" in str(unit.last_error)


async def test_a_daemon_that_is_never_ready_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_units, "SPAWN_S", 1.0)
    async with open_test_pikerd(root_modules=KIND):
        with pytest.raises(ServiceUnavailable, match="within 1 s"):
            async with kind.maybe_spawn_sleeperd("a", "never ready"):
                pass


async def kill_under_load(size: int, kills: int) -> None:
    """SIGKILL a daemon again and again while it streams; nothing else may notice or grow."""
    async with open_test_pikerd(root_modules=KIND, seconds=300) as (_, _, _, services):
        async with kind.maybe_spawn_sleeperd("sibling") as sibling:
            sibling_pid, files = await sibling.run(kind.get_pid), 0
            for n in range(kills):
                with pytest.raises(ConnectionLost), translate_errors():  # noqa: PT012
                    async with (
                        kind.maybe_spawn_sleeperd("a") as portal,
                        portal.open_context(shim_targets.pump, size=size) as (ctx, _),
                        ctx.open_stream(msg_buffer_size=512) as stream,
                    ):
                        pid = await portal.run(kind.get_pid)
                        for _ in range(20):
                            await stream.receive()
                        os.kill(pid, signal.SIGKILL)
                        async for _ in stream:
                            pass
                unit = services.service_tasks["sleeperd.a"]
                await wait_until(lambda u=unit, n=n: u.is_up and u.lives == n + 2)
                unit._short_lives.clear()  # this is not about the storm
                unit._delay_s = _units.BACKOFF_MIN_S
                files = files or len(os.listdir("/proc/self/fd"))
            assert await sibling.run(kind.get_pid) == sibling_pid
            assert len(descendants()) == 2
            assert len(os.listdir("/proc/self/fd")) <= files
            assert len(tractor.current_actor()._contexts) == 2


@pytest.mark.parametrize("size", [100, 3_000_000])
async def test_a_daemon_killed_under_load_harms_nobody(size: int) -> None:
    await kill_under_load(size, kills=3)


@pytest.mark.soak
@pytest.mark.parametrize("size", [100, 1_000_000, 3_000_000])
async def test_thirty_kills_under_load_harm_nobody(size: int) -> None:
    await kill_under_load(size, kills=30)


async def test_datad_spawn() -> None:
    venues = {"binance": "http://127.0.0.1:9#nobody"}
    async with open_test_pikerd(venues=venues) as (_, _, _, services):
        async with maybe_spawn_datad("binance") as portal:
            assert portal.channel.uid[0] == "datad.binance"
        assert await ensure_service("datad.binance")
        row = next(row for row in services.table() if row["name"] == "datad.binance")
        assert (row["kind"], row["venue"]) == ("datad", "http://127.0.0.1:9#nobody")


async def test_an_unknown_broker_is_refused_and_starts_nothing() -> None:
    async with open_test_pikerd() as (_, _, pikerd, services):
        with pytest.raises(tractor.RemoteActorError) as caught:
            await pikerd.run(spawn_datad, brokername="os.path")
        assert caught.value.type is ModuleNotFoundError
        assert services.service_tasks == {}


async def test_a_restart_storm_ends_in_the_degraded_state(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_units, "BACKOFF_MAX_S", 0.02)
    async with open_test_pikerd(root_modules=KIND) as (_, _, _, services):
        async with kind.maybe_spawn_sleeperd("a"):
            pass
        unit = services.service_tasks["sleeperd.a"]
        for life in range(1, _units.RESTARTS_MAX + 1):
            await wait_until(lambda life=life: unit.is_up and unit.lives == life)
            os.kill(unit.pid, signal.SIGKILL)
        await wait_until(lambda: unit.state == "degraded")
        assert "signal 9" in unit.cause
        await trio.sleep(0.3)
        assert unit.state == "degraded"
        async with kind.maybe_spawn_sleeperd("a") as portal:  # a request tries again
            assert await portal.run(kind.get_pid)
        assert unit.state == "ready"


async def test_a_cancelled_service_is_gone() -> None:
    async with open_test_pikerd(root_modules=KIND) as (_, _, _, services):
        async with kind.maybe_spawn_sleeperd("a"):
            pass
        await services.cancel_service("sleeperd.a")
        assert await check_for_service("sleeperd.a") is None
        assert descendants() == []
        with pytest.raises(KeyError):
            await services.cancel_service("sleeperd.a")


async def test_a_stopped_daemon_does_not_hold_up_the_end_of_the_tree() -> None:
    async with open_test_pikerd(root_modules=KIND):
        async with kind.maybe_spawn_sleeperd("a") as portal, kind.maybe_spawn_sleeperd("b"):
            os.kill(await portal.run(kind.get_pid), signal.SIGSTOP)
        begun = trio.current_time()
    assert trio.current_time() - begun < 3
    assert descendants() == []


# ---- clients ----


async def test_a_client_is_listed_until_it_is_killed(tmp_path: Path) -> None:
    async with open_test_pikerd(root_modules=KIND) as (host, port, _, services):
        client = start_client(tmp_path, host, port, "chart", "stay")
        await wait_until(lambda: services.attached)
        row = next(row for row in services.table() if row["name"] == "chart")
        assert (row["kind"], row["pid"], row["state"]) == ("chart", client.pid, "ready")
        client.kill()
        await wait_until(lambda: not services.attached, 1)
        await wait_until(lambda: "chart" not in {n for n, _ in tractor.current_actor()._registry})
        client.communicate()


async def test_a_client_without_pikerd_is_told_at_once(tmp_conf: Path) -> None:
    port = free_port()
    with pytest.raises(ServiceUnavailable, match=f"no pikerd runs at 127.0.0.1:{port}; start one"):
        async with open_piker_runtime("chart", [("127.0.0.1", port)]):
            pass
    listener = await trio.open_tcp_listeners(0, host="127.0.0.1")
    addr = listener[0].socket.getsockname()
    with pytest.raises(ServiceUnavailable, match="some other program"):
        async with open_piker_runtime("chart", [addr]):
            pass
    await listener[0].aclose()


async def test_another_venue_than_the_runs_is_refused() -> None:
    local = {"binance": "http://127.0.0.1:8123#demo"}
    _client.check_venues(local, local)
    with pytest.raises(ConfigError, match=r"this pikerd runs binance on http://127\.0\.0\.1:8123"):
        _client.check_venues(local, {"binance": "http://127.0.0.1:9000"})
    with pytest.raises(ConfigError, match="the official one"):
        _client.check_venues({}, local)


# ---- runs as processes of their own ----


@asynccontextmanager
async def pikerd_process(folder: Path, *args: str) -> AsyncIterator[tuple[psutil.Process, RunInfo]]:
    """Run `pikerd` as the console script does; yields its process and what `run.json` says."""
    folder.mkdir(exist_ok=True)
    (folder / "conf.toml").write_text(TEST_CONF)
    command = [sys.executable, "-c", "from piker._entry import pikerd; pikerd()", *args]
    with (folder / "output").open("wb") as output:
        popen = subprocess.Popen(
            command,
            env=os.environ | {"PIKER_CONFIG_DIR": str(folder)},
            stdout=output,
            stderr=output,
            stdin=subprocess.DEVNULL,
        )
    try:
        await wait_until(lambda: read_run(folder / "run") or popen.poll() is not None, 30)
        run = read_run(folder / "run")
        assert run is not None, (folder / "output").read_text()
        await wait_until_answers(run.address)
        yield psutil.Process(popen.pid), run
    finally:
        popen.kill()
        popen.wait()


async def wait_until_answers(addr: tuple[str, int]) -> None:
    with trio.fail_after(5):
        while not await probe(*addr):
            await trio.sleep(0.02)


async def ask(run: RunInfo, folder: Path, *args: str) -> str:
    """Return what a client of the run prints."""
    return " ".join(await read_all([start_client(folder, run.host, run.port, *args)]))


def gone(processes: list[psutil.Process]) -> bool:
    return not [p for p in processes if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]


async def test_sigkill_of_pikerd_ends_all_descendants_within_two_seconds(tmp_path: Path) -> None:
    async with pikerd_process(tmp_path, "--port", str(free_port())) as (pikerd, run):
        assert await ask(run, tmp_path, "client", "samplerd")
        tree = pikerd.children(recursive=True)
        assert [p.name() for p in tree] == ["samplerd"]
        pikerd.kill()
        await wait_until(lambda: gone(tree), 2)
    async with pikerd_process(tmp_path, "--port", str(free_port())) as (_, again):
        assert again.run_id != run.run_id
        left = list(config.shm_dir().glob(f"piker.{run.run_id}.*"))
        assert left == [], "the next start sweeps what the dead run left"


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
async def test_a_signal_ends_the_tree_in_order(tmp_path: Path, how: signal.Signals) -> None:
    async with pikerd_process(tmp_path, "--port", str(free_port())) as (pikerd, run):
        assert await ask(run, tmp_path, "client", "samplerd")
        tree = [pikerd, *pikerd.children(recursive=True)]
        begun = trio.current_time()
        pikerd.send_signal(how)
        await wait_until(lambda: gone(tree), 3)
        assert trio.current_time() - begun < 3
        assert read_run(tmp_path / "run") is None
        assert not (tmp_path / "run" / "token").exists()
        assert not list(config.shm_dir().glob(f"piker.{run.run_id}.*"))


async def test_two_runs_side_by_side_never_disturb_each_other(tmp_path: Path) -> None:
    port_a, port_b = free_port(), free_port()
    folder_a, folder_b = tmp_path / "a", tmp_path / "b"
    async with pikerd_process(folder_a, "--port", str(port_a)) as (pikerd_a, run_a):
        pid_a = await ask(run_a, folder_a, "client", "samplerd")
        async with pikerd_process(folder_b, "--port", str(port_b)) as (_, run_b):
            pid_b = await ask(run_b, folder_b, "client", "samplerd")
            assert pid_a != pid_b
            assert list(config.shm_dir().glob(f"piker.{run_a.run_id}.*"))
            pikerd_a.kill()
            assert await ask(run_b, folder_b, "client", "samplerd") == pid_b


async def test_a_client_is_listed_again_after_pikerd_was_restarted(tmp_path: Path) -> None:
    port, rows = free_port(), []

    def is_listed() -> bool:
        return "chart" in {row["name"] for row in rows}

    async with pikerd_process(tmp_path, "--port", str(port)) as (pikerd, run):
        client = start_client(tmp_path, run.host, run.port, "chart", "idle")
        assert await trio.to_thread.run_sync(client.stdout.readline) == "joined\n"
        pikerd.kill()
        pikerd.wait()
    async with pikerd_process(tmp_path, "--port", str(port)) as (pikerd, run):
        async with open_piker_runtime("looker", [run.address], attach=False):
            with trio.fail_after(8):
                while not (is_listed() and await check_for_service("chart")):
                    await trio.sleep(0.05)
                    rows = await service_rows()
            client.terminate()
            client.communicate()


async def test_a_signal_shows_what_every_actor_is_doing(tmp_path: Path) -> None:
    async with pikerd_process(tmp_path, "--port", str(free_port())) as (pikerd, run):
        await ask(run, tmp_path, "client", "samplerd")
        (daemon,) = pikerd.children(recursive=True)
        for process, log_file in ((daemon, "logs/samplerd.log"), (pikerd, "output")):
            for how, expected in ((signal.SIGUSR1, "trio tasks"), (signal.SIGUSR2, "Thread 0x")):
                process.send_signal(how)
                text = tmp_path / log_file
                await wait_until(lambda t=text, e=expected: e in t.read_text(errors="replace"))


async def test_services_command_prints_the_table(tmp_path: Path) -> None:
    async def services(*args: str) -> subprocess.CompletedProcess[bytes]:
        return await run_script("piker", tmp_path, "services", *args)

    assert_one_line(await services(), "start one with `pikerd`")
    url = "http://127.0.0.1:8123#demo"
    args = ("--port", str(free_port()), "--venue", f"binance={url}")
    async with pikerd_process(tmp_path, *args) as (pikerd, run):
        await ask(run, tmp_path, "client", "samplerd")
        rows = {row["name"]: row for row in json.loads((await services("--json")).stdout)}
        assert list(rows) == ["pikerd", "samplerd"]
        expected = {"name", "kind", "address", "pid", "uptime_s", "restarts", "state", "cause"}
        assert expected <= set(rows["samplerd"])
        assert rows["pikerd"]["pid"] == pikerd.pid
        assert rows["pikerd"]["venue"] == f"binance={url}"
        assert rows["samplerd"]["state"] == "ready"
        table = (await services()).stdout.decode()
        assert "LOCAL venue of binance: http://127.0.0.1:8123 (demo)" in table
        assert "samplerd" in table


async def test_a_private_pikerd_ends_two_seconds_after_its_last_client(
    tmp_conf: Path, tmp_path: Path
) -> None:
    (tmp_conf / "conf.toml").write_text(TEST_CONF + f"[network]\nport = {free_port()}\n")
    first, second = [], []
    async with trio.open_nursery() as nursery:  # two clients at the same moment

        async def one(into: list[Any]) -> None:
            into.append(await ensure_pikerd({"binance": "http://127.0.0.1:8123#demo"}))

        nursery.start_soon(one, first)
        nursery.start_soon(one, second)
    assert first == second
    run = read_run(tmp_conf / "run")
    assert run is not None
    assert run.private
    with pytest.raises(ConfigError, match="this pikerd runs binance on"):
        await ensure_pikerd({"binance": "http://127.0.0.1:9"})
    pikerd = psutil.Process(run.pid)
    assert os.getsid(run.pid) == run.pid
    async with open_piker_runtime("chart", [run.address]):
        assert (await service_rows())[-1]["name"] == "chart"
        await trio.sleep(2.5)
        assert pikerd.is_running()
    begun = trio.current_time()
    await wait_until(lambda: gone([pikerd]), 5)
    assert trio.current_time() - begun > 1.5


# ---- what the operator may do wrong ----


async def test_a_second_pikerd_on_the_folder_says_who_holds_it(tmp_path: Path) -> None:
    async with open_test_pikerd(conf_dir=tmp_path) as (_, port, _, _):
        result = await run_pikerd(tmp_path, free_port())
        assert result.returncode == 1
        expected = f"pikerd with pid {os.getpid()} already serves it at 127.0.0.1:{port}"
        assert_one_line(result, expected)


async def test_a_port_in_use_is_one_line(tmp_path: Path) -> None:
    async with open_test_pikerd() as (_, port, _, _):
        assert_one_line(await run_pikerd(tmp_path, port), "another run already answers there")
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listeners[0].socket.getsockname()[1]
    assert_one_line(await run_pikerd(tmp_path, port), "another program listens there")
    await listeners[0].aclose()


async def test_a_broken_config_is_named_with_file_line_and_key(tmp_path: Path) -> None:
    (tmp_path / "conf.toml").write_text("[data]\nring_1s = 7200\nring_ticks = 'x'\n")
    expected = "conf.toml:3: [data] ring_ticks: was 'x', expected int"
    assert_one_line(await run_pikerd(tmp_path, free_port()), expected)


async def test_a_missing_or_read_only_folder_is_one_line(tmp_path: Path) -> None:
    assert_one_line(await run_pikerd(tmp_path / "nosuch", free_port()), "mkdir -p")
    (tmp_path / "file").write_text("")
    assert_one_line(await run_pikerd(tmp_path / "file", free_port()), "state folder")
    assert_one_line(await run_pikerd(Path("/proc/self"), free_port()), "cannot be written")


async def test_a_full_shm_names_the_needed_and_the_free_size(
    tmp_conf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = os.statvfs_result((4096, 4096, 10, 1, 1, 0, 0, 0, 0, 255))
    monkeypatch.setattr(os, "statvfs", lambda path: full)
    with pytest.raises(ConfigError, match=r"0 MiB are free, one market needs \d+ MiB"):
        async with open_pikerd([("127.0.0.1", free_port())]):
            pass


async def run_script(name: str, folder: Path, *args: str) -> subprocess.CompletedProcess[bytes]:
    with trio.fail_after(30):
        return await trio.run_process(
            [sys.executable, "-c", f"from piker._entry import {name}; {name}()", *args],
            env=os.environ | {"PIKER_CONFIG_DIR": str(folder)},
            capture_stdout=True,
            capture_stderr=True,
            check=False,
        )


async def run_pikerd(folder: Path, port: int) -> subprocess.CompletedProcess[bytes]:
    return await run_script("pikerd", folder, "--port", str(port))


def assert_one_line(result: subprocess.CompletedProcess[bytes], expected: str) -> None:
    lines = result.stderr.decode().strip().splitlines()
    assert result.returncode == 1, lines
    assert len(lines) == 1, lines
    assert expected in lines[0]


# ---- invariants ----


def test_root_modules_resolve() -> None:
    for name in _actor_runtime._root_modules:
        importlib.import_module(name)
    expected = {"piker.brokers._daemon", "piker.data._daemon", "piker.data._sampling"}
    assert expected <= set(_actor_runtime._root_modules)


async def test_any_call_into_a_disabled_module_is_refused_with_a_clear_error() -> None:
    async with open_test_pikerd(root_modules=KIND):
        async with kind.maybe_spawn_sleeperd("a") as portal:
            with pytest.raises(ServiceUnavailable, match="refused"), translate_errors():
                await portal.run_from_ns("piker.data._sampling", "broadcast_all")


async def test_a_helper_imported_into_an_enabled_module_cannot_be_called() -> None:
    async with open_test_pikerd(root_modules=KIND) as (_, _, pikerd, _):
        async with kind.maybe_spawn_sleeperd("a") as portal:
            for name in ("helper", "ensure", "serve_until_cancelled", "spawn_sleeperd"):
                with pytest.raises(tractor.RemoteActorError) as caught:
                    await portal.run_from_ns("sleeper_kind", name)
                assert caught.value.type is ModuleNotExposed, name
        for name in ("open_pikerd", "get_services", "ensure"):
            with pytest.raises(tractor.RemoteActorError) as caught:
                await pikerd.run_from_ns("piker.service._actor_runtime", name)
            assert caught.value.type is ModuleNotExposed, name


# Every name that a process of the run can be asked to run, per kind; a new one is added here.
CALLABLE = {
    "pikerd": {
        "piker.brokers._daemon:spawn_brokerd",
        "piker.clearing._ems:spawn_emsd",
        "piker.data._daemon:spawn_datad",
        "piker.data._sampling:spawn_samplerd",
        "piker.service._attach:attach",
        "piker.service._attach:describe_run",
        "piker.service._attach:describe_use",
        "piker.service._attach:service_table",
    },
    "samplerd": {
        "piker.data._sampling:_setup_persistent_samplerd",
        "piker.data._sampling:register_with_sampler",
    },
    "datad": {
        "piker.brokers.binance.feed:open_symbol_search",
        "piker.brokers.core:get_market",
        "piker.brokers.data:feed_statistics",
        "piker.data._daemon:_setup_persistent_datad",
        "piker.data._feed_bus:open_feed_bus",
    },
    "emsd": {
        "piker.clearing._ems:_emsd_main",
        "piker.clearing._ems:_setup_persistent_emsd",
        "piker.clearing._ems:arm_accounts",
        "piker.clearing._ems:cancel_orders",
        "piker.clearing._ems:describe_orders",
        "piker.clearing._ems:reset_paper_account",
        "piker.clearing._ems:stop_accounts",
        "piker.clearing._ems:sync_ledger_files",
    },
    "paperboi": {
        "piker.clearing._paper_engine:_setup_persistent_paperboi",
        "piker.clearing._paper_engine:open_trade_dialog",
    },
}
SHIM = ["piker.service._tractor_shim", "piker.service._lifeline"]


def enabled_modules(kind_name: str) -> list[str]:
    from piker.clearing._ems import emsd_init
    from piker.clearing._paper_engine import paperboi_init
    from piker.data._daemon import datad_init
    from piker.data._sampling import samplerd_init

    if kind_name == "pikerd":
        return list(_actor_runtime._root_modules)
    specs = {
        "samplerd": lambda: samplerd_init(None),
        "datad": lambda: datad_init("binance"),
        "emsd": emsd_init,
        "paperboi": lambda: paperboi_init("binance"),
    }
    return [*SHIM, *specs[kind_name]().modules]


@pytest.mark.parametrize("kind_name", CALLABLE)
def test_every_callable_name_per_daemon_kind(kind_name: str) -> None:
    modules = enabled_modules(kind_name)
    for name in modules:
        importlib.import_module(name)
    found = {
        f"{module}:{name}"
        for (module, name), (_, only) in EXPOSED.items()
        if module in modules and (not only or kind_name in only)
    }
    assert found == CALLABLE[kind_name]


@pytest.mark.parametrize("kind_name", CALLABLE)
def test_enabled_packages_have_no_module_getattr(kind_name: str) -> None:
    for name in enabled_modules(kind_name):
        assert not hasattr(importlib.import_module(name), "__getattr__"), name


async def test_a_run_of_another_state_folder_is_never_joined(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "conf.toml").write_text(f"[network]\nport = {port}\n")
    async with open_test_pikerd(("127.0.0.1", port)):
        monkeypatch.setenv("PIKER_CONFIG_DIR", str(mine))
        done = await trio.run_process(
            [sys.executable, "-c", "from piker._entry import piker; piker()", "services"],
            check=False,
            capture_stderr=True,
            env={k: v for k, v in os.environ.items() if k != "PIKER_REGISTRY"},
        )
    assert_one_line(done, f"no pikerd runs on the state folder {mine}")


async def test_a_clients_block_ends_from_within_at_an_interrupt(tmp_path: Path) -> None:
    script = """
import trio, piker._entry
from piker.service import open_piker_runtime
async def main():
    async with open_piker_runtime("bot"):
        try:
            print("ready", flush=True)
            await trio.sleep_forever()
        finally:
            print("left", flush=True)
trio.run(main)
"""
    async with open_test_pikerd(conf_dir=tmp_path):
        process = await trio.lowlevel.open_process(
            [sys.executable, "-c", script],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"PIKER_CONFIG_DIR": str(tmp_path)},
        )
        assert process.stdout is not None
        async with process.stdout:
            said = b""
            while not said.endswith(b"\n"):  # an unbuffered child writes a line in two parts
                said += await process.stdout.receive_some()
            assert said == b"ready\n"
            process.send_signal(signal.SIGINT)
            with trio.fail_after(3):
                assert b"".join([part async for part in process.stdout]) == b"left\n"
                assert await process.wait() == -signal.SIGINT
