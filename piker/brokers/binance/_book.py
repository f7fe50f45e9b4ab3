"""
The full order book of one market, kept by Binance's sequence rule. Pure.

Updates that come before the snapshot wait; the snapshot with `lastUpdateId` L drops those up to
L, the first one kept must bridge it (`U <= L+1 <= u`), and each later one must begin where the
last ended. Anything else is a gap: the book is dropped and a new snapshot is needed.

Source: binance-spot-api-docs, "How to manage a local order book correctly" (2026-07-21).
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque

from piker.brokers.binance._wire import DepthFrame, DepthSnapshot, Level
from piker.errors import SequenceGap

WAITING_MAX = 1_000  # 100 s of updates; a snapshot takes well under one second
SIDE_LEVELS_MAX = 10_000  # the levels farthest from the market are forgotten first


class Side:
    """One side: prices ascending beside a table of sizes."""

    def __init__(self, is_bid: bool) -> None:
        self._is_bid = is_bid
        self._prices: list[float] = []
        self._sizes: dict[float, float] = {}

    def clear(self) -> None:
        """Forget every level."""
        self._prices.clear()
        self._sizes.clear()

    def load(self, levels: list[Level]) -> None:
        """Replace all levels."""
        self._sizes = {price: size for price, size in levels if size}
        self._prices = sorted(self._sizes)

    def apply(self, levels: list[Level]) -> None:
        """Set the sizes of `levels`; size 0 removes one."""
        prices, sizes = self._prices, self._sizes
        for price, size in levels:
            if size:
                if price not in sizes:
                    prices.insert(bisect_left(prices, price), price)
                sizes[price] = size
            elif sizes.pop(price, None) is not None:
                del prices[bisect_left(prices, price)]
        if (excess := len(prices) - SIDE_LEVELS_MAX) > 0:
            far = slice(None, excess) if self._is_bid else slice(-excess, None)
            for price in prices[far]:
                del sizes[price]
            del prices[far]

    def top(self, n: int) -> list[Level]:
        """Return the best `n` levels, best first."""
        best = self._prices[: -n - 1 : -1] if self._is_bid else self._prices[:n]
        return [(price, self._sizes[price]) for price in best]

    @property
    def best(self) -> float | None:
        """The best price, None without levels."""
        if not self._prices:
            return None
        return self._prices[-1 if self._is_bid else 0]


class DepthBook:
    """The book and where it stands in the venue's sequence."""

    def __init__(self) -> None:
        self.bids = Side(is_bid=True)
        self.asks = Side(is_bid=False)
        self.update_id = 0
        self.is_synced = False
        self._is_bridged = False
        self._waiting: deque[DepthFrame] = deque(maxlen=WAITING_MAX)

    def reset(self) -> None:
        """Drop everything: a new connection, or a gap."""
        self.bids.clear()
        self.asks.clear()
        self.is_synced = self._is_bridged = False
        self._waiting.clear()

    def apply(self, frame: DepthFrame) -> bool:
        """
        Apply one update, or let it wait for the snapshot; return whether the book changed.

        Raises:
          SequenceGap: an update is missing, or the book is crossed; it was dropped, and `frame`
            waits for the next snapshot.
        """
        if not self.is_synced:
            self._waiting.append(frame)
            return False
        if frame.last_id <= self.update_id:
            return False
        expected = self.update_id + 1
        # Only the first update after a snapshot may begin before the book's end.
        late = frame.first_id - expected
        if late > 0 or (late and self._is_bridged):
            had = self.update_id
            self._drop(frame)
            raise SequenceGap(f"book had update {had}, next was {frame.first_id}")
        self.bids.apply(frame.b)
        self.asks.apply(frame.a)
        self.update_id, self._is_bridged = frame.last_id, True
        self._check_crossed(frame)
        return True

    def load(self, snapshot: DepthSnapshot) -> None:
        """
        Start the book from `snapshot` and apply what waited.

        Raises:
          SequenceGap: the snapshot is older than the first waiting update, or crossed: take
            another one.
        """
        waiting = [frame for frame in self._waiting if frame.last_id > snapshot.lastUpdateId]
        if waiting and waiting[0].first_id > snapshot.lastUpdateId + 1:
            raise SequenceGap(
                f"snapshot {snapshot.lastUpdateId} is older than update {waiting[0].first_id}"
            )
        self.reset()
        self.bids.load(snapshot.bids)
        self.asks.load(snapshot.asks)
        self.update_id, self.is_synced = snapshot.lastUpdateId, True
        self._check_crossed(None)
        for frame in waiting:
            self.apply(frame)

    def _check_crossed(self, frame: DepthFrame | None) -> None:
        bid, ask = self.bids.best, self.asks.best
        if bid is not None and ask is not None and bid >= ask:
            self._drop(frame)
            raise SequenceGap(f"book is crossed: bid {bid}, ask {ask}")

    def _drop(self, frame: DepthFrame | None) -> None:
        self.reset()
        if frame is not None:
            self._waiting.append(frame)
