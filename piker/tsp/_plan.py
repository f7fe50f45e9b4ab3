"""
What to fetch and where it goes: the arithmetic of history, without I/O.

All ranges are half open epoch seconds of bar opens, `[start, stop)`, multiples of the period.
A continuous market has exactly one row per period, so a row that is not known yet is a
*placeholder*: flat at the last known close, flagged FILLED and PARTIAL. Repair replaces it.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from piker.model.bars import BAR_DTYPE, FILLED, PARTIAL, PRICE_FIELDS

Range = tuple[int, int]


def closed_rows(rows: np.ndarray, period_s: int, now_s: float) -> np.ndarray:
    """Return the rows whose period is over at `now_s`: the venue's last row is still forming."""
    return rows[rows["time"] + period_s <= now_s]


def plan_pages(start_s: int, stop_s: int, period_s: int, rows_per_page: int) -> Iterator[Range]:
    """
    Yield the pages of `[start_s, stop_s)`, newest first, none longer than `rows_per_page`.

    A first row that is not on the period's boundary is rounded up to it.
    """
    start_s = -(-start_s // period_s) * period_s
    step = period_s * rows_per_page
    while stop_s > start_s:
        page_start = max(start_s, stop_s - step)
        yield page_start, stop_s
        stop_s = page_start


def placeholders(close: float, start_s: int, stop_s: int, period_s: int) -> np.ndarray:
    """Return flat rows at `close` for `[start_s, stop_s)`, flagged as not known yet."""
    rows = np.zeros(max(0, -(-(stop_s - start_s) // period_s)), BAR_DTYPE)
    rows["time"] = start_s + period_s * np.arange(len(rows))
    for name in PRICE_FIELDS:
        rows[name] = close
    rows["flags"] = FILLED | PARTIAL
    return rows


def sorted_unique(rows: np.ndarray) -> np.ndarray:
    """Return `rows` ascending by time, one per time; of equal times the last given stays."""
    if len(rows) < 2 or bool(np.all(np.diff(rows["time"]) > 0)):
        return rows
    times, last_first = np.unique(rows["time"][::-1], return_index=True)
    return rows[len(rows) - 1 - last_first][: len(times)]


def densify(rows: np.ndarray, period_s: int) -> np.ndarray:
    """
    Return `rows` with one row per period: sorted, unique, holes filled with placeholders.

    Rows that do not stand on a period's boundary are left out.
    """
    rows = sorted_unique(rows[rows["time"] % period_s == 0])
    if not len(rows):
        return rows
    slots = (rows["time"] - rows["time"][0]) // period_s
    count = int(slots[-1]) + 1
    if count == len(rows):
        return rows
    source = np.searchsorted(slots, np.arange(count), side="right") - 1
    dense = rows[source]
    hole = slots[source] != np.arange(count)
    for name in PRICE_FIELDS:
        dense[name][hole] = dense["close"][hole]
    for name in ("volume", "count"):
        dense[name][hole] = 0
    dense["flags"][hole] = FILLED | PARTIAL
    dense["time"] = rows["time"][0] + period_s * np.arange(count)
    return dense


def time_ranges(times: np.ndarray, period_s: int, rows_max: int = 1000) -> list[Range]:
    """
    Return ascending `times` of rows as ranges, newest first, none longer than `rows_max` rows.

    Times less than ten rows apart are joined, since the rows between cost less than another
    request.
    """
    if not len(times):
        return []
    breaks = np.flatnonzero(np.diff(times) > 10 * period_s)
    starts = times[np.concatenate(([0], breaks + 1))]
    stops = times[np.concatenate((breaks, [len(times) - 1]))] + period_s
    pages = [
        page
        for start, stop in zip(starts.tolist(), stops.tolist(), strict=True)
        for page in plan_pages(start, stop, period_s, rows_max)
    ]
    return sorted(pages, reverse=True)
