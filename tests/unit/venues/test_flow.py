"""The made-up market: a pure function of seed and time, with the form that it promises."""

from __future__ import annotations

import numpy as np
import pytest

from piker.venues._flow import DEFAULT_MARKETS, Flow
from piker.venues._house import HouseBook
from piker.venues._market import HOUR_MS, MINUTE_MS
from piker.venues._measure import measure

HOUR = 498_680  # 2026-11-21 08:00 UTC
BTC = DEFAULT_MARKETS[0]


def test_an_hour_is_the_same_whatever_was_asked_before() -> None:
    fresh, used = Flow(5, BTC), Flow(5, BTC)
    for hour in (HOUR - 30, HOUR + 3, HOUR - 1):
        used.hour(hour)
    assert np.array_equal(fresh.hour(HOUR), used.hour(HOUR))


def test_other_seeds_and_markets_are_other_markets() -> None:
    hours = [
        Flow(5, BTC).hour(HOUR),
        Flow(6, BTC).hour(HOUR),
        Flow(5, DEFAULT_MARKETS[1]).hour(HOUR),
    ]
    assert len({tuple(rows["price"][:5]) for rows in hours}) == 3


def test_ids_and_times_run_on_across_hours_and_days() -> None:
    flow = Flow(5, BTC)
    rows = np.concatenate([flow.hour(hour) for hour in range(HOUR + 14, HOUR + 18)])
    assert set(np.diff(rows["tid"])) == {1}
    assert (np.diff(rows["time_ms"]) >= 0).all()
    assert (
        rows["time_ms"] // HOUR_MS
        == np.repeat(
            range(HOUR + 14, HOUR + 18),
            [len(flow.hour(hour)) for hour in range(HOUR + 14, HOUR + 18)],
        )
    ).all()


@pytest.mark.parametrize("back", [0, 1, 1000])
def test_trade_is_found_by_its_id(back: int) -> None:
    flow = Flow(5, BTC)
    rows = flow.hour(HOUR + 16)
    assert flow.hour_of_tid(int(rows["tid"][0]) + back) == HOUR + 16
    assert flow.hour_of_tid(int(rows["tid"][0]) - 1) == HOUR + 15


def test_range_of_trades_is_cut_by_time() -> None:
    flow = Flow(5, BTC)
    start = HOUR * HOUR_MS - MINUTE_MS
    rows = flow.trades_between(start, start + 2 * MINUTE_MS)
    assert rows["time_ms"].min() >= start
    assert rows["time_ms"].max() < start + 2 * MINUTE_MS
    assert set(np.diff(rows["tid"])) == {1}


def test_price_before_a_time_is_that_of_the_last_trade() -> None:
    flow = Flow(5, BTC)
    assert flow.close_before(HOUR * HOUR_MS) == flow.hour(HOUR - 1)["price"][-1]


def test_trades_happen_at_the_quote_of_their_side() -> None:
    rows = Flow(5, BTC).hour(HOUR)
    expected = np.where(rows["taker_sell"] == 1, rows["bid"], rows["ask"])
    assert (rows["price"] == expected).all()
    assert (rows["ask"] > rows["bid"]).all()


def test_every_trade_goes_through_the_engine_at_its_price() -> None:
    flow = Flow(5, DEFAULT_MARKETS[2])
    book = HouseBook(flow)
    start = HOUR * HOUR_MS
    book.start(start)
    ids = [book.update_id]
    for row in flow.trades_between(start + 1, start + 5 * MINUTE_MS).tolist():
        fill = book.trade(row)
        assert (fill.price, fill.size) == (row[2], row[3])
        ids.append(book.update_id)
    assert ids == sorted(set(ids))


def test_the_measured_form_meets_its_targets() -> None:
    rows = [row for row in measure(1, "2026-11-21") if not row.name.startswith("speed")]
    assert [row for row in rows if not row.is_met] == []
