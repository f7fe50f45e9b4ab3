"""Markets, ticks and held orders for the tests of triggers, brackets and limits."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np

from piker.clearing._messages import Order
from piker.model.market import MktPair
from piker.model.ticks import GAP, QUOTE, STATE, TICK_DTYPE, TRADE

FQME = "btcusdt.spot.binance"
MKT = MktPair(
    dst="btc", src="usdt", price_tick=Decimal("0.1"), size_tick=Decimal("0.001"),
    bs_mktid="BTCUSDT", broker="binance", venue="spot",
)  # fmt: skip


def dark(oid: str = "d", action: str = "buy", price: Any = 100, **terms: Any) -> Order:
    fields: dict[str, Any] = {
        "action": action, "exec_mode": "dark", "oid": oid, "symbol": FQME, "account": "paper",
        "price": Decimal(price), "size": Decimal(1),
    }  # fmt: skip
    return Order(**{**fields, **terms})


def ticks(*records: Any) -> np.ndarray:
    """Return a batch: a number is a trade's price, a pair bid and ask, 'gap' and 'state' those."""
    batch: np.ndarray = np.zeros(len(records), TICK_DTYPE)
    for row, record in zip(batch, records, strict=True):
        row["time_venue_ns"] = 1_000 + len(records)
        if record in ("gap", "state"):
            row["type"] = GAP if record == "gap" else STATE
        elif isinstance(record, tuple):
            row["type"], row["price"], row["price2"] = QUOTE, *record
        else:
            row["type"], row["price"] = TRADE, record
    return batch
