"""A client that is not ours, ccxt, against the local venue: markets, bars, book and trades."""

from __future__ import annotations

from typing import Any

import ccxt
import httpx
import pytest
import trio

from piker.venues.binance import Venue, open_venue

BASE_NS = 1_795_250_000_000_000_000


def ccxt_client(url: str) -> Any:
    """Return ccxt's binance, pointed at the venue by URL alone."""
    client = ccxt.binance({"options": {"fetchMarkets": {"types": ["spot"]}}})
    client.urls["api"]["public"] = f"{url}/api/v3"
    client.session.trust_env = False
    return client


async def own(venue: Venue, path: str, **params: Any) -> Any:
    """Return what the venue itself answers."""
    async with httpx.AsyncClient(trust_env=False) as client:
        return (await client.get(f"{venue.url}/api/v3/{path}", params=params)).json()


async def test_ccxt_loads_markets_and_agrees_with_the_venue() -> None:
    async with open_venue(seed=7, base_ns=BASE_NS, start_in_s=600) as venue:
        client = ccxt_client(venue.url)
        markets = await trio.to_thread.run_sync(client.load_markets)
        assert sorted(markets) == ["BTC/USDT", "ETH/USDT", "SOL/USDT"]
        assert markets["BTC/USDT"]["precision"] == {
            "amount": 1e-05,
            "price": 0.01,
            "base": 1e-08,
            "quote": 1e-08,
        }
        bars = await trio.to_thread.run_sync(client.fetch_ohlcv, "BTC/USDT", "1m", None, 100)
        rows = await own(venue, "klines", symbol="BTCUSDT", interval="1m", limit=100)
        assert bars == [[row[0], *map(float, row[1:6])] for row in rows]
        book = await trio.to_thread.run_sync(client.fetch_order_book, "BTC/USDT", 20)
        depth = await own(venue, "depth", symbol="BTCUSDT", limit=20)
        assert book["bids"] == [[float(p), float(s)] for p, s in depth["bids"]]
        assert book["nonce"] == depth["lastUpdateId"]
        assert len(book["asks"]) == 20
        trades = await trio.to_thread.run_sync(client.fetch_trades, "BTC/USDT", None, 50)
        listed = await own(venue, "historicalTrades", symbol="BTCUSDT", limit=50)
        assert [(t["id"], t["price"], t["amount"], t["timestamp"], t["side"]) for t in trades] == [
            (
                str(t["id"]),
                float(t["price"]),
                float(t["qty"]),
                t["time"],
                "sell" if t["isBuyerMaker"] else "buy",
            )
            for t in listed
        ]
        ticker = await trio.to_thread.run_sync(client.fetch_ticker, "ETH/USDT")
        assert ticker["bid"] < ticker["ask"]
        client.session.close()


async def test_ccxt_names_a_bad_symbol_as_binance_does() -> None:
    async with open_venue(seed=7) as venue:
        client = ccxt_client(venue.url)
        with pytest.raises(ccxt.BadSymbol, match="Invalid symbol"):
            await trio.to_thread.run_sync(client.public_get_depth, {"symbol": "NOPE"})
        client.session.close()
