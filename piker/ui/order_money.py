"""
What one account has made of one market today, and the fills that are marked on its bars.

Pure. Folded from the ledger's transactions and the fills that came since, each counted once; a
day is UTC's. What is held is the EMS's word, and only what it does not say comes from here.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final

from piker.accounting import Position, Transaction, iter_by_dt
from piker.clearing import BrokerdFill
from piker.model.market import MktPair
from piker.ui.order_lines import text_of
from piker.ui.order_messages import Fill, Mode, PositionState

MARKS_MAX: Final = 500  # newest fills that a page is told of


class Money:
    """One account's transactions of one market: the sum of past days, and today one by one."""

    def __init__(self, mkt: MktPair, account: str, mode: Mode) -> None:
        self._mkt = mkt
        self._account = account
        self._mode = mode
        self._quote = str(mkt.src).lower()
        self.marks: list[Fill] = []
        self._tids: set[str] = set()  # of today: what the stream may tell again
        self._before = self._now = Position(
            broker=mkt.broker, account=account, market=mkt.fqme, fqme=mkt.fqme
        )
        self._today: list[Transaction] = []
        self._day = datetime.min.replace(tzinfo=UTC).date()

    @property
    def size(self) -> Decimal:
        """What the fills that are known add up to."""
        return self._now.size

    def load(self, records: Iterable[Transaction], now_s: float) -> None:
        """Take the ledger's transactions of this market; nothing else is known yet."""
        self._turn_day(now_s)
        ordered = iter_by_dt(records)
        split = next((i for i, e in enumerate(ordered) if e.dt.date() >= self._day), len(ordered))
        self._before = self._before.extend(ordered[:split])
        self._take_today(ordered[split:])
        newest = [each for each in ordered[-MARKS_MAX:] if each.etype == "clear"]
        self.marks = [self._mark(each) for each in newest]

    def adopt(self, other: Money) -> None:
        """Take what `other` was told of today and the ledger did not have yet."""
        lacking = [each for each in other._today if each.tid not in self._tids]
        if not lacking:
            return
        self._take_today(iter_by_dt([*self._today, *lacking]))
        marks = [*self.marks, *(self._mark(each) for each in lacking)]
        self.marks = sorted(marks, key=lambda mark: (mark.t, mark.tid))[-MARKS_MAX:]

    def _take_today(self, records: list[Transaction]) -> None:
        self._today = records
        self._tids = {each.tid for each in records}
        self._now = self._before.extend(records)

    def add(self, fill: BrokerdFill, row: Fill, now_s: float) -> None:
        """Count a fill that the EMS has told of."""
        self._turn_day(now_s)
        if fill.tid in self._tids:
            return
        self._tids.add(fill.tid)
        record = self._transaction(fill, row)
        self._today.append(record)
        self._now = self._now.extend([record])
        self.marks = [*self.marks, row][-MARKS_MAX:]

    def state(self, chan: int, held: Position, slots: str, now_s: float) -> PositionState:
        """Return the position as the page reads it; `held` is what the EMS says."""
        self._turn_day(now_s)
        digits = self._mkt.price_tick_digits + 2
        is_same = self._now.size == held.size
        fees = {name: self._fee(name) for name in self._now.fees}
        return PositionState(
            chan=chan,
            account=self._account,
            mode=self._mode,
            size=text_of(held.size),
            avg=text_of(round(held.average_entry_price, digits)) if held.size else "",
            break_even=text_of(round(self._now.break_even_price, digits))
            if is_same and held.size
            else "",
            realised=text_of(round(self._now.realised_pnl - self._before.realised_pnl, digits)),
            fees=text_of(fees.pop("", Decimal(0))),
            fees_other={name: text_of(fee) for name, fee in fees.items() if fee},
            slots=slots,
            quote=self._quote.upper(),
        )

    def _fee(self, asset: str) -> Decimal:
        return self._now.fees.get(asset, Decimal(0)) - self._before.fees.get(asset, Decimal(0))

    def _turn_day(self, now_s: float) -> None:
        """Begin a new day when the run's clock says so."""
        day = datetime.fromtimestamp(now_s, UTC).date()
        if day <= self._day:
            return
        self._day = day
        past = [each for each in self._today if each.dt.date() < day]
        self._before = self._before.extend(past)
        self._take_today(self._today[len(past) :])

    def _transaction(self, fill: BrokerdFill, row: Fill) -> Transaction:
        is_sale = row.action == "sell"
        is_quote = fill.fee_asset.lower() == self._quote
        return Transaction(
            broker=self._mkt.broker,
            account=self._account,
            fqme=self._mkt.fqme,
            tid=fill.tid,
            size=-fill.size if is_sale else fill.size,
            price=fill.price,
            dt=datetime.fromtimestamp(fill.broker_time, UTC),
            cost=fill.fee,
            cost_asset="" if is_quote else fill.fee_asset,
        )

    def _mark(self, record: Transaction) -> Fill:
        return Fill(
            chan=0,
            oid="",
            tid=record.tid,
            t=record.dt.timestamp(),
            price=format(record.price, "f"),
            size=text_of(abs(record.size)),
            action="buy" if record.size > 0 else "sell",
            account=record.account,
            mode=self._mode,
            fee=text_of(record.cost),
            fee_asset=record.cost_asset or self._quote.upper(),
        )
