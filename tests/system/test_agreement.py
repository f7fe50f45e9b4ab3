"""
A client that is not ours, pointed at the same venue, agrees with what piker prints and stores.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import ccxt
import pytest
import trio

from piker.storage.bars import TimeseriesNotFound, open_bar_store
from system.harness import open_pikerd, open_venue, piker_json, until

pytestmark = pytest.mark.tree

MARKET = "btcusdt.spot.binance"
PRICES = ("open", "high", "low", "close")


def other_client(url: str) -> Any:
    """Return ccxt's binance, pointed at the venue by URL alone."""
    client = ccxt.binance({"options": {"fetchMarkets": {"types": ["spot"]}}})
    client.urls["api"]["public"] = f"{url}/api/v3"
    client.session.trust_env = False
    return client


def stored_bars(state: Path) -> list[dict[str, Any]]:
    """Return the 1 m bars that the run has put into its files."""
    roots = [path for path in state.rglob("bars") if path.is_dir()]
    rows: list[dict[str, Any]] = []
    for root in roots:
        store = open_bar_store(root)
        with suppress(TimeseriesNotFound):
            array = store.load(MARKET, 60)
            rows += [{name: row[name].item() for name in row.dtype.names} for row in array]
    return rows


async def test_ccxt_agrees_with_bars_quote_and_stored_bars(tmp_path: Path) -> None:
    state = tmp_path / "state"
    async with (
        open_venue(tmp_path / "venue", "--synthetic", "--seed", "9") as venue,
        open_pikerd(state, venue),
    ):
        client = other_client(venue.url)
        markets = await trio.to_thread.run_sync(client.load_markets)
        assert "BTC/USDT" in markets
        ours = await piker_json(state, "bars", MARKET, "-n", "100")
        theirs = await trio.to_thread.run_sync(client.fetch_ohlcv, "BTC/USDT", "1m", None, 102)
        by_time = {row[0] // 1000: row[1:6] for row in theirs[:-1]}  # the last one still forms
        assert len(ours) == 100
        for bar in ours[1:]:
            *prices, volume = by_time[bar["time"]]
            assert [bar[name] for name in PRICES] == prices
            assert bar["volume"] == pytest.approx(volume, abs=5e-6)

        book = await trio.to_thread.run_sync(client.fetch_order_book, "BTC/USDT", 5)
        (quote,) = await piker_json(state, "quote", MARKET)
        later = await trio.to_thread.run_sync(client.fetch_order_book, "BTC/USDT", 5)
        low = min(book["bids"][0][0], later["bids"][0][0])
        high = max(book["asks"][0][0], later["asks"][0][0])
        assert low * 0.999 <= quote["bid"] < quote["ask"] <= high * 1.001
        trades = await trio.to_thread.run_sync(client.fetch_trades, "BTC/USDT", None, 1000)
        assert quote["last"] in {trade["price"] for trade in trades}

        stored = await until(lambda: stored_bars(state), "bars are stored", seconds=30)
        known = [row for row in stored if row["time"] in by_time]
        assert len(known) > 50
        for row in known:
            *prices, volume = by_time[row["time"]]
            assert [row[name] for name in PRICES] == prices
            assert row["volume"] == pytest.approx(volume, abs=5e-6)
