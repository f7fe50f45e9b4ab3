"""Which bars a kline request means: intervals, and Binance's reading of start, end and limit."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

import numpy as np

from piker.venues._market import DAY_MS, HOUR_MS, MINUTE_MS, Rows, Source, merge_klines

WEEK_OFFSET_MS: Final = 4 * DAY_MS  # weeks open on Monday; 1970-01-05 was the first
MONTH_MS: Final = 31 * DAY_MS

PERIODS_MS: Final = {
    "1s": 1000,
    **{f"{n}m": n * MINUTE_MS for n in (1, 3, 5, 15, 30)},
    **{f"{n}h": n * HOUR_MS for n in (1, 2, 4, 6, 8, 12)},
    "1d": DAY_MS,
    "3d": 3 * DAY_MS,
    "1w": 7 * DAY_MS,
    "1M": MONTH_MS,
}


async def klines_asked(
    source: Source,
    interval: str,
    limit: int,
    upto_ns: int,
    start_ms: int | None = None,
    end_ms: int | None = None,
) -> Rows:
    """
    Return at most `limit` bars, oldest first.

    With a start: the first ones that open at or after it (and at or before the end). Without:
    the newest ones (that open at or before the end). Long periods begin with the part of a bar
    in which the venue's history begins, as at Binance.

    Source: rest-api.md, "Kline/Candlestick data" (read 2026-11).
    """
    period_ms = PERIODS_MS[interval]
    # Venue stamps on a tape run a little ahead of the clock that drives it.
    ahead_ms = upto_ns // 1_000_000 + HOUR_MS
    last_ms = ahead_ms if end_ms is None else min(end_ms, ahead_ms)
    if start_ms is None:
        newest = min(last_ms, upto_ns // 1_000_000)
        first = (newest // period_ms - limit) * period_ms
        rows = await _klines(source, interval, first, last_ms + 1, upto_ns)
        return rows[-limit:]
    start_ms = max(start_ms, source.start_ms // period_ms * period_ms)
    start_ms = -(-start_ms // period_ms) * period_ms if period_ms <= DAY_MS else start_ms
    stop_ms = min(last_ms + 1, start_ms + (limit + 1) * period_ms)
    rows = await _klines(source, interval, start_ms, stop_ms, upto_ns)
    return rows[rows["time_ms"] >= start_ms][:limit]


async def _klines(source: Source, interval: str, start_ms: int, stop_ms: int, upto_ns: int) -> Rows:
    period_ms = PERIODS_MS[interval]
    if period_ms <= DAY_MS:
        return await source.klines(period_ms, start_ms, stop_ms, upto_ns)
    days = await source.klines(DAY_MS, start_ms - MONTH_MS, stop_ms + MONTH_MS, upto_ns)
    if interval == "1M":
        rows = _merge_months(days)
    else:
        rows = merge_klines(days, period_ms, WEEK_OFFSET_MS if interval == "1w" else 0)
    return rows[(rows["time_ms"] >= start_ms) & (rows["time_ms"] < stop_ms)]


def _merge_months(days: Rows) -> Rows:
    firsts = [
        int(datetime.fromtimestamp(ms / 1000, UTC).replace(day=1).timestamp() * 1000)
        for ms in days["time_ms"].tolist()
    ]
    groups = [days[np.array(firsts) == first] for first in sorted(set(firsts))]
    rows = [merge_klines(group, 1 << 50) for group in groups]
    for row, first in zip(rows, sorted(set(firsts)), strict=True):
        row["time_ms"] = first
    return np.concatenate(rows) if rows else days
