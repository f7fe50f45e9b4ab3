"""
The period ladder and the arithmetic of slots, levels and blocks.

Pure; the page's `ladder.js` computes the same, held together by `tests/unit/ui/golden_ladder.json`.
A *period* is what one candle means, a *slot* is one period's place on the x axis, a *rung* is one
level of aggregation (in seconds), a *block* is `BLOCK_ROWS` consecutive slots of one rung. Here
every market is open all the time; `sessions` takes closed time out.
"""

from __future__ import annotations

import math
from typing import Final

BLOCK_ROWS: Final = 1024
LADDER: Final = (1, 5, 15, 60, 300, 900, 3600, 14400, 86400, 604800)
EXTRA: Final = (30, 180, 1800, 7200)
RUNGS: Final = tuple(sorted(LADDER + EXTRA))
WEEK: Final = 604800
MONDAY: Final = -259200  # 1969-12-29 00:00 UTC: weeks begin on Mondays, the epoch was a Thursday


def anchor(period: int) -> int:
    """Return where slot 0 of `period` begins, epoch seconds."""
    return MONDAY if period % WEEK == 0 else 0


def slot_of(time: float, period: int) -> int:
    """Return the slot that holds `time` (epoch seconds)."""
    return math.floor((time - anchor(period)) / period)


def time_of(slot: int, period: int) -> int:
    """Return where `slot` begins, epoch seconds."""
    return slot * period + anchor(period)


def block_of(slot: int) -> int:
    """Return the block that holds `slot`."""
    return slot // BLOCK_ROWS


def block_span(block: int, period: int) -> tuple[int, int]:
    """Return the half-open time range of `block` of the rung `period`."""
    first = block * BLOCK_ROWS
    return time_of(first, period), time_of(first + BLOCK_ROWS, period)


def level(period: int, px_per_slot: float) -> int:
    """
    Return the rung to draw when one slot of `period` is `px_per_slot` device pixels wide.

    From one pixel on it is the period itself; below, the coarsest rung of the ladder whose bucket
    is at most one pixel wide.
    """
    if px_per_slot >= 1:
        return period
    fitting = [
        rung
        for rung in LADDER
        if rung >= period and rung % period == 0 and rung * px_per_slot <= period
    ]
    return fitting[-1] if fitting else period


def view_level(period: int, time_0: float, time_1: float, px: float) -> int:
    """Return the rung for a view of `time_0` to `time_1` that is `px` device pixels wide."""
    slots = (time_1 - time_0) / period
    return level(period, px / slots) if slots > 0 else period


def base_of(rung: int) -> int:
    """Return the period of the array a rung is aggregated from: 1 s below a minute, else 1 m."""
    return 1 if rung < 60 else 60


def feeder(rung: int) -> int | None:
    """Return the rung that `rung` is built from: the coarsest of its base that divides it."""
    base = base_of(rung)
    if rung == base:
        return None
    return max(r for r in LADDER if base <= r < rung and rung % r == 0 and base_of(r) == base)
