"""
Trade ids of one market: which were seen, which are missing. Pure.

Kept apart from bars, since one market has many periods and one sequence of ids.
"""

from __future__ import annotations

JUMPS_MAX = 64  # ranges remembered as missing; trades of older ones count as duplicates


class TradeIds:
    """
    Which trade ids of a market were seen: drops duplicates, finds jumps. One per market.

    For venues that number a market's trades without holes (Binance, Kraken, Deribit, KuCoin).
    """

    def __init__(self) -> None:
        self.newest = -1
        self.missing: list[tuple[int, int]] = []  # ranges not seen yet, ascending, both ends in
        self.duplicates = 0

    def admit(self, tid: int) -> tuple[int, int] | bool:
        """
        Note that trade `tid` came: True when it is next, or the range that it skipped.

        False: seen before. True also for one that was missing until now.
        """
        if tid == self.newest + 1 or self.newest < 0:
            self.newest = tid
            return True
        if tid > self.newest:
            skipped = (self.newest + 1, tid - 1)
            self.newest = tid
            self.missing = [*self.missing[1 - JUMPS_MAX :], skipped]
            return skipped
        if self._take(tid, tid):
            return True
        self.duplicates += 1
        return False

    def recovered(self, first_tid: int, last_tid: int) -> None:
        """Note that history gave all trades of the range."""
        self._take(first_tid, last_tid)

    def _take(self, first: int, last: int) -> bool:
        """Remove `[first, last]` from what is missing; return whether any of it was."""
        left: list[tuple[int, int]] = []
        for low, high in self.missing:
            if high < first or low > last:
                left.append((low, high))
                continue
            if low < first:
                left.append((low, first - 1))
            if high > last:
                left.append((last + 1, high))
        taken, self.missing = left != self.missing, left
        return taken
