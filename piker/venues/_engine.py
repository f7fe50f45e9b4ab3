"""
An exact matching engine: price-time priority over integer ticks, for one market.

Pure: orders in, fills out; no clock, no floats, no I/O. Prices count `price_tick`s and sizes
count `size_tick`s, so nothing is ever rounded. Reading order: `Order`, `Fill`, `Engine.submit`,
`Engine._match`. Fees are a function of a fill (`commissions`), not part of matching.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import OrderedDict
from decimal import Decimal
from typing import Final, Literal

import msgspec

BUY: Final = 1
SELL: Final = -1

TimeInForce = Literal["GTC", "IOC", "FOK"]
Status = Literal["open", "partially_filled", "filled", "canceled", "rejected", "expired"]


class Order(msgspec.Struct, gc=False):
    """One order; `open_size` falls with each fill. `price` is None for a market order."""

    oid: int
    owner: str
    side: int
    price: int | None
    size: int
    open_size: int
    status: Status = "open"

    @property
    def filled_size(self) -> int:
        """How many size ticks have traded."""
        return self.size - self.open_size


class Fill(msgspec.Struct, frozen=True, gc=False):
    """One execution, at the resting order's price; `taker_side` is the aggressor's."""

    price: int
    size: int
    taker_side: int
    maker_oid: int
    taker_oid: int
    maker: str
    taker: str


class _Side:
    """One side of the book: price levels in order, each a queue of orders by arrival."""

    def __init__(self, side: int) -> None:
        # Keys sort best first: the negated price for bids.
        self.sign = -side
        self.keys: list[int] = []
        self.levels: dict[int, OrderedDict[int, Order]] = {}
        self.sizes: dict[int, int] = {}

    def add(self, order: Order) -> None:
        assert order.price is not None
        key = self.sign * order.price
        level = self.levels.get(key)
        if level is None:
            insort(self.keys, key)
            level = self.levels[key] = OrderedDict()
            self.sizes[key] = 0
        level[order.oid] = order
        self.sizes[key] += order.open_size

    def shrink(self, order: Order, size: int, *, is_gone: bool) -> None:
        """Take `size` off the level of `order`, and the order itself when it is gone."""
        assert order.price is not None
        key = self.sign * order.price
        self.sizes[key] -= size
        if is_gone:
            level = self.levels[key]
            del level[order.oid]
            if not level:
                del self.levels[key], self.sizes[key]
                del self.keys[bisect_left(self.keys, key)]


class Engine:
    """
    The book of one market and what may happen to it.

    `changed` holds the prices (bids, asks) whose size changed since `take_changes`, which is
    what a depth stream sends.
    """

    def __init__(self) -> None:
        self._sides = {BUY: _Side(BUY), SELL: _Side(SELL)}
        self._orders: dict[int, Order] = {}
        self._oid_next = 1
        self._changed: dict[int, set[int]] = {BUY: set(), SELL: set()}

    def submit(
        self,
        owner: str,
        side: int,
        size: int,
        price: int | None = None,
        *,
        time_in_force: TimeInForce = "GTC",
        post_only: bool = False,
    ) -> tuple[Order, list[Fill]]:
        """
        Match an order and rest what is left; returns its state and its fills in order.

        Without `price` it is a market order (never rests). `rejected`: a post-only order that
        would trade. `expired`: IOC, FOK or market without enough on the other side.

        Raises:
          ValueError: size, side or price out of range.
        """
        if size <= 0 or side not in (BUY, SELL) or (price is not None and price <= 0):
            raise ValueError(f"order: side {side}, size {size}, price {price}; expected positive")
        order = Order(self._oid_next, owner, side, price, size, size)
        self._oid_next += 1
        if post_only and self._reach(side, price, 1):
            order.status = "rejected"
            return order, []
        if time_in_force == "FOK" and self._reach(side, price, size) < size:
            order.status = "expired"
            return order, []
        fills = self._match(order)
        if not order.open_size:
            order.status = "filled"
        elif price is None or time_in_force != "GTC":
            order.status = "expired"
        else:
            order.status = "partially_filled" if fills else "open"
            self._sides[side].add(order)
            self._orders[order.oid] = order
            self._changed[side].add(price)
        return order, fills

    def cancel(self, oid: int) -> Order | None:
        """Take a resting order out of the book; None when it does not rest."""
        order = self._orders.pop(oid, None)
        if order is None:
            return None
        self._sides[order.side].shrink(order, order.open_size, is_gone=True)
        assert order.price is not None
        self._changed[order.side].add(order.price)
        order.status = "canceled"
        return order

    def order(self, oid: int) -> Order | None:
        """Return a resting order."""
        return self._orders.get(oid)

    def best(self, side: int) -> tuple[int, int] | None:
        """Return (price, size) of the best level of `side`, None when it is empty."""
        book = self._sides[side]
        if not book.keys:
            return None
        key = book.keys[0]
        return book.sign * key, book.sizes[key]

    def levels(self, side: int, count: int) -> list[tuple[int, int]]:
        """Return up to `count` levels of (price, size), best first."""
        book = self._sides[side]
        return [(book.sign * key, book.sizes[key]) for key in book.keys[:count]]

    def level_size(self, side: int, price: int) -> int:
        """Return what rests at `price`, 0 when nothing does."""
        book = self._sides[side]
        return book.sizes.get(book.sign * price, 0)

    def take_changes(self) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
        """Return (price, new size) of bids and asks changed since the last call, best first."""
        out = []
        for side in (BUY, SELL):
            prices = sorted(self._changed[side], reverse=side == BUY)
            out.append([(price, self.level_size(side, price)) for price in prices])
            self._changed[side] = set()
        return out[0], out[1]

    def _reach(self, side: int, limit: int | None, size_max: int) -> int:
        """Return how much an order could trade now, counted up to `size_max`."""
        book = self._sides[-side]
        found = 0
        for key in book.keys:
            if found >= size_max or (limit is not None and key > book.sign * limit):
                break
            found += book.sizes[key]
        return found

    def _match(self, order: Order) -> list[Fill]:
        book = self._sides[-order.side]
        limit = None if order.price is None else book.sign * order.price
        fills = []
        while order.open_size and book.keys:
            key = book.keys[0]
            if limit is not None and key > limit:
                break
            maker = next(iter(book.levels[key].values()))
            size = min(maker.open_size, order.open_size)
            maker.open_size -= size
            order.open_size -= size
            maker.status = "partially_filled" if maker.open_size else "filled"
            book.shrink(maker, size, is_gone=not maker.open_size)
            if not maker.open_size:
                del self._orders[maker.oid]
            price = book.sign * key
            self._changed[-order.side].add(price)
            fills.append(
                Fill(price, size, order.side, maker.oid, order.oid, maker.owner, order.owner)
            )
        return fills


class FeeRates(msgspec.Struct, frozen=True):
    """Shares of what each party receives: 0.001 is ten basis points."""

    maker: Decimal = Decimal("0.001")
    taker: Decimal = Decimal("0.001")


def commissions(
    fill: Fill, rates: FeeRates, price_tick: Decimal, size_tick: Decimal
) -> tuple[Decimal, Decimal]:
    """
    Return (maker's, taker's) commission, each in what it receives: base bought, quote sold.

    Source: Binance spot charges the received asset when it is not paid in BNB.
    """
    base = fill.size * size_tick
    quote = fill.price * price_tick * base
    if fill.taker_side == BUY:
        return quote * rates.maker, base * rates.taker
    return base * rates.maker, quote * rates.taker
