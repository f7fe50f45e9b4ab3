"""Holes, duplicates and order in rows of bars."""

from __future__ import annotations

import numpy as np
import pytest

from piker.model.bars import PARTIAL, empty_bars
from piker.tsp._gaps import dedupe, detect_time_gaps, find_gaps, slice_from_time


def bars(*times: int) -> np.ndarray:
    rows = empty_bars(len(times))
    rows["time"] = times
    rows["close"] = range(len(times))
    return rows


def test_gaps_are_the_ranges_without_a_row() -> None:
    assert find_gaps(bars(0, 60, 240, 300, 420)["time"], 60) == [(120, 240), (360, 420)]
    assert find_gaps(bars()["time"], 60) == []


def test_small_holes_can_be_left_out() -> None:
    assert detect_time_gaps(bars(0, 60, 240, 300, 420), 60, gap_thresh=2) == [(120, 240)]


def test_dedupe_sorts_and_keeps_the_row_given_last() -> None:
    rows, dropped = dedupe(bars(60, 0, 60, 120, 0))
    assert dropped == 2
    assert rows["time"].tolist() == [0, 60, 120]
    assert rows["close"].tolist() == [4, 2, 3]


def test_dedupe_never_lets_a_partial_row_replace_a_whole_one() -> None:
    rows = bars(60, 60)
    rows["flags"] = [0, PARTIAL]
    assert dedupe(rows)[0]["close"].tolist() == [0]
    rows["flags"] = PARTIAL
    assert dedupe(rows)[0]["close"].tolist() == [1]


@pytest.mark.parametrize("step", [None, 1, 7])
@pytest.mark.parametrize(
    ("start", "stop"), [(-5, 5), (0, 9), (3, 3), (2, 100), (90, 100), (1.5, 4.5)]
)
def test_slice_from_time_is_right_for_any_guess(step: int, start: float, stop: float) -> None:
    for rows in (bars(0, 1, 2, 3, 5, 8, 9), bars(), bars(4)):
        times = rows[slice_from_time(rows, start, stop, step)]["time"].tolist()
        assert times == [t for t in rows["time"].tolist() if start <= t < stop]
