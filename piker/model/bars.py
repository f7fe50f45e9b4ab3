"""
The bar record: OHLCV over one period, stamped at its open.

One row is ten 8-byte fields, so that every field of a row in shared memory is read whole.
"""

from __future__ import annotations

from typing import Final

import numpy as np

BAR_DTYPE: Final = np.dtype(
    [
        ("index", "i8"),  # monotonic position in its array, never reused
        ("time", "i8"),  # open of the period, epoch seconds UTC
        ("open", "f8"),
        ("high", "f8"),
        ("low", "f8"),
        ("close", "f8"),
        ("volume", "f8"),  # in units of dst
        ("count", "i8"),  # trades
        ("flags", "i8"),  # FILLED | PARTIAL | REPAIRED
        ("rev", "i8"),  # odd while the row is written; +2 each time it changes
    ]
)

FILLED: Final = 1  # nothing traded: a flat row at the previous close
PARTIAL: Final = 2  # not seen from its first trade, not yet rebuilt
REPAIRED: Final = 4  # rebuilt from the venue's trades or history

PERIODS_S: Final = (1, 60)  # the periods that are kept as arrays; the rest is aggregated from them
PERIOD_NAMES: Final = {
    1: "1s", 5: "5s", 15: "15s", 60: "1m", 300: "5m", 900: "15m", 1800: "30m",
    3600: "1h", 14400: "4h", 86400: "1d", 604800: "1w",
}  # fmt: skip

PRICE_FIELDS: Final = ("open", "high", "low", "close")
VALUE_FIELDS: Final = ("time", "open", "high", "low", "close", "volume", "count")

def_iohlcv_fields: Final = [(name, BAR_DTYPE[name].str) for name in BAR_DTYPE.names or ()]
def_ohlcv_fields: Final = def_iohlcv_fields[1:]


def empty_bars(n: int = 0) -> np.ndarray:
    """Return `n` zeroed rows of `BAR_DTYPE`."""
    return np.zeros(n, BAR_DTYPE)
