"""A market on the virtual clock: a seeded random walk with trades, quotes and a book."""

from __future__ import annotations

import math
import random
from collections.abc import AsyncIterator, Callable
from decimal import Decimal

import numpy as np
import trio

from piker.data._blocks import L1, L2
from piker.model.market import MktPair
from piker.model.ticks import FEED_LIVE, GAP, QUOTE, TICK_DTYPE, TRADE

TICK, LOT = Decimal("0.1"), Decimal("0.001")
LEVELS = 5


def market(pair: str, broker: str = "binance") -> MktPair:
    """Return a market whose name is `<pair>.spot.<broker>`."""
    return MktPair(
        dst=pair.removesuffix("usdt"), src="usdt", price_tick=TICK, size_tick=LOT,
        bs_mktid=pair.upper(), broker=broker, venue="spot",
    )  # fmt: skip


class SimMarket:
    """The truth of one market; every view of it sees the same, at the same time."""

    def __init__(self, mkt: MktPair, seed: int, now_ns: Callable[[], int]) -> None:
        self.mkt = mkt
        self.tape: list[np.ndarray] = []  # every batch ever told
        self._draw = random.Random(seed)
        self._now_ns = now_ns
        self._bid = 1000  # in ticks
        self._sizes: list[tuple[int, int]] = []
        self._last = math.nan
        self._updates = self._shown_ns = 0
        self._listeners: list[trio.MemorySendChannel[np.ndarray]] = []
        self._show()

    def _show(self) -> None:
        self._sizes = [
            (self._draw.randrange(1, 4000), self._draw.randrange(1, 4000)) for _ in range(LEVELS)
        ]
        self._updates += 1
        self._shown_ns = self._now_ns()

    @property
    def bid(self) -> Decimal:
        return self._bid * TICK

    @property
    def ask(self) -> Decimal:
        return (self._bid + 1) * TICK

    def step(self) -> None:
        """Let the market live one moment, and tell everybody."""
        chance, records = self._draw.random(), []
        if chance < 0.02:
            self._bid = max(500, self._bid + self._draw.choice([-15, -8, 8, 15]))
        elif chance < 0.4:
            self._bid = max(500, self._bid + self._draw.choice([-2, -1, -1, 1, 1, 2]))
        self._show()
        for _ in range(self._draw.choice([0, 1, 1, 2])):
            price = self._bid + self._draw.randrange(2)
            self._last = price / 10
            records.append((TRADE, self._last, self._draw.randrange(1, 6000) / 1000, 0.0, 0.0))
        bid_size, ask_size = self._sizes[0]
        quote = (QUOTE, self._bid / 10, bid_size / 1000, (self._bid + 1) / 10, ask_size / 1000)
        self.tell([*records, quote])

    def gap(self) -> None:
        """Let every reader lose what came before."""
        self.tell([(GAP, math.nan, math.nan, math.nan, math.nan)])

    def tell(self, records: list[tuple[int, float, float, float, float]]) -> None:
        batch: np.ndarray = np.zeros(len(records), TICK_DTYPE)
        for row, (kind, price, size, price2, size2) in zip(batch, records, strict=True):
            row["type"], row["price"], row["size"] = kind, price, size
            row["price2"], row["size2"], row["tid"] = price2, size2, -1
            row["time_venue_ns"] = row["time_recv_ns"] = self._now_ns()
        self.tape.append(batch)
        for listener in self._listeners:
            listener.send_nowait(batch)

    def listen(self) -> trio.MemoryReceiveChannel[np.ndarray]:
        send, receive = trio.open_memory_channel[np.ndarray](math.inf)
        self._listeners.append(send)
        return receive

    def l1(self) -> L1:
        bid_size, ask_size = (size / 1000 for size in self._sizes[0])
        now_ns = self._now_ns()
        return L1(
            self._bid / 10, bid_size, (self._bid + 1) / 10, ask_size, self._last, 1.0, -1,
            now_ns, now_ns, FEED_LIVE, 1, 0,
        )  # fmt: skip

    def l2(self) -> L2:
        bids = [((self._bid - n) / 10, size[0] / 1000) for n, size in enumerate(self._sizes)]
        asks = [((self._bid + 1 + n) / 10, size[1] / 1000) for n, size in enumerate(self._sizes)]
        return L2(np.array(bids), np.array(asks), self._shown_ns, self._updates)


class SimView:
    """One reader of a market."""

    def __init__(self, market: SimMarket) -> None:
        self._market = market
        self.mkt = market.mkt

    def ticks(self) -> AsyncIterator[np.ndarray]:
        return self._market.listen()

    def l1(self) -> L1:
        return self._market.l1()

    def l2(self) -> L2:
        return self._market.l2()

    def is_stale(self) -> str:
        return ""
