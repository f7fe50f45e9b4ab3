"""
Trading time: which stretches of a market's calendar are closed, and slots without them.

Pure. `SlotMap` counts slots in open time only, so closed hours take no room on the x axis while
missing data inside a session does. Days and weeks are the calendar's (UTC) here.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from datetime import date, datetime, timedelta
from datetime import time as clock_time
from itertools import accumulate
from zoneinfo import ZoneInfo

import numpy as np

from piker.ui.ladder import slot_of, time_of

DAY = 86400
_HOLE_PERIODS = 60  # a hole longer than this may be a closed market
_REPEATS_MIN = 3  # and is one when it comes back that often


class SlotMap:
    """Slots of one market; `breaks` are its closed stretches, half-open and ascending."""

    def __init__(self, breaks: Iterable[tuple[float, float]] = ()) -> None:
        self.breaks = [(float(a), float(b)) for a, b in breaks]
        self._starts = [a for a, _ in self.breaks]
        self._closed = [0.0, *accumulate(b - a for a, b in self.breaks)]
        self._opens = [a - before for a, before in zip(self._starts, self._closed, strict=False)]

    def open_seconds(self, time: float) -> float:
        """Return the open time since the epoch at `time`; it stands still while closed."""
        n = bisect_right(self._starts, time)
        if not n:
            return time
        start, stop = self.breaks[n - 1]
        return time - self._closed[n] if time >= stop else start - self._closed[n - 1]

    def time_at(self, open_seconds: float) -> float:
        """Return when `open_seconds` have passed; never inside a closed stretch."""
        return open_seconds + self._closed[bisect_right(self._opens, open_seconds)]

    def is_open(self, time: float) -> bool:
        """Whether the market trades at `time`."""
        n = bisect_right(self._starts, time)
        return not n or time >= self.breaks[n - 1][1]

    def next_open(self, time: float) -> float:
        """Return `time`, or when the closed stretch that holds it ends."""
        n = bisect_right(self._starts, time)
        return max(time, self.breaks[n - 1][1]) if n else time

    def slot(self, time: float, period: int) -> int:
        """Return the slot of `period` that holds `time`."""
        if period >= DAY or not self.breaks:
            return slot_of(time, period)
        return math.floor(self.open_seconds(time) / period)

    def slot_time(self, slot: int, period: int) -> float:
        """Return when `slot` begins."""
        if period >= DAY or not self.breaks:
            return time_of(slot, period)
        return self.time_at(slot * period)


def weekly_breaks(
    hours: Sequence[tuple[int, clock_time, clock_time]], zone: str, first: date, days: int
) -> list[tuple[float, float]]:
    """
    Return the closed stretches of `days` days from `first` on.

    `hours`: weekday (0 is Monday), open and close by the local clock of `zone`, so that a day on
    which the clocks change keeps its local hours.
    """
    tz = ZoneInfo(zone)
    start = datetime.combine(first, clock_time(), tz).timestamp()
    stop = datetime.combine(first + timedelta(days=days), clock_time(), tz).timestamp()
    sessions = sorted(
        (
            datetime.combine(day, opens, tz).timestamp(),
            datetime.combine(day, closes, tz).timestamp(),
        )
        for day in (first + timedelta(days=n) for n in range(days))
        for weekday, opens, closes in hours
        if day.weekday() == weekday
    )
    edges = [start, *(edge for session in sessions for edge in session), stop]
    return [(a, b) for a, b in zip(edges[::2], edges[1::2], strict=True) if b > a]


def guess_breaks(times: np.ndarray, period: int) -> list[tuple[float, float]]:
    """
    Return the holes in ascending bar `times` that look like closed hours.

    A hole of more than 60 periods whose start comes back at the same time of day at least three
    times is closed time; any other is missing data.
    """
    steps = np.diff(times)
    at = np.flatnonzero(steps > _HOLE_PERIODS * period)
    holes = [(float(times[i]) + period, float(times[i + 1])) for i in at]
    starts = [int(a) % DAY for a, _ in holes]
    return [
        hole
        for hole, start in zip(holes, starts, strict=True)
        if starts.count(start) >= _REPEATS_MIN
    ]
