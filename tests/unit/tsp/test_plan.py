"""Arithmetic of history: pages, holes, placeholders."""

from __future__ import annotations

import numpy as np

from piker.model.bars import BAR_DTYPE, FILLED, PARTIAL
from piker.tsp._plan import (
    closed_rows,
    densify,
    placeholders,
    plan_pages,
    sorted_unique,
    time_ranges,
)


def bars(*times, close=1.0, flags=0):
    rows = np.zeros(len(times), BAR_DTYPE)
    rows["time"] = times
    rows["close"] = close
    rows["flags"] = flags
    return rows


def test_the_forming_row_of_the_venue_is_dropped():
    assert closed_rows(bars(0, 60, 120), 60, 179.9)["time"].tolist() == [0, 60]
    assert closed_rows(bars(0, 60, 120), 60, 180.0)["time"].tolist() == [0, 60, 120]


def test_pages_go_from_the_newest_to_the_oldest_and_cover_all():
    pages = list(plan_pages(30, 600, 60, 4))
    assert pages == [(360, 600), (120, 360), (60, 120)]


def test_an_empty_range_has_no_pages():
    assert list(plan_pages(600, 600, 60, 4)) == []


def test_holes_become_flat_placeholders():
    dense = densify(bars(0, 3, close=2.0), 1)
    assert dense["time"].tolist() == [0, 1, 2, 3]
    assert dense["flags"].tolist() == [0, FILLED | PARTIAL, FILLED | PARTIAL, 0]
    assert dense["open"].tolist() == [0.0, 2.0, 2.0, 0.0]


def test_rows_out_of_order_or_doubled_are_sorted_and_the_last_wins():
    rows = bars(3, 1, 1, 2)
    rows["volume"] = [30, 10, 11, 20]
    assert sorted_unique(rows)["volume"].tolist() == [11, 20, 30]
    assert densify(rows, 1)["time"].tolist() == [1, 2, 3]


def test_rows_off_the_boundary_are_left_out():
    assert densify(bars(0, 61, 120), 60)["time"].tolist() == [0, 60, 120]


def test_nothing_stays_nothing():
    assert len(densify(bars(), 60)) == 0
    assert time_ranges(bars()["time"], 60) == []
    assert len(placeholders(1.0, 60, 60, 60)) == 0


def test_scattered_times_become_few_ranges_newest_first():
    times = np.array([5, 6, 9, 50, 51])
    assert time_ranges(times, 1) == [(50, 52), (5, 10)]
    assert time_ranges(times, 1, rows_max=2) == [(50, 52), (8, 10), (6, 8), (5, 6)]
