"""
Our place in the queue of one price: how much of what is displayed there trades before us.

Pure, in size ticks. The queue ahead of an order is the size displayed when it came. Trades at the
price take from its front; a size that vanished without a trade was canceled, and only the share
of it that stood ahead of us moves us up. Which of the two a smaller display was is not known at
once: streams of trades and of quotes run side by side, either may be first. So a fall waits
`SETTLE_NS` for its trades before it counts as canceled, and trades that came first wait as long
for their fall. What is not known counts against us: a fill is never early.
"""

from __future__ import annotations

import msgspec

UNKNOWN = -1  # no display of this price has been seen yet
SETTLE_NS = 250_000_000  # depth streams are up to 100 ms behind their trades


class Resting(msgspec.Struct, gc=False, eq=False, kw_only=True):
    """One order of ours, in ticks; `price` 0 is a market order, `ahead` the queue before it."""

    key: str
    side: int  # BUY or SELL of `_matching`
    price: int
    size: int
    kind: str = "limit"
    time_in_force: str = "gtc"
    post_only: bool = False
    reduce_only: bool = False
    trigger: int = 0
    expire_ns: int = 0
    number: int = 1  # of the request in force
    filled: int = 0
    is_fired: bool = False
    is_taking: bool = False  # it came crossing the market and is not through with that
    ahead: int = UNKNOWN
    live_ns: int = 0  # what traded before is not for it

    @property
    def open_size(self) -> int:
        """What is left of it."""
        return self.size - self.filled

    @property
    def waits(self) -> bool:
        """Whether it is a trigger order that has not fired."""
        return self.kind in {"stop", "take_profit"} and not self.is_fired


class Level:
    """Our orders at one price, oldest first, and what others display there."""

    __slots__ = ("credit", "credit_ns", "old", "old_ns", "orders", "price", "shown", "young")

    def __init__(self, price: int) -> None:
        self.price = price
        self.orders: list[Resting] = []
        self._begin(UNKNOWN)

    def _begin(self, shown: int) -> None:
        self.shown = shown
        # Falls of the display without a trade yet, in two ages so that each waits long enough.
        self.old = self.young = self.old_ns = 0
        self.credit = self.credit_ns = 0  # traded, and not yet missing in the display

    def forget(self) -> None:
        """Know nothing of what is displayed, as before the first look."""
        self._begin(UNKNOWN)
        for order in self.orders:
            order.ahead = UNKNOWN

    def join(self, order: Resting, shown: int) -> None:
        """Put an order at the end of the queue; `shown` is the display when the level is new."""
        if self.shown == UNKNOWN:
            self.shown = shown
        # Falls that are not settled may be trades still to be told, which go before the order.
        order.ahead = UNKNOWN if self.shown == UNKNOWN else self.shown + self.old + self.young
        self.orders.append(order)

    def show(self, size: int, now_ns: int) -> None:
        """Take a new display."""
        if self.shown == UNKNOWN:
            self.shown = size
            for order in self.orders:
                if order.ahead == UNKNOWN:
                    order.ahead = size
            return
        self.settle(now_ns)
        fall, self.shown = self.shown - size, size
        if fall < 0:
            # A display that rose again took back its fall; others that joined stand behind us.
            self._explain(-fall)
        if fall <= 0:
            return
        told = min(fall, self.credit)
        self.credit -= told
        if fall > told:
            if not self.old and not self.young:
                self.old_ns = now_ns
            self.young += fall - told

    def trade(self, size: int, now_ns: int) -> None:
        """Remember that so much traded here."""
        if self.shown == UNKNOWN:
            return
        self.settle(now_ns)
        self.credit += size - self._explain(size)
        self.credit_ns = now_ns

    def clear(self, now_ns: int) -> None:
        """Take a trade through the price: nobody stands before what was there already."""
        self._begin(0)
        for order in self.orders:
            if order.live_ns <= now_ns:
                order.ahead = 0

    def settle(self, now_ns: int) -> None:
        """Count falls that found no trade in time as canceled."""
        if self.credit and now_ns - self.credit_ns >= SETTLE_NS:
            self.credit = 0
        if not self.old and not self.young:
            return
        for _ in range(2):
            if now_ns - self.old_ns < SETTLE_NS:
                return
            if self.old:
                before = self.shown + self.young + self.old
                for order in self.orders:
                    if order.ahead > 0:
                        order.ahead -= order.ahead * self.old // before
            self.old, self.young = self.young, 0
            self.old_ns += SETTLE_NS

    def _explain(self, size: int) -> int:
        """Take `size` off the falls that wait, the oldest first; return how much it was."""
        first = min(size, self.old)
        self.old -= first
        second = min(size - first, self.young)
        self.young -= second
        return first + second
