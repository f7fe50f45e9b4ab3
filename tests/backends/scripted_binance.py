"""
A server that says what a test wants, in Binance's words.

One market, BTCUSDT, whose trade `i` happened `i` seconds after `BEGIN_S` at price 100 + i % 7 for
0.5. `answers` overrides the answer for a path; `play` is what a stream does once subscribed.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from piker import clock
from piker.web.server import Request, Response, Server, Upgrade, WebSocket, open_server

TRADES = 10_000

LISTED = [
    ("BTCUSDT", "BTC", "USDT", "0.01000000", "0.00001000"),
    ("ETHUSDT", "ETH", "USDT", "0.01000000", "0.00010000"),
    ("ETHBTC", "ETH", "BTC", "0.00001000", "0.00010000"),
]


def listing() -> dict[str, Any]:
    """Return exchangeInfo, with fields that no client may trip over."""
    symbols = [
        {
            "symbol": symbol,
            "status": "TRADING",
            "baseAsset": base,
            "baseAssetPrecision": 8,
            "quoteAsset": quote,
            "quoteAssetPrecision": 8,
            "isSpotTradingAllowed": True,
            "newFieldOfNextYear": {"a": [1]},
            "filters": [
                {"filterType": "PRICE_FILTER", "minPrice": "0.01", "tickSize": tick},
                {"filterType": "LOT_SIZE", "minQty": "0.00001", "stepSize": step},
                {"filterType": "FILTER_OF_NEXT_YEAR", "limit": 5},
            ],
        }
        for symbol, base, quote, tick, step in LISTED
    ]
    limit = {"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1}
    return {"symbols": symbols, "rateLimits": [limit | {"limit": 6000}], "timezone": "UTC"}


class ScriptedBinance:
    """The server's script and what it was asked."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.answers: dict[str, Response] = {}
        self.upgrade: Response | None = None
        self.play: Callable[[WebSocket], Awaitable[None]] = self.stay
        self.subscribed: list[dict[str, Any]] = []
        self.begin_s = clock.now_ns() // clock.NS - TRADES
        self.first_kline_s = self.begin_s - 10 * 86400

    def asked(self, path: str) -> list[Request]:
        """Return the requests for `path`."""
        return [request for request in self.requests if request.path == path]

    async def handle(self, request: Request) -> Response | Upgrade:
        self.requests.append(request)
        if request.path == "/stream":
            return self.upgrade or Upgrade(self._serve_stream)
        if request.path in self.answers:
            return self.answers[request.path]
        content = getattr(self, "_" + request.path.rpartition("/")[2])(request.query)
        if isinstance(content, Awaitable):
            content = await content
        if isinstance(content, Response):
            return content
        headers = (("X-MBX-USED-WEIGHT-1M", "7"),)
        return Response(json.dumps(content).encode(), 200, "application/json", headers)

    async def _serve_stream(self, ws: WebSocket) -> None:
        command = json.loads(await ws.recv())
        self.subscribed.append(command)
        await ws.send_text(json.dumps({"result": None, "id": command["id"]}))
        await self.play(ws)

    async def stay(self, ws: WebSocket) -> None:
        """Keep the stream open and silent."""
        while True:
            await ws.recv()

    def trade(self, i: int) -> dict[str, Any]:
        """Return trade `i` as REST has it."""
        price, time_ms = f"{100 + i % 7:.8f}", (self.begin_s + i) * 1000
        return {"id": i, "price": price, "qty": "0.5", "time": time_ms, "isBuyerMaker": i % 2 == 0}

    def _exchangeInfo(self, query: dict[str, str]) -> Any:
        info = listing()
        if wanted := query.get("symbol"):
            info["symbols"] = [entry for entry in info["symbols"] if entry["symbol"] == wanted]
            if not info["symbols"]:
                return Response(b'{"code":-1121,"msg":"Invalid symbol."}', 400, "application/json")
        return info

    def _time(self, _: dict[str, str]) -> Any:
        return {"serverTime": clock.now_ns() // 1_000_000}

    def _trades(self, query: dict[str, str]) -> Any:
        return [self.trade(i) for i in range(TRADES - int(query["limit"]), TRADES)]

    def _historicalTrades(self, query: dict[str, str]) -> Any:
        first = int(query["fromId"])
        return [self.trade(i) for i in range(first, min(first + int(query["limit"]), TRADES))]

    def _aggTrades(self, query: dict[str, str]) -> Any:
        first = max(0, -(-int(query["startTime"]) // 1000) - self.begin_s)
        if first >= TRADES:
            return []
        row = self.trade(first)
        return [{"a": 1, "p": row["price"], "q": "1", "f": first, "l": first, "T": row["time"]}]

    def _klines(self, query: dict[str, str]) -> Any:
        step = {"1s": 1, "1m": 60}[query["interval"]]
        first_s = max(int(query["startTime"]) // 1000, self.first_kline_s)
        first_s = -(-first_s // step) * step
        last_s = min(int(query.get("endTime", 1 << 60)) // 1000, clock.now_ns() // clock.NS)
        times = range(first_s, last_s + 1, step)[: int(query["limit"])]
        return [[t * 1000, "2", "4", "1", "3", "5", 0, "0", t % 3, "0", "0", "0"] for t in times]

    def _bookTicker(self, query: dict[str, str]) -> Any:
        sides = {"bidPrice": "99.5", "bidQty": "1", "askPrice": "100.5", "askQty": "2"}
        return {"symbol": query["symbol"], **sides}

    def _depth(self, query: dict[str, str]) -> Any:
        return {"lastUpdateId": 100, "bids": [["99.5", "1"]], "asks": [["100.5", "2"]]}


@asynccontextmanager
async def open_scripted_binance(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[ScriptedBinance, Server]]:
    """Serve a script and make it this process' venue for binance, with `folder` as its state."""
    script = ScriptedBinance()
    async with open_server(script.handle) as server:
        (folder / "brokers.toml").write_text(f'[binance]\nvenue_url = "{server.url}"\n')
        monkeypatch.setenv("PIKER_CONFIG_DIR", str(folder))
        yield script, server
