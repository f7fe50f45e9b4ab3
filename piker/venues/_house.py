"""
The house of a synthetic market: the maker whose ladder is the book, the taker whose orders trade.

Both act through the matching engine. The flow says what trades; the house keeps its best quotes
where the flow has them, so each taker order fills exactly as the flow says, and re-quotes the
rest of its ladder once per book step. The ladder is a function of (seed, market, best quotes,
time), anchored to absolute prices so that far levels stay where they are; the best ones change
their size all the time, so that quotes go on in a pause of the trades as a busy market's do.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from piker.venues._engine import BUY, SELL, Engine, Fill
from piker.venues._flow import Flow
from piker.venues._noise import Ints, bits, key_of, normal

LEVELS: Final = 60  # a side; some coincide when anchored, at least 20 remain
HOUSE: Final = "house"
TOUCH_MS: Final = 250  # the best levels change their size as often, also while nothing trades
UPDATE_EPOCH_MS: Final = 1_577_836_800_000  # update ids count tenths of a millisecond from 2020


class HouseBook:
    """The live book of one synthetic market."""

    def __init__(self, flow: Flow) -> None:
        self.engine = Engine()
        self.flow = flow
        self.update_id = 0
        self._rests: dict[int, dict[int, int]] = {BUY: {}, SELL: {}}  # price -> oid
        self._size_key = key_of(flow.seed, flow.market.symbol, "ladder")
        self._median = 60 * flow.spec.size_median / float(flow.market.size_tick)
        self._quotes = (0, 0)
        self._offsets, self._grids = _ladder_shape(flow.spec.price / float(flow.market.price_tick))

    def start(self, now_ms: int) -> None:
        """Build the book as it stands at `now_ms`."""
        rows = self.flow.trades_between(now_ms - 60_000, now_ms + 1)
        last = rows[-1]
        self._quotes = int(last["bid"]), int(last["ask"])
        self.requote(now_ms)
        self.engine.take_changes()

    def trade(self, row: tuple[int, ...]) -> Fill:
        """Let the house take from itself what the flow's trade (a TRADE_DTYPE row) says."""
        _, time_ms, price, size, taker_sell, bid, ask = row
        self._quotes = bid, ask
        self._clear_inside(bid, ask)
        maker_side = BUY if taker_sell else SELL
        other = ask if taker_sell else bid
        self._ensure(maker_side, price, size + 1)
        self._ensure(-maker_side, other, 1)
        _, fills = self.engine.submit(HOUSE, -maker_side, size, price, time_in_force="IOC")
        assert len(fills) == 1, "the house's best order takes the whole trade"
        self._bump(time_ms)
        return fills[0]

    def requote(self, now_ms: int) -> None:
        """Bring the whole ladder to what it shall be at `now_ms`."""
        bid, ask = self._quotes
        self._clear_inside(bid, ask)
        for side, best in ((BUY, bid), (SELL, ask)):
            self._set_ladder(side, self._ladder(side, best, now_ms))
        self._bump(now_ms)

    def _bump(self, now_ms: int) -> None:
        self.update_id = max(self.update_id + 1, (now_ms - UPDATE_EPOCH_MS) * 10)

    def _clear_inside(self, bid: int, ask: int) -> None:
        """Cancel what is better than the flow's best quotes."""
        for side, best in ((BUY, bid), (SELL, ask)):
            rests = self._rests[side]
            while (top := self.engine.best(side)) and (top[0] - best) * side > 0:
                self.engine.cancel(rests.pop(top[0]))

    def _ensure(self, side: int, price: int, size: int) -> None:
        """Let the house's order at `price` have at least `size`."""
        rests = self._rests[side]
        order = self.engine.order(rests.get(price, 0))
        if order is not None and order.open_size >= size:
            return
        if order is not None:
            self.engine.cancel(order.oid)
        # The displayed rest comes from the price: cheap, and the same in each run.
        rest = 1 + int(self._median * (1 + price % 7) / 7)
        rests[price] = self.engine.submit(HOUSE, side, size + rest, price)[0].oid

    def _ladder(self, side: int, best: int, now_ms: int) -> dict[int, int]:
        # Bids snap down and asks up, away from the touch.
        prices: Ints = side * ((side * best - self._offsets) // self._grids * self._grids)
        prices = np.unique(prices[prices > 0])
        age = bits(self._size_key, prices) % np.uint64(8)
        life_ms = np.where(prices == best, TOUCH_MS, 2000 + 2500 * age.astype(np.int64))
        epoch = now_ms // life_ms
        noise = normal(self._size_key, prices * 1_000_003 + epoch)
        distance = np.abs(prices - best) / (1 + self._offsets[-1])
        sizes = (self._median * (0.3 + 2 * distance) * np.exp(noise)).astype(np.int64) + 1
        return dict(zip(prices.tolist(), sizes.tolist(), strict=True))

    def _set_ladder(self, side: int, wanted: dict[int, int]) -> None:
        engine, rests = self.engine, self._rests[side]
        for price in [price for price in rests if price not in wanted]:
            engine.cancel(rests.pop(price))
        for price, size in wanted.items():
            oid = rests.get(price)
            if oid is not None:
                order = engine.order(oid)
                if order is not None and order.open_size == size:
                    continue
                engine.cancel(oid)
            rests[price] = engine.submit(HOUSE, side, size, price)[0].oid


def _ladder_shape(price_ticks: float) -> tuple[Ints, Ints]:
    """Return how far each level is from the best price, and the grid that it is anchored to."""
    index: Any = np.arange(LEVELS)
    offsets = index + (index**1.7 * price_ticks * 1.8e-6).astype(np.int64)
    gaps = np.maximum(1, np.diff(offsets, prepend=0))
    grids = 10 ** np.floor(np.log10(gaps)).astype(np.int64)
    grids[0] = 1  # the best price is where the flow has it
    return offsets, grids
