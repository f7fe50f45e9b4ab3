"""One side of our orders in a market, found by price: the levels that a trade or quote touches."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Sequence
from typing import Final

from piker.clearing._queue import Level, Resting

BUY: Final = 1
SELL: Final = -1
FAR: Final = 1 << 62  # no price is as high

Levels = Sequence[tuple[int, int]]


class Side:
    """
    Our orders of one side by price, best first.

    `best` is our best price: a trade at or beyond it touches us. Without orders it is a price
    that none reaches.
    """

    def __init__(self, side: int) -> None:
        self.sign = -side  # keys sort best first: the negated price for buys
        self.best = self.sign * FAR
        self._keys: list[int] = []
        self._levels: dict[int, Level] = {}

    def add(self, order: Resting, shown: int, price: int = 0) -> None:
        """Put an order last at its price (or at another `price`), where `shown` is displayed."""
        at = price or order.price
        key = self.sign * at
        level = self._levels.get(key)
        if level is None:
            level = self._levels[key] = Level(at)
            insort(self._keys, key)
            self.best = self.sign * self._keys[0]
        level.join(order, shown)

    def remove(self, order: Resting, price: int) -> None:
        """Take an order out of its price."""
        key = self.sign * price
        level = self._levels.get(key)
        if level is None or order not in level.orders:
            return
        level.orders.remove(order)
        if not level.orders:
            del self._levels[key]
            del self._keys[bisect_left(self._keys, key)]
            self.best = self.sign * self._keys[0] if self._keys else self.sign * FAR

    def levels(self) -> list[Level]:
        """Return all levels, best first."""
        return [self._levels[key] for key in self._keys]

    def levels_to(self, price: int) -> list[Level]:
        """Return the levels at `price` and better, best first."""
        stop = bisect_right(self._keys, self.sign * price)
        return [self._levels[key] for key in self._keys[:stop]]

    def show_best(self, price: int, size: int, now_ns: int) -> None:
        """Take the market's best price of this side: nothing is displayed at better ones."""
        at = self.sign * price
        for key in self._keys:
            if key > at:
                return
            level = self._levels[key]
            if key == at:
                level.show(size, now_ns)
            elif level.shown or level.old or level.young:
                level.show(0, now_ns)

    def show_levels(self, shown: Levels, best: int, now_ns: int) -> None:
        """Take displayed levels, best first; those at the quote `best` and better are past."""
        if not shown or not self._keys:
            return
        worst = self.sign * shown[-1][0]
        if self._keys[0] > worst:
            return
        sizes = dict(shown)
        past = self.sign * best if best else -FAR
        for key in self._keys[bisect_right(self._keys, past) : bisect_right(self._keys, worst)]:
            level = self._levels[key]
            level.show(sizes.get(level.price, 0), now_ns)
