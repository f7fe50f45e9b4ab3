"""The records that live in shared memory and on the wire: sizes, alignment, what is frozen."""

from __future__ import annotations

import numpy as np
import pytest

from piker.model.bars import BAR_DTYPE, PERIODS_S, def_iohlcv_fields, empty_bars
from piker.model.feed import Book, FeedState, Quote, Trade
from piker.model.ticks import TICK_DTYPE


@pytest.mark.parametrize("dtype", [BAR_DTYPE, TICK_DTYPE])
def test_every_field_of_a_row_is_eight_aligned_bytes(dtype: np.dtype) -> None:
    assert dtype.itemsize == 80
    assert dtype.fields is not None
    for name in dtype.names or ():
        field, offset = dtype.fields[name][:2]
        assert field.itemsize == 8
        assert offset % 8 == 0


def test_empty_bars_are_zero() -> None:
    bars = empty_bars(3)
    assert bars.dtype == BAR_DTYPE
    assert not bars.view("i8").any()
    assert def_iohlcv_fields[0] == ("index", "<i8")
    assert PERIODS_S == (1, 60)


def test_events_are_frozen_and_carry_two_clocks() -> None:
    trade = Trade(1, 2.0, 3.0, True, 4, 5)
    assert trade.flags == 0
    assert (trade.time_venue_ns, trade.time_recv_ns) == (4, 5)
    for event in (trade, Quote(1, 1, 2, 2, 0, 5), Book([], [], 1, 2, 3), FeedState(1)):
        with pytest.raises(AttributeError):
            event.flags = 1  # type: ignore[union-attr]
