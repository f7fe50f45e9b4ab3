"""
Binance: spot market data over its public REST and WebSocket interface.

`_wire` says what the payloads mean, `_book` and `_stream` turn a live stream into events,
`_symbols` names markets, `_answers` tells a granted request from a refused one (all pure); `api`
speaks REST, `feed` and `_history` serve the data endpoints. There is no order endpoint.
"""

from __future__ import annotations

from piker.brokers.binance._history import open_history_client
from piker.brokers.binance.api import get_client, get_mkt_info
from piker.brokers.binance.feed import open_symbol_search, statistics, stream_quotes

__all__ = [
    "get_client",
    "get_mkt_info",
    "open_history_client",
    "open_symbol_search",
    "statistics",
    "stream_quotes",
]

_datad_mods = ["api", "feed"]
__enable_modules__ = ["api", "feed"]
_search_conf = {"pause_period": 0.06}

# Maker and taker fee of a new account, shares of the notional (binance.com/en/fee, read 2026-11).
fee_rates = ("0.001", "0.001")
