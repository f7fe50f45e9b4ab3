"""
One account at work: what comes in is applied, journalled, and only then acted on.

`commit` applies an input to the book at once and hands it to the journal; what follows from it
waits in line until the record is on the disk. A cancel is the exception: it leaves at once. When
the journal does not take a record, nothing of it is sent, the gate for new risk is closed, and
every refusal says so; a full disk that has room again is mended by a snapshot.

Reading order: `run`, `ask`, `hear` and `on_ticks` (what comes in), `commit`, `_do`, `_give_up`;
`_commit_line` holds the line to the disk, `_desk` says who stands around.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal

import numpy as np
import trio
from msgspec.structs import replace

from piker import faults
from piker.accounting import Transaction
from piker.clearing import _book_events as on
from piker.clearing import _records as rec
from piker.clearing._account_book import AccountBook
from piker.clearing._brackets import stop_first
from piker.clearing._commit_line import Commit, CommitLine
from piker.clearing._desk import Asker, Desk, Market, refusal
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
    Status,
)
from piker.clearing._risk import RiskGate, RiskView
from piker.clearing._told import Told
from piker.clearing._triggers import DarkBook, Fired
from piker.clearing._watch_log import WatchLog
from piker.clearing._world import World
from piker.errors import OrderRejected
from piker.log import get_logger
from piker.settings import Clearing, Paper
from piker.storage.journal import (
    Journal,
    JournalError,
    open_journal,
)

log = get_logger(__name__)

ROTATE_BYTES = 3 << 20  # of records since the last snapshot; a segment holds 4 MiB
TRAIL_PERIOD_NS = 1_000_000_000
MEND_PERIOD_S = 1.0
DAY_NS = 86_400_000_000_000


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
        self.quotes: set[str] = set()  # that clients of this life trade in
        self.told = Told(self.name)
        self.unsound = ""  # why no new risk is taken: the journal
        self.not_watched: dict[str, int] | None = None
        self.refused = 0
        self._desk = desk
        self.line = CommitLine(self._do, self._give_up, self.told.write_log)
        self.watch = WatchLog(self.disk, world.now_ns)
        self._withdrawn: set[tuple[str, int]] = set()  # before their record was durable
        self._trailed_ns = 0
        self._rotation_due = trio.Event()
        self._release_due = trio.Event()
        self._snapshot_sequence = 0

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
            self.book = view.book
            self.line.open(journal)
            self._take_over(journal)
            held = self.book.held()
            self.not_watched = await self.watch.gap(self.book.last_ns, held, self.name)
            self.ledger.start_with(
                view.transactions,
                view.since,
                sizes={each.market: each.size for each in self.book.positions.values()},
                is_lossy=not journal.report.is_state_sound,
                begun_ns=self.book.since_ns,
                take_over=self._take_over_fills,
            )
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.line.run)
                nursery.start_soon(self.line.flush_in_time)
                nursery.start_soon(self._rotate_when_due)
                nursery.start_soon(self._release_when_synced)
                nursery.start_soon(self.watch.keep, self.book.held)
                nursery.start_soon(self.ledger.run, self.book.mark_synced)
                task_status.started()
                try:
                    await trio.sleep_forever()
                finally:
                    self.line.close()
                    await self.watch.write()

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
        self.told.take_over(self.book)
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
    def markets(self) -> set[str]:
        """The markets in which anything is held."""
        return set(self.book.active_markets())

    def learn_quote(self, asset: str) -> bool:
        """Note a quote asset that is traded here; True when the paper engine must be told."""
        is_new = asset not in self.quotes
        self.quotes.add(asset)
        return is_new and self.book.start_balance is not None

    def balances(self) -> dict[str, Decimal]:
        """Return a paper account's balances, those of assets that were never moved too."""
        first = self.book.start_balance
        unmoved = dict.fromkeys(sorted(self.quotes), self.start_balance if first is None else first)
        return {**unmoved, **self.book.balances(self.start_balance)}

    # ---- what comes in: clients ----------------------------------------------------------

    @property
    def has_room(self) -> bool:
        """Whether another input may be committed."""
        return self.line.has_room

    async def wait_room(self) -> None:
        """Wait until another input may be committed."""
        await self.line.wait_room()

    def ask(self, request: ClientMsg, market: Market, asker: Asker) -> None:
        """Take a client's order, amend or cancel; a refusal is told to the client alone."""
        faults.point("emsd.request.taken")
        now_ns, last = self.world.now_ns(), market.last
        known = self.book.find(request.oid)
        mkt_map = None
        if isinstance(request, Order):
            if reason := self._why_not(request, market, last, known, now_ns):
                self._refuse(asker, request, known, reason, now_ns)
                return
            mkt_map = self.book.learn_market(market.mkt)
        record = rec.Asked(time_ns=now_ns, request=request, last=last, mkt=mkt_map)
        try:
            self.commit(record)
        except OrderRejected as error:
            self._refuse(asker, request, known, error.reason, now_ns)

    def _why_not(
        self, order: Order, market: Market, last: Decimal | None, known: Dialog | None, now_ns: int
    ) -> str:
        """Return why an order cannot be, or '' when it passes every limit."""
        if order.account != self.account and not (order.is_alert and not order.account):
            return f"account: was {order.account!r}, expected {self.account}"
        if known is None and self.line.is_closed and order.is_dark:
            return self.unsound
        return self.gate.check(order, self._view(market, last, known, now_ns))

    def _view(
        self, market: Market, last: Decimal | None, known: Dialog | None, now_ns: int
    ) -> RiskView:
        """Return what the risk gate looks at."""
        fqme, quote = market.mkt.fqme, str(market.mkt.src)
        position = self.book.positions.get(fqme)
        unrealised = Decimal(0)
        for each in self.book.positions.values():
            mkt = self.book.markets.get(each.fqme) if each.size else None
            if mkt is None or str(mkt.src) != quote:
                continue
            price = last if each.fqme == fqme else self._desk.last_of(each.fqme)
            if price is not None:
                unrealised += each.unrealised_pnl(price)
        return RiskView(
            now_ns=now_ns,
            mkt=market.mkt,
            last=last,
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
        if self.unsound and self.line.journal.state == "open":
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
        self.line.leave(oid, number)

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
            view = self._view(market, market.last, dialog, now_ns)
            reason = self.gate.check_fired(dialog.order, one.price, view)
            event: on.Triggered | on.Refused = on.Triggered(
                time_ns=now_ns, price=one.price, gapped=one.gapped, cause_ns=one.time_ns
            )
            if reason and not dialog.order.is_alert:
                event = on.Refused(time_ns=now_ns, reason=reason, request="entry")
            self.happen(one.oid, event)

    # ---- the journal -----------------------------------------------------------------------

    def commit(self, record: rec.Input, after: Callable[[], None] | None = None) -> None:
        """
        Apply an input and have it journalled; what follows from it is done once it is durable.

        Raises:
          OrderRejected: a request that cannot be; nothing has changed.
        """
        record = self.line.stamped(record)
        outputs = self.book.apply(record)
        self._do_at_once(outputs)
        self.line.put(record, outputs, after, is_news=self.book.changed)
        if self.line.bytes > ROTATE_BYTES:
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

    def _do(self, outputs: Outputs) -> None:
        """Do what follows from a durable record."""
        if not len(self.line):
            self._withdrawn.clear()
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
        """Tell the clients, those who come later too."""
        self.told.keep(status)
        faults.point(f"emsd.telling.{status.resp}")
        self._desk.tell(self, status)
        if status.is_terminal:
            self._desk.changed(self)

    def _hold(self, position: BrokerdPosition) -> None:
        """Tell everybody what is held of a market now."""
        self.told.keep_position(position)
        self._desk.hold(position)

    # ---- what goes wrong -------------------------------------------------------------------

    def _give_up(self, commit: Commit, error: JournalError) -> None:
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
        if not self.line.is_closed:
            # Records that are written from here on do not stand alone: a snapshot has to come.
            self._rotation_due.set()

    async def _rotate_when_due(self) -> None:
        """Begin a new segment with a snapshot when the old one is long, or the disk was full."""
        while True:
            await self._rotation_due.wait()
            self._rotation_due = trio.Event()
            keep_ns = self.limits.journal_days * DAY_NS
            self.book.dialogs.forget(self.world.now_ns() - keep_ns)
            self.told.forget(self.book.dialogs)
            faults.point("emsd.journal.rotating")
            try:
                sequence = await self.line.rotate(self.book.snapshot())
            except JournalError as error:
                log.error("journal not rotated account=%s cause=%s", self.name, error)
                await trio.sleep(MEND_PERIOD_S)
                if not self.line.is_closed:
                    self._rotation_due.set()
                continue
            self._mended()
            self._snapshot_sequence = sequence
            self._release_due.set()

    async def _release_when_synced(self) -> None:
        """Let go of segments before the last snapshot, once their fills stand in the ledger."""
        while True:
            await self._release_due.wait()
            self._release_due = trio.Event()
            sequence = self._snapshot_sequence
            await self.ledger.wait_synced()
            faults.point("emsd.journal.releasing")
            try:
                await self.line.journal.release(sequence)
            except JournalError as error:
                log.error("journal not released account=%s cause=%s", self.name, error)

    def _mended(self) -> None:
        """After a full disk has taken a snapshot: go on, and tell what was not told."""
        if not self.unsound or self.line.journal.state != "open":
            return
        if not self.line.journal.report.is_state_sound:
            return
        self.unsound = ""
        log.warning("the journal of %s takes records again", self.name)
        self.ledger.catch_up(self.book.unsynced)
        for missing in list(self.told.missing(self.book)):
            if isinstance(missing, Status):
                self._tell(missing)
            else:
                self._hold(missing)
        self._desk.mended(self)
        self._desk.changed(self)

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
        found = self.line.journal.statistics()
        return {
            **self.book.dialogs.statistics(),
            "held": self.book.held(),
            "armed": len(self.darks),
            "refused": self.refused,
            "commits_waiting": len(self.line),
            "journal_records": found.records,
            "journal_syncs": found.syncs,
            "journal_segments": found.segments,
            "journal_ok": int(not self.unsound),
            "ledger_waiting": self.ledger.waiting,
            "ledger_differences": self.ledger.differences,
        }
