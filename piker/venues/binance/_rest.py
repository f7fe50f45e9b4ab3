"""
The REST side of Binance spot: the public calls under /api/v3, their weights and their errors.

`Rest.answer` is the whole of it: path -> weight -> call. A bad request raises `ApiError`, which
becomes Binance's `{"code", "msg"}`. Nothing here waits for anything but the making of bars.

Source: https://github.com/binance/binance-spot-api-docs (rest-api.md, errors.md, read 2026-08).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec

from piker.venues._limits import WeightLimit
from piker.venues._market import DAY_MS, MINUTE_MS
from piker.venues.binance._exchange import Exchange, Market
from piker.venues.binance._info import WEIGHT_PER_MINUTE, exchange_info
from piker.venues.binance._klines import PERIODS_MS, klines_asked
from piker.web.server import Request, Response

HTML: Final = b"<html><head><title>502 Bad Gateway</title></head><body>nginx</body></html>"

Query = dict[str, str]
Call = Callable[[Query], Awaitable[Any]]


class ApiError(Exception):
    """A request that Binance refuses: its code, its sentence, its HTTP status."""

    def __init__(self, code: int, text: str, status: int = 400) -> None:
        super().__init__(text)
        self.code = code
        self.status = status


class Rest:
    """The public REST API of one venue."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._limit = WeightLimit(exchange.clock, WEIGHT_PER_MINUTE)
        self._calls: dict[str, tuple[Callable[[Query], int], Call]] = {
            "ping": (lambda _: 1, self._ping),
            "time": (lambda _: 1, self._time),
            "exchangeInfo": (lambda _: 20, self._exchange_info),
            "depth": (_depth_weight, self._depth),
            "trades": (lambda _: 25, self._trades),
            "historicalTrades": (lambda _: 25, self._historical_trades),
            "aggTrades": (lambda _: 4, self._agg_trades),
            "klines": (lambda _: 2, self._klines),
            "uiKlines": (lambda _: 2, self._klines),
            "avgPrice": (lambda _: 2, self._avg_price),
            "ticker/24hr": (lambda q: 2 if "symbol" in q else 80, self._ticker_24hr),
            "ticker/price": (lambda q: 2 if "symbol" in q else 4, self._ticker_price),
            "ticker/bookTicker": (lambda q: 2 if "symbol" in q else 4, self._book_ticker),
        }

    async def answer(self, request: Request) -> Response:
        """Return the answer to a request under /api/."""
        weigh, call = self._calls.get(request.path.removeprefix("/api/v3/"), (None, None))
        if weigh is None or call is None:
            return Response(HTML.replace(b"502 Bad Gateway", b"404"), 404, "text/html")
        if request.method != "GET":
            return _json({"code": -1000, "msg": "Method not allowed"}, status=405)
        verdict = self._limit.spend(weigh(request.query))
        headers = (
            ("X-MBX-USED-WEIGHT", str(verdict.used)),
            ("X-MBX-USED-WEIGHT-1M", str(verdict.used)),
        )
        if not verdict.is_allowed:
            return too_many(verdict.retry_after_s, headers)
        try:
            body = await call(request.query)
        except ApiError as error:
            return _json({"code": error.code, "msg": str(error)}, error.status, headers)
        return _json(body, 200, headers)

    async def _ping(self, query: Query) -> Any:
        return {}

    async def _time(self, query: Query) -> Any:
        return {"serverTime": self._exchange.clock.now_ns() // 1_000_000}

    async def _exchange_info(self, query: Query) -> Any:
        return exchange_info(self._markets(query), self._exchange.clock.now_ns() // 1_000_000)

    async def _depth(self, query: Query) -> Any:
        market = self._market(query)
        limit = _integer(query, "limit", 100, 1, 5000)
        return msgspec.Raw(self._exchange.depth(market, limit))

    async def _trades(self, query: Query) -> Any:
        market = self._market(query)
        limit = _integer(query, "limit", 500, 1, 1000)
        first = market.source.last_tid(self._exchange.played_ns) + 1 - limit
        return self._trade_rows(market, first, limit)

    async def _historical_trades(self, query: Query) -> Any:
        market = self._market(query)
        limit = _integer(query, "limit", 500, 1, 1000)
        newest = market.source.last_tid(self._exchange.played_ns)
        first = _integer(query, "fromId", newest + 1 - limit, 0)
        return self._trade_rows(market, first, limit)

    def _trade_rows(self, market: Market, first: int, limit: int) -> list[Any]:
        rows = market.source.trades_by_id(first, limit, self._exchange.played_ns)
        return [market.wire.trade_row(row) for row in rows.tolist()]

    async def _agg_trades(self, query: Query) -> Any:
        market = self._market(query)
        limit = _integer(query, "limit", 500, 1, 1000)
        start_ms, end_ms = _range(query)
        if "fromId" in query and (start_ms is not None or end_ms is not None):
            raise ApiError(-1128, "Combination of optional parameters invalid.")
        first = _integer(query, "fromId", -1, 0) if "fromId" in query else None
        events = market.agg_trades(self._exchange.played_ns, limit, first, start_ms, end_ms)
        return msgspec.Raw(b"[" + b",".join(events) + b"]")

    async def _klines(self, query: Query) -> Any:
        market = self._market(query)
        interval = _required(query, "interval")
        if interval not in PERIODS_MS:
            raise ApiError(-1120, "Invalid interval.")
        limit = _integer(query, "limit", 500, 1, 1000)
        start_ms, end_ms = _range(query)
        rows = await klines_asked(
            market.source, interval, limit, self._exchange.played_ns, start_ms, end_ms
        )
        return list(market.wire.kline_rows(rows, PERIODS_MS[interval]))

    async def _avg_price(self, query: Query) -> Any:
        market = self._market(query)
        now_ns = self._exchange.played_ns
        now_ms = now_ns // 1_000_000
        rows = await market.source.klines(MINUTE_MS, now_ms - 5 * MINUTE_MS, now_ms + 1, now_ns)
        volume = int(rows["volume"].sum())
        price = int(rows["quote"].sum()) // volume if volume else 0
        return {"mins": 5, "price": market.wire.price(price), "closeTime": now_ms}

    async def _ticker_24hr(self, query: Query) -> Any:
        return await self._per_market(query, self._day_ticker)

    async def _ticker_price(self, query: Query) -> Any:
        async def one(market: Market) -> Any:
            return {"symbol": market.wire.symbol, "price": market.wire.price(self._last(market)[2])}

        return await self._per_market(query, one)

    async def _book_ticker(self, query: Query) -> Any:
        async def one(market: Market) -> Any:
            bid, bid_size, ask, ask_size = self._exchange.best(market)
            return {
                "symbol": market.wire.symbol,
                "bidPrice": bid,
                "bidQty": bid_size,
                "askPrice": ask,
                "askQty": ask_size,
            }

        return await self._per_market(query, one)

    async def _day_ticker(self, market: Market) -> Any:
        now_ns = self._exchange.played_ns
        now_ms = now_ns // 1_000_000
        wire = market.wire
        rows = await market.source.klines(MINUTE_MS, now_ms - DAY_MS, now_ms + 1, now_ns)
        last = self._last(market)
        bid, bid_size, ask, ask_size = self._exchange.best(market)
        first = int(rows["open"][0]) if len(rows) else last[2]
        volume, quote = int(rows["volume"].sum()), int(rows["quote"].sum())
        count = int(rows["count"].sum())
        change = last[2] - first
        return {
            "symbol": wire.symbol,
            "priceChange": ("-" if change < 0 else "") + wire.price(abs(change)),
            "priceChangePercent": f"{100 * change / first:.3f}" if first else "0.000",
            "weightedAvgPrice": wire.price(quote // volume if volume else 0),
            "prevClosePrice": wire.price(first),
            "lastPrice": wire.price(last[2]),
            "lastQty": wire.size(last[3]),
            "bidPrice": bid,
            "bidQty": bid_size,
            "askPrice": ask,
            "askQty": ask_size,
            "openPrice": wire.price(first),
            "highPrice": wire.price(int(rows["high"].max()) if len(rows) else last[2]),
            "lowPrice": wire.price(int(rows["low"].min()) if len(rows) else last[2]),
            "volume": wire.size(volume),
            "quoteVolume": wire.value(quote),
            "openTime": now_ms - DAY_MS,
            "closeTime": now_ms,
            "firstId": last[0] - count + 1,
            "lastId": last[0],
            "count": count,
        }

    def _last(self, market: Market) -> tuple[int, ...]:
        """Return the newest public trade, all zeros when there is none."""
        now_ns = self._exchange.played_ns
        rows = market.source.trades_by_id(market.source.last_tid(now_ns), 1, now_ns)
        return tuple(rows[0].tolist()) if len(rows) else (0,) * 7

    async def _per_market(self, query: Query, one: Callable[[Market], Awaitable[Any]]) -> Any:
        if "symbol" in query:
            return await one(self._market(query))
        return [await one(market) for market in self._markets(query)]

    def _market(self, query: Query) -> Market:
        market = self._exchange.markets.get(_required(query, "symbol"))
        if market is None:
            raise ApiError(-1121, "Invalid symbol.")
        return market

    def _markets(self, query: Query) -> list[Market]:
        if "symbol" in query:
            return [self._market(query)]
        if "symbols" not in query:
            return list(self._exchange.markets.values())
        try:
            names = msgspec.json.decode(query["symbols"], type=list[str])
        except msgspec.DecodeError:
            raise ApiError(-1100, "Illegal characters found in parameter 'symbols'.") from None
        return [self._market({"symbol": name}) for name in names]


def too_many(
    retry_after_s: int, headers: tuple[tuple[str, str], ...] = (), status: int = 429
) -> Response:
    """Return Binance's refusal of a client that asks too much."""
    text = "Too much request weight used; current limit is {} request weight per 1 MINUTE."
    body = {"code": -1003, "msg": text.format(WEIGHT_PER_MINUTE)}
    return _json(body, status, (*headers, ("Retry-After", str(retry_after_s))))


def _json(body: Any, status: int = 200, headers: tuple[tuple[str, str], ...] = ()) -> Response:
    return Response(msgspec.json.encode(body), status, "application/json;charset=UTF-8", headers)


def _depth_weight(query: Query) -> int:
    try:
        limit = int(query.get("limit", "100"))
    except ValueError:
        return 5
    return next((weight for top, weight in ((100, 5), (500, 25), (1000, 50)) if limit <= top), 250)


def _required(query: Query, name: str) -> str:
    value = query.get(name, "")
    if not value:
        raise ApiError(
            -1102, f"Mandatory parameter '{name}' was not sent, was empty/null, or malformed."
        )
    return value


def _integer(query: Query, name: str, default: int, low: int, high: int = 1 << 62) -> int:
    text = query.get(name)
    if text is None:
        return default
    if not text.isascii() or not text.lstrip("-").isdigit() or len(text) > 20:
        raise ApiError(
            -1100,
            f"Illegal characters found in parameter '{name}'; legal range is '^[0-9]{{1,20}}$'.",
        )
    if int(text) < low:
        raise ApiError(-1130, f"Data sent for parameter '{name}' is not valid.")
    return min(int(text), high)


def _range(query: Query) -> tuple[int | None, int | None]:
    start = _integer(query, "startTime", -1, 0)
    end = _integer(query, "endTime", -1, 0)
    if start > end >= 0:
        raise ApiError(-1127, "Start time is greater than end time.")
    return (None if start < 0 else start), (None if end < 0 else end)
