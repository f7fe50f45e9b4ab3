"""The measured form of the made-up markets: what `piker venue stats` prints and tests hold."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise
from typing import Any, Final

import msgspec
import numpy as np

from piker import clock
from piker.clock import NS
from piker.venues._engine import BUY, SELL
from piker.venues._flow import DEFAULT_MARKETS, Flow
from piker.venues._house import HouseBook
from piker.venues._market import DAY_MS, HOUR_MS, Rows
from piker.venues._noise import Floats

DAY_HOURS: Final = 24
LAG: Final = 10
PLAYED_MS: Final = 120_000  # market time that the book is played for


class Measure(msgspec.Struct, frozen=True):
    """One figure beside its target."""

    market: str
    name: str
    value: float
    target: str
    is_met: bool
    unit: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return msgspec.structs.asdict(self)


def measure(seed: int, day: str) -> list[Measure]:
    """
    Return the figures of all markets over the UTC day `day` (ISO date).

    Raises:
      ValueError: `day` is no date.
    """
    day_number = int(datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp()) * 1000 // DAY_MS
    flows = [Flow(seed, spec) for spec in DEFAULT_MARKETS]
    rows, returns = [], []
    for flow in flows:
        minutes = day_minutes(flow, day_number)
        returns.append(log_returns(minutes))
        rows += _form(flow, minutes, returns[-1])
        rows += _book(flow, day_number)
    together = np.corrcoef(np.stack(returns))
    for a in range(len(flows)):
        for b in range(a):
            pair = f"{flows[b].market.symbol}/{flows[a].market.symbol}"
            value = float(np.asarray(together)[a, b])
            rows.append(Measure(pair, "correlation of 1m returns", value, ">= 0.5", value >= 0.5))
    return rows


def day_minutes(flow: Flow, day: int) -> Rows:
    """Return the 1440 minute bars of a day."""
    hours = range(day * DAY_HOURS, (day + 1) * DAY_HOURS)
    return np.concatenate([flow.hour_minutes(hour) for hour in hours])


def log_returns(minutes: Rows) -> Floats:
    """Return the log returns of the closes."""
    return np.diff(np.log(minutes["close"].astype(np.float64)))


def kurtosis(values: Floats) -> float:
    """Return the fourth standardised moment; 3 for a normal distribution."""
    away = values - values.mean()
    return float(np.mean(away**4) / np.mean(away**2) ** 2)


def autocorrelation(values: Floats, lag: int) -> float:
    """Return the correlation of `values` with themselves `lag` places on."""
    away = values - values.mean()
    return float(np.mean(away[lag:] * away[:-lag]) / np.mean(away**2))


def _form(flow: Flow, minutes: Rows, returns: Floats) -> list[Measure]:
    symbol = flow.market.symbol
    tails, cluster = kurtosis(returns), autocorrelation(np.abs(returns), LAG)
    per_hour = minutes["count"].reshape(DAY_HOURS, 60).sum(axis=1)
    rate = float(minutes["count"].sum()) / 86_400
    busy = float(per_hour.max() / per_hour.min())
    is_main = flow.spec is DEFAULT_MARKETS[0]
    return [
        Measure(symbol, "kurtosis of 1m log returns", tails, "> 5", tails > 5),
        Measure(symbol, f"autocorrelation of |r|, lag {LAG}", cluster, "> 0.1", cluster > 0.1),
        Measure(symbol, "busiest / quietest hour", busy, ">= 2", busy >= 2),
        Measure(
            symbol, "trades", rate, ">= 5" if is_main else "any", not is_main or rate >= 5, "/s"
        ),
    ]


def _book(flow: Flow, day: int) -> list[Measure]:
    """Play the book through the engine for a while around noon, and time it."""
    symbol, start_ms = flow.market.symbol, day * DAY_MS + 12 * HOUR_MS
    book = HouseBook(flow)
    book.start(start_ms)
    spreads, levels = [], []
    quotes, quoted_at, pause = None, 0, 0
    trades = flow.trades_between(start_ms + 1, start_ms + PLAYED_MS + 1)
    edges = np.searchsorted(trades["time_ms"], np.arange(start_ms, start_ms + PLAYED_MS, 100))
    began_ns = clock.monotonic_ns()
    for at, (lo, hi) in enumerate(pairwise(edges.tolist())):
        for row in trades[lo:hi].tolist():
            book.trade(row)
        book.requote(start_ms + 100 * (at + 1))
        bids, asks = book.engine.levels(BUY, 1000), book.engine.levels(SELL, 1000)
        spreads.append(asks[0][0] - bids[0][0])
        levels.append(min(len(bids), len(asks)))
        if quotes != (bids[0], asks[0]):
            quotes, quoted_at = (bids[0], asks[0]), at
        pause = max(pause, at - quoted_at)
    took_s = (clock.monotonic_ns() - began_ns) / NS
    spread, least = float(np.median(spreads)), min(levels)
    speed = PLAYED_MS / 1000 / took_s
    return [
        Measure(symbol, "median spread", spread, "1 to 3", 1 <= spread <= 3, "ticks"),
        Measure(symbol, "levels a side, at least", least, ">= 20", least >= 20),
        Measure(symbol, "best quotes stand still", pause * 0.1, "<= 0.5", pause <= 5, "s at most"),
        Measure(symbol, "speed of the book, 100 ms steps", speed, ">= 200", speed >= 200, "x"),
    ]
