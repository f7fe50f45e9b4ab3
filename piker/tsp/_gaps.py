"""
Holes, duplicates and order in rows of bars: pure functions on arrays with a `time` field.

Times are bar opens in epoch seconds; ranges are half open, `[start, stop)`.
"""

from __future__ import annotations

import numpy as np

from piker.model.bars import PARTIAL


def find_gaps(times: np.ndarray, period_s: int) -> list[tuple[int, int]]:
    """Return the ranges between the first and the last of ascending `times` that have no row."""
    steps = np.diff(times)
    before = np.flatnonzero(steps > period_s)
    return [(int(times[i]) + period_s, int(times[i + 1])) for i in before]


def dedupe(rows: np.ndarray) -> tuple[np.ndarray, int]:
    """
    Return `rows` ascending by time with one row per time, and how many were dropped.

    Of equal times the one given last stays, unless it is PARTIAL and another is not.
    """
    times = rows["time"]
    if len(rows) < 2 or bool(np.all(times[1:] > times[:-1])):
        return rows, 0
    is_whole = (rows["flags"] & PARTIAL) == 0
    order = np.lexsort((np.arange(len(rows)), is_whole, times))
    rows = rows[order]
    is_last = np.append(rows["time"][1:] != rows["time"][:-1], True)
    kept: np.ndarray = rows[is_last]
    return kept, len(rows) - len(kept)


def detect_time_gaps(
    rows: np.ndarray, expect_period: int = 60, gap_thresh: int = 1
) -> list[tuple[int, int]]:
    """Return `find_gaps` of `rows`, without the holes of fewer than `gap_thresh` rows."""
    gaps = find_gaps(rows["time"], expect_period)
    return [(start, stop) for start, stop in gaps if stop - start >= gap_thresh * expect_period]


def slice_from_time(
    rows: np.ndarray, start_t: float, stop_t: float, step: float | None = None
) -> slice:
    """
    Return the slice of ascending `rows` whose times are in `[start_t, stop_t)`.

    With `step`, the usual distance of rows, their places are guessed first and searched only
    where the guess is wrong. Times out of range give an end of the rows, never an error.
    """
    times = rows["time"]
    return slice(_place(times, start_t, step), _place(times, stop_t, step))


def _place(times: np.ndarray, at: float, step: float | None) -> int:
    if step and len(times):
        guess = int(np.clip(-(-(at - times[0]) // step), 0, len(times)))
        fits_left = guess == 0 or times[guess - 1] < at
        fits_right = guess == len(times) or times[guess] >= at
        if fits_left and fits_right:
            return guess
    return int(np.searchsorted(times, at))
