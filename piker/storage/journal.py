"""
The order journal: what is appended is durable before anything leaves the process.

    async with open_journal(FolderDisk(folder), "binance.paper", fold=state.apply) as journal:
        await journal.append(record)        # returns when `record` is on the disk

Rules:
1. `append` returns after the sync that covers its record; records that wait together share one.
   They are written in the order of the calls.
2. After a failed write or sync nothing is tried again: what reached the disk is unknown. The
   journal is `failed`, refuses everything and says why; `wait_failed` tells. The next start reads
   what is there.
3. A disk without room for the next segment refuses what does not fit (`JournalFull`); nothing is
   in doubt, and the next append tries again.
4. One process at a time: the folder is locked. A segment is removed only by `release`.

Reading order: `_journal_format` (bytes), `_journal_scan` (what bytes say), `_journal_tail`
(writing), `_journal_queue` (who waits), this module (the tasks between them).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Final, Literal, TypeVar

import msgspec
import trio

from piker import clock
from piker.errors import ConfigError
from piker.log import get_logger
from piker.storage._journal_format import RECORD_BYTES_MAX
from piker.storage._journal_queue import (
    JournalError,
    JournalFailed,
    JournalFull,
    Pending,
    Queue,
    Rotation,
)
from piker.storage._journal_scan import (
    DOUBT_S,
    Damage,
    DamageKind,
    Record,
    Report,
    Scanner,
    UnknownFormat,
)
from piker.storage._journal_tail import (
    Tail,
    frame_bytes,
    read_mark,
    segment_name,
    segment_numbers,
)
from piker.storage.disk import Begun, Disk, FolderDisk, is_full

__all__ = [
    "DOUBT_S",
    "RECORD_BYTES_MAX",
    "Damage",
    "DamageKind",
    "Journal",
    "JournalError",
    "JournalFailed",
    "JournalFull",
    "JournalLocked",
    "JournalStatistics",
    "Pending",
    "Record",
    "Report",
    "UnknownFormat",
    "open_journal",
    "read_records",
    "verify",
]

log = get_logger(__name__)

T = TypeVar("T")

SEGMENT_BYTES: Final = 4 << 20
MARK_PERIOD_S: Final = 0.4  # with the sync itself below DOUBT_S
AT_ONCE_S: Final = 0.001  # what most syncs of a solid-state disk take at most
_VERIFY_TRIES_MAX: Final = 5

State = Literal["open", "full", "failed", "closed"]


class JournalLocked(ConfigError):
    """Another process writes this journal."""


class JournalStatistics(msgspec.Struct, frozen=True):
    """Counters of one journal since it was opened, and how it stands."""

    state: State
    cause: str
    records: int
    bytes: int
    syncs: int
    queued: int
    segments: int
    durable_sequence: int


class Journal:
    """An open journal; made by `open_journal`."""

    def __init__(self, disk: Disk, tail: Tail, report: Report, now_ns: Callable[[], int]) -> None:
        self.report = report
        self._disk = disk
        self._tail = tail
        self._now_ns = now_ns
        self._queue = Queue()
        self._busy = trio.Lock()  # the tail takes one call at a time
        self._begun: tuple[list[Pending], Begun[None]] | None = None  # before the lock was taken
        self._bug: Exception | None = None  # of who was told in the turn of `begin`
        self._mark_is_old = trio.Event()
        self._failed = trio.Event()
        self._state: State = "open"
        self._cause = ""
        self._records = self._bytes = self._syncs = 0

    @property
    def state(self) -> State:
        """How the journal stands: only `open` takes records for certain, `full` may."""
        return self._state

    @property
    def cause(self) -> str:
        """Why it is not open, as a sentence."""
        return self._cause

    @property
    def durable_sequence(self) -> int:
        """The last sequence number that is on the disk."""
        return self._tail.sequence

    def statistics(self) -> JournalStatistics:
        """Return the journal's counters."""
        return JournalStatistics(
            state=self._state,
            cause=self._cause,
            records=self._records,
            bytes=self._bytes,
            syncs=self._syncs,
            queued=len(self._queue),
            segments=len(self._tail.segment_ends),
            durable_sequence=self._tail.sequence,
        )

    async def append(self, payload: bytes) -> int:
        """
        Make a record durable and return its sequence number; waits while the queue is full.

        When cancelled, the record is not written if it still waited to enter the queue; else it
        is, unseen.

        Raises:
          JournalFailed, JournalFull: it is not known to be durable, or was not written.
          ValueError: it is longer than `RECORD_BYTES_MAX`.
        """
        self._check(payload)
        pending = Pending(self._now_ns(), payload)
        await self._queue.put(pending)
        return await pending.wait_durable()

    def append_nowait(self, payload: bytes, then: Callable[[], None] | None = None) -> Pending:
        """
        Put a record in the queue, in order, and return what tells when it is durable.

        `then` is called, in the order of the records, as soon as it is, or is known not to be.

        Raises:
          JournalFull: the queue is full, or others wait for it.
          JournalFailed: nothing is taken any more.
          ValueError: it is longer than `RECORD_BYTES_MAX`.
        """
        if not self._queue.has_room(self._check(payload)):
            raise JournalFull(f"{self._disk.place}: {len(self._queue)} records wait for the disk")
        pending = Pending(self._now_ns(), payload, then)
        self._queue.put_nowait(pending)
        return pending

    def begin(self) -> None:
        """
        Begin in this turn to write what is queued, unless the tail is busy with what was.

        The event loop stands still for it for `AT_ONCE_S` at most; what is durable by then is
        settled in this turn too.
        """
        is_free = self._begun is None and self._bug is None and not self._busy.locked()
        if is_free and self._state in ("open", "full"):
            group = self._queue.pop_group(self._tail.room)
            if group:
                work = self._begin_group(group)
                self._begun = group, work
                if work.is_done_within(AT_ONCE_S):
                    self._begun = None
                    try:
                        self._settle(group, work)
                    except Exception as bug:  # relay: the journal's own task raises it
                        self._bug = bug

    async def rotate(self, snapshot: Sequence[bytes]) -> int:
        """
        Go on in a new segment that begins with `snapshot`: all that stands after every record
        that is in the queue now; those that still wait to enter it come behind the snapshot.
        Return the sequence number of its last part.

        Raises:
          JournalFull: there is no room, or a rotation is under way; the old segment is in use.
          JournalFailed, ValueError: as for `append`.
        """
        for part in snapshot:
            self._check(part)
        if self._queue.has_rotation:
            raise JournalFull(f"{self._disk.place}: another snapshot waits to be written")
        rotation = Rotation(self._now_ns(), tuple(snapshot))
        self._queue.put_nowait(rotation)
        return await rotation.wait_durable()

    async def release(self, through_sequence: int) -> int:
        """
        Remove the segments that end by `through_sequence` and stand before the last snapshot.

        The caller says with this that every fill up to there stands, synced, in the ledger.
        Return how many went.

        Raises:
          JournalFailed: the folder could not be changed, or nothing is taken any more.
        """
        self._check(b"")
        async with self._busy:
            await self._settle_begun()
            work = partial(self._tail.remove, through_sequence, self._now_ns())
            try:
                return await self._run(work)
            except OSError as error:
                raise self._fail(error) from error

    async def wait_failed(self) -> str:
        """Return the cause once the journal has failed."""
        await self._failed.wait()
        return self._cause

    def _check(self, payload: bytes) -> int:
        """Return what a record takes of a segment; refuse one that cannot be taken."""
        if self._state in ("failed", "closed"):
            raise JournalFailed(self._cause)
        if len(payload) > RECORD_BYTES_MAX:
            raise ValueError(
                f"journal: a record was {len(payload)} bytes, expected at most {RECORD_BYTES_MAX}"
            )
        return frame_bytes(payload)

    # ---- the tasks ------------------------------------------------------------------------

    async def _write_records(self) -> None:
        """Make durable what is queued, group by group, until the journal fails."""
        while self._state != "failed":
            if self._begun is None and self._bug is None:
                await self._queue.wait_work()
            if self._bug is not None:
                raise self._bug
            # `acquire` waits a turn of the scheduler for a lock that is free.
            if self._busy.locked():
                await self._busy.acquire()
            else:
                self._busy.acquire_nowait()
            try:
                await self._write_queue()
            finally:
                self._busy.release()

    async def _write_queue(self) -> None:
        await self._settle_begun()
        while self._queue and self._state != "failed":
            group = self._queue.pop_group(self._tail.room)
            if group:
                await self._wait_settled(group, self._begin_group(group))
            elif isinstance(self._queue.first, Rotation):
                await self._start_segment(self._queue.pop(), is_asked=True)
            else:
                await self._start_segment(self._queue.first, is_asked=False)

    def _begin_group(self, group: list[Pending]) -> Begun[None]:
        records = [(pending.time_ns, pending.payload) for pending in group]
        return self._disk.begin(partial(self._tail.append, records), self._tail.write_mark)

    async def _settle_begun(self) -> None:
        """Wait for what `begin` has begun: nothing else may use the tail before that."""
        if self._begun is not None:
            (group, work), self._begun = self._begun, None
            await self._wait_settled(group, work)

    async def _wait_settled(self, group: list[Pending], work: Begun[None]) -> None:
        await work.wait_done()
        self._settle(group, work)

    def _settle(self, group: list[Pending], work: Begun[None]) -> None:
        """Tell those who wait for a group what became of it."""
        try:
            work.take()
        except OSError as error:
            self._refuse(group, self._fail(error))
            return
        self._syncs += 1
        self._records += len(group)
        self._bytes += sum(len(pending.payload) for pending in group)
        self._mark_is_old.set()
        first = self._tail.sequence - len(group) + 1
        for sequence, pending in enumerate(group, first):
            pending.settle(sequence)

    async def _start_segment(self, cause: Pending, *, is_asked: bool) -> None:
        """Go on in a new segment: for a snapshot, or because `cause` does not fit."""
        snapshot = cause.snapshot if isinstance(cause, Rotation) else ()
        room_min = frame_bytes(cause.payload)
        try:
            await self._run(partial(self._tail.start_segment, snapshot, cause.time_ns, room_min))
        except OSError as error:
            refused = [cause] if is_asked else self._queue.pop_records()
            self._refuse(refused, self._full(error) if is_full(error) else self._fail(error))
            return
        self._syncs += 1
        if self._state == "full":
            self._state, self._cause = "open", ""
        if is_asked:
            cause.settle(self._tail.sequence)

    async def _run(self, work: Callable[[], T]) -> T:
        return await self._disk.begin(work).wait()

    async def _keep_mark(self) -> None:
        """Make the head mark durable soon after it has changed."""
        while self._state != "failed":
            await self._mark_is_old.wait()
            self._mark_is_old = trio.Event()
            await trio.sleep(MARK_PERIOD_S)
            try:
                await self._disk.in_worker(self._tail.sync_mark)
            except OSError as error:
                self._fail(error)

    # ---- what goes wrong ------------------------------------------------------------------

    def _refuse(self, group: Iterable[Pending], error: JournalError) -> None:
        for pending in group:
            pending.settle(0, error)

    def _full(self, error: OSError) -> JournalFull:
        cause = f"{self._disk.place}: no room for the order journal ({error.strerror}); make room"
        if self._state != "full":
            log.error("journal full cause=%s", cause)
        self._state, self._cause = "full", cause
        return JournalFull(cause)

    def _fail(self, error: OSError) -> JournalFailed:
        """Refuse everything from now on; return the error that says so."""
        if self._state != "failed":
            self._cause = (
                f"{self._disk.place}: the order journal cannot be written"
                f" ({error.strerror or error}); nothing is recorded from here on: mend the disk"
                " and start again"
            )
            self._state = "failed"
            log.error("journal failed cause=%s", self._cause)
        failure = JournalFailed(self._cause)
        self._queue.refuse(failure)
        self._failed.set()
        return failure

    async def _close(self) -> None:
        """Write what is queued (it is bounded), mark the end as clean and let go."""
        with trio.CancelScope(shield=True):
            await self._busy.acquire()  # for good
            await self._write_queue()
            is_clean = self._state != "failed"
            if is_clean:
                self._state, self._cause = "closed", f"{self._disk.place}: the journal is closed"
                self._queue.refuse(JournalFailed(self._cause))
            try:
                time_ns = self._now_ns() if is_clean else None
                await self._disk.begin(partial(self._tail.close, time_ns)).wait()
            except OSError as error:
                log.error("journal not closed cleanly cause=%s", error)


@asynccontextmanager
async def open_journal(
    disk: Disk,
    account: str,
    *,
    fold: Callable[[Record], None] | None = None,
    now_ns: Callable[[], int] = clock.now_ns,
    segment_bytes: int = SEGMENT_BYTES,
) -> AsyncIterator[Journal]:
    """
    Open the journal of `account` on `disk` for writing; `fold` gets every record that is there.

    The journal's `report` says what was found; a damaged one is still opened and goes on in a new
    segment: what to refuse then is the caller's to decide.

    Raises:
      JournalLocked: another process has it.
      ConfigError: it is another account's, of another format, or the folder cannot be used.
      JournalFull: there is no room to begin.
    """
    _lock(disk)
    try:
        journal = await _start(disk, account, fold, now_ns, segment_bytes)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(journal._write_records)
                nursery.start_soon(journal._keep_mark)
                try:
                    yield journal
                finally:
                    nursery.cancel_scope.cancel()
        finally:
            await journal._close()
    finally:
        disk.unlock()


def verify(folder: Path | Disk) -> Report:
    """
    Read a journal, also one that is being written, and say what is wrong with it; blocks.

    Raises:
      UnknownFormat: another version wrote it.
      ConfigError: the folder cannot be read, or holds the journals of two accounts.
    """
    return _read_all(folder, lambda: lambda _record: None)


def read_records(folder: Path | Disk) -> tuple[list[Record], Report]:
    """Return the records of a journal, also of one that is being written; as `verify`, blocks."""
    records: list[Record] = []

    def begin() -> Callable[[Record], None]:
        records.clear()
        return records.append

    report = _read_all(folder, begin)
    return records, report


def _read_all(folder: Path | Disk, begin: Callable[[], Callable[[Record], None]]) -> Report:
    """Give each record to what `begin` returned; it is called again when reading starts anew."""
    disk: Disk = FolderDisk(folder) if isinstance(folder, Path) else folder
    for _ in range(_VERIFY_TRIES_MAX):
        # The mark is read first: what a living writer adds meanwhile can only be more.
        scanner, take = Scanner(read_mark(disk)), begin()
        try:
            for number in segment_numbers(disk, scanner.first_segment):
                for record in scanner.feed(number, disk.read(segment_name(number))):
                    take(record)
            return scanner.finish()
        except FileNotFoundError:
            continue  # the writer has just released a segment
        except OSError as error:
            raise ConfigError(f"{disk.place}: cannot be read ({error.strerror})") from None
    raise ConfigError(f"{disk.place}: its files change faster than they can be read")


def _lock(disk: Disk) -> None:
    try:
        holder = disk.lock()
    except OSError as error:
        raise ConfigError(
            f"{disk.place}: the order journal's folder cannot be used ({error.strerror})"
        ) from None
    if holder is not None:
        raise JournalLocked(
            f"{disk.place}: the order journal is held by {holder}; stop that one first"
        )


async def _start(
    disk: Disk,
    account: str,
    fold: Callable[[Record], None] | None,
    now_ns: Callable[[], int],
    segment_bytes: int,
) -> Journal:
    """Replay what is there, and make ready to go on behind it."""
    try:
        scanner, size = Scanner(await disk.in_worker(partial(read_mark, disk))), 0
        for number in await disk.in_worker(partial(segment_numbers, disk, scanner.first_segment)):
            data = await disk.in_worker(partial(disk.read, segment_name(number)))
            size = len(data)
            for record in scanner.feed(number, data):
                if fold is not None:
                    fold(record)
        report = scanner.finish()
        if report.account not in ("", account):
            raise ConfigError(
                f"{disk.place}: account was {report.account!r}, expected {account!r};"
                " each account has a folder of its own"
            )
        tail = Tail(disk, account, segment_bytes, scanner)
        prepare = partial(tail.prepare, scanner.is_clean_end, scanner.offset, size, now_ns())
        await disk.in_worker(prepare)
    except OSError as error:
        kind = JournalFull if is_full(error) else ConfigError
        raise kind(
            f"{disk.place}: the order journal cannot be opened ({error.strerror or error})"
        ) from None
    for damage in report.damages:
        log.warning("journal damaged place=%s: %s", disk.place, damage.text)
    return Journal(disk, tail, report, now_ns)
