"""
Quote dicts out of tick-ring records: what `open_feed` streams deliver.

Pure: record batches in, dicts out. One `QuoteFrame` per consumer keeps the newest scalars
(`last`, `bid`, `ask` ...), so each message carries last values and its own ticks and shares
nothing with another consumer's.

A message is `{'symbol', 'fqme', 'last', 'bid', 'bsize', 'ask', 'asize', 'broker_ts',
'brokerd_ts', 'ticks': [...]}`; times are epoch seconds. After records were lost it also has
`resumed: True` and `lost: n` (-1: unknown, the writer was restarted). Throttled messages also
have `tbt`, the ticks grouped by type.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from piker.data.ticktools import Tick, frame_ticks
from piker.model.ticks import BAR, FEED_NAMES, GAP, QUOTE, STATE, TAKER_SELL, TRADE

NS = 1e9
TICKS_MAX = 4096  # ticks of one message; older ones of a long backlog are counted as lost


class QuoteFrame:
    """The newest scalars of one market as one consumer has seen them."""

    def __init__(self, symbol: str, fqme: str, first: dict[str, Any] | None = None) -> None:
        """Begin from `first`, a quote whose scalars are taken over."""
        self.symbol = symbol
        self.fqme = fqme
        self.scalars: dict[str, Any] = {
            "last": math.nan, "bid": math.nan, "bsize": math.nan, "ask": math.nan,
            "asize": math.nan, "broker_ts": 0.0, "brokerd_ts": 0.0,
        }  # fmt: skip
        for name in self.scalars.keys() & (first or {}).keys():
            self.scalars[name] = (first or {})[name]

    def build(
        self, records: np.ndarray, *, grouped: bool = False, resumed: bool = False
    ) -> dict[str, Any] | None:
        """
        Return the message that `records` (TICK_DTYPE, in order) make, or None for an empty one.

        A GAP record turns into `resumed` and `lost`; state changes into `state`. Only the
        newest `TICKS_MAX` records become ticks, the number of the others is in `lost`. With
        `grouped` the message has `tbt`.
        """
        lost = 0
        skipped = max(0, len(records) - TICKS_MAX)
        if skipped:
            lost += skipped
            self._take_scalars(records[:skipped])
        ticks: list[Tick] = []
        extra: dict[str, Any] = {}
        gapped = resumed or skipped > 0
        for kind, flags, price, size, price2, size2, venue_ns, recv_ns, tid in (
            records[skipped:][list(_FIELDS)].tolist()
        ):  # fmt: skip
            if kind == TRADE:
                ticks.append(self._trade(flags, price, size, venue_ns, recv_ns, tid))
            elif kind == QUOTE:
                ticks += self._quote(price, size, price2, size2, venue_ns, recv_ns)
            elif kind == GAP:
                gapped, lost = True, -1 if tid < 0 or lost < 0 else lost + tid
            elif kind == STATE:
                extra["state"] = FEED_NAMES.get(flags, "down")
            elif kind == BAR:
                extra.setdefault("bars", []).append(
                    {"period_s": flags, "time": venue_ns // 1_000_000_000, "close": price}
                )
        if not ticks and not extra and not gapped:
            return None
        quote = {"symbol": self.symbol, "fqme": self.fqme, **self.scalars, "ticks": ticks, **extra}
        if gapped:
            quote |= {"resumed": True, "lost": lost}
        if grouped:
            quote["tbt"] = frame_ticks(quote)
        return quote

    def _take_scalars(self, records: np.ndarray) -> None:
        """Take the newest values of records that are too many to be delivered as ticks."""
        for kind, take in ((TRADE, self._trade_row), (QUOTE, self._quote_row)):
            rows = records[records["type"] == kind]
            if len(rows):
                take(rows[-1])

    def _trade_row(self, row: np.void) -> None:
        self._trade(0, float(row["price"]), 0.0, int(row["time_venue_ns"]),
                    int(row["time_recv_ns"]), -1)  # fmt: skip

    def _quote_row(self, row: np.void) -> None:
        bid, bsize, ask, asize = (float(row[n]) for n in ("price", "size", "price2", "size2"))
        self._quote(bid, bsize, ask, asize, int(row["time_venue_ns"]), int(row["time_recv_ns"]))

    def _trade(
        self, flags: int, price: float, size: float, venue_ns: int, recv_ns: int, tid: int
    ) -> Tick:
        self.scalars["last"] = price
        self._stamp(venue_ns, recv_ns)
        return {
            "type": "trade", "price": price, "size": size, "time": venue_ns / NS, "tid": tid,
            "side": "sell" if flags & TAKER_SELL else "buy",
        }  # fmt: skip

    def _quote(
        self, bid: float, bsize: float, ask: float, asize: float, venue_ns: int, recv_ns: int
    ) -> list[Tick]:
        self.scalars |= {"bid": bid, "bsize": bsize, "ask": ask, "asize": asize}
        self._stamp(venue_ns, recv_ns)
        time_s = (venue_ns or recv_ns) / NS
        return [
            {"type": "bid", "price": bid, "size": bsize, "time": time_s},
            {"type": "bsize", "price": bid, "size": bsize, "time": time_s},
            {"type": "ask", "price": ask, "size": asize, "time": time_s},
            {"type": "asize", "price": ask, "size": asize, "time": time_s},
        ]

    def _stamp(self, venue_ns: int, recv_ns: int) -> None:
        if venue_ns:
            self.scalars["broker_ts"] = venue_ns / NS
        self.scalars["brokerd_ts"] = recv_ns / NS


_FIELDS = (
    "type", "flags", "price", "size", "price2", "size2", "time_venue_ns", "time_recv_ns", "tid",
)  # fmt: skip
