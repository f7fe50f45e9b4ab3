"""
What a market is to a local venue: its increments, its trades, its bars.

Pure. Trades and bars are numpy records in integer ticks, so a bar is exactly the sum of its
trades. A `Source` (the tape, the synthetic flow) answers for one market up to a point in time
that the caller gives; it never looks at a clock.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Final, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from piker.model.market import dec_digits

Rows = NDArray[np.void]

TRADE_DTYPE: Final = np.dtype(
    [
        ("tid", "i8"),
        ("time_ms", "i8"),
        ("price", "i8"),  # price ticks
        ("size", "i8"),  # size ticks
        ("taker_sell", "i8"),  # 1: the buyer was the maker
        ("bid", "i8"),  # best bid and ask after the trade, price ticks; 0 unknown
        ("ask", "i8"),
    ]
)

KLINE_DTYPE: Final = np.dtype(
    [
        ("time_ms", "i8"),  # of its open
        ("open", "i8"),
        ("high", "i8"),
        ("low", "i8"),
        ("close", "i8"),
        ("volume", "i8"),  # size ticks
        ("quote", "i8"),  # price ticks x size ticks
        ("count", "i8"),  # 0: nothing traded, prices are the close before
        ("buy_volume", "i8"),  # of trades whose taker bought
        ("buy_quote", "i8"),
        ("first_tid", "i8"),  # -1 when nothing traded
    ]
)

SECOND_MS: Final = 1000
MINUTE_MS: Final = 60_000
HOUR_MS: Final = 3_600_000
DAY_MS: Final = 86_400_000


class MarketSpec(msgspec.Struct, frozen=True):
    """The static facts of one spot market."""

    symbol: str
    base: str
    quote: str
    price_tick: Decimal = Decimal("0.01")
    size_tick: Decimal = Decimal("0.00001")

    @property
    def price_digits(self) -> int:
        """Decimals of a price."""
        return dec_digits(self.price_tick)

    @property
    def size_digits(self) -> int:
        """Decimals of a size."""
        return dec_digits(self.size_tick)


class Source(Protocol):
    """
    One market's past, asked with the venue time (`upto_ns`) up to which it is public.

    Every method is cheap for the newest data; `klines` works through hours and is a coroutine
    so that a long range does not hold up the streams.
    """

    spec: MarketSpec

    @property
    def start_ms(self) -> int:
        """When its history begins."""

    def first_tid(self) -> int:
        """Return the id of the oldest trade."""

    def last_tid(self, upto_ns: int) -> int:
        """Return the id of the newest public trade, `first_tid() - 1` when there is none."""

    def trades_by_id(self, first: int, count: int, upto_ns: int) -> Rows:
        """Return up to `count` public trades from id `first` on, by id."""

    def trades_since(self, start_ms: int, count: int, upto_ns: int) -> Rows:
        """Return up to `count` public trades at or after `start_ms`, by id."""

    async def klines(self, period_ms: int, start_ms: int, stop_ms: int, upto_ns: int) -> Rows:
        """
        Return the bars whose open is in [start, stop), ascending, without holes.

        `period_ms` divides a day; the bar that holds `upto_ns` is built from what is public.
        """


def empty_trades() -> Rows:
    """Return no trades."""
    return np.empty(0, TRADE_DTYPE)


def klines_of(trades: Rows, period_ms: int, offset_ms: int = 0) -> Rows:
    """Return the bars of `trades` (ordered by time and id); periods without trades are left out."""
    if not len(trades):
        return np.empty(0, KLINE_DTYPE)
    opens = (trades["time_ms"] - offset_ms) // period_ms * period_ms + offset_ms
    starts = np.flatnonzero(np.r_[True, np.diff(opens) != 0])
    stops = np.r_[starts[1:], len(trades)]
    value = trades["price"] * trades["size"]
    bought = 1 - trades["taker_sell"]
    out = np.empty(len(starts), KLINE_DTYPE)
    out["time_ms"] = opens[starts]
    out["open"] = trades["price"][starts]
    out["high"] = np.maximum.reduceat(trades["price"], starts)
    out["low"] = np.minimum.reduceat(trades["price"], starts)
    out["close"] = trades["price"][stops - 1]
    out["volume"] = np.add.reduceat(trades["size"], starts)
    out["quote"] = np.add.reduceat(value, starts)
    out["count"] = stops - starts
    out["buy_volume"] = np.add.reduceat(trades["size"] * bought, starts)
    out["buy_quote"] = np.add.reduceat(value * bought, starts)
    out["first_tid"] = trades["tid"][starts]
    return out


def merge_klines(rows: Rows, period_ms: int, offset_ms: int = 0) -> Rows:
    """Return bars of a longer period made of `rows`, whose period divides it."""
    if not len(rows):
        return rows
    opens = (rows["time_ms"] - offset_ms) // period_ms * period_ms + offset_ms
    starts = np.flatnonzero(np.r_[True, np.diff(opens) != 0])
    stops = np.r_[starts[1:], len(rows)]
    out = np.empty(len(starts), KLINE_DTYPE)
    out["time_ms"] = opens[starts]
    out["open"] = rows["open"][starts]
    out["high"] = np.maximum.reduceat(rows["high"], starts)
    out["low"] = np.minimum.reduceat(rows["low"], starts)
    out["close"] = rows["close"][stops - 1]
    for name in ("volume", "quote", "count", "buy_volume", "buy_quote"):
        out[name] = np.add.reduceat(rows[name], starts)
    # The first trade of a merged bar is that of its first part in which anything traded.
    far = np.iinfo(np.int64).max
    firsts = np.minimum.reduceat(np.where(rows["first_tid"] < 0, far, rows["first_tid"]), starts)
    out["first_tid"] = np.where(firsts == far, -1, firsts)
    return out


def fill_flat(rows: Rows, period_ms: int, start_ms: int, stop_ms: int, close_before: int) -> Rows:
    """
    Return one bar for each period that opens in [start, stop): `rows`, and flat ones between.

    A flat bar stands at the close before it; `close_before` is that of the first (0: unknown,
    then the bars before the first row are left out).
    """
    count = max(0, -(-(stop_ms - start_ms) // period_ms))
    out: Any = np.zeros(count, KLINE_DTYPE)
    out["time_ms"] = start_ms + period_ms * np.arange(count)
    out["first_tid"] = -1
    at = (rows["time_ms"] - start_ms) // period_ms
    out[at] = rows
    traded = np.zeros(count, np.int64)
    traded[at] = np.arange(1, len(rows) + 1)
    latest = np.maximum.accumulate(traded)
    closes = np.r_[close_before, rows["close"]][latest]
    flat = traded == 0
    for name in ("open", "high", "low", "close"):
        out[name][flat] = closes[flat]
    return np.asarray(out if close_before else out[latest > 0])
