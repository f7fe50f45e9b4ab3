"""Tick dicts: filtering, dark prints, grouping; never a changed quote."""

from __future__ import annotations

import copy

import pytest

from piker.data.ticktools import frame_ticks, iterticks

QUOTE = {
    "ticks": [
        {"type": "bid", "price": 9.0, "size": 1.0},
        {"type": "trade", "price": 10.0, "size": 1.0, "time": 1.0},
        {"type": "dark_trade", "price": 10.0, "size": 1.0, "time": 1.0},
        {"type": "dark_trade", "price": 10.0, "size": 2.0, "time": 2.0},
    ]
}


def test_only_the_asked_types_come_in_order():
    assert [tick["type"] for tick in iterticks(QUOTE)] == ["trade", "dark_trade", "dark_trade"]
    assert [tick["type"] for tick in iterticks(QUOTE, types=("bid",))] == ["bid"]


def test_reverse_is_newest_first():
    assert [tick.get("time") for tick in iterticks(QUOTE, reverse=True)] == [2.0, 1.0, 1.0]


def test_a_dark_print_equal_to_a_trade_is_yielded_once_and_the_quote_stays():
    before = copy.deepcopy(QUOTE)
    ticks = list(iterticks(QUOTE, deduplicate_darks=True))
    assert [(tick["type"], tick["size"]) for tick in ticks] == [("trade", 1.0), ("dark_trade", 2.0)]
    assert before == QUOTE


def test_a_quote_without_ticks_has_none():
    assert list(iterticks({"last": 1.0})) == []
    assert frame_ticks({"last": 1.0}) == {}


def test_frames_group_by_type_and_keep_the_order():
    by_type: dict = {}
    in_order: list = []
    frame_ticks(QUOTE, by_type, in_order)
    assert in_order == QUOTE["ticks"]
    assert [tick["size"] for tick in by_type["dark_trade"]] == [1.0, 2.0]
    assert set(by_type) == {"bid", "trade", "dark_trade"}


def test_framing_a_quote_into_itself_is_refused():
    with pytest.raises(ValueError, match="own list"):
        frame_ticks(QUOTE, {}, QUOTE["ticks"])
