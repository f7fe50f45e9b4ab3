"""
Positions: a fold over transactions, exact where division allows it.

A position is five sums. `size` and `basis` (average entry price times size), what its fills have
moved in cash, what they cost in fees, and the fees of the entries still open. Every price and
profit a trader reads is worked out of these; none of them is stored.

Fills of one market, oldest first; `S` before, `S'` after, `s, p, c` of the fill:

1. same side or from flat: `basis += s*p`
2. reducing: `basis *= S'/S`, so that the average entry price does not move
3. to zero: `basis = 0`
4. through zero (a flip): what was held closes at `p`, the rest opens at `p`, and the whole fee
   belongs to what opens

A transfer moves no price: it is counted in `transferred` and never enters the size or the average.
A fee in another asset than the quote currency is counted under its asset in `fees`; it enters no
price, since nothing here knows what that asset is worth.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Context, Decimal, localcontext

import msgspec

from piker.accounting._ledger import ZERO, Transaction

# A division keeps this many digits: far beyond a tick after millions of reductions.
CONTEXT = Context(prec=50)

PositionKey = tuple[str, str, str]


class Position(msgspec.Struct, frozen=True, kw_only=True):
    """
    What one account holds of one market, and what it has made there so far.

    Amounts are of the quote currency but for `size` and `transferred` (base asset) and `fees`
    (by asset; `''` is the quote currency). `cash` is received less spent over all fills, fees
    apart; `cash_open` and `costs_open` are the same since the position last opened. `entry_costs`
    are the fees of the entries still held. `count` counts the transactions folded in.
    """

    broker: str
    account: str
    market: str
    fqme: str
    size: Decimal = ZERO
    basis: Decimal = ZERO
    cash: Decimal = ZERO
    cash_open: Decimal = ZERO
    costs_open: Decimal = ZERO
    entry_costs: Decimal = ZERO
    fees: dict[str, Decimal] = {}
    transferred: Decimal = ZERO
    count: int = 0

    @property
    def key(self) -> PositionKey:
        """`(broker, account, market)`."""
        return self.broker, self.account, self.market

    @property
    def average_entry_price(self) -> Decimal:
        """The mean price of what is held, fees apart; 0 when flat."""
        return CONTEXT.divide(self.basis, self.size) if self.size else ZERO

    @property
    def ppu(self) -> Decimal:
        """
        The price per unit that account files hold; 0 when flat.

        The average entry price with each entry's fee counted twice, for the way in and a presumed
        equal way out: added for longs, taken off for shorts.
        """
        if not self.size:
            return ZERO
        doubled = CONTEXT.add(self.entry_costs, self.entry_costs)
        return CONTEXT.divide(CONTEXT.add(self.basis, doubled), self.size)

    @property
    def break_even_price(self) -> Decimal:
        """
        The price at which closing the rest leaves nothing since the position opened; 0 when flat.

        All fees paid since then count, and for the way out as much as the entries still held paid.
        """
        if not self.size:
            return ZERO
        with localcontext(CONTEXT):
            return (self.costs_open + self.entry_costs - self.cash_open) / self.size

    @property
    def dsize(self) -> Decimal:
        """The worth of what is held at its price per unit."""
        return CONTEXT.multiply(self.ppu, self.size)

    @property
    def realised_pnl(self) -> Decimal:
        """What closed fills have made at average prices, before fees."""
        return CONTEXT.add(self.cash, self.basis)

    @property
    def costs(self) -> Decimal:
        """All fees paid in the quote currency."""
        return self.fees.get("", ZERO)

    def unrealised_pnl(self, price: Decimal) -> Decimal:
        """Return what closing the rest at `price` would make, before fees."""
        return CONTEXT.subtract(CONTEXT.multiply(self.size, price), self.basis)

    def extend(self, records: Iterable[Transaction]) -> Position:
        """Return the position after `records`, of this market and later than all before."""
        with localcontext(CONTEXT):
            return _extend(self, records)


def fold(records: Iterable[Transaction]) -> dict[PositionKey, Position]:
    """
    Return the positions that a ledger amounts to, flat ones too, by `(broker, account, market)`.

    `records` are unique and in order, as `order_ledger` returns them.
    """
    groups: dict[PositionKey, list[Transaction]] = {}
    for record in records:
        key = (record.broker, record.account, record.bs_mktid or record.fqme)
        group = groups.get(key)
        if group is None:
            groups[key] = [record]
        else:
            group.append(record)
    positions = {}
    for key, group in groups.items():
        broker, account, market = key
        # The longest spelling is the most qualified one.
        fqme = max(dict.fromkeys(record.fqme for record in group), key=len)
        flat = Position(broker=broker, account=account, market=market, fqme=fqme)
        positions[key] = flat.extend(group)
    return positions


def ppu(records: Iterable[Transaction]) -> Decimal:
    """Return the price per unit after one market's transactions, oldest first; 0 when flat."""
    return Position(broker="", account="", market="", fqme="").extend(records).ppu


def minimise(records: Iterable[Transaction]) -> list[Transaction]:
    """
    Return the fills that still matter to one market's position: those since it last opened.

    A fill that flipped the position stands first, with the size that was left of it. Folding the
    answer gives the size, average, price per unit of the whole.
    """
    kept: list[Transaction] = []
    size = ZERO
    for record in records:
        size = keep_open(kept, size, record)
    return kept


def keep_open(kept: list[Transaction], size: Decimal, record: Transaction) -> Decimal:
    """Bring what `minimise` kept of a position of `size` up to `record`; return its new size."""
    if record.etype != "clear":
        return size
    after = CONTEXT.add(size, record.size)
    if not after:
        kept.clear()
    elif size and (size > 0) != (after > 0):
        kept[:] = [msgspec.structs.replace(record, size=after)]
    else:
        kept.append(record)
    return after


def _extend(start: Position, records: Iterable[Transaction]) -> Position:
    """Fold `records` into `start`; a loop over plain locals, since a ledger may be long."""
    size, basis, cash, transferred = start.size, start.basis, start.cash, start.transferred
    cash_open, costs_open, entry_costs = start.cash_open, start.costs_open, start.entry_costs
    fees, count = dict(start.fees), start.count
    for record in records:
        count += 1
        change = record.size
        cost = record.cost
        if cost:
            asset = record.cost_asset
            fees[asset] = fees.get(asset, ZERO) + cost
            if asset:
                cost = ZERO
        if record.etype != "clear":
            # A fee on moving what is held is no part of what it was bought for.
            transferred += change
            continue
        value = change * record.price
        cash -= value
        after = size + change
        if not size:
            basis, cash_open, costs_open, entry_costs = value, -value, cost, cost
        elif (size > 0) is (change > 0):
            basis += value
            cash_open -= value
            costs_open += cost
            entry_costs += cost
        elif not after:
            basis = entry_costs = ZERO
            cash_open -= value
            costs_open += cost
        elif (size > 0) is (after > 0):
            basis = basis * after / size
            entry_costs = entry_costs * after / size
            cash_open -= value
            costs_open += cost
        else:
            basis = after * record.price
            cash_open, costs_open, entry_costs = -basis, cost, cost
        size = after
    return msgspec.structs.replace(
        start,
        size=size,
        basis=basis,
        cash=cash,
        cash_open=cash_open,
        costs_open=costs_open,
        entry_costs=entry_costs,
        fees=fees,
        transferred=transferred,
        count=count,
    )
