"""What a paper market reads of the feed and of orders, counted in ticks."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pytest
from paper_helpers import MKT, NAN

from piker.clearing._paper_grid import Grid
from piker.model.ticks import QUOTE, RECOVERED, TICK_DTYPE, TRADE


def test_records_are_counted_in_ticks_and_missing_amounts_are_0() -> None:
    batch = np.zeros(3, TICK_DTYPE)
    batch["type"], batch["flags"] = (QUOTE, TRADE, QUOTE), (0, RECOVERED, 0)
    batch["price"], batch["size"] = (100.0, 101.5, NAN), (1.5, 0.001, NAN)
    batch["price2"], batch["size2"] = (102.0, NAN, 102.5), (2.0, NAN, 0.003)
    batch["time_recv_ns"] = (7, 8, 9)
    assert list(Grid(MKT).rows(batch)) == [
        (QUOTE, 0, 200, 1500, 204, 2000, 7),
        (TRADE, RECOVERED, 203, 1, 0, 0, 8),
        (QUOTE, 0, 0, 0, 205, 3, 9),
    ]


def test_empty_batch_has_no_rows() -> None:
    assert not list(Grid(MKT).rows(np.zeros(0, TICK_DTYPE)))


def test_levels_are_counted_to_the_nearest_tick() -> None:
    side = np.array([(100.49999999, 1.2), (99.5, 0.1 + 0.2)])
    assert Grid(MKT).levels(side) == [(201, 1200), (199, 300)]
    assert Grid(MKT).levels(np.empty((0, 2))) == []


@pytest.mark.parametrize("value", ["99.25", "-0.5", "0.49999999999999999999"])
def test_what_is_off_the_grid_is_refused(value: str) -> None:
    grid = Grid(MKT)
    with pytest.raises(ValueError, match=f"price: was {value}, expected a multiple of 0.5"):
        grid.exact("price", Decimal(value), grid.price_tick)
    assert grid.exact("price", Decimal("99.5"), grid.price_tick) == 199
