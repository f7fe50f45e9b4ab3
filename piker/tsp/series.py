"""
One market's bars of one period: the shared array, its builder, and what is not known yet.

`BarSeries` is the only writer of its array. Live trades come in through the builder's changes,
history through `put_history`, fetched bars through `repair`. It keeps the times of rows that
are not known (flagged PARTIAL) and of rows that are not stored, and tells `publish` which ranges
were rewritten. No I/O here; the rule of who may repair what:

1. Rows inside a loss of trade ids that is to be rebuilt from trades are not repaired from bars,
   so that the two never mix in one row.
2. Fetched bars replace unknown rows only; what was built from trades stays.
3. A row that is still open is the builder's alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from piker.data._sharedmem import ShmArray
from piker.model.bars import FILLED, PARTIAL, REPAIRED, empty_bars
from piker.tsp._bar_rows import BarChanges, BarRow
from piker.tsp._bars import BarBuilder
from piker.tsp._plan import Range, densify, placeholders, sorted_unique, time_ranges

FRESH_PERIODS = 120  # history that ends so near to now may be continued with flat rows


class BarSeries:
    """The rows of one market and period; times are epoch seconds of bar opens."""

    def __init__(
        self,
        fqme: str,
        period_s: int,
        array: ShmArray,
        builder: BarBuilder,
        publish: Callable[[dict[str, Any]], None],
        now_s: Callable[[], float],
    ) -> None:
        """Write to `array`; `publish` takes the `dirty` events, `now_s` gives the run's time."""
        self.fqme = fqme
        self.period_s = period_s
        self.array = array
        self.builder = builder
        self.rev = 0
        self.lost_since: int | None = None  # rows from here on miss trades: the feed is down
        self._publish = publish
        self._now_s = now_s
        self._unknown: set[int] = set()
        self._unsaved: set[int] = set()
        self._dirty: tuple[int, int] | None = None

    @property
    def size(self) -> int:
        """Rows that the array can hold."""
        return self.array.size

    @property
    def count(self) -> int:
        """Rows that the array holds."""
        return len(self.array)

    @property
    def is_continuous(self) -> bool:
        """Whether every period has a row."""
        return self.builder.is_continuous

    @property
    def first_time(self) -> int | None:
        """Time of the oldest row."""
        rows = self.array.rows(self.array.first_index, self.array.first_index + 1)
        return int(rows["time"][0]) if len(rows) else None

    @property
    def last_time(self) -> int | None:
        """Time of the newest row."""
        row = self.array.last_row()
        return None if row is None else int(row["time"])

    # ---- live -----------------------------------------------------------------------------

    def apply(self, changes: BarChanges) -> None:
        """Write what the builder says; a hole before its first row becomes placeholders."""
        if changes.appended and self.is_continuous:
            self._bridge(changes.appended[0].time)
        self.array.apply(changes)
        for row in (*changes.updated, *changes.appended):
            self._note(row)
        open_s = self.builder.open_epoch
        old = [row.time for row in changes.updated if row.time != open_s]
        if old:
            self._mark_dirty(min(old), max(old) + self.period_s)
        for _, row in changes.closed:
            self._unsaved.add(row.time)

    def _note(self, row: BarRow) -> None:
        if row.flags & PARTIAL:
            self._unknown.add(row.time)
        else:
            self._unknown.discard(row.time)
        self._unsaved.add(row.time)

    def _bridge(self, start_s: int) -> None:
        last_row = self.array.last_row()
        if last_row is None:
            return
        begin_s = int(last_row["time"]) + self.period_s
        begin_s = max(begin_s, start_s - self.size * self.period_s)
        rows = placeholders(float(last_row["close"]), begin_s, start_s, self.period_s)
        if len(rows):
            self.array.push(rows)
            self._unknown.update(rows["time"].tolist())

    # ---- history --------------------------------------------------------------------------

    def put_history(self, rows: np.ndarray) -> None:
        """
        Put closed bars of the past where they belong: before, between or after what is there.

        Between, only unknown rows are replaced. Holes of a continuous market become
        placeholders, which are repaired later. What does not fit is dropped, the oldest first.
        """
        rows = densify(rows, self.period_s) if self.is_continuous else sorted_unique(rows)
        if not len(rows):
            return
        if not len(self.array):
            self._append_history(rows)
            return
        first_s, last_s = self.first_time, self.last_time
        assert first_s is not None
        assert last_s is not None
        times = rows["time"]
        self.repair(rows[(times >= first_s) & (times <= last_s)])
        if self.builder.open_epoch is None:
            self._append_history(rows[times > last_s])
        self._prepend(rows[times < first_s], first_s)

    def _append_history(self, rows: np.ndarray) -> None:
        if not len(rows):
            return
        if self.is_continuous:
            self._bridge(int(rows["time"][0]))
        self.array.push(rows)
        self._note_history(rows)
        newest = rows[-1]
        if newest["time"] >= self._now_s() - FRESH_PERIODS * self.period_s:
            self.builder.seed(int(newest["time"]), float(newest["close"]))

    def _prepend(self, rows: np.ndarray, first_s: int) -> None:
        if not len(rows):
            return
        if self.is_continuous:
            begin_s = int(rows["time"][-1]) + self.period_s
            between = placeholders(float(rows["close"][-1]), begin_s, first_s, self.period_s)
            rows = np.concatenate([rows, between])
        room = self.size - len(self.array)
        rows = rows[max(0, len(rows) - room) :]
        if len(rows):
            self.array.push(rows, prepend=True)
            self._note_history(rows)

    def _note_history(self, rows: np.ndarray) -> None:
        self._unknown.update(rows["time"][(rows["flags"] & PARTIAL) != 0].tolist())
        self._mark_dirty(int(rows["time"][0]), int(rows["time"][-1]) + self.period_s)

    # ---- repair ---------------------------------------------------------------------------

    def unknown_ranges(self, before_s: int, rows_max: int) -> list[Range]:
        """Return the ranges of rows before `before_s` that bars should be fetched for."""
        self._unknown.update(self.builder.repairs)
        times = np.sort(np.fromiter(self._unknown, "i8", len(self._unknown)))
        first_s = self.first_time
        if first_s is None:
            return []
        self._unknown.difference_update(times[times < first_s].tolist())
        times = times[self._is_repairable(times) & (times < before_s)]
        return time_ranges(times, self.period_s, rows_max)

    def _is_repairable(self, times: np.ndarray) -> np.ndarray:
        """Return which rows are closed, here, and not about to be rebuilt from trades."""
        first_s = self.first_time
        allowed = times >= (first_s if first_s is not None else 1 << 62)
        for stop_s in (self.builder.open_epoch, self.lost_since):
            if stop_s is not None:
                allowed &= times < stop_s
        for gap in self.builder.gaps:
            if gap.t0_s is not None and gap.t1_s is not None:
                allowed &= (times < gap.t0_s) | (times > gap.t1_s)
        return allowed

    def repair(self, rows: np.ndarray) -> int:
        """Replace unknown rows by fetched bars; return how many were replaced."""
        times = rows["time"]
        is_unknown = np.array([time_s in self._unknown for time_s in times.tolist()], bool)
        rows = rows[is_unknown & self._is_repairable(times)]
        rows["flags"] = rows["flags"] & FILLED | REPAIRED
        self._replace(rows)
        return len(rows)

    def accept(self, page: Range) -> int:
        """Take the unknown rows of a range as they are: nothing traded there."""
        rows = self.array.slice_time(*page)
        times = rows["time"]
        is_unknown = np.array([time_s in self._unknown for time_s in times.tolist()], bool)
        rows = rows[is_unknown & self._is_repairable(times)]
        rows["flags"] &= ~PARTIAL
        self._replace(rows)
        return len(rows)

    def _replace(self, rows: np.ndarray) -> None:
        self._rewrite(rows)
        for time_s, close in zip(rows["time"].tolist(), rows["close"].tolist(), strict=True):
            if changes := self.builder.adopt(time_s, close):
                self.apply(changes)

    def _rewrite(self, rows: np.ndarray) -> None:
        """Write rows over those of the same times, in runs of adjacent ones."""
        if not len(rows):
            return
        runs = np.split(rows, np.flatnonzero(np.diff(rows["time"]) != self.period_s) + 1)
        for run in runs:
            position = self.array.index_of(int(run["time"][0]))
            if position is not None:
                self.array.push(run, start=position)
        times = rows["time"].tolist()
        self._unknown.difference_update(times)
        self._unsaved.update(times)
        self._mark_dirty(times[0], times[-1] + self.period_s)

    # ---- what others must hear ------------------------------------------------------------

    def _mark_dirty(self, start_s: int, stop_s: int) -> None:
        if self._dirty is not None:
            start_s, stop_s = min(start_s, self._dirty[0]), max(stop_s, self._dirty[1])
        self._dirty = start_s, stop_s

    def flush_dirty(self) -> None:
        """Publish the range that was rewritten since the last call, if any."""
        if self._dirty is None:
            return
        self.rev += 1
        start_s, stop_s = self._dirty
        self._dirty = None
        self._publish(
            {
                "event": "dirty",
                "period_s": self.period_s,
                "t0": start_s,
                "t1": stop_s,
                "rev": self.rev,
            }
        )

    def take_unsaved(self, before_s: int, rows_max: int = 20_000) -> np.ndarray:
        """Return and forget the changed rows before `before_s` that are known, oldest first."""
        times = np.sort(np.fromiter(self._unsaved, "i8", len(self._unsaved)))
        unknown = np.fromiter(self._unknown, "i8", len(self._unknown))
        ready = times[(times < before_s) & ~np.isin(times, unknown)][:rows_max]
        first_s = self.first_time or 0
        self._unsaved.difference_update(ready.tolist())
        self._unsaved.difference_update(times[times < first_s].tolist())
        if not len(ready):
            return empty_bars()
        pieces = self._slices(time_ranges(ready, self.period_s, 4096))
        rows = np.concatenate([empty_bars(), *pieces])
        return rows[np.isin(rows["time"], ready)]

    def _slices(self, ranges: Iterable[Range]) -> list[np.ndarray]:
        return [self.array.slice_time(start_s, stop_s) for start_s, stop_s in sorted(ranges)]

    def statistics(self) -> dict[str, int]:
        """Return the counters of this series."""
        stats = self.builder.statistics()
        return {
            "rows": self.count,
            "rev": self.rev,
            "unknown": len(self._unknown),
            "unsaved": len(self._unsaved),
            "late": stats.late,
            "too_late": stats.too_late,
            "rejected": stats.rejected,
            "gaps_open": stats.gaps_open,
        }
