"""Terminal records: bars put together from shorter ones, ticks as lines."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from piker.brokers.core import aggregate
from piker.brokers.core import bars as newest_bars
from piker.brokers.data import tick_lines
from piker.model.bars import BAR_DTYPE, FILLED, PARTIAL
from piker.model.ticks import GAP, TICK_DTYPE, TRADE


def minutes(*rows):
    out = np.zeros(len(rows), BAR_DTYPE)
    for name, column in zip(
        ("time", "open", "high", "low", "close", "volume", "count", "flags"),
        zip(*rows, strict=True),
        strict=True,
    ):
        out[name] = column
    return out


def test_longer_bars_are_put_together_from_adjacent_ones():
    rows = minutes(
        (300, 1.0, 5.0, 1.0, 2.0, 1.5, 3, 0),
        (360, 2.0, 3.0, 0.5, 3.0, 2.0, 4, FILLED),
        (600, 3.0, 3.0, 3.0, 3.0, 0.0, 0, FILLED),
        (660, 3.0, 3.0, 3.0, 3.0, 0.0, 0, FILLED | PARTIAL),
    )
    out = aggregate(rows, 300, 60)
    assert out["time"].tolist() == [300, 600]
    assert [out[name].tolist() for name in ("open", "high", "low", "close")] == [
        [1.0, 3.0],
        [5.0, 3.0],
        [0.5, 3.0],
        [3.0, 3.0],
    ]
    assert out["volume"].tolist() == [3.5, 0.0]
    assert out["count"].tolist() == [7, 0]
    assert out["flags"].tolist() == [0, FILLED | PARTIAL]


def test_bars_of_the_base_period_stay_as_they_are():
    rows = minutes((60, 1.0, 5.0, 1.0, 2.0, 1.5, 3, 0))
    assert aggregate(rows, 60, 60) is rows
    assert len(aggregate(rows[:0], 300, 60)) == 0


@pytest.mark.parametrize(("period_s", "count"), [(0, 1), (60, 0)])
async def test_a_period_or_count_of_nothing_is_refused(period_s, count):
    with pytest.raises(ValueError, match="at least 1"):
        await newest_bars("btcusdt.spot.binance", period_s, count)


def test_a_recorded_line_names_its_type_and_leaves_unknown_numbers_out():
    records = np.array(
        [
            (7, TRADE, 0, 10.0, 1.0, math.nan, math.nan, 5, 6, 42),
            (0, GAP, 0, math.nan, math.nan, math.nan, math.nan, 0, 8, 3),
        ],
        TICK_DTYPE,
    )
    trade, gap = (json.loads(line) for line in tick_lines("a.b", records))
    assert (trade["fqme"], trade["type"], trade["price"], trade["tid"]) == (
        "a.b",
        "trade",
        10.0,
        42,
    )
    assert "price2" not in trade
    assert (gap["type"], gap["tid"]) == ("gap", 3)
