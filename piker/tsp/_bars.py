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

Rows are kept in `_bar_table`, what is missing in `_losses`.

Reading order: `BarBuilder.add_trades`, `announce`, `_add`, `_fold`, `mark_lost`, `rebuild`.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

import msgspec

from piker.model.bars import PARTIAL, REPAIRED
from piker.tsp._bar_rows import Bar, BarChanges, plain
from piker.tsp._bar_table import LATE_MAX_NS, NS, BarTable
from piker.tsp._losses import BarGap, Losses, covers, misses

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
        self.period_s = period_s
        self._period_ns = period_s * NS
        self._losses = Losses()
        self._table = BarTable(period_s, size_tick, self._losses, is_continuous=is_continuous)
        self._newest_tid = -1
        self._repairs: dict[int, None] = {}
        self._trades = self._late = self._too_late = self._rejected = 0

    # ---- what callers see -----------------------------------------------------------------

    @property
    def is_continuous(self) -> bool:
        """Whether a period without trades gets a flat row."""
        return self._table.is_continuous

    @property
    def open_epoch(self) -> int | None:
        """Open time of the newest row, or None before the first."""
        return self._table.open_epoch

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
        self._table.seed(time_s, close)

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
        table, losses = self._table, self._losses
        period_ns, per_size, half = self._period_ns, table.ticks_per_size, 0.5
        bar: Bar | None = None
        start_ns = end_ns = 0
        is_touched = False
        rows = zip(plain(tids), plain(times_ns), plain(prices), plain(sizes), strict=True)
        for n, (tid, time_ns, price, size) in enumerate(rows):
            ticks = int(size * per_size + half)
            if (
                bar is not None
                and start_ns <= time_ns < end_ns
                and tid > self._newest_tid
                and time_ns >= table.newest_ns
            ):
                # The usual trade: next in id and time, in the row that is open.
                if not is_touched:
                    table.touch(start_ns // NS)
                    is_touched = True
                if price > bar.high:
                    bar.high = price
                elif price < bar.low:
                    bar.low = price
                bar.close, bar.close_key = price, (time_ns, tid)
                bar.ticks += ticks
                bar.count += 1
                self._newest_tid, table.newest_ns = tid, time_ns
                continue
            self._add(n, tid, time_ns, price, ticks)
            epoch = table.open_epoch
            bar = table.bars.get(epoch) if epoch is not None and losses.current is None else None
            if bar is not None and epoch is not None:
                is_touched = False
                start_ns = epoch * NS
                end_ns = start_ns + period_ns
        self._trades += len(tids)
        return table.flush()

    def announce(self, epoch_s: int) -> BarChanges:
        """Open the row at `epoch_s` (a multiple of the period) and close all before it."""
        table = self._table
        if table.open_epoch is not None and epoch_s > table.open_epoch:
            if table.is_continuous:
                table.open_through(epoch_s, 0)
            else:
                table.close_open(0)
        return table.flush()

    # ---- losses and repairs ---------------------------------------------------------------

    def mark_lost(self) -> BarChanges:
        """
        Say that trades may be missing from now until the next one that comes.

        Called when a connection is lost and when trade ids jump (before the trade that jumped).
        """
        table = self._table
        if self._losses.current is None and table.open_epoch is not None:
            lag = -(-LATE_MAX_NS // self._period_ns) * self.period_s
            t0 = max(
                table.newest_ns // self._period_ns * self.period_s,
                table.open_epoch - lag,
            )
            t0 = max(t0, table.first_epoch if table.first_epoch is not None else t0)
            base = table.close_before(t0)
            self._losses.begin(BarGap(self._newest_tid + 1, t0, base, seen=set()))
            table.touch_range(t0, table.open_epoch)
        return table.flush()

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
        per_size = self._table.ticks_per_size
        rows = zip(plain(tids), plain(times_ns), plain(prices), plain(sizes), strict=True)
        for tid, time_ns, price, size in rows:
            epoch = time_ns // self._period_ns * self.period_s
            if self._table.first_epoch is None or epoch < self._table.first_epoch:
                continue  # of rows that history gave
            if not any(misses(gap, tid) for gap in done):
                continue  # came live
            if self._fold(epoch, tid, time_ns, price, int(size * per_size + 0.5)):
                changed.add(epoch)
        # Once per row at the end: a flat stretch would be written again for every trade in it.
        for epoch in changed:
            self._table.rebase_after(epoch)
        for gap in done:
            self._losses.resolve(gap)
            assert gap.t0_s is not None
            assert gap.t1_s is not None
            self._table.touch_range(gap.t0_s, gap.t1_s, flag=REPAIRED)
        changes = self._table.flush()
        self._losses.drop_done()
        return changes

    def adopt(self, time_s: int, close: float) -> BarChanges:
        """
        Take the row at `time_s` as fetched from history: it is settled and no longer ours.

        The caller has written it to the array; flat rows after it take its close.
        """
        self._repairs.pop(time_s, None)
        if time_s == self._table.open_epoch:
            return self._table.flush()  # still forming: its trades count, not a bar of the venue
        self._table.adopt(time_s, close)
        return self._table.flush()

    def give_up(self, gap: BarGap) -> BarChanges:
        """Take `gap` off the list: its rows stay PARTIAL until `adopt`ed from history."""
        self._losses.abandon(gap)
        return self._table.flush()

    # ---- one trade off the fast path ------------------------------------------------------

    def _add(self, n: int, tid: int, time_ns: int, price: float, ticks: int) -> None:
        table = self._table
        epoch = time_ns // self._period_ns * self.period_s
        if table.open_epoch is not None and epoch - table.open_epoch > JUMP_MAX_S:
            self._rejected += 1
            return
        if tid < self._newest_tid and self._losses.is_resolved(tid):
            return
        if table.open_epoch is None or epoch > table.open_epoch:
            table.open_through(epoch, n)
            table.bars.add(epoch, Bar((time_ns, tid), price, ticks))
        elif epoch == table.open_epoch:
            self._fold(epoch, tid, time_ns, price, ticks)
        elif time_ns >= table.newest_ns - LATE_MAX_NS:
            self._late += 1
            if self._fold(epoch, tid, time_ns, price, ticks):
                table.rebase_after(epoch)
        else:
            self._too_late += 1
            if not self._losses.misses(tid):
                self._ask_repair(epoch)
            return
        if tid < self._newest_tid:
            self._losses.note_seen(tid)
        if self._losses.current is not None:
            self._end_gap(epoch, tid)
        table.newest_ns = max(table.newest_ns, time_ns)
        self._newest_tid = max(self._newest_tid, tid)

    def _fold(self, epoch: int, tid: int, time_ns: int, price: float, ticks: int) -> bool:
        """Count a trade in the row at `epoch`, open or closed; return whether its close changed."""
        table = self._table
        bar = table.bars.get(epoch)
        if bar is not None:
            before = bar.close
            bar.fold((time_ns, tid), price, ticks)
            changed = bar.close != before
        elif table.is_flat(epoch):
            table.bars.add(epoch, Bar((time_ns, tid), price, ticks))
            changed = True
        else:
            self._ask_repair(epoch)
            return False
        table.touch(epoch)
        return changed

    def _ask_repair(self, epoch: int) -> None:
        self._repairs[epoch] = None
        if len(self._repairs) > REPAIRS_MAX:
            del self._repairs[next(iter(self._repairs))]
        bar = self._table.bars.get(epoch)
        if bar is not None:
            bar.flags |= PARTIAL
            self._table.touch(epoch)

    def _end_gap(self, epoch: int, tid: int) -> None:
        empty = self._losses.end(epoch, tid, self._table.first_epoch)
        if empty is not None:
            assert empty.t0_s is not None
            assert empty.t1_s is not None
            self._table.touch_range(empty.t0_s, empty.t1_s)  # nothing was lost: no longer PARTIAL
