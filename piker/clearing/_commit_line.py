"""
Records on their way to the disk, in order, and what is to be done once each is there.

`put` never waits: it hands a record to the journal and remembers what follows from it. That is done
in the same order, by the task that has made the record durable and in the same turn, since an order
waits for it; or it is given up when the record was not written.
A record that nothing follows from goes with the next one, or by itself a moment later, so that it
never makes that next one wait for a disk of its own.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import trio
from msgspec.structs import replace

from piker import faults
from piker.clearing import _records as rec
from piker.clearing._dialogs import Outputs
from piker.storage.journal import Journal, JournalError, JournalFull, Pending

COMMITS_MAX = 1024  # then those wait who bring more
LAZY_S = 0.02


class Commit:
    """A record (None: some that nothing follows from), what follows, and what comes after that."""

    __slots__ = ("after", "error", "outputs", "pending", "record")

    def __init__(
        self, record: rec.Input | None, outputs: Outputs, after: Callable[[], None] | None
    ) -> None:
        self.record = record
        self.outputs = outputs
        self.after = after
        self.pending: Pending | None = None
        self.error: JournalError | None = None


class CommitLine:
    """The line in front of one journal; `rest` is called when it has become empty."""

    def __init__(
        self,
        do: Callable[[Outputs], None],
        give_up: Callable[[Commit, JournalError], None],
        rest: Callable[[], None],
    ) -> None:
        self.bytes = 0  # of records since the last snapshot
        self._do = do
        self._rest = rest
        self._give_up = give_up
        self._journal: Journal | None = None
        self._commits: deque[Commit] = deque()
        self._left: list[tuple[str, int]] = []
        self._lazy: list[bytes] = []
        self._lazy_work = trio.Event()
        self._work = trio.Event()
        self._room = trio.Event()
        self._is_over = False

    def __len__(self) -> int:
        return len(self._commits)

    @property
    def journal(self) -> Journal:
        """The open journal."""
        assert self._journal is not None
        return self._journal

    @property
    def is_closed(self) -> bool:
        """Whether nothing will be recorded any more."""
        return self._journal is None or self._journal.state in ("failed", "closed")

    def open(self, journal: Journal) -> None:
        """Write to `journal` from now on."""
        self._journal = journal

    @property
    def has_room(self) -> bool:
        """Whether another record may come."""
        return len(self._commits) + len(self._lazy) < COMMITS_MAX

    async def wait_room(self) -> None:
        """Wait until another record may come."""
        while not self.has_room:
            if self._room.is_set():
                self._room = trio.Event()
            await self._room.wait()

    def leave(self, oid: str, number: int) -> None:
        """Note that a request has left; the next record says so too."""
        self._left.append((oid, number))

    def stamped(self, record: rec.Input) -> rec.Input:
        """Return a record with the requests that have left since the one before."""
        return replace(record, left=tuple(self._left))

    def put(
        self,
        record: rec.Input,
        outputs: Outputs,
        after: Callable[[], None] | None,
        *,
        is_news: bool,
    ) -> None:
        """Have a record written, when it `is_news`, and do what follows in its turn."""
        commit = Commit(record, outputs, after)
        if is_news:
            payload = rec.encode(record)
            self._left = []
            self.bytes += len(payload)
            if not outputs and after is None:
                self._lazy.append(payload)
                self._lazy_work.set()
                return
            self._append(commit, payload)
        self._commits.append(commit)
        if commit.pending is None or commit.error is not None:
            self._work.set()

    def _append(self, commit: Commit, payload: bytes) -> None:
        """Hand a record to the journal, behind those that waited for it."""
        lazy, self._lazy = self._lazy, []
        if payload:
            lazy.append(payload)
        try:
            for at, each in enumerate(lazy, 1):
                then = self._advance if at == len(lazy) else None
                commit.pending = self.journal.append_nowait(each, then)
        except JournalError as error:
            commit.error = error
        except ValueError as error:  # a broker's word of a quarter of a megabyte
            commit.error = JournalFull(str(error))

    def begin(self) -> None:
        """Have the disk begin in this turn with what was put; the journal would in its next."""
        self.journal.begin()

    def flush(self) -> None:
        """Hand over what has waited for a record to go with."""
        if self._lazy:
            commit = Commit(None, (), None)
            self._append(commit, b"")
            self._commits.append(commit)
            if commit.error is not None:
                self._work.set()

    async def flush_in_time(self) -> None:
        """Let no record wait long for the next one; for ever."""
        while True:
            await self._lazy_work.wait()
            self._lazy_work = trio.Event()
            await trio.sleep(LAZY_S)
            self.flush()

    async def rotate(self, snapshot: list[bytes]) -> int:
        """
        Go on behind a snapshot of all that was put.

        Raises:
          JournalError: it was not written.
        """
        self.bytes, self._left, self._lazy = 0, [], []
        return await self.journal.rotate(snapshot)

    def close(self) -> None:
        """Hand over what has waited; nothing more is done about what becomes durable from here."""
        self.flush()
        self._is_over = True

    async def run(self) -> None:
        """Do what waits for no disk, and `rest` when all is done; for ever."""
        while True:
            await self._work.wait()
            self._work = trio.Event()
            self._advance()
            if not self._commits:
                # Twice: the broker's turn, then the clients'; what can wait comes after them.
                await trio.lowlevel.checkpoint()
                await trio.lowlevel.checkpoint()
                self._rest()

    def _advance(self) -> None:
        """Do what follows from the records in front that are settled, in order."""
        while self._commits and not self._is_over:
            commit = self._commits[0]
            pending = commit.pending
            if commit.error is None and pending is not None:
                if not pending.is_settled:
                    return
                commit.error = pending.error
            self._commits.popleft()
            if commit.error is not None:
                self._give_up(commit, commit.error)
            else:
                faults.point("emsd.record.durable")
                self._do(commit.outputs)
                if commit.after is not None:
                    commit.after()
            self._room.set()
            self._work.set()
