"""
One market as its pages see it: two bar series with their rungs, newest values, gaps, versions.

Pure state without I/O: `source` writes it, every `Session` that follows the market reads it. A
*version* goes up with each change of the newest bars, a *revision* with each change of history, a
*generation* names the writer's arrays and changes when the writer is restarted.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

import msgspec
import numpy as np

from piker.model.market import MktPair
from piker.ui.frames import COMPLETE, HAS_GAP, LOADING, TICKS_MAX
from piker.ui.ladder import BLOCK_ROWS, RUNGS, base_of
from piker.ui.lod import Series, T
from piker.ui.messages import Dirty, Gap, Load, Market, Status
from piker.ui.sessions import SlotMap

TAIL_ROWS_MAX: Final = 64  # rows of one rung in a TAIL; an older change is told as `dirty`
_REVISIONS_MAX: Final = 256  # changed ranges kept for pages that reconnect
_GAPS_MAX: Final = 200
_SETTLED_S: Final = 10  # late trades may still change rows this close to the newest


class Facts(msgspec.Struct, frozen=True):
    """What never changes about a market while a chart runs; prices and sizes as decimal text."""

    fqme: str
    name: str
    venue: str
    unit: str
    price_tick: str
    size_tick: str
    tz: str = "UTC"
    venue_name: str = ""  # of a local venue, else ''
    has_vlm: bool = True
    sessions: list[tuple[float, float]] = []
    mkt: MktPair | None = None  # what orders need; None: nothing can be traded here


class TailMoved(msgspec.Struct, frozen=True):
    """The newest values changed; rows from `since` (epoch seconds) on may differ."""

    since: float


class HistoryChanged(msgspec.Struct, frozen=True):
    """Rows in [t0, t1) changed at revision `rev`."""

    t0: float
    t1: float
    rev: int


class Renewed(msgspec.Struct, frozen=True):
    """The arrays belong to another generation."""


Change = TailMoved | HistoryChanged | Renewed | Gap | Load | Status
Listener = Callable[[Change], None]


class Picture:
    """All that is known of one market; `publish` tells every listener of a change."""

    def __init__(self, facts: Facts, gen: int) -> None:
        self.facts = facts
        self.slots = SlotMap(facts.sessions)
        self.gen = gen
        self.ver = 1
        self.rev = 1
        self.series = {1: Series(1), 60: Series(60)}
        self.l1 = np.full(8, np.nan)
        self.gaps: deque[Gap] = deque(maxlen=_GAPS_MAX)
        self.ticks = np.zeros((4, TICKS_MAX))  # t p s flags, a ring
        self.ticks_seen = 0
        self.loads: dict[int, Load] = {}
        self.status: Status | None = None
        self.listeners: set[Listener] = set()
        self._revisions: deque[HistoryChanged] = deque(maxlen=_REVISIONS_MAX)
        self._rev_floor = 1  # revisions at or below are no longer known one by one

    # ---- writing

    def publish(self, change: Change) -> None:
        """Tell every listener."""
        for listener in tuple(self.listeners):
            listener(change)

    def renew(self, gen: int, rows: dict[int, np.ndarray]) -> None:
        """Take the arrays of another generation: `rows` are all base columns by period."""
        self.gen = gen
        self.ver += 1
        self.rev += 1
        self._revisions.clear()
        self._rev_floor = self.rev
        self.series = {1: Series(1), 60: Series(60)}
        for base, columns in rows.items():
            self.series[base].merge(columns)
        self.publish(Renewed())

    def merge(self, base: int, columns: np.ndarray) -> None:
        """Take base rows: near the end they move the tail, further back they change history."""
        series = self.series[base]
        before = series.levels[base].last_time
        changed = series.merge(columns)
        if changed is None:
            return
        time_0, time_1 = changed
        if before is not None and time_0 > before - TAIL_ROWS_MAX * base / 2:
            self.touch(time_0)
            return
        self.rev += 1
        if len(self._revisions) == _REVISIONS_MAX:
            self._rev_floor = self._revisions[0].rev
        note = HistoryChanged(time_0, time_1, self.rev)
        self._revisions.append(note)
        self.ver += 1
        self.publish(note)
        self.publish(TailMoved(self.series[base].levels[base].last_time or time_1))

    def touch(self, since: float) -> None:
        """Count a change of the newest values; rows from `since` on may differ."""
        self.ver += 1
        self.publish(TailMoved(since))

    def add_ticks(self, columns: np.ndarray) -> None:
        """Take trades (4, n): time, price, size, flags; only the newest are kept."""
        columns = columns[:, -TICKS_MAX:]
        n = columns.shape[1]
        at = (self.ticks_seen + np.arange(n)) % TICKS_MAX
        self.ticks[:, at] = columns
        self.ticks_seen += n

    def add_gap(self, gap: Gap) -> None:
        """Record a gap; it takes the place of those of its kind that it covers."""
        covered = [
            old
            for old in self.gaps
            if old.kind == gap.kind and gap.t0 <= old.t0 and (old.t1 <= gap.t1 or old.t0 == gap.t0)
        ]
        for old in covered:
            self.gaps.remove(old)
        self.gaps.append(gap)
        self.publish(gap)

    # ---- reading

    @property
    def first(self) -> dict[str, float | None]:
        """When the first bar of each base opened."""
        return {str(b): s.levels[b].first_time for b, s in self.series.items()}

    @property
    def last(self) -> dict[str, float | None]:
        """When the last bar of each base opened."""
        return {str(b): s.levels[b].last_time for b, s in self.series.items()}

    @property
    def bars(self) -> dict[str, int]:
        """How many bars of each base are held."""
        return {str(b): len(s) for b, s in self.series.items()}

    def changed_since(self, gen: int, rev: int) -> list[tuple[float, float]]:
        """Return the ranges that changed after `rev`; everything when that is not known."""
        if gen != self.gen or rev < self._rev_floor:
            return [(0.0, 1e12)]
        return [(note.t0, note.t1) for note in self._revisions if note.rev > rev]

    def block(self, rung: int, key: int) -> tuple[np.ndarray, int]:
        """Return the columns (6, n) of block `key` of `rung`, and its flags."""
        base = base_of(rung)
        level = self.series[base].levels[rung]
        low = self.slots.slot_time(key * BLOCK_ROWS, rung)
        high = self.slots.slot_time((key + 1) * BLOCK_ROWS, rung)
        columns = level.between(low, high)
        first, last = level.first_time, self.series[base].levels[base].last_time
        load = self.loads.get(base)
        is_loading = load is not None and load.have < load.total
        flags = LOADING if is_loading and (first is None or low < first) else 0
        if last is not None and high <= last - _SETTLED_S and not flags:
            flags |= COMPLETE
        if columns.shape[1] > 1 and (np.diff(columns[T]) > rung).any():
            flags |= HAS_GAP
        return columns, flags

    def tail_rows(self, rungs: list[int], since: float) -> np.ndarray:
        """Return rows (n, 8) `rung t o h l c v ver` of `rungs` that may differ since `since`."""
        found: list[np.ndarray] = []
        for rung in rungs:
            level = self.series[base_of(rung)].levels[rung]
            n = len(level)
            low = min(level.span(-np.inf, since)[1], n) if np.isfinite(since) else n
            # the bucket that holds `since` opens at or before it
            start = max(low - 1, n - TAIL_ROWS_MAX, 0)
            if low < n and level.columns[T, low] == since:
                start = max(low, n - TAIL_ROWS_MAX, 0)
            rows = np.empty((n - start, 8))
            rows[:, 0] = rung
            rows[:, 1:7] = level.columns[:, start:].T
            rows[:, 7] = self.ver
            found.append(rows)
        return np.concatenate(found) if found else np.empty((0, 8))

    def ticks_since(self, seen: int) -> tuple[np.ndarray, int]:
        """Return the trades (4, n) after the first `seen`, and how many of them are left out."""
        new = self.ticks_seen - seen
        kept = min(new, TICKS_MAX)
        at = (self.ticks_seen - kept + np.arange(kept)) % TICKS_MAX
        return self.ticks[:, at], new - kept

    def market(self, chan: int, have: tuple[int, int] | None) -> Market:
        """Return the static record for a page that still holds `have` (gen, rev)."""
        facts = self.facts
        return Market(
            chan=chan, fqme=facts.fqme, name=facts.name, venue=facts.venue,
            mark="LOCAL" if facts.venue_name else "", venue_name=facts.venue_name,
            unit=facts.unit, price_tick=facts.price_tick, size_tick=facts.size_tick, tz=facts.tz,
            sessions=facts.sessions, rungs=list(RUNGS), first=self.first, last=self.last,
            bars=self.bars, gen=self.gen, rev=self.rev,
            dirty=self.changed_since(*have) if have else [],
            has_vlm=facts.has_vlm, gaps=list(self.gaps), marks=[],
        )  # fmt: skip

    def dirty(self, chan: int, change: HistoryChanged) -> Dirty:
        """Return the message that tells of `change`."""
        return Dirty(
            chan=chan, t0=change.t0, t1=change.t1, rev=change.rev, gen=self.gen,
            first=self.first, last=self.last, bars=self.bars,
        )  # fmt: skip
