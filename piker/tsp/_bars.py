"""
Bars from trades: the one place that knows which trade belongs to which row.

Pure: trades and announcements in, row changes out; no clock, no files, no arrays.

Rules:
1. A trade belongs to the bar of its VENUE time. Open and close go by (venue time, trade id), not
   by arrival. Volume is summed as an integer number of size ticks.
2. A row is closed by the announcement of a later period, or by the first trade of a later one,
   whichever comes first. An announcement of a row already open or passed does nothing; one that
   skips periods closes each in turn. Continuous markets get flat rows where nothing traded.
3. Late is counted in venue time behind the newest venue time seen. Up to `LATE_MAX_NS` a trade
   corrects its own closed row, and the flat rows after it take the new close. Later ones are
   counted, and their rows are named in `repairs`, to be fetched from history.
4. A row not seen from its first trade is PARTIAL until the missing trades came by `rebuild`; what
   is missing is a range of trade ids (`gaps`), never a stretch of time.

Rows and their arithmetic are in `_bar_rows`, what is missing in `_losses`.

Reading order: `BarBuilder.add_trades`, `announce`, `_open_through`, `_fold_late`, `rebuild`.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

import msgspec

from piker.model.bars import FILLED, PARTIAL, REPAIRED
from piker.tsp._bar_rows import Bar, BarChanges, BarRow, HeldBars, plain
from piker.tsp._losses import BarGap, Losses, covers, misses, spans

NS = 1_000_000_000
LATE_MAX_NS = 2 * NS  # behind the newest venue time seen; 3 % of trades cross a minute like this
FILL_ROWS_MAX = 86_400  # flat rows of one jump; a ring of one day holds no more of them anyway
JUMP_MAX_S = 30 * 86_400  # a trade further ahead than any market pauses is a wrong stamp
REPAIRS_MAX = 1024  # rows waiting for history; older ones are dropped, still flagged PARTIAL


class BarStats(msgspec.Struct, frozen=True):
    """Counters of a builder since its start."""

    trades: int
    late: int  # corrected a closed row
    too_late: int  # left to a repair from history
    rejected: int  # stamps further ahead than any market pauses
    gaps_open: int
    repairs_open: int


class BarBuilder:
    """
    Builds the bars of one market and one period.

    `size_tick` 0 (unknown) counts in 1e-8. Sizes are summed exactly and written as the nearest
    float64. Every call returns what changed; the caller applies that to its array in order.
    """

    def __init__(self, period_s: int, size_tick: Decimal, *, is_continuous: bool = True) -> None:
        numerator, denominator = (size_tick or Decimal("1e-8")).as_integer_ratio()
        self.period_s = period_s
        self.is_continuous = is_continuous
        self._period_ns = period_s * NS
        self._tick_num, self._tick_den = numerator, denominator
        self._per_size = denominator / numerator
        self._bars = HeldBars()
        self._open: int | None = None  # epoch of the newest row
        self._is_closed = True  # the newest row is closed and none is open (a closed market)
        self._first: int | None = None  # epoch of the oldest row that is ours to write
        self._base: tuple[int, float] | None = None  # newest traded row that is settled
        self._newest_ns = 0
        self._newest_tid = -1
        self._losses = Losses()
        self._repairs: dict[int, None] = {}
        self._new: dict[int, None] = {}  # rows to append after this call
        self._dirty: dict[int, None] = {}  # rows to write again after this call
        self._closed: list[tuple[int, BarRow]] = []
        self._trades = self._late = self._too_late = self._rejected = 0

    # ---- what callers see -----------------------------------------------------------------

    @property
    def open_epoch(self) -> int | None:
        """Open time of the newest row, or None before the first."""
        return self._open

    @property
    def gaps(self) -> list[BarGap]:
        """Losses that ended and wait for `rebuild`, oldest first."""
        return list(self._losses.ended)

    @property
    def repairs(self) -> list[int]:
        """Open times of rows that miss a trade and must be fetched from history."""
        return list(self._repairs)

    def statistics(self) -> BarStats:
        """Return the counters."""
        return BarStats(
            self._trades, self._late, self._too_late, self._rejected,
            len(self._losses), len(self._repairs),
        )  # fmt: skip

    def seed(self, time_s: int, close: float) -> None:
        """
        Take the newest row of history as settled: rows after it are ours, flat ones start there.

        Only before the first row of our own; later it does nothing.
        """
        if self._open is None:
            self._open, self._is_closed = time_s, True
            self._first = time_s + self.period_s
            self._base = (time_s, close)

    def add_trade(self, tid: int, time_ns: int, price: float, size: float) -> BarChanges:
        """Count one trade; `time_ns` is the venue's."""
        return self.add_trades((tid,), (time_ns,), (price,), (size,))

    def add_trades(
        self,
        tids: Sequence[int],
        times_ns: Sequence[int],
        prices: Sequence[float],
        sizes: Sequence[float],
    ) -> BarChanges:
        """
        Count a batch of trades in order of arrival; columns may be lists or numpy arrays.

        Duplicates are the caller's to drop (`TradeIds`).
        """
        period_ns, per_size, half = self._period_ns, self._per_size, 0.5
        bar: Bar | None = None
        start_ns = end_ns = 0
        is_touched = False
        losses = self._losses
        rows = zip(plain(tids), plain(times_ns), plain(prices), plain(sizes), strict=True)
        for n, (tid, time_ns, price, size) in enumerate(rows):
            ticks = int(size * per_size + half)
            if (
                bar is not None
                and start_ns <= time_ns < end_ns
                and tid > self._newest_tid
                and time_ns >= self._newest_ns
            ):
                # The usual trade: next in id and time, in the row that is open.
                if not is_touched:
                    self._touch(start_ns // NS)
                    is_touched = True
                if price > bar.high:
                    bar.high = price
                elif price < bar.low:
                    bar.low = price
                bar.close, bar.close_key = price, (time_ns, tid)
                bar.ticks += ticks
                bar.count += 1
                self._newest_tid, self._newest_ns = tid, time_ns
                continue
            self._add(n, tid, time_ns, price, ticks)
            epoch = self._open
            bar = self._bars.get(epoch) if epoch is not None and losses.current is None else None
            if bar is not None and epoch is not None:
                is_touched = False
                start_ns = epoch * NS
                end_ns = start_ns + period_ns
        self._trades += len(tids)
        return self._flush()

    def announce(self, epoch_s: int) -> BarChanges:
        """Open the row at `epoch_s` (a multiple of the period) and close all before it."""
        if self._open is not None and epoch_s > self._open:
            if self.is_continuous:
                self._open_through(epoch_s, 0)
            else:
                self._close_open(0)
        return self._flush()

    # ---- losses and repairs ---------------------------------------------------------------

    def mark_lost(self) -> BarChanges:
        """
        Say that trades may be missing from now until the next one that comes.

        Called when a connection is lost and when trade ids jump (before the trade that jumped).
        """
        if self._losses.current is None and self._open is not None:
            lag = -(-LATE_MAX_NS // self._period_ns) * self.period_s
            t0 = max(self._newest_ns // self._period_ns * self.period_s, self._open - lag)
            t0 = max(t0, self._first if self._first is not None else t0)
            base = self._close_before(t0)
            self._losses.begin(BarGap(self._newest_tid + 1, t0, base, seen=set()))
            self._touch_range(t0, self._open)
        return self._flush()

    def rebuild(
        self,
        tids: Sequence[int],
        times_ns: Sequence[int],
        prices: Sequence[float],
        sizes: Sequence[float],
        *,
        first_tid: int | None,
        last_tid: int,
    ) -> BarChanges:
        """
        Count the trades that were missed and clear PARTIAL where nothing is missing any more.

        The columns hold ALL trades with ids from `first_tid` to `last_tid` (None: from the start
        of the row a start-up gap began in). Trades that came live are not counted twice.
        """
        done = [gap for gap in self._losses.ended if covers(gap, first_tid, last_tid)]
        changed: set[int] = set()
        rows = zip(plain(tids), plain(times_ns), plain(prices), plain(sizes), strict=True)
        for tid, time_ns, price, size in rows:
            epoch = time_ns // self._period_ns * self.period_s
            if self._first is None or epoch < self._first:
                continue  # of rows that history gave
            if not any(misses(gap, tid) for gap in done):
                continue  # came live
            if self._fold(epoch, tid, time_ns, price, int(size * self._per_size + 0.5)):
                changed.add(epoch)
        # Once per row at the end: a flat stretch would be written again for every trade in it.
        for epoch in changed:
            self._rebase_after(epoch)
        for gap in done:
            self._losses.resolve(gap)
            assert gap.t0_s is not None
            assert gap.t1_s is not None
            self._touch_range(gap.t0_s, gap.t1_s, flag=REPAIRED)
        changes = self._flush()
        self._losses.drop_done()
        return changes

    def adopt(self, time_s: int, close: float) -> BarChanges:
        """
        Take the row at `time_s` as fetched from history: it is settled and no longer ours.

        The caller has written it to the array; flat rows after it take its close.
        """
        self._repairs.pop(time_s, None)
        if time_s == self._open:
            return self._flush()  # still forming: its trades count, not a bar of the venue
        self._bars.pop(time_s)
        if self._base is None or self._base[0] <= time_s:
            self._base = (time_s, close)
            self._rebase_after(time_s)
        return self._flush()

    def give_up(self, gap: BarGap) -> BarChanges:
        """Take `gap` off the list: its rows stay PARTIAL until `adopt`ed from history."""
        self._losses.abandon(gap)
        return self._flush()

    # ---- one trade off the fast path ------------------------------------------------------

    def _add(self, n: int, tid: int, time_ns: int, price: float, ticks: int) -> None:
        epoch = time_ns // self._period_ns * self.period_s
        if self._open is not None and epoch - self._open > JUMP_MAX_S:
            self._rejected += 1
            return
        if tid < self._newest_tid and self._losses.is_resolved(tid):
            return
        if self._open is None or epoch > self._open:
            self._open_through(epoch, n)
            self._bars.add(epoch, Bar((time_ns, tid), price, ticks))
        elif epoch == self._open:
            self._fold(epoch, tid, time_ns, price, ticks)
        elif time_ns >= self._newest_ns - LATE_MAX_NS:
            self._late += 1
            if self._fold(epoch, tid, time_ns, price, ticks):
                self._rebase_after(epoch)
        else:
            self._too_late += 1
            if not self._losses.misses(tid):
                self._ask_repair(epoch)
            return
        if tid < self._newest_tid:
            self._losses.note_seen(tid)
        if self._losses.current is not None:
            self._end_gap(epoch, tid)
        self._newest_ns = max(self._newest_ns, time_ns)
        self._newest_tid = max(self._newest_tid, tid)

    def _fold(self, epoch: int, tid: int, time_ns: int, price: float, ticks: int) -> bool:
        """Count a trade in the row at `epoch`, open or closed; return whether its close changed."""
        bar = self._bars.get(epoch)
        if bar is not None:
            before = bar.close
            bar.fold((time_ns, tid), price, ticks)
            changed = bar.close != before
        elif self._is_flat(epoch):
            self._bars.add(epoch, Bar((time_ns, tid), price, ticks))
            changed = True
        else:
            self._ask_repair(epoch)
            return False
        self._touch(epoch)
        return changed

    def _is_flat(self, epoch: int) -> bool:
        """Whether the row at `epoch`, of which no trade is held, is known to have none."""
        if self._first is None or epoch < self._first or not self.is_continuous:
            return False
        return (
            self._base is None
            or epoch > self._base[0]
            or any(spans(gap, epoch) for gap in self._losses.ended)
        )

    def _ask_repair(self, epoch: int) -> None:
        self._repairs[epoch] = None
        if len(self._repairs) > REPAIRS_MAX:
            del self._repairs[next(iter(self._repairs))]
        bar = self._bars.get(epoch)
        if bar is not None:
            bar.flags |= PARTIAL
            self._touch(epoch)

    def _end_gap(self, epoch: int, tid: int) -> None:
        empty = self._losses.end(epoch, tid, self._first)
        if empty is not None:
            assert empty.t0_s is not None
            assert empty.t1_s is not None
            self._touch_range(empty.t0_s, empty.t1_s)  # nothing was lost: no longer PARTIAL

    # ---- rows -----------------------------------------------------------------------------

    def _open_through(self, epoch: int, n: int) -> None:
        """Close what is open and open the row at `epoch`, with flat rows between."""
        first = epoch
        if self._open is not None:
            self._close_open(n)
            if self.is_continuous:
                first = max(self._open + self.period_s, epoch - FILL_ROWS_MAX * self.period_s)
        if self._first is None:
            self._first = epoch
        for at in range(first, epoch, self.period_s):
            self._new[at] = None
            self._closed.append((n, self._row(at)))
        self._new[epoch] = None
        self._open, self._is_closed = epoch, False
        self._prune()

    def _close_open(self, n: int) -> None:
        if not self._is_closed and self._open is not None:
            self._closed.append((n, self._row(self._open)))
            self._is_closed = True

    def _prune(self) -> None:
        """Settle traded rows that neither a late trade nor a rebuild can reach any more."""
        horizon_s = (self._newest_ns - LATE_MAX_NS) // NS - self.period_s
        for epoch in self._bars.oldest_first():
            if epoch > horizon_s or epoch == self._open:
                break
            if not self._losses.is_in_gap(epoch):
                self._settle(epoch)

    def _settle(self, epoch: int) -> None:
        if epoch in self._dirty or epoch in self._new:
            return  # its row is still to be handed out
        bar = self._bars.pop(epoch)
        if bar is not None and (self._base is None or self._base[0] < epoch):
            self._base = (epoch, bar.close)

    def _close_before(self, epoch: int) -> float | None:
        """Return the close of the newest traded row before `epoch`."""
        held = self._bars.before(epoch)
        base = self._base if self._base is not None and self._base[0] < epoch else None
        if held is not None and (base is None or held > base[0]):
            bar = self._bars.get(held)
            assert bar is not None
            return bar.close
        if base is not None:
            return base[1]
        return next((gap.base for gap in self._losses.ended if spans(gap, epoch)), None)

    def _rebase_after(self, epoch: int) -> None:
        """Write the flat rows after `epoch` again, up to the next row that traded."""
        if self._open is None or not self.is_continuous:
            return
        stop = self._bars.after(epoch) or self._open + self.period_s
        if self._base is not None and self._base[0] > epoch:
            stop = min(stop, self._base[0])
        self._touch_range(epoch + self.period_s, stop - self.period_s)

    def _touch(self, epoch: int) -> None:
        if epoch not in self._new:
            self._dirty[epoch] = None

    def _touch_range(self, t0_s: int, t1_s: int, flag: int = 0) -> None:
        first = t0_s if self._first is None else max(t0_s, self._first)
        last = t1_s if self._open is None else min(t1_s, self._open)
        for epoch in range(
            max(first, last - FILL_ROWS_MAX * self.period_s), last + 1, self.period_s
        ):
            bar = self._bars.get(epoch)
            if bar is not None or (self.is_continuous and self._close_before(epoch) is not None):
                self._touch(epoch)
                if bar is not None:
                    bar.flags |= flag

    def _row(self, epoch: int) -> BarRow:
        partial = PARTIAL if self._losses.is_partial(epoch) else 0
        bar = self._bars.get(epoch)
        if bar is None:
            close = self._close_before(epoch)
            assert close is not None, f"no close before the flat row {epoch}"
            return BarRow(epoch, close, close, close, close, 0.0, 0, FILLED | partial)
        volume = bar.ticks * self._tick_num / self._tick_den
        flags = bar.flags | partial
        return BarRow(epoch, bar.open, bar.high, bar.low, bar.close, volume, bar.count, flags)

    def _flush(self) -> BarChanges:
        changes = BarChanges(
            [self._row(epoch) for epoch in self._new],
            [self._row(epoch) for epoch in sorted(self._dirty)],
            self._closed,
        )
        self._new, self._dirty, self._closed = {}, {}, []
        return changes
