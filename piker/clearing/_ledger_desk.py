"""
An account's ledger beside its journal: fills go to the file as soon as they are durable.

The files have one writer; while another process has them, or the disk refuses, trading goes on,
the file is tried again each second, and the status says so. Nothing is lost by that: the journal
keeps what is not in the ledger yet.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from functools import partial

import trio

from piker import faults
from piker.accounting import Transaction
from piker.clearing._journal_view import read_journal
from piker.clearing._world import LedgerWriter, Outcome, World
from piker.errors import PikerError
from piker.log import get_logger
from piker.model.market import MktPair
from piker.storage.journal import read_records

log = get_logger(__name__)

RETRY_S = 1.0
ACCOUNT_PERIOD_S = 1.0  # without a fill; then the account file is written
CLOSE_S = 1.5  # what a clean stop may take

Synced = Callable[[Sequence[Transaction]], None]


class LedgerDesk:
    """What one account's ledger still has to take; `run` writes it."""

    def __init__(self, world: World, broker: str, account: str, name: str) -> None:
        self.cause = ""  # why the ledger is behind
        self.differences = 0  # between journal and file, since the start
        self.markets: dict[str, MktPair] = {}
        self._world = world
        self._broker = broker
        self._account = account
        self._name = name
        self._queue: deque[Transaction] = deque()
        self._first: tuple[list[Transaction], datetime | None] = ([], None)
        self._sizes: dict[str, Decimal] = {}
        self._is_lossy = False
        self._begun_ns = 0
        self._import: Callable[[Sequence[Transaction]], None] = lambda _: None
        self._archive = ""
        self._is_account_old = False
        self._work = trio.Event()
        self._idle = trio.Event()
        self._writer: LedgerWriter | None = None
        self._said: list[str] = []
        self._is_begun = False  # the file was compared with the journal
        self._turn = trio.Lock()  # the writer takes one call at a time

    @property
    def waiting(self) -> int:
        """How many transactions are not in the file yet."""
        return len(self._queue)

    def start_with(
        self,
        known: Sequence[Transaction],
        since: datetime | None,
        *,
        sizes: Mapping[str, Decimal],
        is_lossy: bool,
        begun_ns: int,
        take_over: Callable[[Sequence[Transaction]], None],
    ) -> None:
        """
        Take what the journal holds at the start; the file is compared with it.

        `sizes` is what is held of each market, `is_lossy` that the journal has lost records,
        `begun_ns` when the account was last reset. `take_over` journals fills that only the file
        knows.
        """
        self._first = list(known), since
        self._sizes, self._is_lossy = dict(sizes), is_lossy
        self._begun_ns = begun_ns
        self._import = take_over

    def put(self, transaction: Transaction) -> None:
        """Add a durable fill."""
        self._queue.append(transaction)
        self._idle = trio.Event() if self._idle.is_set() else self._idle
        self._work.set()

    def catch_up(self, transactions: Sequence[Transaction]) -> None:
        """Add all that may be missing; what is in the file already is left out by the writer."""
        self._queue.clear()
        self._queue.extend(transactions)
        self._work.set()

    def archive(self, since_ns: int) -> None:
        """Put the ledger aside, and begin an empty one as of `since_ns`."""
        self._queue.clear()
        self._first = [], None
        self._archive = f"{since_ns // 1_000_000_000}"
        self._work.set()

    async def wait_synced(self) -> None:
        """Wait until everything put so far is in the file."""
        while self._queue or not self._is_begun:
            self._idle = trio.Event()
            await self._idle.wait()

    async def run(self, synced: Synced) -> None:
        """Write what comes, for ever; `synced` is told what is in the file."""
        writer = await self._open()
        try:
            await self._begin(writer)
            synced(self._first[0])
            self._first = [], None
            self._is_begun = True
            while True:
                await self._write(writer, synced)
        finally:
            with trio.move_on_after(CLOSE_S) as scope:
                scope.shield = True
                await self._close(writer)

    async def _begin(self, writer: LedgerWriter) -> None:
        """Compare the file with the journal; take over what an older file alone knows."""
        known, since = self._first
        if self._begun_ns:
            await self._work_on(partial(writer.begin_at, self._begun_ns))
        if self._is_lossy:
            # A journal that lost records takes nothing out of a file.
            await self._work_on(partial(writer.append, known))
            return
        outcome = await self._work_on(partial(writer.reconcile, known, since, sizes=self._sizes))
        if outcome is not None and outcome.imports:
            self._import(outcome.imports)
            whole = [*known, *outcome.imports]
            await self._work_on(partial(writer.reconcile, whole, since))

    async def _open(self) -> LedgerWriter:
        """Return the writer, once it is ours."""
        while True:
            try:
                self._writer = await self._world.in_worker(
                    partial(self._world.open_ledger, self._broker, self._account)
                )
            except (PikerError, OSError) as error:
                self._behind(error)
                await trio.sleep(RETRY_S)
            else:
                self._caught_up()
                return self._writer

    async def _write(self, writer: LedgerWriter, synced: Synced) -> None:
        """Write one batch, or wait for one."""
        if self._archive:
            await self._work_on(partial(writer.archive, self._archive))
            self._archive = ""
        if not self._queue:
            await self._rest(writer)
            return
        batch = list(self._queue)
        faults.point("emsd.ledger.appending")
        await self._work_on(partial(writer.append, batch))
        faults.point("emsd.ledger.appended")
        written = {each.key for each in batch}
        self._queue = deque(each for each in self._queue if each.key not in written)
        synced(batch)
        self._is_account_old = True

    async def _rest(self, writer: LedgerWriter) -> None:
        """Wait for more; write the account file once the fills have paused."""
        self._idle.set()
        self._work = trio.Event()
        with trio.move_on_after(ACCOUNT_PERIOD_S if self._is_account_old else math.inf):
            await self._work.wait()
            return
        await self._work_on(partial(writer.write_account, dict(self.markets)))
        self._is_account_old = False

    async def sync(self) -> tuple[int, list[str]]:
        """Bring both files up to date, sorted; return how many were written and what differed."""
        if self._writer is None:
            return 0, [self.cause]
        await self.wait_synced()
        self._said = []
        outcome = await self._work_on(partial(self._compare, self._writer))
        await self._work_on(self._writer.rewrite)
        await self._work_on(partial(self._writer.write_account, dict(self.markets)))
        return outcome.written if outcome else 0, self._said

    def _compare(self, writer: LedgerWriter) -> Outcome:
        """
        Compare the file with the whole journal as it is now; blocks.

        Nothing else writes the file meanwhile, and what is in it was in the journal before.
        """
        records, report = read_records(self._world.journal_disk(self._broker, self._account))
        view = read_journal(records, self._broker, self._account)
        if not report.is_state_sound:
            return writer.append(view.transactions)
        sizes = {each.market: each.size for each in view.book.positions.values()}
        return writer.reconcile(view.transactions, view.since, sizes=sizes)

    async def _work_on(self, work: Callable[[], Outcome | bool | None]) -> Outcome | None:
        """Do one piece of disk work, again and again until it is done."""
        while True:
            try:
                async with self._turn:
                    outcome = await self._world.in_worker(work)
            except (PikerError, OSError) as error:
                self._behind(error)
                await trio.sleep(RETRY_S)
                continue
            self._caught_up()
            if outcome is None or isinstance(outcome, bool):
                return None
            self._say(outcome)
            return outcome

    def _say(self, outcome: Outcome) -> None:
        """Raise the alarm for what the file said otherwise."""
        for difference in outcome.differences:
            self.differences += 1
            self._said.append(str(difference))
            log.error("ledger differs account=%s: %s", self._name, difference)
            self._world.notify(f"ledger of {self._name}: {difference}")

    def _behind(self, error: BaseException) -> None:
        if not self.cause:
            log.warning("ledger behind account=%s cause=%s", self._name, error)
        self.cause = f"ledger of {self._name}: {error}; {self.waiting} fills wait"

    def _caught_up(self) -> None:
        if self.cause:
            log.info("ledger written again account=%s", self._name)
        self.cause = ""

    async def _close(self, writer: LedgerWriter) -> None:
        """Leave whole, sorted files behind."""
        try:
            async with self._turn:
                if batch := list(self._queue):
                    await self._world.in_worker(partial(writer.append, batch))
                await self._world.in_worker(writer.rewrite)
                await self._world.in_worker(partial(writer.write_account, dict(self.markets)))
                await self._world.in_worker(writer.close)
        except (PikerError, OSError) as error:
            log.warning("ledger not closed account=%s cause=%s", self._name, error)
