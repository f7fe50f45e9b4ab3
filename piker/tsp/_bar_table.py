"""
The rows of one market and one period: which are ours, which is open, what lies between them.

Holds no rule about trades (`_bars`) or losses (`_losses`). A row is traded (held in `bars` while it
may change), settled (only the newest close is kept), or flat (a close, and nothing traded).
"""

from __future__ import annotations

from decimal import Decimal

from piker.model.bars import FILLED, PARTIAL
from piker.tsp._bar_rows import BarChanges, BarRow, HeldBars
from piker.tsp._losses import Losses, spans

NS = 1_000_000_000
LATE_MAX_NS = 2 * NS  # behind the newest venue time seen; 3 % of trades cross a minute like this
FILL_ROWS_MAX = 86_400  # flat rows of one jump; a ring of one day holds no more of them anyway


class BarTable:
    """Opens, closes and settles rows, and remembers which changed since the last `flush`."""

    def __init__(
        self, period_s: int, size_tick: Decimal, losses: Losses, *, is_continuous: bool
    ) -> None:
        numerator, denominator = (size_tick or Decimal("1e-8")).as_integer_ratio()
        self.period_s = period_s
        self.is_continuous = is_continuous
        self.ticks_per_size = denominator / numerator
        self.bars = HeldBars()
        self.open_epoch: int | None = None  # of the newest row
        self.first_epoch: int | None = None  # of the oldest row that is ours to write
        self.newest_ns = 0  # newest venue time seen
        self._losses = losses
        self._tick_num, self._tick_den = numerator, denominator
        self._is_closed = True  # the newest row is closed and none is open (a closed market)
        self._base: tuple[int, float] | None = None  # newest traded row that is settled
        self._new: dict[int, None] = {}  # rows to append
        self._dirty: dict[int, None] = {}  # rows to write again
        self._closed: list[tuple[int, BarRow]] = []

    def seed(self, time_s: int, close: float) -> None:
        """Take the newest row of history as settled; only before the first row of our own."""
        if self.open_epoch is None:
            self.open_epoch, self._is_closed = time_s, True
            self.first_epoch = time_s + self.period_s
            self._base = (time_s, close)

    def adopt(self, time_s: int, close: float) -> None:
        """Take the closed row at `time_s` from history: settled, and flat rows follow its close."""
        self.bars.pop(time_s)
        if self._base is None or self._base[0] <= time_s:
            self._base = (time_s, close)
            self.rebase_after(time_s)

    def is_flat(self, epoch: int) -> bool:
        """Whether the row at `epoch`, of which no trade is held, is known to have none."""
        if self.first_epoch is None or epoch < self.first_epoch or not self.is_continuous:
            return False
        return (
            self._base is None
            or epoch > self._base[0]
            or any(spans(gap, epoch) for gap in self._losses.ended)
        )

    def open_through(self, epoch: int, n: int) -> None:
        """Close what is open and open the row at `epoch`, flat rows between (trade number `n`)."""
        first = epoch
        if self.open_epoch is not None:
            self.close_open(n)
            if self.is_continuous:
                first = max(self.open_epoch + self.period_s, epoch - FILL_ROWS_MAX * self.period_s)
        if self.first_epoch is None:
            self.first_epoch = epoch
        for at in range(first, epoch, self.period_s):
            self._new[at] = None
            self._closed.append((n, self.row(at)))
        self._new[epoch] = None
        self.open_epoch, self._is_closed = epoch, False
        self._prune()

    def close_open(self, n: int) -> None:
        """Close the newest row, if it is open, before trade number `n`."""
        if not self._is_closed and self.open_epoch is not None:
            self._closed.append((n, self.row(self.open_epoch)))
            self._is_closed = True

    def _prune(self) -> None:
        """Settle traded rows that neither a late trade nor a rebuild can reach any more."""
        horizon_s = (self.newest_ns - LATE_MAX_NS) // NS - self.period_s
        for epoch in self.bars.oldest_first():
            if epoch > horizon_s or epoch == self.open_epoch:
                break
            if not self._losses.is_in_gap(epoch):
                self._settle(epoch)

    def _settle(self, epoch: int) -> None:
        if epoch in self._dirty or epoch in self._new:
            return  # its row is still to be handed out
        bar = self.bars.pop(epoch)
        if bar is not None and (self._base is None or self._base[0] < epoch):
            self._base = (epoch, bar.close)

    def close_before(self, epoch: int) -> float | None:
        """Return the close of the newest traded row before `epoch`."""
        held = self.bars.before(epoch)
        base = self._base if self._base is not None and self._base[0] < epoch else None
        if held is not None and (base is None or held > base[0]):
            bar = self.bars.get(held)
            assert bar is not None
            return bar.close
        if base is not None:
            return base[1]
        return next((gap.base for gap in self._losses.ended if spans(gap, epoch)), None)

    def rebase_after(self, epoch: int) -> None:
        """Write the flat rows after `epoch` again, up to the next row that traded."""
        if self.open_epoch is None or not self.is_continuous:
            return
        stop = self.bars.after(epoch) or self.open_epoch + self.period_s
        if self._base is not None and self._base[0] > epoch:
            stop = min(stop, self._base[0])
        self.touch_range(epoch + self.period_s, stop - self.period_s)

    def touch(self, epoch: int) -> None:
        """Have the row at `epoch` written again, unless it is still to be appended."""
        if epoch not in self._new:
            self._dirty[epoch] = None

    def touch_range(self, t0_s: int, t1_s: int, flag: int = 0) -> None:
        """Have the rows from `t0_s` to `t1_s` written again; traded ones get `flag`."""
        first = t0_s if self.first_epoch is None else max(t0_s, self.first_epoch)
        last = t1_s if self.open_epoch is None else min(t1_s, self.open_epoch)
        for epoch in range(
            max(first, last - FILL_ROWS_MAX * self.period_s), last + 1, self.period_s
        ):
            bar = self.bars.get(epoch)
            if bar is not None or (self.is_continuous and self.close_before(epoch) is not None):
                self.touch(epoch)
                if bar is not None:
                    bar.flags |= flag

    def row(self, epoch: int) -> BarRow:
        """Return the row at `epoch` as it stands, traded or flat."""
        partial = PARTIAL if self._losses.is_partial(epoch) else 0
        bar = self.bars.get(epoch)
        if bar is None:
            close = self.close_before(epoch)
            assert close is not None, f"no close before the flat row {epoch}"
            return BarRow(epoch, close, close, close, close, 0.0, 0, FILLED | partial)
        volume = bar.ticks * self._tick_num / self._tick_den
        flags = bar.flags | partial
        return BarRow(epoch, bar.open, bar.high, bar.low, bar.close, volume, bar.count, flags)

    def flush(self) -> BarChanges:
        """Return what changed since the last time."""
        changes = BarChanges(
            [self.row(epoch) for epoch in self._new],
            [self.row(epoch) for epoch in sorted(self._dirty)],
            self._closed,
        )
        self._new, self._dirty, self._closed = {}, {}, []
        return changes
