"""
Records of bars: a row as it is handed out, a row while it may change, what a call changed.

Arithmetic on one row and nothing else; which trade belongs to which row is decided in `_bars`.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec


class BarRow(NamedTuple):
    """One bar, in the order of `BAR_DTYPE` without index and stamp."""

    time: int
    open: float
    high: float
    low: float
    close: float
    volume: float
    count: int  # type: ignore[assignment]  # instead of the method of tuple
    flags: int


class BarChanges(msgspec.Struct):
    """
    What a call changed: rows to append in order, rows to write again, rows that closed.

    `closed` holds `(n, row)`: the row was final (late trades apart) before the batch's trade
    number `n`; for an announcement `n` is 0.
    """

    appended: list[BarRow] = []
    updated: list[BarRow] = []
    closed: list[tuple[int, BarRow]] = []

    def __bool__(self) -> bool:
        return bool(self.appended or self.updated)


class Bar:
    """One traded row while it may still change."""

    __slots__ = ("close", "close_key", "count", "flags", "high", "low", "open", "open_key", "ticks")

    def __init__(self, key: tuple[int, int], price: float, ticks: int, flags: int = 0) -> None:
        self.open = self.high = self.low = self.close = price
        self.open_key = self.close_key = key
        self.ticks = ticks
        self.count = 1
        self.flags = flags

    def fold(self, key: tuple[int, int], price: float, ticks: int) -> None:
        if price > self.high:
            self.high = price
        if price < self.low:
            self.low = price
        if key < self.open_key:
            self.open_key, self.open = key, price
        if key >= self.close_key:
            self.close_key, self.close = key, price
        self.ticks += ticks
        self.count += 1


class HeldBars:
    """Traded rows that may still change, by epoch, with their order in time at hand."""

    def __init__(self) -> None:
        self._bars: dict[int, Bar] = {}
        self._epochs: list[int] = []

    def get(self, epoch: int) -> Bar | None:
        return self._bars.get(epoch)

    def add(self, epoch: int, bar: Bar) -> None:
        if epoch not in self._bars:
            insort(self._epochs, epoch)
        self._bars[epoch] = bar

    def pop(self, epoch: int) -> Bar | None:
        if epoch in self._bars:
            del self._epochs[bisect_left(self._epochs, epoch)]
        return self._bars.pop(epoch, None)

    def oldest_first(self) -> list[int]:
        return list(self._epochs)

    def before(self, epoch: int) -> int | None:
        at = bisect_left(self._epochs, epoch)
        return self._epochs[at - 1] if at else None

    def after(self, epoch: int) -> int | None:
        at = bisect_right(self._epochs, epoch)
        return self._epochs[at] if at < len(self._epochs) else None


def plain(column: Sequence[float] | Iterable[float]) -> list[int]:
    """Return a column as Python numbers, which are faster to handle one by one than numpy's."""
    numbers: list[int] = column.tolist() if hasattr(column, "tolist") else list(column)  # type: ignore[arg-type,unused-ignore]
    return numbers
