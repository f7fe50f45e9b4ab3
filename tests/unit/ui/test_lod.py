"""Every rung equals a brute-force aggregation of the base bars, however the bars arrived."""

import numpy as np
import pytest

from piker.model.bars import empty_bars
from piker.ui.ladder import RUNGS, anchor, base_of
from piker.ui.lod import C, H, L, O, Series, T, V, aggregate, bars_to_columns


def make_base(rng, n, base, start=1_700_000_000):
    """Return n ascending base rows with holes; prices on a tick, sizes whole, so sums are exact."""
    start -= start % base
    slots = np.cumsum(rng.choice([1, 1, 1, 1, 2, 90], n))
    out = np.empty((6, n))
    out[T] = start + slots * base
    prices = rng.integers(1000, 2000, (4, n)) / 4
    out[O], out[C] = prices[0], prices[1]
    out[H], out[L] = prices.max(axis=0), prices.min(axis=0)
    out[V] = rng.integers(0, 1000, n)
    return out


def brute(columns, rung):
    """Aggregate bar by bar with a plain dict."""
    buckets = {}
    for t, o, h, low, c, v in columns.T.tolist():
        at = (t - anchor(rung)) // rung * rung + anchor(rung)
        if at in buckets:
            old = buckets[at]
            buckets[at] = [at, old[1], max(old[2], h), min(old[3], low), c, old[5] + v]
        else:
            buckets[at] = [at, o, h, low, c, v]
    return np.array([buckets[at] for at in sorted(buckets)]).T.reshape(6, -1)


def assert_exact(series, base_rows):
    for rung, level in series.levels.items():
        assert np.array_equal(level.columns, brute(base_rows, rung)), rung


@pytest.mark.parametrize("base", [1, 60])
def test_every_rung_equals_brute_force(base):
    rng = np.random.default_rng(1)
    rows = make_base(rng, 700, base)
    series = Series(base)
    series.merge(rows)
    assert set(series.levels) == {r for r in RUNGS if base_of(r) == base}
    assert_exact(series, rows)


@pytest.mark.parametrize("seed", range(12))
def test_rungs_stay_exact_whatever_order_rows_arrive_in(seed):
    rng = np.random.default_rng(seed)
    base = 1 if seed % 2 else 60
    rows = make_base(rng, 240, base)
    held = np.zeros(240, bool)
    series = Series(base)
    for _ in range(25):
        low = int(rng.integers(0, 240))
        high = min(240, low + int(rng.integers(1, 60)))
        if rng.random() < 0.4:  # a repair: rows that are known change
            rows[C, low:high] = np.minimum(rows[H, low:high], rows[C, low:high] + 0.25)
            rows[V, low:high] += 1
            chosen = np.flatnonzero(held[low:high]) + low
        else:
            chosen = np.arange(low, high)
            held[low:high] = True
        series.merge(rows[:, chosen])
        times = series.levels[base].columns[T]
        known = rows[:, held]
        assert np.array_equal(times, known[T])
        series.merge(known)
        assert_exact(series, known)


def test_a_growing_last_bar_updates_one_row_per_rung():
    rng = np.random.default_rng(5)
    rows = make_base(rng, 100, 60)
    series = Series(60)
    series.merge(rows)
    sizes = {rung: len(level) for rung, level in series.levels.items()}
    last = rows[:, -1:].copy()
    last[H] += 5
    last[C] = last[H]
    assert series.merge(last) == (last[T, 0], last[T, 0] + 60)
    rows[:, -1:] = last
    assert {rung: len(level) for rung, level in series.levels.items()} == sizes
    assert_exact(series, rows)


def test_merging_what_is_held_changes_nothing():
    rows = make_base(np.random.default_rng(6), 50, 60)
    series = Series(60)
    assert series.merge(rows) == (rows[T, 0], rows[T, -1] + 60)
    assert series.merge(rows) is None
    assert series.merge(rows[:, 10:20]) is None
    assert series.merge(np.empty((6, 0))) is None


def test_a_repair_names_only_the_rows_that_differ():
    rows = make_base(np.random.default_rng(7), 50, 60)
    series = Series(60)
    series.merge(rows)
    rows[V, 20:23] += 1
    assert series.merge(rows[:, 10:40]) == (rows[T, 20], rows[T, 22] + 60)


def test_forgotten_rows_leave_exact_rungs():
    rows = make_base(np.random.default_rng(8), 300, 1)
    series = Series(1)
    series.merge(rows)
    series.drop_before(rows[T, 123])
    assert_exact(series, rows[:, 123:])


def test_history_in_front_keeps_head_room_for_thousands_of_rows():
    rng = np.random.default_rng(9)
    rows = make_base(rng, 6000, 60)
    series = Series(60)
    for high in range(6000, 0, -500):
        series.merge(rows[:, high - 500 : high])
    assert_exact(series, rows)


def test_extremes_of_a_view_are_those_of_its_base_bars():
    rows = make_base(np.random.default_rng(10), 3000, 60)
    coarse = aggregate(rows, 3600)
    assert coarse[H].max() == rows[H].max()
    assert coarse[L].min() == rows[L].min()
    assert coarse[V].sum() == rows[V].sum()


def test_rows_that_are_not_numbers_are_left_out():
    bars = empty_bars(4)
    bars["time"] = [60, 120, 180, 0]
    for name in ("open", "high", "low", "close"):
        bars[name] = 5.0
    bars["high"][1] = np.nan
    assert bars_to_columns(bars)[T].tolist() == [60.0, 180.0]
