"""
Files in shared memory: one page of header, then the payload, mapped with `mmap`.

Rules:
1. A segment has one writer, its creator. Readers map it read-only and can never hurt it.
2. It is allocated in full before anyone sees it, so a full tmpfs is an error, never a SIGBUS; it
   is never truncated. It appears under its name by `rename`, so nobody sees half a header.
3. The header says whose it is (process, start time, boot) and of which generation. A reader that
   holds another generation, or another inode than the path has now, attaches again.
4. `multiprocessing.shared_memory` is not used: its resource tracker unlinks live segments.

Names: `piker.<run id>.<actor>.<market>.<kind>.<generation hex>`.
"""

from __future__ import annotations

import errno
import hashlib
import mmap
import os
import re
from collections.abc import Callable
from pathlib import Path

import msgspec

from piker import clock
from piker.errors import ConfigError, ConnectionLost

PAGE: int = 4096
PREFIX = "piker."
_MAGIC = 0x70696B65725F7631  # "piker_v1"
_FORMAT = 1

# Words (8 bytes each) of the header page; counters of the payload's kind start at `WORD_USER`.
_W_MAGIC, _W_FORMAT, _W_PID, _W_START, _W_BOOT, _W_PIDNS, _W_GENERATION, _W_SIZE = range(8)
_HEADER_BYTES = 64
WORD_USER = 16

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.ENOMEM)


class ShmFull(ConfigError):
    """Shared memory has no room for a segment; says how much is needed and how much is free."""

    def __init__(self, text: str, *, needed_bytes: int = 0, free_bytes: int = 0) -> None:
        super().__init__(text)
        self.needed_bytes = needed_bytes
        self.free_bytes = free_bytes


class SegmentGone(ConnectionLost):
    """The segment is of another generation or no longer there; ask its owner for the new one."""


class Owner(msgspec.Struct, frozen=True):
    """The process that wrote a header: pid, start time in clock ticks, boot and pid namespace."""

    pid: int
    start_ticks: int
    boot: int
    pid_namespace: int

    def is_alive(self) -> bool:
        """Return whether that very process still runs; a zombie and a recycled pid do not count."""
        here = this_process()
        if self.boot != here.boot:
            return False
        if self.pid_namespace != here.pid_namespace:
            return True  # of another container on this host: not ours to judge
        return start_ticks(self.pid) == self.start_ticks


def start_ticks(pid: int) -> int | None:
    """Return when process `pid` started, in clock ticks since boot; None when it is dead."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    state, *fields = stat.rpartition(")")[2].split()
    return None if state in "ZX" else int(fields[18])


def _read_boot() -> int:
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_bytes().strip()
    return int.from_bytes(hashlib.blake2b(boot_id, digest_size=8).digest(), "big") >> 1


def this_process() -> Owner:
    """Return what this process writes into the headers of its segments."""
    pid = os.getpid()
    namespace = os.stat("/proc/self/ns/pid").st_ino
    return Owner(pid, start_ticks(pid) or 0, _read_boot(), namespace)


def _clean(token: str) -> str:
    return re.sub(r"[^a-z0-9_.-]", "_", token.lower()).strip(".") or "_"


class Segment:
    """
    One mapped file: `words` is its header page as int64, `payload` the bytes behind it.

    Made by `create_segment` (the writer) or `attach_segment` (a reader).
    """

    def __init__(self, path: Path, fd: int, *, is_writer: bool) -> None:
        self.path = path
        self.is_writer = is_writer
        status = os.fstat(fd)
        self._inode = status.st_ino
        access = mmap.PROT_READ | (mmap.PROT_WRITE if is_writer else 0)
        self.map = mmap.mmap(fd, status.st_size, mmap.MAP_SHARED, access)
        self.words = memoryview(self.map)[:PAGE].cast("q")
        self.payload = memoryview(self.map)[PAGE:]

    @property
    def generation(self) -> int:
        """The random number that tells this segment from every other of its name."""
        return self.words[_W_GENERATION]

    @property
    def owner(self) -> Owner:
        """The process that writes this segment."""
        w = self.words
        return Owner(w[_W_PID], w[_W_START], w[_W_BOOT], w[_W_PIDNS])

    def is_stale(self) -> bool:
        """Return whether the path is gone or now leads to another file: time to attach again."""
        try:
            return os.stat(self.path).st_ino != self._inode
        except OSError:
            return True

    def close(self) -> None:
        """Let go of the mapping; memory still viewed by an array goes with the last view."""
        for view in (self.words, self.payload):
            try:
                view.release()
            except BufferError:
                pass
        try:
            self.map.close()
        except BufferError:
            pass

    def unlink(self) -> None:
        """Remove the name, once; whoever has it mapped may still read it."""
        if self.is_writer and not self.is_stale():
            self.path.unlink(missing_ok=True)


class InSegment:
    """Base of what lies in one segment: its identity and its end, the same for every kind."""

    segment: Segment

    @property
    def generation(self) -> int:
        """The generation of the segment; a restarted writer has another one."""
        return self.segment.generation

    def is_stale(self) -> bool:
        """Return whether readers should ask the writer for a newer one."""
        return self.segment.is_stale()

    def unlink_predecessors(self) -> None:
        """Remove what a dead writer of the same left; called once the new token is published."""
        unlink_predecessors(self.segment)

    def unlink(self) -> None:
        """Remove the segment's name; only its writer may."""
        self.segment.unlink()


def create_segment(
    shm_dir: Path | str, run_id: str, actor: str, market: str, kind: str, size: int
) -> Segment:
    """
    Make a zeroed segment of `size` payload bytes, owned and written by this process.

    Raises:
      ShmFull: the file system has no room; names the needed and the free size.
      ConfigError: the folder is missing or not writable.
    """
    assert re.fullmatch(r"[^.]+", run_id), f"a run id is one word, was {run_id!r}"
    generation = clock.rng().getrandbits(63) | 1
    stem = ".".join((PREFIX[:-1], *map(_clean, (run_id, actor, market, kind))))[:200]
    path = Path(shm_dir) / f"{stem}.{generation:x}"
    me = this_process()
    building = path.with_name(f"{path.name}.new-{me.pid}-{me.start_ticks}")
    total = PAGE + -(-size // PAGE) * PAGE
    try:
        fd = os.open(building, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as err:
        raise _folder_error(err, path, total) from None
    try:
        os.posix_fallocate(fd, 0, total)
        segment = Segment(path, fd, is_writer=True)
        header = (_MAGIC, _FORMAT, me.pid, me.start_ticks, me.boot, me.pid_namespace)
        for word, value in enumerate((*header, generation, size)):
            segment.words[word] = value
        os.rename(building, path)
    except OSError as err:
        building.unlink(missing_ok=True)
        raise _folder_error(err, path, total) from None
    finally:
        os.close(fd)
    return segment


def _folder_error(err: OSError, path: Path, needed: int) -> ConfigError:
    folder = path.parent
    if err.errno not in _NO_SPACE:
        return ConfigError(
            f"{folder}: shared memory cannot be made there ({err.strerror}), expected a folder "
            "that you may write to; set [data] shm_dir in conf.toml or PIKER_SHM_DIR"
        )
    try:
        stats = os.statvfs(folder)
        free = stats.f_bavail * stats.f_frsize
    except OSError:
        free = 0
    return ShmFull(
        f"{folder}: {path.name.rpartition('.')[0]} needs {needed / 1e6:.2f} MB, {free / 1e6:.2f} MB"
        " are free; free some there, lower ring_1s, ring_1m or ring_ticks in [data] of conf.toml, "
        "or set PIKER_SHM_DIR",
        needed_bytes=needed,
        free_bytes=free,
    )


def attach_segment(path: Path | str, generation: int) -> Segment:
    """
    Map an existing segment read-only.

    Raises:
      SegmentGone: it is not there, is not ours, or is of another generation.
    """
    path = Path(path)
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError as err:
        raise SegmentGone(f"{path}: {err.strerror}; its owner has a newer one or is gone") from None
    try:
        status = os.fstat(fd)
        if status.st_uid != os.getuid() or status.st_size < 2 * PAGE:
            raise SegmentGone(f"{path}: is not a segment of this user")
        segment = Segment(path, fd, is_writer=False)
    finally:
        os.close(fd)
    words = segment.words
    found = (words[_W_MAGIC], words[_W_FORMAT], words[_W_GENERATION])
    if found != (_MAGIC, _FORMAT, generation) or words[_W_SIZE] > len(segment.payload):
        segment.close()
        raise SegmentGone(f"{path}: is of another generation or format; attach again")
    return segment


def read_owner(path: Path) -> Owner | None:
    """Return who wrote the segment at `path`, without mapping it; None when it is no segment."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        head = os.pread(fd, _HEADER_BYTES, 0)
    except OSError:
        return None
    finally:
        os.close(fd)
    words = memoryview(head).cast("q") if len(head) == _HEADER_BYTES else None
    if words is None or words[_W_MAGIC] != _MAGIC or words[_W_FORMAT] != _FORMAT:
        return None
    return Owner(words[_W_PID], words[_W_START], words[_W_BOOT], words[_W_PIDNS])


def mark_run(shm_dir: Path | str, run_id: str) -> Segment:
    """
    Make the run's own small segment: while its owner (`pikerd`) lives, `sweep` spares the run.

    The owner unlinks it at its end, after its daemons are gone.
    """
    return create_segment(shm_dir, run_id, "pikerd", "run", "mark", PAGE)


def sweep(
    shm_dir: Path | str, is_alive: Callable[[str], bool] = lambda run_id: False
) -> list[Path]:
    """
    Unlink what runs that are gone left behind; return what was unlinked.

    A run is spared as a whole while `is_alive(run id)` or the owner of its mark says so. Of other
    runs a segment goes when its own owner is dead; a file that is no segment is left alone.
    """
    removed: list[Path] = []
    names = sorted(name for name in _names(shm_dir) if name.startswith(PREFIX))
    marks = [name for name in names if ".pikerd.run.mark." in name]
    spared = {
        name.split(".")[1]
        for name in marks
        if (owner := read_owner(Path(shm_dir) / name)) is not None and owner.is_alive()
    }
    for name in names:
        run_id = name.split(".")[1]
        if run_id in spared or is_alive(run_id):
            continue
        path = Path(shm_dir) / name
        owner = _builder(name) or read_owner(path)
        if owner is not None and not owner.is_alive():
            path.unlink(missing_ok=True)
            removed.append(path)
    return removed


def unlink_predecessors(segment: Segment) -> list[Path]:
    """
    Unlink what dead writers of the same run, actor, market and kind left; return what went.

    Called by a restarted writer once its new generation is published.
    """
    stem = segment.path.name.rpartition(".")[0]
    removed: list[Path] = []
    for name in _names(segment.path.parent):
        path = segment.path.with_name(name)
        if path == segment.path or name.partition(".new-")[0].rpartition(".")[0] != stem:
            continue
        owner = _builder(name) or read_owner(path)
        if owner is not None and not owner.is_alive():
            path.unlink(missing_ok=True)
            removed.append(path)
    return removed


def _names(shm_dir: Path | str) -> list[str]:
    try:
        return os.listdir(shm_dir)
    except OSError:
        return []


def _builder(name: str) -> Owner | None:
    """Return who was building the file `name`, which has no header yet; None for a finished one."""
    found = re.search(r"\.new-(\d+)-(\d+)$", name)
    if found is None:
        return None
    here = this_process()
    return Owner(int(found[1]), int(found[2]), here.boot, here.pid_namespace)
