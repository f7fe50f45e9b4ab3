"""The doorbell: no wake-up is lost, nobody is rung in vain, and whoever leaves is forgotten."""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest
import trio
import trio.testing

from piker import clock
from piker.data import _doorbell
from piker.data._doorbell import DoorbellServer, doorbell_address, open_doorbell
from piker.data._ring import TickRing
from piker.errors import ConnectionLost
from piker.model.ticks import TICK_DTYPE

KEY = "btcusdt.spot.x"


@asynccontextmanager
async def serving() -> AsyncIterator[DoorbellServer]:
    server = DoorbellServer(f"t{clock.rng().getrandbits(40):x}", "datad.x")
    server.bell(KEY)
    async with trio.open_nursery() as nursery:
        await nursery.start(server.run)
        yield server
        nursery.cancel_scope.cancel()


async def until(condition: object) -> None:
    assert callable(condition)
    with trio.fail_after(5):
        while not condition():
            await trio.sleep(0.005)


async def test_reader_that_sleeps_is_woken_by_a_ring() -> None:
    async with serving() as server, open_doorbell(server.address, KEY) as bell:
        data: list[int] = []

        async def write() -> None:
            await trio.testing.wait_all_tasks_blocked()
            data.append(1)
            server.bell(KEY).ring()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(write)
            with trio.fail_after(0.5):
                await bell.wait(lambda: bool(data))
        assert (bell.wakeups, bell.recoveries, server.statistics().rung) == (1, 0, 1)


async def test_reader_that_is_awake_is_not_rung() -> None:
    async with serving() as server, open_doorbell(server.address, KEY) as bell:
        for _ in range(10):
            server.bell(KEY).ring()
        assert server.statistics().rung == 0
        await bell.wait(lambda: True)
        assert bell.wakeups == 0


async def test_wait_is_a_checkpoint_and_may_be_cancelled() -> None:
    async with serving() as server, open_doorbell(server.address, KEY) as bell:
        for has_data in (True, False):
            with trio.CancelScope() as scope:
                scope.cancel()
                await bell.wait(lambda: has_data)
            assert scope.cancelled_caught
        server.bell(KEY).ring()
        assert server.statistics().rung == 0, "nobody sleeps after a cancelled wait"


async def test_periodic_reader_takes_many_records_in_one_wakeup(tmp_path: Path) -> None:
    ring = TickRing.create(tmp_path, "r", "a", KEY, 256)
    async with serving() as server, open_doorbell(server.address, KEY, period_s=0.05) as bell:
        reader, seen = ring.reader(), 0

        async def write() -> None:
            for _ in range(40):
                ring.put_many(np.zeros(1, TICK_DTYPE))
                server.bell(KEY).ring()
                await trio.sleep(0.002)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(write)
            with trio.fail_after(5):
                while seen < 40:
                    await bell.wait(reader.has_data)
                    seen += len(reader.read())
        assert server.statistics().rung <= 4
    ring.unlink()


async def test_lost_wakeup_is_found_within_seconds_and_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_doorbell, "RECHECK_S", 0.02)
    async with serving() as server, open_doorbell(server.address, KEY) as bell:
        data: list[int] = []

        async def write_without_ringing() -> None:
            await trio.testing.wait_all_tasks_blocked(0.001)
            data.append(1)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(write_without_ringing)
            with trio.fail_after(2):
                await bell.wait(lambda: bool(data))
        assert bell.recoveries == 1


async def test_wake_ends_the_wait_of_its_own_reader() -> None:
    async with serving() as server, open_doorbell(server.address, KEY) as bell:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(bell.wait, lambda: False)
            await trio.testing.wait_all_tasks_blocked()
            bell.wake()


async def test_reader_that_leaves_frees_its_bell() -> None:
    async with serving() as server:
        before = len(os.listdir("/proc/self/fd"))
        async with open_doorbell(server.address, KEY):
            assert len(server.bell(KEY)) == server.statistics().readers == 1
        await until(lambda: len(server.bell(KEY)) == server.statistics().readers == 0)
        assert len(os.listdir("/proc/self/fd")) == before


async def test_reader_learns_that_the_writer_is_gone() -> None:
    server = DoorbellServer(f"t{clock.rng().getrandbits(40):x}", "datad.x")
    server.bell(KEY)
    life = trio.CancelScope()

    async def serve(task_status: trio.TaskStatus[str]) -> None:
        with life:
            await server.run(task_status)

    async def end_it() -> None:
        await trio.testing.wait_all_tasks_blocked()
        life.cancel()

    async with trio.open_nursery() as nursery:
        await nursery.start(serve)
        async with open_doorbell(server.address, KEY) as bell:
            nursery.start_soon(end_it)
            for _ in range(2):
                with trio.fail_after(2), pytest.raises(ConnectionLost):
                    await bell.wait(lambda: False)


async def test_nobody_at_the_address_and_unknown_markets_are_connection_lost() -> None:
    with pytest.raises(ConnectionLost):
        async with open_doorbell(doorbell_address("none", "datad.x"), KEY):
            pass
    async with serving() as server:
        with pytest.raises(ConnectionLost):
            async with open_doorbell(server.address, "no.such.market"):
                pass
        assert server.statistics().refused == 1


async def test_another_user_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving() as server:
        monkeypatch.setattr(_doorbell, "_is_same_user", lambda peer: False)
        with pytest.raises(ConnectionLost):
            async with open_doorbell(server.address, KEY):
                pass


async def test_peer_that_says_nothing_or_rubbish_costs_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_doorbell, "HANDSHAKE_S", 0.05)
    async with serving() as server:
        peers = [socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(5)]
        for i, peer in enumerate(peers):
            peer.connect(b"\0" + server.address.encode())
            if i:
                peer.send(b"\xff" * (i * 100))
        await until(lambda: server.statistics().refused == 5)
        assert server.statistics().readers == 0
        for peer in peers:
            peer.close()
        async with open_doorbell(server.address, KEY):
            pass


async def test_no_free_descriptor_refuses_a_reader_and_ends_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*args: object) -> int:
        raise OSError(24, "Too many open files")

    async with serving() as server:
        with monkeypatch.context() as patch:
            patch.setattr(os, "memfd_create", refuse)
            with pytest.raises(ConnectionLost):
                async with open_doorbell(server.address, KEY):
                    pass
        async with open_doorbell(server.address, KEY):
            assert server.statistics().refused == 1


async def test_successor_takes_the_address_as_soon_as_it_is_free() -> None:
    async with serving() as server:
        successor = DoorbellServer(server.address.split(".")[1], "datad.x")
        successor.bell(KEY)
        async with trio.open_nursery() as nursery:
            started = trio.Event()

            async def succeed() -> None:
                await nursery.start(successor.run)
                started.set()

            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as holder:
                successor.address += ".next"
                holder.bind(b"\0" + successor.address.encode())
                nursery.start_soon(succeed)
                await trio.testing.wait_all_tasks_blocked()
                assert not started.is_set()
            with trio.fail_after(2):
                await started.wait()
            async with open_doorbell(successor.address, KEY):
                nursery.cancel_scope.cancel()


async def test_page_of_the_flag_cannot_be_cut_by_its_reader() -> None:
    async with serving() as server:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as peer:
            peer.connect(b"\0" + server.address.encode())
            peer.send(KEY.encode())
            await until(lambda: len(server.bell(KEY)) == 1)
            _, fds, _, _ = socket.recv_fds(peer, 1, 2)
            with pytest.raises(PermissionError):
                os.ftruncate(fds[1], 0)
            for fd in fds:
                os.close(fd)


READER = """
import sys
import trio
from piker.data._doorbell import open_doorbell
from piker.data._ring import TickRing
address, path, generation, capacity, total = sys.argv[1:]
async def main():
    token = {"path": path, "generation": int(generation), "capacity": int(capacity)}
    reader, seen = TickRing.attach(token).reader(0), 0
    async with open_doorbell(address, "btcusdt.spot.x") as bell:
        print("ready", flush=True)
        while seen < int(total):
            await bell.wait(reader.has_data)
            rows = reader.read()
            assert (rows["seq"] == range(seen, seen + len(rows))).all()
            seen += len(rows)
        print(seen, bell.recoveries, bell.wakeups, flush=True)
trio.run(main)
"""


async def read_line(process: trio.Process) -> bytes:
    assert process.stdout is not None
    line = b""
    with trio.fail_after(8):
        while not line.endswith(b"\n"):
            line += await process.stdout.receive_some()
    return line.strip()


@asynccontextmanager
async def reading(address: str, ring: TickRing, total: int) -> AsyncIterator[trio.Process]:
    token = [str(ring.token[name]) for name in ("path", "generation", "capacity")]
    process = await trio.lowlevel.open_process(
        [sys.executable, "-c", READER, address, *token, str(total)], stdout=-1
    )
    assert process.stdout is not None
    assert await read_line(process) == b"ready"
    try:
        yield process
    finally:
        process.kill()
        await process.wait()
        await process.stdout.aclose()


async def test_no_wakeup_is_lost_between_two_processes(tmp_path: Path) -> None:
    total = 20_000
    ring = TickRing.create(tmp_path, "r", "a", KEY, 1 << 15)
    async with serving() as server, reading(server.address, ring, total) as process:
        rng = clock.rng()
        bells, sent = server.bell(KEY), 0
        while sent < total:
            count = min(rng.choice((1, 1, 2, 5)), total - sent)
            ring.put_many(np.zeros(count, TICK_DTYPE))
            bells.ring()
            sent += count
            if rng.random() < 0.3:
                await trio.lowlevel.checkpoint()
        seen, recoveries, wakeups = map(int, (await read_line(process)).split())
        assert seen == total
        assert recoveries == 0
        assert 0 < wakeups <= bells.rung
    ring.unlink()


async def test_killed_reader_frees_its_bell_and_a_stopped_one_costs_no_ring(
    tmp_path: Path,
) -> None:
    ring = TickRing.create(tmp_path, "r", "a", KEY, 64)
    async with serving() as server, reading(server.address, ring, 10**9) as process:
        bells = server.bell(KEY)
        await until(lambda: len(bells) == 1)
        process.send_signal(signal.SIGSTOP)
        for _ in range(1000):
            ring.put_many(np.zeros(1, TICK_DTYPE))
            bells.ring()
        assert bells.rung <= 2
        process.kill()
        await until(lambda: len(bells) == 0)
    ring.unlink()
