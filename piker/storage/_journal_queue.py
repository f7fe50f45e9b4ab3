"""
What waits for the journal's next sync: records and snapshots, in order, within bounds.

Nothing here writes; `piker.storage.journal` takes groups from the front and settles them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

import trio

from piker.errors import PikerError
from piker.storage._journal_tail import frame_bytes

QUEUE_RECORDS_MAX: Final = 4096
QUEUE_BYTES_MAX: Final = 8 << 20
GROUP_BYTES_MAX: Final = 1 << 20  # one sync of a slow disk stays well below a second


class JournalError(PikerError):
    """A record was not made durable."""


class JournalFailed(JournalError):
    """A write or sync failed, or the journal is closed; whether the record stands is unknown."""


class JournalFull(JournalError):
    """There is no room on the disk, or in the queue; the record was not written."""

    is_transient = True


class Pending:
    """A record on its way to the disk; `then`, when given, is called as soon as it is settled."""

    def __init__(
        self, time_ns: int, payload: bytes, then: Callable[[], None] | None = None
    ) -> None:
        self.time_ns = time_ns
        self.payload = payload
        self.sequence = 0
        self.error: JournalError | None = None  # why it is not on the disk, once settled
        self._then = then
        self._done = trio.Event()

    @property
    def is_settled(self) -> bool:
        """Whether it is known what became of it."""
        return self._done.is_set()

    @property
    def is_durable(self) -> bool:
        """Whether it is on the disk."""
        return self._done.is_set() and self.error is None

    async def wait_durable(self) -> int:
        """
        Return the record's sequence number once it is on the disk.

        Raises:
          JournalError: it was refused, or the journal failed.
        """
        await self._done.wait()
        if self.error is not None:
            raise self.error
        return self.sequence

    def settle(self, sequence: int, error: JournalError | None = None) -> None:
        """Tell the waiters: durable as `sequence`, or not, because of `error`."""
        self.sequence, self.error = sequence, error
        self._done.set()
        if self._then is not None:
            self._then()


class Rotation(Pending):
    """A new segment that begins with a snapshot, in order with the records."""

    def __init__(self, time_ns: int, snapshot: Sequence[bytes]) -> None:
        super().__init__(time_ns, b"")
        self.snapshot = snapshot


class Queue:
    """Bounded in number and bytes; `put` waits while it is full, first come, first served."""

    def __init__(self) -> None:
        self._waiting: deque[Pending] = deque()
        self._bytes = 0
        self._work = trio.Event()
        self._room = trio.Event()
        self._entry = trio.StrictFIFOLock()
        self._error: JournalError | None = None

    def __len__(self) -> int:
        return len(self._waiting)

    def has_room(self, size: int) -> bool:
        """Whether a record of `size` bytes may enter at once."""
        return not self._entry.locked() and self._fits(size)

    @property
    def first(self) -> Pending:
        """What is to be done next."""
        return self._waiting[0]

    @property
    def has_rotation(self) -> bool:
        """Whether a snapshot waits."""
        return any(isinstance(pending, Rotation) for pending in self._waiting)

    async def put(self, pending: Pending) -> None:
        """Add at the end: at once, without a checkpoint, when there is room."""
        size = frame_bytes(pending.payload)
        if self.has_room(size):
            self.put_nowait(pending)
            return
        async with self._entry:
            while not self._fits(size):
                self._room = trio.Event()
                await self._room.wait()
            self.put_nowait(pending)

    def put_nowait(self, pending: Pending) -> None:
        """Add at the end; the caller has asked for room. Raises the error of `refuse`."""
        if self._error is not None:
            raise self._error
        self._waiting.append(pending)
        self._bytes += frame_bytes(pending.payload)
        self._work.set()

    def pop(self) -> Pending:
        """Take what is first."""
        pending = self._waiting.popleft()
        self._bytes -= frame_bytes(pending.payload)
        self._room.set()
        return pending

    def pop_group(self, room: int) -> list[Pending]:
        """Take the records at the front that one sync covers and `room` bytes hold."""
        group: list[Pending] = []
        room = min(room, GROUP_BYTES_MAX)
        while self._waiting and not isinstance(self.first, Rotation):
            room -= frame_bytes(self.first.payload)
            if room < 0:
                break
            group.append(self.pop())
        return group

    def pop_records(self) -> list[Pending]:
        """Take the records at the front, up to the next snapshot."""
        taken: list[Pending] = []
        while self._waiting and not isinstance(self.first, Rotation):
            taken.append(self.pop())
        return taken

    def refuse(self, error: JournalError) -> None:
        """Settle all that waits, and all that waits for room, with `error`."""
        self._error = error
        while self._waiting:
            self.pop().settle(0, error)
        self._room.set()
        self._work.set()

    async def wait_work(self) -> None:
        """Return when something is queued, or was refused."""
        if not self._waiting and self._error is None:
            self._work = trio.Event()
            await self._work.wait()

    def _fits(self, size: int) -> bool:
        return len(self._waiting) < QUEUE_RECORDS_MAX and self._bytes + size <= QUEUE_BYTES_MAX
