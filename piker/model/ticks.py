"""
The tick record: what one market's ring of events is made of.

A ring holds trades, quotes (best bid and ask) and bar closes of one market in one sequence.
One row is ten 8-byte fields (80 bytes). Names of tick types as consumers see them in quote
dicts (`trade`, `bid`, `ask` ...) are in `TICK_NAMES`.
"""

from __future__ import annotations

from typing import Final

import numpy as np

TICK_DTYPE: Final = np.dtype(
    [
        ("seq", "i8"),  # position in the ring since its generation began, from 0
        ("type", "i8"),  # TRADE | QUOTE | BAR | GAP | STATE
        ("flags", "i8"),  # TAKER_SELL ...; BAR: the period in seconds
        ("price", "f8"),  # TRADE price; QUOTE bid; BAR close
        ("size", "f8"),  # TRADE size; QUOTE bid size; BAR volume
        ("price2", "f8"),  # QUOTE ask; BAR open; else nan
        ("size2", "f8"),  # QUOTE ask size; BAR number of trades; else nan
        ("time_venue_ns", "i8"),  # when it happened, by the venue (BAR: the bar's open); 0 unknown
        ("time_recv_ns", "i8"),  # when it reached us; may be earlier than time_venue_ns
        ("tid", "i8"),  # venue's trade id; BAR: index of the row; GAP: records lost; else -1
    ]
)

TRADE: Final = 1
QUOTE: Final = 2
BAR: Final = 3
GAP: Final = 4  # made by a reader that was lapped: `tid` records are missing before it
STATE: Final = 5  # the feed's state changed; `flags` holds one of the FEED_* below

TAKER_SELL: Final = 1  # TRADE: the aggressor sold (Binance: m == true)
RECOVERED: Final = 2  # TRADE: learned from the venue's history, not from the live stream

FEED_CONNECTING: Final = 0
FEED_LIVE: Final = 1
FEED_STALE: Final = 2
FEED_DOWN: Final = 3
FEED_NAMES: Final = {0: "connecting", 1: "live", 2: "stale", 3: "down"}

TICK_NAMES: Final = {TRADE: "trade", QUOTE: "quote", BAR: "bar", GAP: "gap", STATE: "state"}
