"""
Levels of detail: one base series of bars and its aggregated rungs, kept exact as it grows.

Pure numpy: no I/O, no clock. A bucket's open and close are those of its first and last base bar,
high and low its extremes, volume its sum; buckets are aligned to the calendar, never to a view.
A tick touches one row per rung, a new bar adds at most one row per rung, and rows that arrive
anywhere else rebuild only the buckets they touch.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import numpy as np

from piker.ui.ladder import RUNGS, anchor, base_of, feeder

COLUMNS: Final = 6  # t o h l c v
T, O, H, L, C, V = range(COLUMNS)  # noqa: E741
_ROOM: Final = 1024  # free rows at either end of a fresh level


def bars_to_columns(bars: np.ndarray) -> np.ndarray:
    """Return rows of BAR_DTYPE as columns `t o h l c v` (6, n) of float64; bad rows left out."""
    columns = np.empty((COLUMNS, len(bars)))
    for i, name in enumerate(("time", "open", "high", "low", "close", "volume")):
        columns[i] = bars[name]
    good = np.isfinite(columns).all(axis=0)
    good &= columns[T] > 0
    return columns if good.all() else columns[:, good]


def aggregate(columns: np.ndarray, rung: int) -> np.ndarray:
    """Return ascending `columns` (6, n) in calendar buckets of `rung` seconds, shape (6, m)."""
    if not columns.shape[1]:
        return columns
    start = anchor(rung)
    bucket = np.floor((columns[T] - start) / rung)
    firsts = np.flatnonzero(np.concatenate(([True], bucket[1:] != bucket[:-1])))
    lasts = np.append(firsts[1:], len(bucket)) - 1
    out = np.empty((COLUMNS, len(firsts)))
    out[T] = bucket[firsts] * rung + start
    out[O] = columns[O, firsts]
    out[H] = np.maximum.reduceat(columns[H], firsts)
    out[L] = np.minimum.reduceat(columns[L], firsts)
    out[C] = columns[C, lasts]
    out[V] = np.add.reduceat(columns[V], firsts)
    return out


class Level:
    """Ascending columns with head-room at both ends, so that either end grows in O(rows added)."""

    def __init__(self, rung: int) -> None:
        self.rung = rung
        self._data = np.empty((COLUMNS, 2 * _ROOM))
        self._start = self._stop = _ROOM

    def __len__(self) -> int:
        return self._stop - self._start

    @property
    def columns(self) -> np.ndarray:
        """A view of all rows, shape (6, n)."""
        return self._data[:, self._start : self._stop]

    @property
    def first_time(self) -> float | None:
        """When the first bar opened, epoch seconds; None without bars."""
        return float(self._data[T, self._start]) if len(self) else None

    @property
    def last_time(self) -> float | None:
        """When the last bar opened, epoch seconds; None without bars."""
        return float(self._data[T, self._stop - 1]) if len(self) else None

    def span(self, time_0: float, time_1: float) -> tuple[int, int]:
        """Return the half-open row range whose bars open in [time_0, time_1)."""
        low, high = np.searchsorted(self.columns[T], (time_0, time_1))
        return int(low), int(high)

    def between(self, time_0: float, time_1: float) -> np.ndarray:
        """Return a view of the rows whose bars open in [time_0, time_1), shape (6, n)."""
        low, high = self.span(time_0, time_1)
        return self.columns[:, low:high]

    def splice(self, low: int, high: int, rows: np.ndarray) -> None:
        """Put `rows` in the place of the rows low to high (half-open)."""
        grow = rows.shape[1] - (high - low)
        if not grow:
            self.columns[:, low:high] = rows
            return
        tail, head = len(self) - high, low
        if tail <= head:
            self._reserve(0, grow)
            at = self._start + high
            kept = self._data[:, at : self._stop].copy() if tail else None
            self._stop += grow
            if kept is not None:
                self._data[:, self._stop - tail : self._stop] = kept
        else:
            self._reserve(grow, 0)
            kept = self.columns[:, :head].copy() if head else None
            self._start -= grow
            if kept is not None:
                self._data[:, self._start : self._start + head] = kept
        self.columns[:, low : low + rows.shape[1]] = rows

    def _reserve(self, front: int, back: int) -> None:
        if self._start >= front and self._data.shape[1] - self._stop >= back:
            return
        n = len(self)
        room = max(_ROOM, n // 2)
        data = np.empty((COLUMNS, n + front + back + 2 * room))
        start = room + max(front, 0)
        data[:, start : start + n] = self.columns
        self._data, self._start, self._stop = data, start, start + n


class Series:
    """
    One base series (1 s or 1 m) and its rungs, finest first.

    Invariant: every rung equals `aggregate` of the base at that rung.
    """

    def __init__(self, base: int, rungs: Iterable[int] = RUNGS) -> None:
        self.base = base
        self.levels = {r: Level(r) for r in sorted({base, *rungs}) if base_of(r) == base}
        self._feeds = [(feeder(r), r) for r in self.levels if r != base]

    def __len__(self) -> int:
        return len(self.levels[self.base])

    def merge(self, columns: np.ndarray) -> tuple[float, float] | None:
        """
        Take ascending base rows (6, n); a row replaces the one of the same time.

        Returns the half-open time range from the first to past the last row that is new or
        differs; None when nothing changed.
        """
        level = self.levels[self.base]
        if not columns.shape[1]:
            return None
        low, high = level.span(columns[T, 0], columns[T, -1] + 1)
        old = level.columns[:, low:high]
        if old.shape == columns.shape and np.array_equal(old[T], columns[T]):
            changed = np.flatnonzero((old != columns).any(axis=0))
            if not len(changed):
                return None
            low, high = low + int(changed[0]), low + int(changed[-1]) + 1
            columns = columns[:, changed[0] : changed[-1] + 1]
        elif old.shape[1]:
            kept = old[:, ~np.isin(old[T], columns[T])]
            columns = np.concatenate((kept, columns), axis=1)
            columns = columns[:, np.argsort(columns[T], kind="stable")]
        time_0, time_1 = float(columns[T, 0]), float(columns[T, -1]) + self.base
        level.splice(low, high, columns)
        self._rebuild(time_0, time_1)
        return time_0, time_1

    def drop_before(self, time: float) -> None:
        """Forget base rows that opened before `time`, and the buckets that held only such rows."""
        level = self.levels[self.base]
        low, high = level.span(-np.inf, time)
        if high > low:
            level.splice(low, high, np.empty((COLUMNS, 0)))
            for _, rung in self._feeds:
                coarse = self.levels[rung]
                floor = (time - anchor(rung)) // rung * rung + anchor(rung)
                coarse.splice(0, coarse.span(-np.inf, floor)[1], np.empty((COLUMNS, 0)))
            self._rebuild(time, time + self.base)

    def _rebuild(self, time_0: float, time_1: float) -> None:
        for source, rung in self._feeds:
            start = anchor(rung)
            low_t = (time_0 - start) // rung * rung + start
            high_t = -((start - time_1) // rung) * rung + start
            assert source is not None
            rows = aggregate(self.levels[source].between(low_t, high_t), rung)
            coarse = self.levels[rung]
            coarse.splice(*coarse.span(low_t, high_t), rows)
