"""
A folder that exists in memory, with the failures of a real one: for simulation, one event loop.

What a real disk may do at a power loss, this one does by the seed it is given: of the writes
since a file's last `sync` any sectors survive, of the folder's changes since its last
`sync_folder` the first few. Nothing else is lost. All calls take no time, but what runs beside the
event loop takes `delay_s` of its clock.
"""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Callable
from typing import Final, Generic, TypeVar

import trio

from piker.storage.disk import Begun, File

T = TypeVar("T")

SECTOR_BYTES: Final = 512


class _Content:
    """A file's bytes: as a process sees them, and as they are after a power loss at worst."""

    def __init__(self, size: int) -> None:
        self.seen = bytearray(size)
        self.durable = bytearray(size)
        self.unsynced: list[tuple[int, bytes]] = []

    def after_kill(self) -> _Content:
        """Return what the operating system has; what the dead do here changes it no more."""
        survivor = _Content(0)
        survivor.seen, survivor.durable = bytearray(self.seen), bytearray(self.durable)
        survivor.unsynced = list(self.unsynced)
        return survivor

    def after_power_loss(self, rng: random.Random) -> _Content:
        survivor = _Content(0)
        survivor.durable = bytearray(self.durable)
        for offset, data in self.unsynced:
            end = offset + len(data)
            for start in range(offset - offset % SECTOR_BYTES, end, SECTOR_BYTES):
                low, high = max(start, offset), min(start + SECTOR_BYTES, end)
                if rng.random() < 0.5:
                    survivor.durable.extend(bytes(max(0, low - len(survivor.durable))))
                    survivor.durable[low:high] = data[low - offset : high - offset]
        survivor.seen = bytearray(survivor.durable)
        return survivor


class _MemoryFile:
    """An open file of a `MemoryDisk`."""

    def __init__(self, disk: MemoryDisk, name: str, content: _Content) -> None:
        self._disk = disk
        self._name = name
        self._content = content

    def write(self, offset: int, data: bytes) -> None:
        self._disk.step("write", self._name)
        self._content.seen[offset : offset + len(data)] = data
        self._content.unsynced.append((offset, bytes(data)))

    def sync(self) -> None:
        self._disk.step("sync", self._name)
        for offset, data in self._content.unsynced:
            self._content.durable[offset : offset + len(data)] = data
        self._content.unsynced.clear()

    def close(self) -> None:
        pass


class _Begun(Generic[T]):
    """Work that takes until `end_s`, or no time; it is done when its waiter hears of it."""

    def __init__(
        self,
        end_s: float,
        work: Callable[[], T],
        after: Callable[[], None] | None,
        *,
        is_fast: bool,
    ) -> None:
        self._end_s = end_s
        self._is_fast = is_fast
        self._work = work
        self._after = after or (lambda: None)

    async def wait(self) -> T:
        await self.wait_done()
        return self.take()

    async def wait_done(self) -> None:
        with trio.CancelScope(shield=True):
            await trio.sleep_until(self._end_s)

    def is_done_within(self, seconds: float) -> bool:
        return self._is_fast

    def take(self) -> T:
        done = self._work()
        self._after()
        return done


class MemoryDisk:
    """
    A folder in memory.

    `on_step(operation, name)` is called before each change (`create write sync rename remove
    sync_folder`) and may raise what the operating system would; `bytes_max` is the disk's size.
    Work takes `delay_s`; `is_done_within` says of it what `is_fast()` answered as it was begun.
    """

    def __init__(self, *, delay_s: float = 0.0, bytes_max: int = 1 << 40) -> None:
        self.delay_s = delay_s
        self.bytes_max = bytes_max
        self.on_step: Callable[[str, str], None] | None = None
        self.is_fast: Callable[[], bool] = lambda: False
        self._files: dict[str, _Content] = {}
        self._history: list[dict[str, _Content]] = [{}]  # the folder, since it was last synced
        self._is_locked = False

    @property
    def place(self) -> str:
        return "memory"

    def lock(self) -> str | None:
        if self._is_locked:
            return "another process"
        self._is_locked = True
        return None

    def unlock(self) -> None:
        self._is_locked = False

    def names(self) -> list[str]:
        return sorted(self._files)

    def read(self, name: str) -> bytes:
        return bytes(self._content(name).seen)

    def size(self, name: str) -> int:
        return len(self._content(name).seen)

    def create(self, name: str, size: int) -> File:
        self.step("create", name)
        if name in self._files:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), name)
        if size + sum(len(content.seen) for content in self._files.values()) > self.bytes_max:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), name)
        self._change({**self._files, name: _Content(size)})
        return self.open(name)

    def open(self, name: str) -> File:
        return _MemoryFile(self, name, self._content(name))

    def rename(self, old: str, new: str) -> None:
        self.step("rename", new)
        content = self._content(old)
        rest = {name: kept for name, kept in self._files.items() if name != old}
        self._change({**rest, new: content})

    def remove(self, name: str) -> None:
        self.step("remove", name)
        self._change({kept: content for kept, content in self._files.items() if kept != name})

    def sync_folder(self) -> None:
        self.step("sync_folder", "")
        self._history = [self._files]

    def begin(self, work: Callable[[], T], after: Callable[[], None] | None = None) -> Begun[T]:
        return _Begun(trio.current_time() + self.delay_s, work, after, is_fast=self.is_fast())

    async def in_worker(self, work: Callable[[], T]) -> T:
        return await self.begin(work).wait()

    def step(self, operation: str, name: str) -> None:
        """Tell `on_step` what is about to happen."""
        if self.on_step is not None:
            self.on_step(operation, name)

    def damage(self, name: str, data: bytes) -> None:
        """Put other bytes in place of a file's content: what a disk does behind our back."""
        content = _Content(0)
        content.seen, content.durable = bytearray(data), bytearray(data)
        self._files = {**self._files, name: content}
        self._history = [self._files]

    def after_kill(self) -> MemoryDisk:
        """Return this disk as the next process finds it when this one was killed."""
        return self._successor(self._files, _Content.after_kill)

    def after_power_loss(self, rng: random.Random) -> MemoryDisk:
        """Return this disk as the next process finds it when the machine went down."""
        return self._successor(
            rng.choice(self._history), lambda content: content.after_power_loss(rng)
        )

    def _successor(
        self, files: dict[str, _Content], survive: Callable[[_Content], _Content]
    ) -> MemoryDisk:
        disk = MemoryDisk(delay_s=self.delay_s, bytes_max=self.bytes_max)
        disk._files = {name: survive(content) for name, content in files.items()}
        disk._history = [disk._files]
        return disk

    def _content(self, name: str) -> _Content:
        if name not in self._files:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
        return self._files[name]

    def _change(self, files: dict[str, _Content]) -> None:
        self._files = files
        self._history.append(files)
