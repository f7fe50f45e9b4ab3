"""
Paper fills are honest on recorded markets: held against the tape itself, not against our queue.

Random resting orders are matched on what venues really sent. For each, from the tape alone: no
fill but at a trade at or through its price and by no more than that traded; never more in all
than traded at and through the price since it came, less the queue that was displayed when it came
and was not seen to be canceled.
"""

from __future__ import annotations

import gzip
import random
from collections import deque
from collections.abc import Iterator, Sequence
from decimal import Decimal
from functools import cache

import msgspec
import numpy as np
import pytest
from recordings import binance_spot_lines, recordings

from piker.brokers.binance import _wire
from piker.brokers.binance._stream import StreamParser
from piker.clearing._fill_events import Output, Traded
from piker.clearing._matching import PaperBook
from piker.clearing._own_side import BUY, SELL
from piker.clearing._queue import Resting
from piker.model.feed import Book, Quote, Trade

QUOTE, TRADE, BOOK = range(3)
Event = tuple[int, int, tuple]  # time, kind, what it says in ticks
AWAY = (-1, 0, 0, 0, 0, 1, 2, 5, 20, 100)  # ticks behind the best price of its side


class Placed(msgspec.Struct):
    """One order of the test and what the tape says of it."""

    order: Resting
    begun: int  # index of the event before which it was there
    ended: int
    fills: list[tuple[int, int]]  # (event, size)


@cache
def spot_tape() -> list[Event]:
    """Return the spot capture: trades, best quotes and 20 levels a side."""
    parser = StreamParser("BTCUSDT", levels=20)
    events: list[Event] = []
    for stamp, frame in binance_spot_lines():
        if frame.startswith(b'{"lastUpdateId"'):
            found = parser.load_snapshot(_wire.parse_snapshot(frame), stamp)
        else:
            found = parser.read([frame], stamp)
        for each in found:
            match each:
                case Trade(price=price, size=size):
                    events.append((stamp, TRADE, (round(price * 100), round(size * 1e5))))
                case Quote(bid=bid, bid_size=bid_size, ask=ask, ask_size=ask_size):
                    best = [(bid, bid_size), (ask, ask_size)]
                    quote = tuple(n for p, s in best for n in (round(p * 100), round(s * 1e5)))
                    events.append((stamp, QUOTE, quote))
                case Book(bids=bids, asks=asks):
                    sides = tuple(
                        [(round(price * 100), round(size * 1e5)) for price, size in side]
                        for side in (bids, asks)
                    )
                    events.append((stamp, BOOK, sides))
    return events


@cache
def futures_tape(name: str, price_tick: str, size_tick: str) -> list[Event]:
    """Return a futures capture: trades and best quotes, as of a market without a book."""
    price, size = Decimal(price_tick), Decimal(size_tick)
    events: list[Event] = []
    with gzip.open(recordings() / f"hftbacktest/{name}.gz") as file:
        for line in file:
            stamp, _, frame = line.partition(b" ")
            if b"@trade" in frame or b"@bookTicker" in frame:
                data = msgspec.json.decode(frame)["data"]
                kind = TRADE if data["e"] == "trade" else QUOTE
                keys = (("p", price), ("q", size)) if kind == TRADE else (
                    ("b", price), ("B", size), ("a", price), ("A", size)
                )  # fmt: skip
                values = tuple(int(Decimal(data[key]) / tick) for key, tick in keys)
                events.append((int(stamp), kind, values))
    return events


def place(tape: Sequence[Event], count: int, rng: random.Random) -> list[Placed]:
    """Return random orders that rest when they come, spread over a tape."""
    quotes = [n for n, event in enumerate(tape) if event[1] == QUOTE]
    placed = []
    for number in range(count):
        begun = rng.choice(quotes[:-1])
        bid, _, ask, _ = tape[begun][2]
        side = rng.choice((BUY, SELL))
        price = bid - rng.choice(AWAY) if side == BUY else ask + rng.choice(AWAY)
        price = min(price, ask - 1) if side == BUY else max(price, bid + 1)
        size = round(10 ** rng.uniform(0, 5.5))
        order = Resting(key=str(number), side=side, price=price, size=size)
        placed.append(Placed(order, begun, min(len(tape), begun + rng.randrange(20_000)), []))
    return placed


def replay(tape: Sequence[Event], placed: Sequence[Placed]) -> list[int]:
    """Run the tape through one market with these orders; return how much each event filled."""
    book = PaperBook(Decimal("0.01"), Decimal("0.00001"))
    by_key = {each.order.key: each for each in placed}
    begins: dict[int, list[Placed]] = {}
    ends: dict[int, list[Placed]] = {}
    for each in placed:
        begins.setdefault(each.begun, []).append(each)
        ends.setdefault(each.ended, []).append(each)
    filled = [0] * len(tape)

    def note(index: int, outputs: Sequence[Output]) -> None:
        for out in outputs:
            if isinstance(out, Traded):
                assert out.is_maker
                assert out.price == by_key[out.key].order.price
                by_key[out.key].fills.append((index, out.size))
                filled[index] += out.size

    for index, (now_ns, kind, values) in enumerate(tape):
        for each in ends.get(index, ()):
            book.cancel(each.order.key, now_ns)
        match kind:
            case 0:
                note(index, book.on_quote(*values, now_ns))
            case 1:
                note(index, book.on_trade(*values, now_ns))
            case _:
                note(index, book.on_book(*values, now_ns))
        if book.is_lost and kind == QUOTE:
            book.resume(now_ns)
        for each in begins.get(index, ()):
            book.submit(each.order, now_ns)
            book.on_time(now_ns)
    return filled


def looks(tape: Sequence[Event], each: Placed) -> Iterator[tuple[int, int | None, int]]:
    """Yield (event, what is displayed at an order's price, what trades there) as the tape goes."""
    side, price = each.order.side, each.order.price
    for index in range(max(0, each.begun - 3_000), each.ended):
        _, kind, values = tape[index]
        if kind == TRADE:
            if values[0] == price:
                yield index, None, values[1]
        elif kind == BOOK:
            levels = values[0 if side == BUY else 1]
            if side * (price - levels[-1][0]) >= 0:
                yield index, dict(levels).get(price, 0), 0
        else:
            best, size = values[:2] if side == BUY else values[2:]
            if side * (price - best) >= 0:
                yield index, size if price == best else 0, 0


def queues(tape: Sequence[Event], each: Placed) -> dict[int, int]:
    """
    Return the least queue that may have been left of the first one at each trade at the price.

    It is what was displayed when the order came, less what fell in the display later without a
    trade within a quarter of a second of it: that may have been canceled.
    """
    first: int | None = None
    shown, left = 0, {}
    falls: deque[list[int]] = deque()  # [time, size] without a trade so far
    trades: deque[list[int]] = deque()
    canceled = 0
    for index, now, traded in looks(tape, each):
        if index <= each.begun:
            first = shown = now if now is not None else shown
            continue
        time_ns = tape[index][0]
        while trades and time_ns - trades[0][0] > 250_000_000:
            trades.popleft()
        while falls and time_ns - falls[0][0] > 250_000_000:
            canceled += falls.popleft()[1]
        change = traded or max(0, shown - (shown if now is None else now))
        for other in trades if now is not None else falls:
            met = min(change, other[1])
            change, other[1] = change - met, other[1] - met
        if change:
            (falls if now is not None else trades).append([time_ns, change])
        shown = shown if now is None else now
        if now is None:
            left[index] = max(0, (first or 0) - canceled - sum(size for _, size in falls))
    return left


def check(tape: Sequence[Event], placed: Sequence[Placed], filled: Sequence[int]) -> int:
    """Hold every fill against the tape; return how many orders were filled in part or whole."""
    at = np.array([index for index, event in enumerate(tape) if event[1] == TRADE])
    prices = np.array([tape[index][2][0] for index in at])
    sizes = np.array([tape[index][2][1] for index in at])
    total = np.zeros(len(tape), np.int64)
    total[at] = sizes
    assert (np.array(filled) <= total).all(), "one trade filled more than it was"
    for each in placed:
        if not each.fills:
            continue
        assert sum(size for _, size in each.fills) <= each.order.size
        span = slice(np.searchsorted(at, each.begun, "right"), np.searchsorted(at, each.ended))
        side, price = each.order.side, each.order.price
        reach = side * (price - prices[span]) >= 0
        through = side * (price - prices[span]) > 0
        when, sums = at[span], np.cumsum(sizes[span] * reach)
        passed = np.cumsum(through)
        left = queues(tape, each)
        so_far = 0
        for index, size in each.fills:
            so_far += size
            n = int(np.searchsorted(when, index))
            assert when[n] == index, "filled without a trade"
            assert reach[n], "filled before a trade at or through the price"
            free = sums[n] if passed[n] else sums[n] - left[index]
            assert so_far <= free, "filled more than traded less the queue"
    return sum(bool(each.fills) for each in placed)


TAPES = {
    "spot": lambda: spot_tape(),
    "usdm": lambda: futures_tape("binance-usdm/btcusdt_20240808", "0.1", "0.001"),
    "coinm": lambda: futures_tape("binance-coinm/btcusd_perp_20240808", "0.1", "1"),
}


@pytest.mark.parametrize("name", TAPES)
def test_fills_of_resting_orders_never_exceed_what_the_tape_gives(
    name: str, request: pytest.FixtureRequest
) -> None:
    tape = TAPES[name]()
    count, crowd = (10_000, 1_000) if request.config.getoption("--soak") else (200, 200)
    rng = random.Random(f"honest {name}")
    hits = 0
    for _ in range(count // crowd):
        placed = place(tape, crowd, rng)
        hits += check(tape, placed, replay(tape, placed))
    assert hits > count // 100


def test_orders_alone_in_the_market_keep_the_same_rules(request: pytest.FixtureRequest) -> None:
    tape = spot_tape()
    rng = random.Random("alone")
    for _ in range(200 if request.config.getoption("--soak") else 4):
        (each,) = place(tape, 1, rng)
        window = tape[max(0, each.begun - 3_000) : each.ended + 1]
        shift = max(0, each.begun - 3_000)
        each.begun, each.ended = each.begun - shift, each.ended - shift
        check(window, [each], replay(window, [each]))


def test_bigger_order_at_the_same_place_never_fills_later_than_a_smaller_one() -> None:
    tape = spot_tape()[:40_000]
    rng = random.Random("sizes")
    for small in place(tape, 3, rng):
        big = Placed(msgspec.structs.replace(small.order, size=1 << 40), small.begun,
                     small.ended, [])  # fmt: skip
        for each in (small, big):
            replay(tape, [each])
        if small.fills:
            assert big.fills[0][0] == small.fills[0][0]
            assert sum(size for _, size in big.fills) >= sum(size for _, size in small.fills)
