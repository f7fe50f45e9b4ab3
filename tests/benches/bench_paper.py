"""How many market events a second the paper market takes with 100 of our orders resting in it."""

from __future__ import annotations

import random
from collections.abc import Iterator
from decimal import Decimal

import numpy as np
from record import Result, best_s

from piker.clearing._fill_models import PaperTerms
from piker.clearing._matching import PaperBook
from piker.clearing._own_side import BUY, SELL
from piker.clearing._paper_funds import PaperFunds
from piker.clearing._paper_market import PaperMarket
from piker.clearing._queue import Resting
from piker.data._blocks import L1, L2
from piker.model.market import Asset, MktPair
from piker.model.ticks import FEED_LIVE, QUOTE, TICK_DTYPE, TRADE

EVENTS = 100_000
ORDERS = 100
BATCH = 64  # records that one wake-up finds under load
TARGET = 200_000.0  # events a second of `paper.match`
MKT = MktPair(
    dst="btc",
    src=Asset("usdt", "crypto", Decimal("0.01")),
    price_tick=Decimal("0.01"),
    size_tick=Decimal("0.00001"),
    bs_mktid="BTCUSDT",
    broker="binance",
    venue="spot",
)

Event = tuple[int, int, int, int, int, int]


def market_events() -> list[Event]:
    """Return (kind, a, b, c, d, time) of a market that sways: four quotes for each trade."""
    rng = random.Random(4)
    middle, events = 6_000_000, []
    for number in range(EVENTS):
        middle += rng.choice((-1, 0, 0, 1)) - (middle > 6_000_004) + (middle < 5_999_996)
        bid, ask = middle - 1 - rng.randrange(2), middle + 1 + rng.randrange(2)
        time_ns = number * 1_000_000
        if number % 5:
            sizes = rng.randrange(1, 500_000), rng.randrange(1, 500_000)
            events.append((QUOTE, bid, sizes[0], ask, sizes[1], time_ns))
        else:
            events.append((TRADE, rng.choice((bid, ask)), rng.randrange(1, 20_000), 0, 0, time_ns))
    return events


def resting(number: int) -> Resting:
    """Return one of many large orders around the market, which comes by the nearest of them."""
    side = BUY if number % 2 else SELL
    away = 3 + number // 2 * (1 if number % 4 < 2 else 20)
    price = 6_000_000 - side * away
    return Resting(key=str(number), side=side, price=price, size=1 << 50)


def kernel(events: list[Event]) -> None:
    """Run the bare matching kernel."""
    book = PaperBook(MKT.price_tick, MKT.size_tick)
    book.on_quote(5_999_999, 100, 6_000_001, 100, 0)
    book.resume(0)
    for number in range(ORDERS):
        book.submit(resting(number), 0)
    book.on_time(0)
    on_quote, on_trade = book.on_quote, book.on_trade
    for kind, a, b, c, d, time_ns in events:
        if kind == QUOTE:
            on_quote(a, b, c, d, time_ns)
        else:
            on_trade(a, b, time_ns)


class Shown:
    """A market whose blocks never change."""

    def l1(self) -> L1:
        """Return a live quote."""
        return L1(59_999.99, 1, 60_000.01, 1, 60_000, 1, 1, 0, 0, FEED_LIVE, 1, 1)

    def l2(self) -> L2:
        """Return two levels."""
        return L2(np.array([[59_999.99, 1.0]]), np.array([[60_000.01, 1.0]]), 1, 1)


def batches(events: list[Event]) -> list[np.ndarray]:
    """Return the events as tick records, some at a time."""
    rows = np.zeros(len(events), TICK_DTYPE)
    columns = np.array(events, "i8").T
    rows["type"], rows["time_recv_ns"] = columns[0], columns[5]
    rows["price"], rows["size"] = columns[1] * 0.01, columns[2] * 0.00001
    rows["price2"], rows["size2"] = columns[3] * 0.01, columns[4] * 0.00001
    return np.array_split(rows, len(rows) // BATCH)


def engine(records: list[np.ndarray]) -> None:
    """Run a market of the engine: records in, messages out."""
    terms = PaperTerms()
    market = PaperMarket(MKT, "binance", terms, PaperFunds(terms), lambda message: None)
    shown = Shown()
    market.look(shown, 0)
    for number in range(ORDERS):
        market.book.submit(resting(number), 0)
    market.on_time(0, shown)
    for batch in records:
        market.on_batch(batch, shown)


def measure() -> Iterator[Result]:
    """Yield the rates of the kernel alone and of the engine around it."""
    events = market_events()
    records = batches(events)
    for name, work in (
        ("paper.match", lambda: kernel(events)),
        ("paper.engine", lambda: engine(records)),
    ):
        rate = EVENTS / best_s(work, 3)
        ratio = rate / TARGET
        yield Result(name, rate, "events/s", "target", TARGET, ratio, 1.0, ratio >= 1)
