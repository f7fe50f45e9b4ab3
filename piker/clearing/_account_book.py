"""
One account as its journal tells it: orders, positions, balances, the kill switch.

`apply` is the only way in, live and at replay: a record changes the state the same way each time,
and what is returned is to be done only while it happens for the first time. No I/O, no clock, no
market: triggers and risk limits look at this state from outside and come back as records.

Reading order: `apply`, `_book_fill`, `snapshot` and `take_part`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Context, Decimal
from typing import Any

import msgspec

from piker.accounting import Position, Transaction
from piker.clearing import _book_events as on
from piker.clearing import _records as rec
from piker.clearing._dialog import Dialog
from piker.clearing._dialogs import OrderDialogs, Outputs
from piker.clearing._messages import BrokerdFill, BrokerdPosition, Mode, Order
from piker.errors import OrderRejected
from piker.model.market import MktPair

ZERO = Decimal(0)
CONTEXT = Context(prec=50)  # as positions are folded
DAY_NS = 86_400_000_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class AccountBook:
    """The state of one account; equal records make equal books."""

    def __init__(self, broker: str, account: str) -> None:
        self.broker = broker
        self.account = account
        self.mode: Mode = "paper" if account == "paper" else "live"
        self.changed = False  # by the record applied last
        self._clear()

    def _clear(self) -> None:
        self.dialogs = OrderDialogs()
        self._active: dict[str, dict[str, None]] = {}  # oids that go on, by market
        self._loaded: dict[str, Dialog] = {}  # by a snapshot that is being read
        self.markets: dict[str, MktPair] = {}
        self.positions: dict[str, Position] = {}
        self.unsynced: list[Transaction] = []  # may not be in the ledger yet
        self.cash: dict[str, Decimal] = {}  # what fills have moved, by asset
        self.start_balance: Decimal | None = None  # of a reset; None: as configured
        self.stopped = ""  # the kill switch: why
        self.stopped_ns = 0
        self.since_ns = 0  # transactions before this are not held here
        self.last_ns = 0
        self._day = 0
        self._day_result: dict[str, Decimal] = {}

    # ---- records -----------------------------------------------------------------------

    def apply(self, record: rec.Input) -> Outputs:
        """
        Return what `record` leads to; `changed` says whether it changed anything.

        Raises:
          OrderRejected: a request that cannot be; nothing has changed, do not journal it.
        """
        before = self.dialogs.changes
        self.changed = False
        for oid, number in record.left:
            self.dialogs.apply(oid, on.Left(time_ns=record.time_ns, number=number))
        outputs = self._take(record)
        fills: list[on.Book] = []
        for output in outputs:
            if isinstance(output, on.Tell):
                self._index(self.dialogs[output.status.oid])
            elif isinstance(output, on.Book):
                self._book_fill(output.oid, output.fill)
                fills.append(output)
        self.changed = self.changed or bool(fills) or self.dialogs.changes != before
        if self.changed:
            self.last_ns = max(self.last_ns, record.time_ns)
        return (*outputs, *self._holds(fills)) if fills else outputs

    def _take(self, record: rec.Input) -> Outputs:
        """Return what the input itself leads to."""
        match record:
            case rec.Asked(request=request, time_ns=time_ns, last=last):
                outputs = self.dialogs.request(request, self.broker, self.mode, time_ns, last)
                # A request that was refused is not journalled, and the market would not be either.
                self._learn_market(request, record.mkt)
                return outputs
            case rec.Told(message=message, time_ns=time_ns):
                return self.dialogs.hear(message, self.broker, self.mode, time_ns)
            case rec.Happened(oid=oid, event=event):
                return self.dialogs.apply(oid, event)
            case rec.Trailed(bests=bests, time_ns=time_ns):
                return self._apply_all(
                    (oid, on.Trailed(time_ns=time_ns, best=best)) for oid, best in bests.items()
                )
            case rec.Imported(transactions=transactions):
                for transaction in transactions:
                    self._fold(transaction)
                self.changed = True
                return ()
        return self._switch(record)

    def _switch(self, record: rec.Input) -> Outputs:
        """Take what concerns the account as a whole."""
        self.changed = True
        match record:
            case rec.Stopped(reason=reason, time_ns=time_ns):
                self.stopped, self.stopped_ns = reason, time_ns
                return self._end_all(time_ns, "")
            case rec.Armed():
                self.stopped, self.stopped_ns = "", 0
                return ()
            case rec.Reset(balance=balance, time_ns=time_ns):
                outputs = self._end_all(time_ns, "the paper account was reset")
                flat = tuple(
                    on.Hold(position=self._hold(msgspec.structs.replace(each, size=ZERO)))
                    for each in self.positions.values()
                    if each.size
                )
                self.positions, self.cash, self.unsynced = {}, {}, []
                self.start_balance, self.since_ns, self._day_result = balance, time_ns, {}
                return outputs + flat
        raise AssertionError(f"no such record: {record}")

    def _apply_all(self, events: Iterator[tuple[str, on.Event]]) -> Outputs:
        outputs: Outputs = ()
        for oid, event in events:
            outputs += self.dialogs.apply(oid, event)
        return outputs

    def _end_all(self, time_ns: int, reason: str) -> Outputs:
        """
        Return what canceling every order leads to.

        With a `reason` each is over at once, without the broker: it forgets them by itself.
        """
        going = [each.oid for each in self.active()]
        outputs: Outputs = ()
        for oid in going:
            if self.dialogs[oid].is_terminal:
                continue  # a leg that ended with its entry
            outputs += self.dialogs.apply(oid, on.CancelAsked(time_ns=time_ns))
            if reason and not self.dialogs[oid].is_terminal:
                outputs += self.dialogs.apply(oid, on.Canceled(time_ns=time_ns, reason=reason))
        if reason:
            outputs = tuple(one for one in outputs if not isinstance(one, on.Send | on.SendCancel))
        return outputs

    def _learn_market(self, request: object, mkt: dict[str, Any] | None) -> None:
        if mkt is not None and isinstance(request, Order):
            self.markets[request.symbol] = MktPair.from_msg(mkt)
            self.changed = True

    def learn_market(self, mkt: MktPair) -> dict[str, Any] | None:
        """Return the map of a market that the journal does not know as it is now, or None."""
        return None if self.markets.get(mkt.fqme) == mkt else mkt.to_dict()

    # ---- fills -------------------------------------------------------------------------

    def _book_fill(self, oid: str, fill: BrokerdFill) -> None:
        order = self.dialogs[oid].order
        self._fold(self.transaction_of(order.symbol, order.action, fill))

    def transaction_of(self, fqme: str, action: str, fill: BrokerdFill) -> Transaction:
        """Return a fill as the ledger has it: a pure function of the two."""
        mkt = self.markets.get(fqme)
        side = fill.action or action
        # Whole microseconds, by integers: what the journal holds gives the same text each time.
        micros = round(fill.broker_time * 1e6)
        quote = str(mkt.src).lower() if mkt else ""
        return Transaction(
            broker=self.broker,
            account=self.account,
            fqme=fqme,
            tid=fill.tid,
            size=fill.size if side == "buy" else -fill.size,
            price=fill.price,
            dt=_EPOCH + timedelta(microseconds=micros),
            cost=fill.fee,
            cost_asset="" if fill.fee_asset.lower() == quote else fill.fee_asset,
            expiry=mkt.expiry or None if mkt else None,
            bs_mktid=fqme if self.mode == "paper" or not mkt else mkt.bs_mktid,
        )

    def _fold(self, record: Transaction) -> None:
        """Add a transaction to position, balances and the day's result."""
        before = self.positions.get(record.fqme) or Position(
            broker=self.broker, account=self.account, market=record.market, fqme=record.fqme
        )
        after = before.extend([record])
        self.positions[record.fqme] = after
        self.unsynced.append(record)
        mkt = self.markets.get(record.fqme)
        quote, base = (str(mkt.src), str(mkt.dst)) if mkt else ("", record.fqme)
        paid = record.cost if not record.cost_asset else ZERO
        moved = CONTEXT.multiply(record.size, record.price) if record.etype == "clear" else ZERO
        self._move(quote, -moved - paid)
        self._move(base, record.size)
        if record.cost_asset:
            self._move(record.cost_asset, -record.cost)
        day = (record.dt - _EPOCH) // timedelta(days=1)
        if day > self._day:
            self._day, self._day_result = day, {}
        if day == self._day:
            made = CONTEXT.subtract(after.realised_pnl, before.realised_pnl) - paid
            self._day_result[quote] = self._day_result.get(quote, ZERO) + made

    def _move(self, asset: str, amount: Decimal) -> None:
        if amount:
            self.cash[asset] = CONTEXT.add(self.cash.get(asset, ZERO), amount)

    def _holds(self, fills: list[on.Book]) -> Iterator[on.Hold]:
        """Yield the new position of each market that was filled, once."""
        for fqme in dict.fromkeys(self.dialogs[fill.oid].order.symbol for fill in fills):
            yield on.Hold(position=self._hold(self.positions[fqme]))

    def _hold(self, position: Position) -> BrokerdPosition:
        mkt = self.markets.get(position.fqme)
        return BrokerdPosition(
            broker=self.broker,
            account=self.account,
            symbol=position.fqme,
            size=position.size,
            avg_price=_plain(round(position.average_entry_price, 12)),
            currency=str(mkt.src) if mkt else "",
        )

    # ---- what it says ------------------------------------------------------------------

    def held_positions(self) -> list[BrokerdPosition]:
        """Return what is held of each market."""
        return [self._hold(each) for each in self.positions.values() if each.size]

    def balances(self, start: Decimal) -> dict[str, Decimal]:
        """Return a paper account's balance of each asset that was ever moved."""
        first = start if self.start_balance is None else self.start_balance
        quotes = {str(mkt.src) for mkt in self.markets.values()}
        moved = {asset: self.cash.get(asset, ZERO) for asset in {*quotes, *self.cash}}
        return {
            asset: CONTEXT.add(moved[asset], first if asset in quotes else ZERO)
            for asset in sorted(moved)
        }

    def mark_synced(self, transactions: Sequence[Transaction]) -> None:
        """Let go of transactions that are in the ledger."""
        keys = {each.key for each in transactions}
        self.unsynced = [each for each in self.unsynced if each.key not in keys]

    def made_today(self, quote: str, now_ns: int) -> Decimal:
        """Return what closed fills of the UTC day made in `quote`, fees taken off."""
        if now_ns // DAY_NS != self._day:
            return ZERO
        return self._day_result.get(quote, ZERO)

    def find(self, oid: str) -> Dialog | None:
        """Return an order that is known."""
        return self.dialogs[oid] if oid in self.dialogs else None  # noqa: SIM401

    def active(self, fqme: str = "") -> list[Dialog]:
        """Return the orders that go on (in a market), in the order of their entry."""
        markets = [fqme] if fqme else list(self._active)
        return [self.dialogs[oid] for name in markets for oid in self._active.get(name, ())]

    def active_markets(self) -> list[str]:
        """Return the markets in which an order goes on."""
        return list(self._active)

    def held(self) -> int:
        """Return how many orders go on."""
        return sum(len(oids) for oids in self._active.values())

    def _index(self, dialog: Dialog) -> None:
        """Keep an order among those that go on, as long as it does."""
        oids = self._active.setdefault(dialog.order.symbol, {})
        if dialog.is_terminal:
            oids.pop(dialog.oid, None)
        else:
            oids[dialog.oid] = None
        if not oids:
            del self._active[dialog.order.symbol]

    # ---- snapshots ---------------------------------------------------------------------

    def snapshot(self) -> list[bytes]:
        """Return all that stands, in parts for a journal."""
        parts: list[rec.AnyPart] = [
            rec.StatePart(
                at=0,
                markets={fqme: mkt.to_dict() for fqme, mkt in self.markets.items()},
                cash=self.cash,
                start_balance=self.start_balance,
                day=self._day,
                day_result=self._day_result,
                stopped=self.stopped,
                stopped_ns=self.stopped_ns,
                since_ns=self.since_ns,
                last_ns=self.last_ns,
            )
        ]
        for chunk in _chunks(list(self.positions.values())):
            parts.append(rec.PositionsPart(at=len(parts), positions=chunk))
        for chunk in _chunks([_shortened(each) for each in self.dialogs], _weight):
            parts.append(rec.DialogsPart(at=len(parts), dialogs=chunk))
        for dialog in self.dialogs:
            for fills in _chunks(list(dialog.fills[rec.PART_ITEMS :])):
                parts.append(rec.FillsPart(at=len(parts), oid=dialog.oid, fills=fills))
        for chunk in _chunks(self.unsynced):
            parts.append(rec.UnsyncedPart(at=len(parts), transactions=chunk))
        return [rec.encode(part) for part in parts]

    def take_part(self, part: rec.AnyPart) -> None:
        """Take a part of a snapshot; the first one puts it in place of all that was known."""
        match part:
            case rec.StatePart():
                self._clear()
                self.markets = {name: MktPair.from_msg(mkt) for name, mkt in part.markets.items()}
                self.cash, self.start_balance = dict(part.cash), part.start_balance
                self._day, self._day_result = part.day, dict(part.day_result)
                self.stopped, self.stopped_ns = part.stopped, part.stopped_ns
                self.since_ns, self.last_ns = part.since_ns, part.last_ns
            case rec.PositionsPart(positions=positions):
                self.positions |= {each.fqme: each for each in positions}
            case rec.DialogsPart(dialogs=dialogs):
                self._loaded |= {each.oid: each for each in dialogs}
            case rec.FillsPart(oid=oid, fills=fills):
                whole = (*self._loaded[oid].fills, *fills)
                self._loaded[oid] = msgspec.structs.replace(self._loaded[oid], fills=whole)
            case rec.UnsyncedPart(transactions=transactions):
                self.unsynced += transactions

    def replay(self, payload: bytes) -> None:
        """
        Take a journal's record or snapshot part.

        Raises:
          BadPayload: another version wrote it.
        """
        found = rec.decode(payload)
        if isinstance(found, rec.Part):
            self.take_part(found)
            return
        self.end_snapshot()
        try:
            self.apply(found)
        except OrderRejected:
            # What it refers to was lost with damaged records before it.
            self.changed = False

    def end_snapshot(self) -> None:
        """Make the dialogs of a snapshot's parts those of the book; call it after a replay."""
        if self._loaded:
            self.dialogs = OrderDialogs(iter(self._loaded.values()))
            self._loaded = {}
            for dialog in self.dialogs:
                self._index(dialog)


def _plain(value: Decimal) -> Decimal:
    """Return a number without needless zeros, and without an exponent."""
    return Decimal(f"{value.normalize():f}")


def _shortened(dialog: Dialog) -> Dialog:
    """Return a dialog with no more fills than a part may hold."""
    return msgspec.structs.replace(dialog, fills=dialog.fills[: rec.PART_ITEMS])


def _weight(dialog: Dialog) -> int:
    return 1 + len(dialog.fills)


def _chunks(items: list[Any], weight: Any = lambda _: 1) -> Iterator[tuple[Any, ...]]:
    """Yield `items` in groups that fit a record."""
    group: list[Any] = []
    heavy = 0
    for item in items:
        if group and heavy + weight(item) > rec.PART_ITEMS:
            yield tuple(group)
            group, heavy = [], 0
        group.append(item)
        heavy += weight(item)
    if group:
        yield tuple(group)
