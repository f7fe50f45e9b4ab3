"""
One account at work: what comes in is applied, journalled, and only then acted on.

`commit` applies an input to the book at once and hands it to the journal; what follows from it
waits in line until the record is on the disk. A cancel is the exception: it leaves at once. When
the journal does not take a record, nothing of it is sent, the gate for new risk is closed, and
every refusal says so; a full disk that has room again is mended by a snapshot.

Reading order: `run`, `ask`, `hear` and `on_ticks` (what comes in), `commit`, `_do`, `_give_up`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Protocol

import numpy as np
import trio
from msgspec.structs import replace

from piker import faults
from piker.accounting import Transaction
from piker.clearing import _book_events as on
from piker.clearing import _records as rec
from piker.clearing._account_book import AccountBook
from piker.clearing._book import status_of
from piker.clearing._brackets import stop_first
from piker.clearing._dialog import Dialog
from piker.clearing._dialogs import Outputs
from piker.clearing._journal_view import JournalView
from piker.clearing._ledger_desk import LedgerDesk
from piker.clearing._messages import (
    BrokerdPosition,
    BrokerMsg,
    Cancel,
    ClientMsg,
    Order,
    Requested,
    Status,
)
from piker.clearing._risk import RiskGate, RiskView
from piker.clearing._triggers import DarkBook, Fired
from piker.clearing._world import World
from piker.errors import OrderRejected
from piker.log import get_logger
from piker.settings import Clearing, Paper
from piker.storage.journal import (
    Journal,
    JournalError,
    JournalFull,
    Pending,
    open_journal,
)

log = get_logger(__name__)

COMMITS_MAX = 1024  # records on their way to the disk; then the senders wait
ROTATE_BYTES = 3 << 20  # of records since the last snapshot; a segment holds 4 MiB
TRAIL_PERIOD_NS = 1_000_000_000
MEND_PERIOD_S = 1.0
WATCH_FILE = "watched"  # when orders were last looked after
WATCH_PERIOD_S = 1.0
DAY_NS = 86_400_000_000_000


class Market(Protocol):
    """A watched market, as the gate sees it."""

    @property
    def mkt(self) -> Any: ...

    @property
    def last(self) -> Decimal | None: ...

    def is_stale(self) -> str: ...


class Desk(Protocol):
    """Who listens to an account: its clients, and the broker's relay."""

    def tell(self, keeper: AccountKeeper, status: Status) -> None:
        """Tell the clients of the market."""

    def hold(self, position: BrokerdPosition) -> None:
        """Tell every client of every market."""

    def send(self, keeper: AccountKeeper, output: on.Send | on.SendCancel | on.Withdraw) -> None:
        """Hand a request to the broker's relay, or take it back."""

    def changed(self, keeper: AccountKeeper) -> None:
        """Say that the account's gate has opened or closed, or what it holds has changed."""

    def lose_broker(self, keeper: AccountKeeper, cause: str) -> None:
        """End the dialog with the paper engine: what it does can no longer be recorded."""

    def mended(self, keeper: AccountKeeper) -> None:
        """Go on with the paper engine: what it does can be recorded again."""

    def account_reset(self, keeper: AccountKeeper) -> None:
        """Have the paper engine begin anew, with the account as it is now."""

    def last_of(self, fqme: str) -> Decimal | None:
        """Return the last price of a market that is watched."""


class Asker(Protocol):
    """A client that gets a refusal of its own."""

    def refuse(self, status: Status) -> None:
        """Tell this client alone."""


class _Commit:
    """A record on its way to the disk, and what is to be done once it is there."""

    __slots__ = ("after", "error", "outputs", "pending", "record")

    def __init__(self, record: rec.Input, outputs: Outputs) -> None:
        self.record = record
        self.outputs = outputs
        self.pending: Pending | None = None
        self.error: JournalError | None = None
        self.after: Callable[[], None] | None = None


class AccountKeeper:
    """The account `account` of `broker`; made by the router, which runs it."""

    def __init__(
        self, world: World, desk: Desk, broker: str, account: str, limits: Clearing, paper: Paper
    ) -> None:
        self.world = world
        self.broker = broker
        self.account = account
        self.name = f"{broker}.paper" if account == "paper" else account
        self.limits = limits
        self.start_balance = paper.start_balance
        self.disk = world.journal_disk(broker, account)
        self.book = AccountBook(broker, account)
        self.darks = DarkBook(broker, limits.dark_pad_ticks)
        self.gate = RiskGate(limits)
        self.ledger = LedgerDesk(world, broker, account, self.name)
        self.told: dict[str, Status] = {}  # the newest durable word of every order
        self.told_fills: dict[str, int] = {}
        self._told_positions: dict[str, BrokerdPosition] = {}
        self.unsound = ""  # why no new risk is taken: the journal
        self.not_watched: dict[str, int] | None = None
        self.refused = 0
        self._desk = desk
        self._journal: Journal | None = None
        self._commits: deque[_Commit] = deque()
        self._work = trio.Event()
        self._room = trio.Event()
        self._left: list[tuple[str, int]] = []
        self._withdrawn: set[tuple[str, int]] = set()  # before their record was durable
        self._bytes = 0
        self._trailed_ns = 0
        self._rotation_due = trio.Event()
        self._is_mending = False

    # ---- life --------------------------------------------------------------------------

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """
        Replay the journal, then keep the account until cancelled; started when it is replayed.

        Raises:
          JournalLocked, ConfigError, JournalFull: the journal cannot be used.
          BadPayload: another version wrote it.
        """
        view = JournalView(self.broker, self.account)
        async with open_journal(
            self.disk, self.name, fold=view.feed, now_ns=self.world.now_ns
        ) as journal:
            view.finish()
            self.book, self._journal = view.book, journal
            self._take_over(journal)
            await self._read_watch()
            self.ledger.start_with(
                view.transactions,
                view.since,
                sizes={each.market: each.size for each in self.book.positions.values()},
                is_lossy=not journal.report.is_state_sound,
                begun_ns=self.book.since_ns,
                take_over=self._take_over_fills,
            )
            async with trio.open_nursery() as nursery:
                for task in (self._do_outputs, self._rotate_when_due, self._keep_watch):
                    nursery.start_soon(task)
                nursery.start_soon(self.ledger.run, self.book.mark_synced)
                task_status.started()
                try:
                    await trio.sleep_forever()
                finally:
                    await self._write_watch()

    def _take_over(self, journal: Journal) -> None:
        """Say and do what a new life begins with: statuses, triggers, what is wrong."""
        report = journal.report
        if not report.is_state_sound:
            grave = next(damage.text for damage in report.damages if damage.is_grave)
            self.unsound = (
                f"the order journal of {self.name} is damaged ({grave}); read it with"
                f" `piker store verify`, then `piker arm` to trade again"
            )
            log.error("no new risk account=%s cause=%s", self.name, self.unsound)
        for dialog in self.book.dialogs:
            self.told[dialog.oid] = status_of(dialog, dialog.told_ns)
            self.told_fills[dialog.oid] = len(dialog.fills)
        for position in self.book.held_positions():
            self._told_positions[position.symbol] = position
        for arm in self.book.dialogs.arms():
            self.darks.arm(arm.order, arm.side, arm.best)

    def _take_over_fills(self, transactions: Sequence[Transaction]) -> None:
        """Make fills that only an older ledger file knows part of the journal."""
        log.warning(
            "%d fills of an older ledger taken over account=%s", len(transactions), self.name
        )
        for start in range(0, len(transactions), rec.PART_ITEMS):
            part = tuple(transactions[start : start + rec.PART_ITEMS])
            now_ns = self.world.now_ns()
            self.commit(rec.Imported(time_ns=now_ns, transactions=part, source="file"))
        for position in self.book.held_positions():
            self._hold(position)

    @property
    def journal(self) -> Journal:
        """The open journal."""
        assert self._journal is not None
        return self._journal

    @property
    def markets(self) -> set[str]:
        """The markets in which anything is held."""
        return set(self.book.active_markets())

    # ---- what comes in: clients ----------------------------------------------------------

    async def wait_room(self) -> None:
        """Wait until another record may be committed."""
        while len(self._commits) >= COMMITS_MAX:
            self._room = trio.Event()
            await self._room.wait()

    def ask(self, request: ClientMsg, market: Market, asker: Asker) -> None:
        """Take a client's order, amend or cancel; a refusal is told to the client alone."""
        faults.point("emsd.request.taken")
        now_ns = self.world.now_ns()
        known = self.book.find(request.oid)
        mkt_map = None
        if isinstance(request, Order):
            if reason := self._why_not(request, market, known, now_ns):
                self._refuse(asker, request, known, reason, now_ns)
                return
            mkt_map = self.book.learn_market(market.mkt)
        record = rec.Asked(time_ns=now_ns, request=request, last=market.last, mkt=mkt_map)
        try:
            self.commit(record)
        except OrderRejected as error:
            self._refuse(asker, request, known, error.reason, now_ns)

    def _why_not(self, order: Order, market: Market, known: Dialog | None, now_ns: int) -> str:
        """Return why an order cannot be, or '' when it passes every limit."""
        if order.account != self.account and not (order.is_alert and not order.account):
            return f"account: was {order.account!r}, expected {self.account}"
        if known is None and self._is_closed and order.is_dark:
            return self.unsound
        return self.gate.check(order, self._view(order.symbol, market, known, now_ns))

    def _view(self, fqme: str, market: Market, known: Dialog | None, now_ns: int) -> RiskView:
        """Return what the risk gate looks at."""
        position = self.book.positions.get(fqme)
        quote = str(market.mkt.src)
        unrealised = Decimal(0)
        for each in self.book.positions.values():
            mkt = self.book.markets.get(each.fqme)
            last = self._desk.last_of(each.fqme)
            if each.size and mkt and str(mkt.src) == quote and last is not None:
                unrealised += each.unrealised_pnl(last)
        return RiskView(
            now_ns=now_ns,
            mkt=market.mkt,
            last=market.last,
            stale=market.is_stale(),
            position=position.size if position else Decimal(0),
            working=self.book.active(fqme),
            known=known,
            realised=self.book.made_today(quote, now_ns),
            fees=Decimal(0),
            unrealised=unrealised,
            stopped=self.book.stopped,
            unsound=self.unsound,
        )

    def _refuse(
        self, asker: Asker, request: ClientMsg, known: Dialog | None, reason: str, now_ns: int
    ) -> None:
        """Tell a client that its request was not taken; nothing has changed."""
        self.refused += 1
        log.info("request refused oid=%s reason=%s", request.oid, reason)
        asker.refuse(refusal(request, known, reason, now_ns, self.account, self.book.mode))

    async def cancel_all(self, fqme: str = "") -> list[str]:
        """Ask to cancel every order (of a market); return their oids."""
        going = [each.oid for each in self.book.active(fqme)]
        for oid in going:
            await self.wait_room()
            dialog = self.book.dialogs[oid]
            if not dialog.is_terminal:
                request = Cancel(oid=oid, symbol=dialog.order.symbol)
                self.commit(rec.Asked(time_ns=self.world.now_ns(), request=request))
        return going

    def stop(self, reason: str) -> int:
        """Throw the kill switch: cancel all, no new risk; return how many were canceled."""
        going = self.book.held()
        self.commit(rec.Stopped(time_ns=self.world.now_ns(), reason=reason or "stopped by hand"))
        self._desk.changed(self)
        return going

    def arm(self) -> None:
        """Allow new risk again; what a damaged journal has left stands from now on."""
        if self.unsound and self.journal.state == "open":
            self.unsound = ""
            self._rotation_due.set()
        self.commit(rec.Armed(time_ns=self.world.now_ns()))
        self._desk.changed(self)

    async def reset(self, balance: Decimal) -> None:
        """Begin a paper account anew: its orders end, positions and balances start again."""
        is_done = trio.Event()

        def begin_anew() -> None:
            self.ledger.archive(self.book.since_ns)
            self._desk.account_reset(self)
            is_done.set()

        await self.wait_room()
        record = rec.Reset(time_ns=self.world.now_ns(), balance=balance)
        self.commit(record, after=begin_anew)
        await is_done.wait()

    # ---- what comes in: the broker and the market ----------------------------------------

    def hear(self, message: BrokerMsg) -> None:
        """Take a broker's word."""
        faults.point("emsd.broker.heard")
        self.commit(rec.Told(time_ns=self.world.now_ns(), message=message))

    def happen(
        self,
        oid: str,
        event: on.Triggered | on.NeverSent | on.TimedOut | on.Found | on.Absent | on.Refused,
    ) -> None:
        """Take what we found out about an order."""
        self.commit(rec.Happened(time_ns=event.time_ns, oid=oid, event=event))

    def leave(self, oid: str, number: int) -> None:
        """Note that a request leaves for the broker: from now on it may have arrived."""
        self.book.dialogs.apply(oid, on.Left(time_ns=self.world.now_ns(), number=number))
        self._left.append((oid, number))

    def on_ticks(self, fqme: str, batch: np.ndarray, market: Market) -> None:
        """Look whether a batch of ticks fires anything."""
        if fqme not in self.darks.fqmes():
            return
        self.fire(self.darks.on_ticks(fqme, batch, market.mkt), market)
        now_ns = self.world.now_ns()
        if now_ns - self._trailed_ns >= TRAIL_PERIOD_NS and (bests := self.darks.bests()):
            self._trailed_ns = now_ns
            self.commit(rec.Trailed(time_ns=now_ns, bests=bests))

    def fire(self, fired: list[Fired], market: Market) -> None:
        """Send what has fired, or refuse it, each once."""
        for one in stop_first(self.book.find, fired):
            faults.point("emsd.trigger.fired")
            dialog, now_ns = self.book.dialogs[one.oid], self.world.now_ns()
            view = self._view(dialog.order.symbol, market, dialog, now_ns)
            reason = self.gate.check_fired(dialog.order, one.price, view)
            event: on.Triggered | on.Refused = on.Triggered(
                time_ns=now_ns, price=one.price, gapped=one.gapped, cause_ns=one.time_ns
            )
            if reason and not dialog.order.is_alert:
                event = on.Refused(time_ns=now_ns, reason=reason, request="entry")
            self.happen(one.oid, event)

    # ---- the journal -----------------------------------------------------------------------

    @property
    def _is_closed(self) -> bool:
        return self._journal is None or self._journal.state in ("failed", "closed")

    def commit(self, record: rec.Input, after: Callable[[], None] | None = None) -> None:
        """
        Apply an input and have it journalled; what follows from it is done once it is durable.

        Raises:
          OrderRejected: a request that cannot be; nothing has changed.
        """
        record = replace(record, left=tuple(self._left))
        outputs = self.book.apply(record)
        commit = _Commit(record, outputs)
        commit.after = after
        if self.book.changed:
            payload = rec.encode(record)
            try:
                commit.pending = self.journal.append_nowait(payload)
                self._left = []
                self._bytes += len(payload)
            except JournalError as error:
                commit.error = error
            except ValueError as error:  # a broker's word of a quarter of a megabyte
                commit.error = JournalFull(str(error))
        self._do_at_once(outputs)
        self._commits.append(commit)
        self._work.set()
        if self._bytes > ROTATE_BYTES:
            self._rotation_due.set()

    def _do_at_once(self, outputs: Outputs) -> None:
        """Do what waits for no disk: a cancel leaves, a trigger is held or let go."""
        for output in outputs:
            match output:
                case on.Withdraw(oid=oid, number=number):
                    self._withdrawn.add((oid, number))
                    self._desk.send(self, output)
                case on.SendCancel():
                    self._desk.send(self, output)
                case on.Arm(order=order, side=side, best=best):
                    self.darks.arm(order, side, best)
                case on.Disarm(oid=oid):
                    self.darks.disarm(oid)

    async def _do_outputs(self) -> None:
        """Do what follows from each record, in order, once it is durable."""
        while True:
            while not self._commits:
                self._work = trio.Event()
                await self._work.wait()
            commit = self._commits[0]
            try:
                if commit.error is not None:
                    raise commit.error
                if commit.pending is not None:
                    await commit.pending.wait_durable()
            except JournalError as error:
                self._commits.popleft()
                self._give_up(commit, error)
            else:
                self._commits.popleft()
                faults.point("emsd.record.durable")
                self._do(commit.outputs)
                if commit.after is not None:
                    commit.after()
            self._room.set()
            if not self._commits:
                await trio.lowlevel.checkpoint()

    def _do(self, outputs: Outputs) -> None:
        for output in outputs:
            match output:
                case on.Send(order=order):
                    if (order.oid, order.number) in self._withdrawn:
                        self._withdrawn.discard((order.oid, order.number))
                    else:
                        self._desk.send(self, output)
                case on.Tell(status=status):
                    self._tell(status)
                case on.Book(oid=oid, fill=fill):
                    asked = self.book.dialogs[oid].order
                    self.ledger.put(self.book.transaction_of(asked.symbol, asked.action, fill))
                case on.Hold(position=position):
                    self._hold(position)
                case on.Note(oid=oid, text=text, level=level):
                    (log.warning if level == "warning" else log.debug)("order oid=%s %s", oid, text)

    def _tell(self, status: Status) -> None:
        """Tell the clients, and keep what they know for those who come later."""
        if status.resp == "fill":
            self.told_fills[status.oid] = self.told_fills.get(status.oid, 0) + 1
            kept = replace(status, resp=_resp_of(status.state), brokerd_msg={})
        else:
            kept = status
        self.told[status.oid] = replace(
            kept, refused="", reason="" if status.refused else kept.reason
        )
        log.info(
            "order %s oid=%s account=%s revision=%d %s",
            status.resp, status.oid, self.name, status.revision, status.reason,
        )  # fmt: skip
        faults.point(f"emsd.telling.{status.resp}")
        self._desk.tell(self, status)
        if status.is_terminal:
            self._desk.changed(self)

    def _hold(self, position: BrokerdPosition) -> None:
        """Tell everybody what is held of a market now."""
        self._told_positions[position.symbol] = position
        self._desk.hold(position)

    def is_durable(self, dialog: Dialog) -> bool:
        """Whether an order's newest request is on the disk."""
        told = self.told.get(dialog.oid)
        return (
            told is not None
            and told.revision >= dialog.sent_number
            and (told.state != "dark_open" or dialog.state == "dark_open")
        )

    def told_positions(self) -> list[BrokerdPosition]:
        """Return what clients know to be held."""
        return [each for each in self._told_positions.values() if each.size]

    # ---- what goes wrong -------------------------------------------------------------------

    def _give_up(self, commit: _Commit, error: JournalError) -> None:
        """Let nothing of a record that was not written leave, and say so."""
        if not self.unsound:
            self.unsound = str(error)
            log.error("no new risk account=%s cause=%s", self.name, error)
            self._desk.changed(self)
        now_ns, outputs = self.world.now_ns(), list(commit.outputs)
        reason = f"not recorded: {error}"
        if isinstance(commit.record, rec.Told) and self.book.mode == "paper":
            # A fill that cannot be recorded must not happen: nobody hears of it.
            self._desk.lose_broker(self, str(error))
            outputs = []
        for output in list(outputs):
            match output:
                case on.Send(order=order):
                    never = on.NeverSent(time_ns=now_ns, number=order.number, reason=reason)
                    outputs += self.book.dialogs.apply(order.oid, never)
                case on.Arm(order=held) if isinstance(commit.record, rec.Asked):
                    refused = on.Refused(time_ns=now_ns, reason=reason, request="entry")
                    outputs += self.book.dialogs.apply(held.oid, refused)
        self._do_at_once(tuple(o for o in outputs if isinstance(o, on.Disarm)))
        for output in outputs:
            if isinstance(output, on.Tell):
                said = output.status
                self._tell(replace(said, reason=said.reason or reason))
            elif isinstance(output, on.Hold):
                self._hold(output.position)
        if not self._is_closed:
            # Records that are written from here on do not stand alone: a snapshot has to come.
            self._rotation_due.set()

    async def _rotate_when_due(self) -> None:
        """Begin a new segment with a snapshot when the old one is long, or the disk was full."""
        while True:
            await self._rotation_due.wait()
            self._rotation_due = trio.Event()
            keep_ns = self.limits.journal_days * DAY_NS
            self.book.dialogs.forget(self.world.now_ns() - keep_ns)
            for oid in [oid for oid in self.told if oid not in self.book.dialogs]:
                del self.told[oid]
                self.told_fills.pop(oid, None)
            faults.point("emsd.journal.rotating")
            try:
                self._bytes, self._left = 0, []
                sequence = await self.journal.rotate(self.book.snapshot())
            except JournalError as error:
                log.error("journal not rotated account=%s cause=%s", self.name, error)
                await trio.sleep(MEND_PERIOD_S)
                if not self._is_closed:
                    self._rotation_due.set()
                continue
            self._mended()
            await self.ledger.wait_synced()
            faults.point("emsd.journal.releasing")
            try:
                await self.journal.release(sequence)
            except JournalError as error:
                log.error("journal not released account=%s cause=%s", self.name, error)

    def _mended(self) -> None:
        """After a full disk has taken a snapshot: go on, and tell what was not told."""
        if not self.unsound or self.journal.state != "open":
            return
        if not self.journal.report.is_state_sound:
            return
        self.unsound = ""
        log.warning("the journal of %s takes records again", self.name)
        self.ledger.catch_up(self.book.unsynced)
        for dialog in self.book.dialogs:
            now = status_of(dialog, dialog.told_ns)
            told = self.told.get(dialog.oid)
            if told is None or (told.state, told.revision) != (now.state, now.revision):
                self._tell(now)
        self._desk.mended(self)
        self._desk.changed(self)

    # ---- when nobody watched -----------------------------------------------------------------

    async def _read_watch(self) -> None:
        """Find out from when to now nobody looked after what is held."""
        held = self.book.held()
        if not held:
            return
        disk, from_ns = self.disk, self.book.last_ns
        if WATCH_FILE in await disk.in_worker(disk.names):
            raw = await disk.in_worker(lambda: disk.read(WATCH_FILE))
            from_ns = max(from_ns, int.from_bytes(raw[:8], "little"))
        self.not_watched = {"from_ns": from_ns, "to_ns": self.world.now_ns(), "held": held}
        log.warning(
            "%d orders of %s were not watched from %s to %s UTC",
            held, self.name, _utc(from_ns), _utc(self.not_watched["to_ns"]),
        )  # fmt: skip

    async def _keep_watch(self) -> None:
        """Write down, each second, that orders are looked after."""
        while True:
            if self.book.held():
                await self._write_watch()
            await trio.sleep(WATCH_PERIOD_S)

    async def _write_watch(self) -> None:
        """Write the time in place; it is never synced: what matters is a killed process."""
        disk, data = self.disk, self.world.now_ns().to_bytes(8, "little")

        def write() -> None:
            known = WATCH_FILE in disk.names()
            file = disk.open(WATCH_FILE) if known else disk.create(WATCH_FILE, len(data))
            try:
                file.write(0, data)
            finally:
                file.close()

        try:
            with trio.CancelScope(shield=True):
                await disk.in_worker(write)
        except OSError as error:
            log.debug("watch not written account=%s cause=%s", self.name, error)

    # ---- what it says ------------------------------------------------------------------------

    @property
    def gate_state(self) -> tuple[str, str]:
        """How the account's gate stands, and why: `ready`, `no_new_risk` or `stopped`."""
        if self.unsound:
            return "no_new_risk", self.unsound
        if self.book.stopped:
            return "stopped", f"stopped: {self.book.stopped}; `piker arm` to trade again"
        return "ready", ""

    def statistics(self) -> dict[str, int]:
        """Return named counters."""
        found = self.journal.statistics()
        return {
            **self.book.dialogs.statistics(),
            "held": self.book.held(),
            "armed": len(self.darks),
            "refused": self.refused,
            "commits_waiting": len(self._commits),
            "journal_records": found.records,
            "journal_syncs": found.syncs,
            "journal_segments": found.segments,
            "journal_ok": int(not self.unsound),
            "ledger_waiting": self.ledger.waiting,
            "ledger_differences": self.ledger.differences,
        }


def _utc(time_ns: int) -> str:
    """Return a time as a person reads it."""
    return datetime.fromtimestamp(time_ns / 1e9, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _resp_of(state: str) -> Any:
    """Return the `resp` of an order that was filled, by its state."""
    if state in ("closed", "canceled", "error"):
        return state
    return "pending" if state == "amend_in_flight" else "open"


def refusal(
    request: ClientMsg,
    known: Dialog | None,
    reason: str,
    time_ns: int,
    account: str = "",
    mode: Any = "paper",
) -> Status:
    """Return the answer to a request that was not taken: nothing has changed."""
    what: Requested = "cancel" if isinstance(request, Cancel) else "amend" if known else ""
    if known is not None:
        now = status_of(known, time_ns)
        return replace(now, refused=what, reason=reason)
    order = request if isinstance(request, Order) else None
    return Status(
        time_ns=time_ns,
        oid=request.oid,
        resp="error",
        req=order,
        src="emsd",
        account=order.account if order else account,
        mode=mode,
        reason=reason,
        refused=what,
        client_ref=order.client_ref if order else "",
        state="error",
    )
