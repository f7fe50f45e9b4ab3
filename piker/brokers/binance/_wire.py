"""
Binance spot's payloads, field for field, and what each of them means: bytes in, records out.

Pure. Unknown fields are ignored (the venue adds some every year); a known field of another type,
a number that is not finite or not in its range, or two fields that contradict each other make
the whole payload a `BadPayload`. Nothing else is ever raised for what a peer sent.

Sources: github.com/binance/binance-spot-api-docs, rest-api.md and web-socket-streams.md
(2026-07-21). Times there are milliseconds, prices and sizes decimal strings.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, TypeVar

import msgspec
import numpy as np

from piker.errors import BadPayload
from piker.model.bars import BAR_DTYPE, FILLED
from piker.model.feed import Quote, Trade
from piker.model.ticks import RECOVERED

BROKER = "binance"
NS_PER_MS = 1_000_000

NUMBER_MAX = 1e15  # a price or size above it is rubbish
LEVELS_MAX = 5_000  # per side of one message: the deepest snapshot the venue serves
STAMP_AHEAD_MS = 60_000  # a trade's own time T against its message's time E, same clock:
STAMP_BEHIND_MS = 3_600_000  # more than this apart, one of the two is garbled

Id = Annotated[int, msgspec.Meta(ge=0, lt=1 << 62)]
Millis = Annotated[int, msgspec.Meta(gt=0, lt=1 << 47)]  # until the year 6429
Level = tuple[float, float]

_T = TypeVar("_T")


# ---- streams ----


class Envelope(msgspec.Struct, gc=False):
    """A frame of a combined stream, or the answer to a command."""

    stream: str = ""
    data: msgspec.Raw = msgspec.Raw(b"")
    id: int | str | None = None
    error: dict[str, Any] | None = None
    result: Any = None


class TradeFrame(msgspec.Struct, gc=False):
    """`<symbol>@trade`."""

    E: Millis
    s: str
    t: Id
    p: float
    q: float
    T: Millis
    m: bool


class BookTickerFrame(msgspec.Struct, gc=False):
    """`<symbol>@bookTicker`: no time, and a side without orders is all zeros."""

    u: Id
    s: str
    b: float
    B: float
    a: float
    A: float


class DepthFrame(msgspec.Struct, kw_only=True):
    """`<symbol>@depth@100ms`: the absolute sizes of levels changed by updates U..u."""

    E: Millis
    s: str
    first_id: Id = msgspec.field(name="U")
    last_id: Id = msgspec.field(name="u")
    b: Annotated[list[Level], msgspec.Meta(max_length=LEVELS_MAX)]
    a: Annotated[list[Level], msgspec.Meta(max_length=LEVELS_MAX)]


class EventFrame(msgspec.Struct):
    """Any event by its name only, for those without a stream of their own."""

    e: str = ""


class DepthSnapshot(msgspec.Struct):
    """GET /api/v3/depth: the book after update `lastUpdateId`."""

    lastUpdateId: Id
    bids: Annotated[list[Level], msgspec.Meta(max_length=LEVELS_MAX)]
    asks: Annotated[list[Level], msgspec.Meta(max_length=LEVELS_MAX)]


def _decoder(kind: type[_T]) -> Callable[[bytes | msgspec.Raw], _T]:
    decode = msgspec.json.Decoder(kind, strict=False).decode

    def decode_checked(raw: bytes | msgspec.Raw) -> _T:
        try:
            return decode(raw)
        except (msgspec.MsgspecError, UnicodeError, ValueError, RecursionError) as err:
            raise BadPayload(f"{BROKER}: {kind.__name__}: {err}", bytes(raw)) from None

    return decode_checked


_decode_envelope = _decoder(Envelope)
_decode_trade = _decoder(TradeFrame)
_decode_ticker = _decoder(BookTickerFrame)
_decode_depth = _decoder(DepthFrame)
_decode_event = _decoder(EventFrame)


def _bad(what: str, raw: bytes | msgspec.Raw) -> BadPayload:
    return BadPayload(f"{BROKER}: {what}", bytes(raw))


def parse_envelope(raw: bytes) -> Envelope:
    """Return a frame of a combined stream, its `data` still raw; raises BadPayload."""
    if not raw.isascii():
        # The decoder does not look into fields it skips, yet a garbled frame is not to be trusted.
        try:
            raw.decode()
        except UnicodeDecodeError:
            raise _bad("a frame that is not UTF-8", raw) from None
    return _decode_envelope(raw)


def parse_trade(raw: bytes | msgspec.Raw, symbol: str, time_recv_ns: int) -> Trade:
    """Return the trade of one `@trade` payload; raises BadPayload."""
    frame = _decode_trade(raw)
    if frame.s != symbol:
        raise _bad(f"trade of {frame.s!r}, expected {symbol}", raw)
    if not (0.0 < frame.p < NUMBER_MAX and 0.0 < frame.q < NUMBER_MAX):
        raise _bad(f"trade at {frame.p} of {frame.q}, expected positive numbers", raw)
    if not -STAMP_BEHIND_MS <= frame.T - frame.E <= STAMP_AHEAD_MS:
        raise _bad(f"trade time {frame.T} is far from its event time {frame.E}", raw)
    return Trade(frame.t, frame.p, frame.q, frame.m, frame.T * NS_PER_MS, time_recv_ns)


def parse_book_ticker(
    raw: bytes | msgspec.Raw, symbol: str, time_recv_ns: int
) -> tuple[Quote, int]:
    """Return the quote of one bookTicker payload and its update id; raises BadPayload."""
    frame = _decode_ticker(raw)
    if frame.s != symbol:
        raise _bad(f"bookTicker of {frame.s!r}, expected {symbol}", raw)
    numbers = (frame.b, frame.B, frame.a, frame.A)
    if not all(0.0 <= number < NUMBER_MAX for number in numbers):
        raise _bad(f"bookTicker of {numbers}, expected numbers from 0", raw)
    bid, ask = frame.b or np.nan, frame.a or np.nan
    if bid >= ask:
        raise _bad(f"bookTicker is crossed: bid {bid}, ask {ask}", raw)
    return Quote(bid, frame.B, ask, frame.A, 0, time_recv_ns), frame.u


def parse_depth(raw: bytes | msgspec.Raw, symbol: str) -> DepthFrame:
    """Return one `@depth` payload; raises BadPayload."""
    frame = _decode_depth(raw)
    if frame.s != symbol:
        raise _bad(f"depth of {frame.s!r}, expected {symbol}", raw)
    if frame.first_id > frame.last_id:
        raise _bad(f"depth updates {frame.first_id}..{frame.last_id} run backwards", raw)
    _check_levels(frame.b, raw)
    _check_levels(frame.a, raw)
    return frame


def parse_event_name(raw: bytes | msgspec.Raw) -> str:
    """Return the `e` of a payload, '' without one; raises BadPayload."""
    return _decode_event(raw).e


def _check_levels(levels: list[Level], raw: bytes | msgspec.Raw) -> None:
    for price, size in levels:
        if not (0.0 < price < NUMBER_MAX and 0.0 <= size < NUMBER_MAX):
            raise _bad(f"level of {size} at {price}, expected a price above 0, a size from 0", raw)


# ---- REST ----


class ErrorBody(msgspec.Struct):
    """The body of a refused request."""

    code: int
    msg: str = ""


class RateLimit(msgspec.Struct):
    """One entry of exchangeInfo's `rateLimits`."""

    rateLimitType: str = ""
    interval: str = ""
    intervalNum: int = 1
    limit: int = 0


class Filter(msgspec.Struct):
    """The two fields we read of a symbol's filters: PRICE_FILTER and LOT_SIZE."""

    filterType: str = ""
    tickSize: str = "0"
    stepSize: str = "0"


class SymbolInfo(msgspec.Struct):
    """One market of exchangeInfo."""

    symbol: str
    status: str
    baseAsset: str
    quoteAsset: str
    baseAssetPrecision: Annotated[int, msgspec.Meta(ge=0, le=30)] = 8
    quoteAssetPrecision: Annotated[int, msgspec.Meta(ge=0, le=30)] = 8
    isSpotTradingAllowed: bool = True
    filters: list[Filter] = []


class ExchangeInfo(msgspec.Struct):
    """GET /api/v3/exchangeInfo."""

    symbols: list[SymbolInfo]
    rateLimits: list[RateLimit] = []


class ServerTime(msgspec.Struct):
    """GET /api/v3/time."""

    serverTime: Millis


class TradeRow(msgspec.Struct, gc=False):
    """One row of GET /api/v3/trades and /historicalTrades."""

    id: Id
    price: float
    qty: float
    time: Millis
    isBuyerMaker: bool


class AggTradeRow(msgspec.Struct, gc=False):
    """One row of GET /api/v3/aggTrades: trades f..l, all of one moment."""

    f: Id
    l: Id  # noqa: E741
    T: Millis


class BookTickerRow(msgspec.Struct, gc=False):
    """GET /api/v3/ticker/bookTicker?symbol=."""

    symbol: str
    bidPrice: float
    bidQty: float
    askPrice: float
    askQty: float


KlineRow = tuple[Millis, float, float, float, float, float, Any, Any, Id, Any, Any, Any]

decode_error = _decoder(ErrorBody)
parse_exchange_info = _decoder(ExchangeInfo)
_decode_time = _decoder(ServerTime)
_decode_snapshot = _decoder(DepthSnapshot)
_decode_trades = _decoder(list[TradeRow])
_decode_agg_trades = _decoder(list[AggTradeRow])
_decode_book_ticker = _decoder(BookTickerRow)
_decode_klines = _decoder(list[KlineRow])


def parse_time_ms(raw: bytes) -> int:
    """Return the venue's time; raises BadPayload."""
    return _decode_time(raw).serverTime


def parse_snapshot(raw: bytes) -> DepthSnapshot:
    """Return a depth snapshot; raises BadPayload."""
    snapshot = _decode_snapshot(raw)
    _check_levels(snapshot.bids, raw)
    _check_levels(snapshot.asks, raw)
    return snapshot


def parse_trades(raw: bytes, time_recv_ns: int) -> list[Trade]:
    """Return REST trades in ascending order of id, flagged RECOVERED; raises BadPayload."""
    trades = []
    for row in _decode_trades(raw):
        if not (0.0 < row.price < NUMBER_MAX and 0.0 < row.qty < NUMBER_MAX):
            raise _bad(f"trade at {row.price} of {row.qty}, expected positive numbers", raw)
        time_ns = row.time * NS_PER_MS
        trades.append(
            Trade(row.id, row.price, row.qty, row.isBuyerMaker, time_ns, time_recv_ns, RECOVERED)
        )
    trades.sort(key=lambda trade: trade.tid)
    return trades


def parse_first_trade_id(raw: bytes) -> int | None:
    """Return the first trade id of aggTrades, None when there are none; raises BadPayload."""
    rows = _decode_agg_trades(raw)
    return min((row.f for row in rows), default=None)


def parse_rest_quote(raw: bytes, symbol: str, time_recv_ns: int) -> Quote:
    """Return the quote of GET ticker/bookTicker; raises BadPayload."""
    row = _decode_book_ticker(raw)
    numbers = (row.bidPrice, row.bidQty, row.askPrice, row.askQty)
    if row.symbol != symbol or not all(0.0 <= number < NUMBER_MAX for number in numbers):
        raise _bad(f"bookTicker of {row.symbol!r} {numbers}, expected {symbol}", raw)
    bid, ask = row.bidPrice or np.nan, row.askPrice or np.nan
    return Quote(bid, row.bidQty, ask, row.askQty, 0, time_recv_ns)


def parse_klines(raw: bytes, period_s: int, closed_before_ms: int) -> np.ndarray:
    """
    Return klines as bars, shape (n,), dtype BAR_DTYPE, ascending by `time`, closed ones only.

    A bar is closed when its period ended at or before `closed_before_ms` of the venue's clock; a
    bar without trades is flagged FILLED.

    Raises:
      BadPayload: a row is not on the period's grid, repeats or precedes another, or is no bar.
    """
    period_ms = period_s * 1000
    rows = [
        (*row[:6], row[8]) for row in _decode_klines(raw) if row[0] + period_ms <= closed_before_ms
    ]
    bars = np.zeros(len(rows), BAR_DTYPE)
    if not rows:
        return bars
    table = np.array(rows, "f8")
    if (table[:, 0] % period_ms).any() or (np.diff(table[:, 0]) <= 0).any():
        raise _bad(f"klines are not ascending on the grid of {period_s} s", raw)
    low, high = table[:, 3], table[:, 2]
    prices, volume = table[:, 1:5], table[:, 5]
    if not (
        ((prices > 0) & (prices < NUMBER_MAX)).all()
        and ((volume >= 0) & (volume < NUMBER_MAX)).all()
        and (low[:, None] <= prices).all()
        and (prices <= high[:, None]).all()
    ):
        raise _bad("kline with low above high, or a number out of range", raw)
    bars["time"] = table[:, 0] // 1000
    for place, name in enumerate(("open", "high", "low", "close", "volume", "count"), 1):
        bars[name] = table[:, place]
    bars["flags"] = np.where(bars["count"] == 0, FILLED, 0)
    return bars
