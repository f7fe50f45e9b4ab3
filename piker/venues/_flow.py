"""
A made-up market that is a pure function of (seed, market, venue time).

Nothing is simulated step by step. A day is laid out first: its two boundary prices from a
mean-reverting walk, 1440 minute returns bridged between them, and how many trades each minute
gets. Then an hour of trades is filled in below that plan when somebody asks for it. So trade ids
are contiguous and known without looking at earlier days, and history never changes.

The form that the house aims at (`piker venue stats` measures it): volatility is a product of
multipliers that live for 12 h down to one minute, shared by all markets, so it clusters, has fat
tails and keeps the markets together; arrivals follow the time of day and the volatility, and come
in bursts; the spread is one to three ticks.

Everything is made in blocks of fixed shape (a day, an hour), because vectorised floating point
may round differently in blocks of another length.
"""

from __future__ import annotations

from decimal import Decimal
from functools import lru_cache
from typing import Any, Final

import msgspec
import numpy as np

from piker.venues._market import (
    HOUR_MS,
    MINUTE_MS,
    TRADE_DTYPE,
    MarketSpec,
    Rows,
    klines_of,
)
from piker.venues._noise import Floats, Ints, key_of, normal, uniform

DAY_MINUTES: Final = 1440
FIRST_DAY: Final = 18262  # 2020-01-01: trade ids count from here
HOURS_KEPT: Final = 8  # about 2 MB each for the busiest market
DAYS_KEPT: Final = 64
BARS_KEPT: Final = 24 * 400  # hours of minute bars, 5 kB each

# (minutes a multiplier lives, its strength): a cascade from half a day to one minute.
CASCADE: Final = (
    (720, 0.20),
    (240, 0.25),
    (90, 0.33),
    (35, 0.42),
    (12, 0.25),
    (4, 0.12),
    (1, 0.15),
)
WALK_DAYS: Final = 240  # shocks that still matter: 0.98^240 < 1 %
WALK_PULL: Final = 0.98
COMMON_SHARE: Final = 0.85  # loading on the factor that all markets share


class FlowSpec(msgspec.Struct, frozen=True):
    """How one made-up market behaves."""

    market: MarketSpec
    price: float  # the level that the walk returns to
    trades_per_s: float  # average over a day
    sigma_day: float = 0.028
    size_median: float = 0.004  # in base units
    size_spread: float = 1.3  # sigma of log size


class _Day(msgspec.Struct, frozen=True):
    log_price: Floats  # (1441,) at minute boundaries
    sigma: Floats  # (1440,) of each minute's return
    first_tids: Ints  # (1441,) id of the first trade of each minute, then of the next day


class Flow:
    """One market's plan and its trades, made on demand and kept in bounded caches."""

    def __init__(self, seed: int, spec: FlowSpec) -> None:
        self.seed = seed
        self.spec = spec
        self.market = spec.market
        self._tick = float(spec.market.price_tick)
        self.hour = lru_cache(HOURS_KEPT)(self._make_hour)
        self.hour_minutes = lru_cache(BARS_KEPT)(self._make_hour_minutes)
        self.day = lru_cache(DAYS_KEPT)(self._make_day)

    def first_tid_of_day(self, day: int) -> int:
        """Return the id of the first trade of `day` (days since the epoch)."""
        mean = int(self.spec.trades_per_s * 86400)
        shift = uniform(self._own("day count"), np.array([day]))[0]
        return (day - FIRST_DAY) * mean + int(0.1 * mean * shift)

    def day_of_tid(self, tid: int) -> int:
        """Return the day in which trade `tid` happened."""
        day = tid // int(self.spec.trades_per_s * 86400) + FIRST_DAY
        return day if self.first_tid_of_day(day) <= tid else day - 1

    def hour_of_tid(self, tid: int) -> int:
        """Return the hour (since the epoch) in which trade `tid` happened."""
        day = self.day_of_tid(tid)
        minute = int(np.searchsorted(self.day(day).first_tids, tid, side="right")) - 1
        return day * 24 + minute // 60

    def _own(self, what: str) -> np.uint64:
        return key_of(self.seed, self.market.symbol, what)

    def _common(self, what: str) -> np.uint64:
        return key_of(self.seed, "all markets", what)

    def _shocks(self, what: str, counter: Ints) -> Floats:
        """Return standard normal shocks that this market shares in part with all others."""
        own = np.sqrt(1 - COMMON_SHARE**2)
        shared = COMMON_SHARE * normal(self._common(what), counter)
        return np.asarray(shared + own * normal(self._own(what), counter))

    def _boundary(self, day: int) -> float:
        """Return the log price at the start of `day`."""
        lags = np.arange(WALK_DAYS)
        shocks = self._shocks("day", day - lags)
        return float(
            np.log(self.spec.price) + self.spec.sigma_day * np.sum(WALK_PULL**lags * shocks)
        )

    def _make_day(self, day: int) -> _Day:
        minutes = day * DAY_MINUTES + np.arange(DAY_MINUTES)
        cascade = np.zeros(DAY_MINUTES)
        for life, strength in CASCADE:
            noise = normal(self._common(f"volatility {life}"), minutes // life)
            cascade += strength * noise - strength**2
        clock = _time_of_day()
        sigma = self.spec.sigma_day / np.sqrt(DAY_MINUTES) * np.exp(cascade) * np.sqrt(clock)
        returns = sigma * self._shocks("minute", minutes)
        start, stop = self._boundary(day), self._boundary(day + 1)
        # The rest that leads to the day's end is spread by variance: quiet minutes stay quiet.
        returns += (stop - start - returns.sum()) * sigma**2 / np.sum(sigma**2)
        ragged = np.exp(0.25 * normal(self._own("activity"), minutes))
        busy = clock * np.exp(0.25 * cascade) * ragged
        first, last = self.first_tid_of_day(day), self.first_tid_of_day(day + 1)
        share = np.r_[0.0, np.cumsum(busy) / np.sum(busy)]
        tids = first + np.floor((last - first) * share).astype(np.int64)
        tids[-1] = last
        return _Day(start + np.r_[0.0, np.cumsum(returns)], sigma, tids)

    def _make_hour(self, hour: int) -> Rows:
        """Return all trades of `hour` (hours since the epoch), ascending by id and time."""
        day, first_minute = hour // 24, hour % 24 * 60
        plan = self.day(day)
        edges = plan.first_tids[first_minute : first_minute + 61]
        starts = edges[:-1] - edges[0]
        per_minute = np.diff(edges)
        tids = np.arange(edges[0], edges[-1])
        minute = np.repeat(np.arange(60), per_minute)
        leads = self._leads(tids, starts)
        gaps = np.where(leads == np.arange(len(tids)), self._gaps("gap", tids), 0.0)
        rest = self._gaps("rest", hour * 60 + np.arange(60))
        share, wander = self._bridge(tids, gaps, rest, starts, per_minute, minute)
        log_open = plan.log_price[first_minute : first_minute + 60]
        step = plan.log_price[first_minute + 1 : first_minute + 61] - log_open
        sigma = plan.sigma[first_minute : first_minute + 60]
        middle = log_open[minute] + step[minute] * share + 0.8 * sigma[minute] * wander
        out: Any = np.empty(len(tids), TRADE_DTYPE)
        out["tid"] = tids
        within = np.minimum((share * MINUTE_MS).astype(np.int64), MINUTE_MS - 1)
        out["time_ms"] = hour * HOUR_MS + minute * MINUTE_MS + within
        self._price(out, np.exp(middle) / self._tick, leads)
        return np.asarray(out)

    def _leads(self, tids: Ints, starts: Ints) -> Ints:
        """Return for each trade the index of the first of its burst (same time, side, price)."""
        index = np.arange(len(tids))
        is_lead = uniform(self._own("burst"), tids) > 0.35
        is_lead[starts[starts < len(tids)]] = True
        return np.maximum.accumulate(np.where(is_lead, index, 0))

    def _gaps(self, what: str, counter: Ints) -> Floats:
        # Log-normal waits: most trades come close together, a few pauses are long.
        return np.asarray(np.exp(1.2 * normal(self._own(what), counter)))

    def _bridge(
        self, tids: Ints, gaps: Floats, rest: Floats, starts: Ints, per_minute: Ints, minute: Ints
    ) -> tuple[Floats, Floats]:
        """Return how far into its minute each trade is (0..1), and a bridge from 0 to 0 over it."""
        steps = normal(self._own("step"), tids) * np.sqrt(gaps)
        total = _segment_sums(gaps, starts, per_minute) + rest
        passed = np.cumsum(gaps)
        before = np.r_[0.0, passed][starts]
        share = (passed - before[minute]) / total[minute]
        walk = np.cumsum(steps)
        walk_before = np.r_[0.0, walk][starts]
        walk_end = _segment_sums(steps, starts, per_minute)
        wander = (walk - walk_before[minute] - share * walk_end[minute]) / np.sqrt(total[minute])
        return share, wander

    def _price(self, out: Any, middle: Floats, leads: Ints) -> None:
        """Fill in prices, sizes, sides and the quote around each trade."""
        tids = out["tid"]
        draw = uniform(self._own("spread"), out["time_ms"] // 500)
        spread = 1 + (draw > 0.55) + (draw > 0.82) + 2 * (draw > 0.95)
        bid = np.floor(middle).astype(np.int64)
        out["bid"] = np.maximum(bid, 1)
        out["ask"] = out["bid"] + spread
        out["taker_sell"] = uniform(self._own("side"), tids[leads]) < 0.5
        out["price"] = np.where(out["taker_sell"] == 1, out["bid"], out["ask"])
        median = self.spec.size_median / float(self.market.size_tick)
        sizes = median * np.exp(self.spec.size_spread * normal(self._own("size"), tids))
        out["size"] = np.maximum(1, sizes.astype(np.int64))

    def _make_hour_minutes(self, hour: int) -> Rows:
        rows = klines_of(self.hour(hour), MINUTE_MS)
        assert len(rows) == 60, "every minute has a trade"
        return rows

    def trades_between(self, start_ms: int, stop_ms: int) -> Rows:
        """Return the trades with start <= time < stop, by id."""
        parts = []
        for hour in range(start_ms // HOUR_MS, -(-stop_ms // HOUR_MS)):
            rows = self.hour(hour)
            lo, hi = np.searchsorted(rows["time_ms"], (start_ms, stop_ms))
            parts.append(rows[lo:hi])
        return np.concatenate(parts) if parts else np.empty(0, TRADE_DTYPE)

    def close_before(self, time_ms: int) -> int:
        """Return the price of the newest trade before `time_ms`."""
        hour = time_ms // HOUR_MS
        rows = self.hour(hour)
        at = int(np.searchsorted(rows["time_ms"], time_ms))
        return int(rows["price"][at - 1] if at else self.hour(hour - 1)["price"][-1])


def _segment_sums(values: Floats, starts: Ints, lengths: Ints) -> Floats:
    assert (lengths > 0).all(), "a minute without trades"
    return np.asarray(np.add.reduceat(values, starts))


def _time_of_day() -> Floats:
    """Return how busy each minute of a UTC day is, with average 1: Europe, then America."""
    hours = np.arange(DAY_MINUTES) / 60
    wave = 0.5 * np.cos(2 * np.pi * (hours - 14.5) / 24) + 0.15 * np.cos(
        4 * np.pi * (hours - 8.5) / 24
    )
    level = np.exp(wave)
    return np.asarray(level / level.mean())


DEFAULT_MARKETS: Final = (
    FlowSpec(MarketSpec("BTCUSDT", "BTC", "USDT"), price=61_500.0, trades_per_s=10.0),
    FlowSpec(
        MarketSpec("ETHUSDT", "ETH", "USDT", size_tick=Decimal("0.0001")),
        price=2_650.0,
        trades_per_s=5.0,
        sigma_day=0.034,
        size_median=0.05,
    ),
    FlowSpec(
        MarketSpec("SOLUSDT", "SOL", "USDT", size_tick=Decimal("0.001")),
        price=152.0,
        trades_per_s=3.0,
        sigma_day=0.042,
        size_median=0.9,
    ),
)
