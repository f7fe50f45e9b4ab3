"""
One folder of files, as the order path writes it: a small interface and its real implementation.

`piker.storage.memory_disk` is the other one, for simulation. All calls but `begin` and `in_worker`
block, and raise `OSError` as the operating system does.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol, TypeVar

from piker.storage._worker import Worker

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

_CHUNK: Final = 1 << 20
_LOCK = "lock"


class File(Protocol):
    """An open file; positions are bytes from its start."""

    def write(self, offset: int, data: bytes) -> None:
        """Write all of `data`; it is durable after the next `sync`."""

    def sync(self) -> None:
        """Make what was written durable."""

    def close(self) -> None:
        """Give the file back; never syncs."""


class Disk(Protocol):
    """One folder; names are plain file names in it."""

    @property
    def place(self) -> str:
        """Where this is, for messages."""

    def lock(self) -> str | None:
        """Take the folder for this process; None when it is ours now, else who has it."""

    def unlock(self) -> None:
        """Give the folder back."""

    def names(self) -> list[str]:
        """Return the names of the files."""

    def read(self, name: str) -> bytes:
        """Return the whole content of a file."""

    def size(self, name: str) -> int:
        """Return how many bytes a file has."""

    def create(self, name: str, size: int) -> File:
        """Make a new file of `size` zero bytes that have their place on the disk."""

    def open(self, name: str) -> File:
        """Open an existing file for writing."""

    def rename(self, old: str, new: str) -> None:
        """Rename a file; durable after `sync_folder`."""

    def remove(self, name: str) -> None:
        """Remove a file; durable after `sync_folder`."""

    def sync_folder(self) -> None:
        """Make creations, renames and removals durable."""

    def begin(self, work: Callable[[], T], after: Callable[[], None] | None = None) -> Begun[T]:
        """
        Have blocking `work` done beside the event loop, and then `after`, which raises nothing.

        One piece of work at a time, each behind what came `after` the one before. Who began it
        waits for it, once, before the next is begun; once begun it is not cancelled.
        """

    async def in_worker(self, work: Callable[[], T]) -> T:
        """Run blocking `work` beside the event loop, at once; once begun it is not cancelled."""


class Begun(Protocol[T_co]):
    """Work of a disk that is under way."""

    async def wait(self) -> T_co:
        """Wait until it is done, and `take`."""

    async def wait_done(self) -> None:
        """Wait until it is done; cancelled only behind that."""

    def is_done_within(self, seconds: float) -> bool:
        """Whether it is done within `seconds`, for which the event loop stands still."""

    def take(self) -> T_co:
        """Return what it has returned, or raise what it has raised; once, when it is done."""


class _RealFile:
    """A file by its descriptor."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def write(self, offset: int, data: bytes) -> None:
        view = memoryview(data)
        while view:
            done = os.pwrite(self._fd, view, offset)
            offset, view = offset + done, view[done:]

    def sync(self) -> None:
        os.fdatasync(self._fd)

    def close(self) -> None:
        os.close(self._fd)


class Lock:
    """A locked file that names its holder; released when its process ends, however it ends."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd: int | None = None

    def take(self) -> str | None:
        """Take it; None when it is ours now, else who has it."""
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(fd, 32, 0).decode(errors="replace").strip()
            os.close(fd)
            return f"process {holder}" if holder else "another process"
        except OSError:
            os.close(fd)
            raise
        self._fd = fd
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        return None

    def release(self) -> None:
        """Give it back."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


class FolderDisk:
    """A folder of the file system; made, for its owner alone, when missing."""

    def __init__(self, folder: Path | str) -> None:
        self._folder = Path(folder)
        self._lock = Lock(self._folder / _LOCK)
        # Its own threads, as many as work at once (a write, the mark, the watch log): nobody else's
        # work stands in the way.
        self._idle: list[Worker] = []
        self._writer: Worker | None = None

    @property
    def place(self) -> str:
        return str(self._folder)

    def lock(self) -> str | None:
        return self._lock.take()

    def unlock(self) -> None:
        while self._idle:
            self._idle.pop().close()
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        self._lock.release()

    def names(self) -> list[str]:
        try:
            return sorted(name for name in os.listdir(self._folder) if name != _LOCK)
        except FileNotFoundError:
            return []

    def read(self, name: str) -> bytes:
        return (self._folder / name).read_bytes()

    def size(self, name: str) -> int:
        return (self._folder / name).stat().st_size

    def create(self, name: str, size: int) -> File:
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        fd = os.open(self._folder / name, flags, 0o600)
        try:
            os.posix_fallocate(fd, 0, size)  # a full disk says so before anything is written
            # Zeros written, not only promised: a sync then has no block list to change.
            file = _RealFile(fd)
            for offset in range(0, size, _CHUNK):
                file.write(offset, bytes(min(_CHUNK, size - offset)))
        except OSError:
            os.close(fd)
            self.remove(name)
            raise
        return file

    def open(self, name: str) -> File:
        return _RealFile(os.open(self._folder / name, os.O_RDWR | os.O_CLOEXEC))

    def rename(self, old: str, new: str) -> None:
        (self._folder / old).rename(self._folder / new)

    def remove(self, name: str) -> None:
        (self._folder / name).unlink(missing_ok=True)

    def sync_folder(self) -> None:
        fd = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def begin(self, work: Callable[[], T], after: Callable[[], None] | None = None) -> Begun[T]:
        if self._writer is None:
            self._writer = Worker(f"disk {self._folder.name}, in order")
        return self._writer.begin(work, after)

    async def in_worker(self, work: Callable[[], T]) -> T:
        worker = self._idle.pop() if self._idle else Worker(f"disk {self._folder.name}")
        try:
            return await worker.begin(work).wait()
        finally:
            self._idle.append(worker)


def is_full(error: OSError) -> bool:
    """Whether an error says that there is no room: the disk or the user's share of it is full."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)
