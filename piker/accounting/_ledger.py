"""
Transactions: the immutable records that positions and lots are folded from.

A ledger is a set of them. `order_ledger` makes one sequence out of any batch, always the same one:
unfit records become `LedgerError` values, a fill seen twice counts once, the rest is put in order.
Nothing here reads a file or a clock.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from typing import Literal

import msgspec

from piker.errors import LedgerError

ZERO = Decimal(0)

Key = tuple[str, str, str, str]


class Transaction(msgspec.Struct, frozen=True, kw_only=True):
    """
    One fill of an order, or one transfer of the market's base asset into or out of the account.

    `size` is signed: + bought or received, - sold or sent. `price` is in the quote currency for
    one unit; a transfer has none, which is `Decimal("NaN")`. `cost` is the fee, positive when paid
    and negative for a rebate, in `cost_asset`; an empty `cost_asset` means the quote currency.
    `dt` is aware. `bs_mktid` is the broker's own id of the market.
    """

    broker: str
    account: str
    fqme: str
    tid: str
    size: Decimal
    price: Decimal
    dt: datetime
    cost: Decimal = ZERO
    cost_asset: str = ""
    etype: Literal["clear", "transfer"] = "clear"
    expiry: str | None = None
    bs_mktid: str | None = None

    @property
    def market(self) -> str:
        """What tells markets of one account apart: the broker's id, or the fqme without one."""
        return self.bs_mktid or self.fqme

    @property
    def key(self) -> Key:
        """What makes a fill the same fill: `(broker, account, market, tid)`."""
        return self.broker, self.account, self.bs_mktid or self.fqme, self.tid


def time_order(record: Transaction) -> tuple[datetime, str, str, str, int, str]:
    """
    Return the sort key of a ledger: time, then the record's own key.

    A shorter tid stands before a longer one, so that numbered trades of one instant keep the
    order of their numbers.
    """
    return (
        record.dt,
        record.broker,
        record.account,
        record.market,
        len(record.tid),
        record.tid,
    )


def iter_by_dt(records: Iterable[Transaction]) -> list[Transaction]:
    """Return transactions in their one order, oldest first; every `dt` must be aware."""
    return sorted(records, key=time_order)


def order_ledger(records: Iterable[Transaction]) -> tuple[list[Transaction], list[LedgerError]]:
    """
    Return the usable transactions of a batch in order, each once, and what is wrong with the rest.

    A second record of one fill that says the same is dropped. One that says something else is an
    error, and the first stands: a ledger is appended to, so what was there is never written over.
    """
    errors: list[LedgerError] = []
    kept: dict[Key, Transaction] = {}
    for record in records:
        faults = find_faults(record)
        errors += [LedgerError(f"{_where(record)}: {fault}", tid=record.tid) for fault in faults]
        if faults:
            continue
        first = kept.setdefault(record.key, record)
        if first is not record and not is_same(first, record):
            differing = ", ".join(_differences(first, record))
            text = f"{_where(record)}: two records of one fill differ in {differing}"
            errors.append(LedgerError(text, tid=record.tid))
    return iter_by_dt(kept.values()), errors


def find_faults(record: Transaction) -> list[str]:
    """Return why a transaction cannot stand in a ledger, one sentence a fault."""
    faults = [
        f"{name} was empty, expected a name"
        for name in ("broker", "account", "fqme", "tid")
        if not getattr(record, name)
    ]
    if record.dt.tzinfo is None:
        faults.append(f"dt was {record.dt.isoformat()}, expected a time with its zone")
    if not record.size.is_finite() or not record.size:
        faults.append(f"size was {record.size}, expected a number other than 0")
    if not record.cost.is_finite():
        faults.append(f"cost was {record.cost}, expected a number")
    if record.etype not in ("clear", "transfer"):
        faults.append(f"etype was {record.etype!r}, expected 'clear' or 'transfer'")
    elif record.etype == "clear" and not record.price.is_finite():
        faults.append(f"price was {record.price}, expected a number")
    elif record.etype == "transfer" and not record.price.is_nan():
        faults.append(f"price was {record.price}, expected NaN: a transfer has none")
    return faults


def is_same(one: Transaction, other: Transaction) -> bool:
    """Whether two records say the same; a transfer's price, NaN, counts as equal to itself."""
    return not _differences(one, other)


def _differences(one: Transaction, other: Transaction) -> list[str]:
    found = []
    for name in Transaction.__struct_fields__:
        mine, theirs = getattr(one, name), getattr(other, name)
        both_nan = name == "price" and mine.is_nan() and theirs.is_nan()
        if not both_nan and mine != theirs:
            found.append(name)
    return found


def _where(record: Transaction) -> str:
    return f"ledger {record.broker}.{record.account}, {record.market}, {record.tid}"
