"""
Losses of a bar builder: which trades were not seen, as ranges of trade ids.

A loss is going on (`current`), has ended and waits for its trades (`ended`), was given up (its
rows stay PARTIAL), or was resolved (its trades may still come live and are not counted again).
"""

from __future__ import annotations

import msgspec

GAPS_MAX = 64  # unrepaired losses remembered; older ones stay PARTIAL


class BarGap(msgspec.Struct):
    """
    Trades that were not seen: ids `first_tid` to `last_tid`, rows `t0_s` to `t1_s`.

    `first_tid` None: all trades from the start of row `t0_s`. `last_tid` None: still going on.
    """

    first_tid: int | None
    t0_s: int | None
    base: float | None  # close before row t0_s
    last_tid: int | None = None
    t1_s: int | None = None
    seen: set[int] = set()  # ids of the range that came after all
    is_done: bool = False


class Losses:
    """All losses of one builder; at its start everything before the first trade is one."""

    def __init__(self) -> None:
        self.current: BarGap | None = BarGap(None, None, None)
        self.ended: list[BarGap] = []  # oldest first
        self._given_up: list[BarGap] = []
        self._resolved: list[tuple[int | None, int]] = []

    def __len__(self) -> int:
        return len(self.ended) + (self.current is not None)

    def is_in_gap(self, epoch: int) -> bool:
        """Whether trades of the row at `epoch` may still be missing and still be repaired."""
        if self.current is not None and spans(self.current, epoch):
            return True
        return any(spans(gap, epoch) for gap in self.ended if not gap.is_done)

    def is_partial(self, epoch: int) -> bool:
        """Whether the row at `epoch` may miss trades, repairable or not."""
        return self.is_in_gap(epoch) or any(spans(gap, epoch) for gap in self._given_up)

    def misses(self, tid: int) -> bool:
        """Whether trade `tid` belongs to a loss that ended and has not come since."""
        return any(misses(gap, tid) for gap in self.ended)

    def note_seen(self, tid: int) -> None:
        """Note that a trade of a loss that ended came after all."""
        for gap in self.ended:
            if misses(gap, tid):
                gap.seen.add(tid)

    def is_resolved(self, tid: int) -> bool:
        """Whether trade `tid` was counted with the trades of a repair."""
        return any(
            (first is None or first <= tid) and tid <= last for first, last in self._resolved
        )

    def begin(self, gap: BarGap) -> None:
        """Take `gap` as the loss that is going on."""
        self.current = gap

    def end(self, epoch: int, tid: int, first_epoch: int | None) -> BarGap | None:
        """
        End the loss at trade `tid` of the row at `epoch`; return it when no trade was lost.

        `first_epoch` is the oldest row of the builder, where a start-up loss begins.
        """
        gap, self.current = self.current, None
        assert gap is not None
        if gap.t0_s is None:
            gap.t0_s = first_epoch
        assert gap.t0_s is not None
        gap.t1_s, gap.last_tid = max(epoch, gap.t0_s), tid - 1
        if gap.first_tid is not None and gap.last_tid < gap.first_tid:
            return gap
        self.ended.append(gap)
        if len(self.ended) > GAPS_MAX:
            self.abandon(self.ended[0])
        return None

    def abandon(self, gap: BarGap) -> None:
        """Leave the rows of `gap` PARTIAL for good."""
        self.ended.remove(gap)
        self._given_up = [*self._given_up[1 - GAPS_MAX :], gap]

    def resolve(self, gap: BarGap) -> None:
        """Note that all trades of `gap` are counted; it stands in `ended` until `drop_done`."""
        gap.is_done = True
        self._resolved = [*self._resolved[1 - GAPS_MAX :], (gap.first_tid, gap.last_tid or 0)]

    def drop_done(self) -> None:
        """Take the resolved losses off the list."""
        self.ended = [gap for gap in self.ended if not gap.is_done]


def covers(gap: BarGap, first_tid: int | None, last_tid: int) -> bool:
    """Whether the ids `first_tid` to `last_tid` hold all that `gap` misses."""
    if gap.last_tid is None or gap.last_tid > last_tid:
        return False
    return first_tid is None or (gap.first_tid is not None and first_tid <= gap.first_tid)


def misses(gap: BarGap, tid: int) -> bool:
    """Whether trade `tid` is of `gap` and has not come since."""
    if gap.last_tid is None or tid > gap.last_tid or tid in gap.seen:
        return False
    return gap.first_tid is None or tid >= gap.first_tid


def spans(gap: BarGap, epoch: int) -> bool:
    """Whether the row at `epoch` lies in `gap`."""
    if gap.t0_s is not None and epoch < gap.t0_s:
        return False
    return gap.t1_s is None or epoch <= gap.t1_s
