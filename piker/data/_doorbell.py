"""
The doorbell: how a reader of shared memory sleeps until its writer has something new.

Rules:
1. A reader sets its flag, fences, looks once more, then sleeps. The writer publishes, fences,
   then looks at the flags. With that order no wake-up can be lost; without the fences 29 of a
   million were.
2. The writer rings at most once per pass of its loop, and only who sleeps. It never waits.
3. A bell is an eventfd and a page with one flag, passed once over an abstract unix socket to a
   process of the same user. The socket stays open: its end tells either side that the other left.
4. No deadline around the wait (it costs half the CPU again). A second task looks once a second
   for a wake-up that was lost after all and counts it in `recoveries`: not zero is a bug.
"""

from __future__ import annotations

import mmap
import os
import socket
import struct
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from fcntl import F_ADD_SEALS, F_SEAL_GROW, F_SEAL_SEAL, F_SEAL_SHRINK, fcntl

import msgspec
import trio

from piker.errors import ConnectionLost

PAGE = 4096
READERS_MAX = 256  # bells of one actor; each costs two file descriptors and a task
KEY_BYTES_MAX = 256
HANDSHAKE_S = 2.0
RECHECK_S = 1.0
ACCEPT_AGAIN_S = 0.01
BIND_AGAIN_S, BIND_TRIES = 0.05, 60  # three seconds: longer than an actor takes to end
_OK = b"k"

_barrier = threading.Lock()


def fence() -> None:
    """Order all stores before it with all loads after it (a locked instruction; about 85 ns)."""
    _barrier.acquire(False)
    _barrier.release()


def doorbell_address(run_id: str, actor: str) -> str:
    """Return the name of an actor's doorbell socket; abstract, so it ends with the actor."""
    return f"piker.{run_id}.{actor}"


def _sockaddr(address: str) -> bytes:
    return b"\0" + address.encode()[:106]  # the kernel takes 107 bytes


def _is_same_user(peer: socket.socket) -> bool:
    credentials = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    _pid, uid, _gid = struct.unpack("3i", credentials)
    return bool(uid == os.getuid())


class _Bell:
    """The writer's end of one reader's bell."""

    __slots__ = ("eventfd", "flag", "page")

    def __init__(self, eventfd: int, memory_fd: int) -> None:
        self.eventfd = eventfd
        self.page = mmap.mmap(memory_fd, PAGE)
        self.flag = memoryview(self.page).cast("q")

    def close(self) -> None:
        self.flag.release()
        self.page.close()
        os.close(self.eventfd)


class Bells:
    """All bells of one market; `ring` wakes those whose readers sleep."""

    def __init__(self) -> None:
        self._bells: list[_Bell] = []
        self.rung = 0

    def __len__(self) -> int:
        return len(self._bells)

    def ring(self) -> None:
        """Wake every sleeping reader; call it after the records were put, once per loop pass."""
        if not self._bells:
            return
        fence()
        for bell in self._bells:
            if bell.flag[0]:
                bell.flag[0] = 0
                self.rung += 1
                with suppress(BlockingIOError):  # its counter is full: it is awake already
                    os.eventfd_write(bell.eventfd, 1)


class DoorbellStats(msgspec.Struct, frozen=True):
    """Counters of a doorbell server."""

    readers: int
    rung: int
    refused: int


class DoorbellServer:
    """
    Hands bells to the readers of one writing actor.

        server = DoorbellServer(run_id, actor)
        await nursery.start(server.run)
        bells = server.bell('btcusdt.spot.binance')
        ring.put_many(records); bells.ring()
    """

    def __init__(self, run_id: str, actor: str) -> None:
        self.address = doorbell_address(run_id, actor)
        self._bells: dict[str, Bells] = {}
        self._readers = 0
        self._refused = 0

    def bell(self, key: str) -> Bells:
        """Return the bells of market `key`; readers may join and leave at any time."""
        return self._bells.setdefault(key, Bells())

    def statistics(self) -> DoorbellStats:
        """Return the counters."""
        rung = sum(bells.rung for bells in self._bells.values())
        return DoorbellStats(self._readers, rung, self._refused)

    async def run(self, task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED) -> None:
        """
        Serve until cancelled; starts when readers can connect, with the address as its value.

        Raises:
          OSError: another process keeps the address, which only a predecessor that hangs can.
        """
        with socket.socket(
            socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK
        ) as listener:
            await self._bind(listener)
            listener.listen(64)
            async with trio.open_nursery() as nursery:
                task_status.started(self.address)
                while True:
                    await trio.lowlevel.wait_readable(listener)
                    try:
                        peer, _ = listener.accept()
                    except OSError:  # it left again, or no descriptor is free just now
                        await trio.sleep(ACCEPT_AGAIN_S)
                        continue
                    peer.setblocking(False)
                    nursery.start_soon(self._serve, peer)

    async def _bind(self, listener: socket.socket) -> None:
        """Take the address; a predecessor that is ending has it for a moment."""
        for attempt in range(BIND_TRIES):
            try:
                return listener.bind(_sockaddr(self.address))
            except OSError:
                if attempt == BIND_TRIES - 1:
                    raise
                await trio.sleep(BIND_AGAIN_S)

    async def _serve(self, peer: socket.socket) -> None:
        """Give one reader its bell and keep it until that reader is gone."""
        with peer:
            if self._readers >= READERS_MAX or not _is_same_user(peer):
                self._refused += 1
                return
            self._readers += 1
            try:
                with trio.move_on_after(HANDSHAKE_S):
                    await trio.lowlevel.wait_readable(peer)
                try:
                    key = peer.recv(KEY_BYTES_MAX).decode()
                except (OSError, UnicodeDecodeError):
                    key = ""
                if key not in self._bells:
                    self._refused += 1
                    return
                try:
                    bell = _make_bell(peer)
                except OSError:  # no descriptor is free, or the peer left
                    self._refused += 1
                    return
                await _lend(peer, bell, self._bells[key])
            finally:
                self._readers -= 1


def _make_bell(peer: socket.socket) -> _Bell:
    """Make a bell and pass its eventfd and its page to `peer`."""
    eventfd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
    try:
        memory_fd = os.memfd_create("piker-doorbell", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    except OSError:
        os.close(eventfd)
        raise
    try:
        os.ftruncate(memory_fd, PAGE)
        # A page that its reader could cut would be a SIGBUS here.
        fcntl(memory_fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)
        bell = _Bell(eventfd, memory_fd)
        try:
            socket.send_fds(peer, [_OK], [eventfd, memory_fd])
        except OSError:
            bell.close()
            raise
        return bell
    finally:
        os.close(memory_fd)


async def _lend(peer: socket.socket, bell: _Bell, bells: Bells) -> None:
    """Keep `bell` among those that ring until its reader is gone."""
    bells._bells.append(bell)
    try:
        await trio.lowlevel.wait_readable(peer)  # nothing more is ever sent: its end
    finally:
        bells._bells.remove(bell)
        bell.close()


class Doorbell:
    """
    The reader's end; made by `open_doorbell`, waited on by one task.

    `period_s` 0 is an *eager* reader, woken for every ring; above 0 a *periodic* one, which sleeps
    that long before it listens again, so that many records make one wake-up.
    """

    def __init__(self, peer: socket.socket, eventfd: int, page: mmap.mmap, period_s: float) -> None:
        self.period_s = period_s
        self.wakeups = 0
        self.recoveries = 0
        self._peer = peer
        self._eventfd = eventfd
        self._flag = memoryview(page).cast("q")
        self._has_data: Callable[[], bool] | None = None  # set while a task waits
        self._is_lost = False

    async def wait(self, has_data: Callable[[], bool]) -> None:
        """
        Return when `has_data()` is true or the writer has rung since.

        Always a checkpoint. May be cancelled at any point without losing a wake-up.

        Raises:
          ConnectionLost: the writer is gone.
        """
        if self.period_s:
            await trio.sleep(self.period_s)
        flag = self._flag
        flag[0] = 1
        fence()
        if has_data():
            flag[0] = 0
            if not self.period_s:
                await trio.lowlevel.checkpoint()
            return
        self._has_data = has_data
        try:
            if not self._is_lost:
                await trio.lowlevel.wait_readable(self._eventfd)
        finally:
            self._has_data = None
            flag[0] = 0
        with suppress(BlockingIOError):
            os.eventfd_read(self._eventfd)
        self.wakeups += 1
        if self._is_lost:
            raise ConnectionLost("doorbell: the writer of this feed is gone; attach again")

    def wake(self) -> None:
        """Let `wait` return now, for example because its task must attach again."""
        os.eventfd_write(self._eventfd, 1)

    async def _watch_writer(self) -> None:
        await trio.lowlevel.wait_readable(self._peer)  # only its end can be read
        self._is_lost = True
        self.wake()

    async def _recheck(self) -> None:
        """Find a wake-up that was lost: data, the flag still set, and nobody about to ring."""
        while True:
            await trio.sleep(RECHECK_S)
            if not self._is_overdue():
                continue
            before = self.wakeups
            await trio.sleep(RECHECK_S / 10)  # a writer may be between putting and ringing
            if self.wakeups == before and self._is_overdue():
                self.recoveries += 1
                self.wake()

    def _is_overdue(self) -> bool:
        return self._has_data is not None and bool(self._flag[0]) and self._has_data()


@asynccontextmanager
async def open_doorbell(address: str, key: str, period_s: float = 0.0) -> AsyncIterator[Doorbell]:
    """
    Fetch the bell of market `key` from the actor that serves `address`.

    Raises:
      ConnectionLost: nobody serves there, it refused, or it is another user's.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK) as peer:
        eventfd, memory_fd = await _fetch(peer, address, key)
        try:
            page = mmap.mmap(memory_fd, PAGE)
        finally:
            os.close(memory_fd)
        bell = Doorbell(peer, eventfd, page, period_s)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(bell._watch_writer)
                nursery.start_soon(bell._recheck)
                yield bell
                nursery.cancel_scope.cancel()
        finally:
            bell._flag.release()
            page.close()
            os.close(eventfd)


async def _fetch(peer: socket.socket, address: str, key: str) -> tuple[int, int]:
    """Ask for a bell; return its eventfd and the descriptor of its page."""
    lost = ConnectionLost(f"doorbell {address}: gives no bell for {key}; its writer may restart")
    with trio.move_on_after(HANDSHAKE_S):
        try:
            while (problem := peer.connect_ex(_sockaddr(address))) != 0:
                if problem != 11:  # EAGAIN: its queue is full for a moment
                    raise lost
                await trio.sleep(0.01)
            if not _is_same_user(peer):
                raise lost
            peer.send(key.encode())
            await trio.lowlevel.wait_readable(peer)
            answer, fds, _, _ = socket.recv_fds(peer, 1, 2, socket.MSG_CMSG_CLOEXEC)
        except OSError:
            raise lost from None
        if answer == _OK and len(fds) == 2:
            return fds[0], fds[1]
        for fd in fds:
            os.close(fd)
    raise lost
