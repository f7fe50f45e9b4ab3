"""
The increments of one market: decimals and floats in, ticks out; what is off the grid is refused.

Pure. What a paper market reads of the feed and of order messages goes through here.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Final

import numpy as np

from piker.clearing._messages import BrokerdOrder
from piker.clearing._own_side import BUY, SELL
from piker.clearing._queue import Resting
from piker.model.market import MktPair

ACCOUNT: Final = "paper"
SIDES: Final = {"buy": BUY, "sell": SELL}
SIZE_TICK_UNKNOWN: Final = Decimal("1E-8")
ZERO: Final = Decimal(0)
AMOUNTS: Final = ("price", "size", "price2", "size2")  # fields of a tick record

Row = tuple[int, int, int, int, int, int, int]


class Grid:
    """The price and size tick of a market, and everything counted in them."""

    def __init__(self, mkt: MktPair) -> None:
        self.price_tick = mkt.price_tick
        self.size_tick = mkt.size_tick or SIZE_TICK_UNKNOWN
        self._price_step, self._size_step = float(self.price_tick), float(self.size_tick)
        self._steps = np.array([[self._price_step], [self._size_step]] * 2)  # one row per amount

    def rows(self, batch: np.ndarray) -> Iterator[Row]:
        """Return (type, flags, price, size, price2, size2, time_recv_ns); 0 is what is missing."""
        amounts = np.array([batch[name] for name in AMOUNTS])
        counts = np.rint(amounts / self._steps)
        counts[np.isnan(counts)] = 0
        return zip(
            batch["type"].tolist(),
            batch["flags"].tolist(),
            *counts.astype("i8").tolist(),
            batch["time_recv_ns"].tolist(),
            strict=True,
        )

    def levels(self, side: np.ndarray) -> list[tuple[int, int]]:
        """Return displayed levels (price, size) in ticks."""
        # For so few levels numpy is no faster, and slower when it was not used a moment ago.
        price_step, size_step = self._price_step, self._size_step
        return [
            (round(price / price_step), round(size / size_step)) for price, size in side.tolist()
        ]

    def resting(self, reqid: str, order: BrokerdOrder) -> Resting:
        """
        Return an order in ticks.

        Raises:
          ValueError: a field cannot be; names it.
        """
        if order.account != ACCOUNT:
            raise ValueError(f"No account found:`{order.account}` (paper only)?")
        if not order.size:
            raise ValueError("Invalid size: 0")
        if order.action not in SIDES:
            raise ValueError(f"action: was {order.action!r}, expected buy or sell")
        if order.trail:
            raise ValueError(f"trail: was {order.trail}, expected none; hold the order dark")
        trigger = order.trigger_price or ZERO
        waits = order.order_type in {"stop", "take_profit"}
        if (order.order_type == "limit" and not order.price) or (waits and not trigger):
            field = "trigger_price" if waits else "price"
            raise ValueError(f"{field}: was 0, expected above 0")
        price = ZERO if order.order_type == "market" else order.price
        return Resting(
            key=reqid,
            side=SIDES[order.action],
            price=self.exact("price", price, self.price_tick),
            size=self.exact("size", abs(order.size), self.size_tick),
            kind=order.order_type,
            time_in_force=order.time_in_force,
            post_only=order.post_only,
            reduce_only=order.reduce_only,
            trigger=self.exact("trigger_price", trigger, self.price_tick) if waits else 0,
            expire_ns=order.expire_time_ns,
            number=order.number,
        )

    def exact(self, field: str, value: Decimal, tick: Decimal) -> int:
        """
        Return `value` in ticks.

        Raises:
          ValueError: it is not a multiple of `tick`; names `field`.
        """
        steps = value / tick
        whole = int(steps)
        if steps != whole or value < 0:
            raise ValueError(f"{field}: was {value:f}, expected a multiple of {tick:f}")
        return whole

    def near(self, value: float, tick: Decimal) -> int:
        """Return what a feed says in ticks, 0 for nan."""
        return round(value / float(tick)) if value == value else 0
