"""
The bar array: a ring of rows in shared memory, indexed by a position that is never reused.

Rules:
1. One writer, its creator. Row `i` lives in slot `i % size`; `[first_index, last_index)` is there.
2. A slot is given up (`first` moves) before it is written again, and a new row is shown (`last`
   moves) after it is whole. A reader copies, then drops what `first` has passed meanwhile.
3. A row that can be seen changes only under its own stamp `rev`: odd while it is written, two
   higher after. A reader that meets an odd or a moved stamp tries again a few times; the newest
   row is then left out, so that the last *closed* row is the end of what it gets.
4. A prepend that does not fit keeps the newest rows. Appending never fails.

Segments, owners and the sweep are in `_segment`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import numpy as np

from piker.data._segment import (
    WORD_USER,
    InSegment,
    Segment,
    SegmentGone,
    ShmFull,
    attach_segment,
    create_segment,
    mark_run,
    sweep,
)
from piker.model.bars import BAR_DTYPE, FILLED, PARTIAL
from piker.tsp._bar_rows import BarChanges, BarRow

__all__ = [
    "SegmentGone",
    "ShmArray",
    "ShmFull",
    "attach_shm_array",
    "mark_run",
    "maybe_open_shm_array",
    "open_shm_array",
    "sweep",
]

_FIRST = WORD_USER
_LAST = WORD_USER + 8
_SIZE = WORD_USER + 16

READ_TRIES = 16  # a row is under its stamp for about a microsecond
_CHUNK = 64  # rows that a bulk rewrite holds under their stamps at once
_OWN_FIELDS = ("index", "rev")  # set by the array itself, whatever the data say
_OPTIONAL_FIELDS = ("index", "rev", "flags", "count")


class ShmArray(InSegment):
    """A ring of bars (or rows alike) in shared memory; made by `open_` and `attach_shm_array`."""

    def __init__(self, segment: Segment, key: str, dtype: np.dtype[Any]) -> None:
        self.segment = segment
        self.key = key
        self.dtype = dtype
        self._words = segment.words
        self.size = self._words[_SIZE]
        self._rows: np.ndarray = np.frombuffer(segment.payload, dtype, count=self.size)
        cells = segment.payload[: self.size * dtype.itemsize]
        self._ints = cells.cast("q")
        self._floats = cells.cast("d")
        names = dtype.names or ()
        self._width = dtype.itemsize // 8
        self._rev = names.index("rev")
        self._time = names.index("time")
        self._value_fields = tuple(name for name in names if name not in _OWN_FIELDS)

    # ---- where it is and whose ------------------------------------------------------------

    @property
    def first_index(self) -> int:
        """Position of the oldest row."""
        return self._words[_FIRST]

    @property
    def last_index(self) -> int:
        """Position behind the newest row."""
        return self._words[_LAST]

    @property
    def index(self) -> int:
        """Slot that the next appended row takes."""
        return self.last_index % self.size

    def __len__(self) -> int:
        return min(self.size, max(0, self.last_index - self.first_index))

    @property
    def token(self) -> dict[str, Any]:
        """What another process needs to attach; plain values that may travel."""
        return {
            "path": str(self.segment.path),
            "generation": self.segment.generation,
            "dtype_descr": [[name, self.dtype[name].str] for name in self.dtype.names or ()],
            "size": self.size,
            "key": self.key,
        }

    def close(self) -> None:
        """Unmap; the array stays for others."""
        del self._rows
        self._ints.release()
        self._floats.release()
        self.segment.close()

    # ---- reading --------------------------------------------------------------------------

    @property
    def array(self) -> np.ndarray:
        """All rows in order, as a consistent copy joined where the ring wraps."""
        return self.rows(self.first_index, self.last_index)

    def last(self, n: int = 1) -> np.ndarray:
        """Return the newest `n` rows (fewer when there are fewer), as a consistent copy."""
        stop = self.last_index
        return self.rows(stop - n, stop)

    def rows(self, start: int, stop: int) -> np.ndarray:
        """
        Return the rows with positions in `[start, stop)` that are there, as a consistent copy.

        A row lapped while it was copied is left out. The newest row is left out when its writer
        holds it; an older one in that state reads as the close before it, flagged PARTIAL.
        """
        # LAST before FIRST: of a reader that slept between the loads, the rows are lapped, not
        # more than there are.
        stop = min(stop, self.last_index)
        start = max(start, self.first_index)
        if stop <= start:
            return np.empty(0, self.dtype)
        before = self._copy(start, stop, "rev")
        out = self._copy(start, stop)
        after = self._copy(start, stop, "rev")
        moved = np.flatnonzero((before != after) | (before & 1 != 0))
        lapped = max(0, self.first_index - start)
        end = len(out)
        for i in moved[moved >= lapped].tolist():
            row = self._read_row(start + i)
            if row is not None:
                out[i] = row
            elif start + i >= self.first_index:
                if i == end - 1:
                    end = i
                else:
                    self._stand_in(out, i, start + i)
        return out[max(lapped, self.first_index - start) : end]

    def last_row(self) -> np.void | None:
        """Return the newest row, or the last closed one while that is written; None when empty."""
        while True:
            last = self.last_index
            for i in (last - 1, last - 2):
                if i >= self.first_index and (row := self._read_row(i)) is not None:
                    return row
            if last == self.last_index:
                return None

    def slice_time(self, t0: int, t1: int) -> np.ndarray:
        """Return the rows whose `time` is in `[t0, t1)`, as a consistent copy."""
        return self.rows(self.search_time(t0), self.search_time(t1))

    def search_time(self, time_s: int) -> int:
        """Return the position of the first row whose `time` is not before `time_s`."""
        low, high = self.first_index, self.last_index
        while low < high:
            middle = (low + high) // 2
            if self._time_at(middle) < time_s:
                low = middle + 1
            else:
                high = middle
        return low

    def index_of(self, time_s: int) -> int | None:
        """Return the position of the row at `time_s`, or None when there is no such row."""
        last = self.last_index
        for i in (last - 1, last - 2):  # nearly always one of the two newest
            if i >= self.first_index and self._time_at(i) == time_s:
                return i
        i = self.search_time(time_s)
        return i if i < last and self._time_at(i) == time_s else None

    def _time_at(self, i: int) -> int:
        return self._ints[i % self.size * self._width + self._time]

    def _copy(self, start: int, stop: int, field: str | None = None) -> np.ndarray:
        source = self._rows if field is None else self._rows[field]
        slot, count = start % self.size, stop - start
        fits = min(count, self.size - slot)
        out: np.ndarray = np.empty(count, source.dtype)
        out[:fits] = source[slot : slot + fits]
        if count > fits:
            out[fits:] = source[: count - fits]
        return out

    def _read_row(self, i: int) -> np.void | None:
        slot = i % self.size
        stamp = slot * self._width + self._rev
        for _ in range(READ_TRIES):
            rev = self._ints[stamp]
            row: np.void = self._rows[slot].copy()
            if not rev & 1 and self._ints[stamp] == rev and i >= self.first_index:
                return row
        return None

    def _stand_in(self, out: np.ndarray, i: int, position: int) -> None:
        """Let row `i`, which its writer holds, read as flat at the close before it."""
        close = out["close"][i - 1] if i else np.nan
        out["index"][i] = position
        for name in ("open", "high", "low", "close"):
            out[name][i] = close
        out["volume"][i] = out["count"][i] = 0
        out["flags"][i] |= FILLED | PARTIAL

    # ---- writing --------------------------------------------------------------------------

    def push(
        self,
        data: np.ndarray,
        field_map: Mapping[str, str] | None = None,
        prepend: bool = False,
        update_first: bool = True,
        start: int | None = None,
    ) -> int:
        """
        Write `data` behind the newest row (or, with `prepend`, before the oldest); return its end.

        `field_map` renames fields of `data` to ours; `flags` and `count` may be missing. With
        `start`, a position in `[first, last]`, rows that are there already are rewritten under
        their stamps. A prepend keeps the newest rows that fit; an append drops the oldest.

        Raises:
          TypeError: fields are missing or unknown.
          ValueError: `start` would leave a hole.
        """
        rows = self._as_rows(data, field_map)
        first, last = self.first_index, self.last_index
        if start is not None and not first <= start <= last:
            raise ValueError(f"{self.key}: start was {start}, expected {first} to {last}")
        if prepend:
            end = first if start is None else start
            begin = end - len(rows)
            if begin < first:
                room = self.size - (last - first)
                cut = max(0, first - begin - room)
                self._prepend(rows[cut : first - begin], update_first)
                rows = rows[first - begin :]
                begin = first
            self._rewrite(begin, rows)
            return end
        begin = last if start is None else start
        there = max(0, min(last - begin, len(rows)))
        self._rewrite(begin, rows[:there])
        self._append(rows[there:])
        return begin + len(rows)

    def append_row(self, row: BarRow) -> int:
        """Append one bar and return its position."""
        position = self.last_index
        if position - self.first_index >= self.size:
            self._words[_FIRST] = position + 1 - self.size
        cell = position % self.size * self._width
        self._ints[cell] = position
        self._ints[cell + self._rev] = 1
        self._put_cells(cell, row)
        self._ints[cell + self._rev] = 2
        self._words[_LAST] = position + 1
        return position

    def write_row(self, index: int, values: Mapping[str, float], flags: int | None = None) -> None:
        """
        Change fields of the row at position `index` under its stamp; `time` cannot change.

        Raises:
          IndexError: no such row.
        """
        if not self.first_index <= index < self.last_index:
            raise IndexError(f"{self.key}: no row {index}")
        slot = index % self.size
        stamp = slot * self._width + self._rev
        rev = self._ints[stamp] | 1
        self._ints[stamp] = rev
        for name, value in values.items():
            assert name in self._value_fields, name
            assert name != "time", "a row keeps its time"
            self._rows[name][slot] = value
        if flags is not None:
            self._rows["flags"][slot] = flags
        self._ints[stamp] = rev + 1

    def write_bar(self, index: int, row: BarRow) -> None:
        """Replace the bar at position `index`, which has the same time, under its stamp."""
        cell = index % self.size * self._width
        stamp = cell + self._rev
        rev = self._ints[stamp] | 1
        self._ints[stamp] = rev
        self._put_cells(cell, row)
        self._ints[stamp] = rev + 1

    def apply(self, changes: BarChanges) -> int:
        """
        Write what a `BarBuilder` says; return how many changed rows are here no longer.

        The arithmetic of bars stays in the builder, the stamps stay here.
        """
        missing = 0
        for row in changes.updated:
            index = self.index_of(row.time)
            if index is None:
                missing += 1
            else:
                self.write_bar(index, row)
        for row in changes.appended:
            self.append_row(row)
        return missing

    def overwrite(self, data: np.ndarray) -> int:
        """Rewrite the rows whose `time` is in `data` under their stamps; return their number."""
        rows = self._as_rows(data, None)
        offset = self.first_index
        times = self._copy(offset, self.last_index, "time")  # ours alone to write: no stamps
        found = np.searchsorted(times, rows["time"])
        here = found < len(times)
        here[here] = times[found[here]] == rows["time"][here]
        self._rewrite_at(found[here] + offset, rows[here])
        return int(np.count_nonzero(here))

    def _put_cells(self, cell: int, row: BarRow) -> None:
        ints, floats = self._ints, self._floats
        ints[cell + 1] = row[0]
        floats[cell + 2] = row[1]
        floats[cell + 3] = row[2]
        floats[cell + 4] = row[3]
        floats[cell + 5] = row[4]
        floats[cell + 6] = row[5]
        ints[cell + 7] = row[6]
        ints[cell + 8] = row[7]

    def _as_rows(self, data: np.ndarray, field_map: Mapping[str, str] | None) -> np.ndarray:
        """Return `data` as rows of our dtype, ascending as given; names are checked."""
        given = {(field_map or {}).get(name, name): name for name in data.dtype.names or ()}
        wanted = set(self.dtype.names or ())
        missing = wanted - set(given) - set(_OPTIONAL_FIELDS)
        unknown = set(given) - wanted
        if missing or unknown:
            raise TypeError(
                f"{self.key}: missing fields {sorted(missing)}, unknown fields {sorted(unknown)}"
            )
        rows: np.ndarray = np.zeros(len(data), self.dtype)
        for ours, theirs in given.items():
            if ours not in _OWN_FIELDS:
                rows[ours] = data[theirs]
        rows["rev"] = 2
        return rows

    def _append(self, rows: np.ndarray) -> None:
        position = self.last_index
        end = position + len(rows)
        rows = rows[-self.size :]
        self._words[_FIRST] = max(self.first_index, end - self.size)
        self._place(end - len(rows), rows)
        self._words[_LAST] = end

    def _prepend(self, rows: np.ndarray, update_first: bool) -> None:
        begin = self.first_index - len(rows)
        self._place(begin, rows)
        if update_first:
            self._words[_FIRST] = begin

    def _place(self, begin: int, rows: np.ndarray) -> None:
        """Write rows that nobody can see yet."""
        rows["index"] = np.arange(begin, begin + len(rows))
        slot = begin % self.size
        fits = min(len(rows), self.size - slot)
        self._rows[slot : slot + fits] = rows[:fits]
        if len(rows) > fits:
            self._rows[: len(rows) - fits] = rows[fits:]

    def _rewrite(self, begin: int, rows: np.ndarray) -> None:
        self._rewrite_at(np.arange(begin, begin + len(rows)), rows)

    def _rewrite_at(self, positions: np.ndarray, rows: np.ndarray) -> None:
        for start in range(0, len(rows), _CHUNK):
            slots = positions[start : start + _CHUNK] % self.size
            new = rows[start : start + _CHUNK]
            revs = self._rows["rev"][slots] | 1
            self._rows["rev"][slots] = revs
            for name in self._value_fields:
                self._rows[name][slots] = new[name]
            self._rows["rev"][slots] = revs + 1


# What this process opened and still holds.
_made: WeakValueDictionary[tuple[str, str, str, str], ShmArray] = WeakValueDictionary()


def open_shm_array(
    key: str,
    size: int,
    dtype: np.dtype[Any] = BAR_DTYPE,
    *,
    shm_dir: Path | str,
    run_id: str,
    actor: str,
) -> ShmArray:
    """
    Make an empty array of `size` rows; `key` is `<fqme>.<kind>`, for example `….rt` or `….hist`.

    Raises:
      ShmFull, ConfigError: as `create_segment`.
    """
    names = dtype.names or ()
    if {"index", "time", "rev"} - set(names) or any(dtype[name].itemsize != 8 for name in names):
        raise TypeError(f"{key}: rows need 8-byte fields, among them index, time and rev")
    market, _, kind = key.rpartition(".")
    segment = create_segment(shm_dir, run_id, actor, market, kind, size * dtype.itemsize)
    segment.words[_SIZE] = size
    segment.words[_FIRST] = segment.words[_LAST] = size  # room for a full prepend
    array = ShmArray(segment, key, dtype)
    _made[str(shm_dir), run_id, actor, key] = array
    return array


def attach_shm_array(token: Mapping[str, Any], readonly: bool = True) -> ShmArray:
    """
    Map the array that `token` names; only its creator writes, so it must be `readonly`.

    Raises:
      SegmentGone: it is of another generation or no longer there.
    """
    if not readonly:
        raise ValueError(f"{token['key']}: only the creator of an array may write it")
    dtype = np.dtype([(name, kind) for name, kind in token["dtype_descr"]])
    segment = attach_segment(token["path"], int(token["generation"]))
    size = segment.words[_SIZE]
    if size != token["size"] or size * dtype.itemsize > len(segment.payload):
        segment.close()
        raise SegmentGone(f"{token['path']}: is no array of {token['size']} rows")
    return ShmArray(segment, str(token["key"]), dtype)


def maybe_open_shm_array(
    key: str,
    size: int,
    dtype: np.dtype[Any] = BAR_DTYPE,
    *,
    shm_dir: Path | str,
    run_id: str,
    actor: str,
) -> tuple[ShmArray, bool]:
    """Return this actor's array of that key, made if there is none, and whether it is new."""
    found = _made.get((str(shm_dir), run_id, actor, key))
    if found is not None and not found.is_stale():
        return found, False
    return open_shm_array(key, size, dtype, shm_dir=shm_dir, run_id=run_id, actor=actor), True


def rows_from(bars: Iterable[BarRow]) -> np.ndarray:
    """Return bars as an array of `BAR_DTYPE` with zero index and stamp."""
    packed = [(0, *bar, 0) for bar in bars]
    return np.array(packed, BAR_DTYPE)
