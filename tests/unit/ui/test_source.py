"""What the reader of a feed does before anything is drawn: which rows count, what is read again."""

from piker.model.bars import FILLED, PARTIAL, empty_bars
from piker.ui.lod import T
from piker.ui.source import _Repair, known_columns


def test_rows_that_nobody_has_seen_are_not_drawn():
    bars = empty_bars(4)
    bars["time"] = [60, 120, 180, 240]
    for name in ("open", "high", "low", "close"):
        bars[name] = 5.0
    bars["flags"] = [0, FILLED | PARTIAL, FILLED, PARTIAL]
    assert known_columns(bars)[T].tolist() == [60, 180, 240]


async def test_ranges_that_change_before_they_are_read_are_joined():
    repair = _Repair()
    repair.add(60, 100.0, 200.0)
    repair.add(60, 50.0, 120.0)
    repair.add(1, 5.0, 6.0)
    assert await repair.wait() == {60: (50.0, 200.0), 1: (5.0, 6.0)}
    repair.add(1, 7.0, 8.0)
    assert await repair.wait() == {1: (7.0, 8.0)}
