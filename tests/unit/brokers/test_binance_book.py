"""The order book by Binance's sequence rule, update by update."""

from __future__ import annotations

from random import Random

import pytest

from piker.brokers.binance._book import SIDE_LEVELS_MAX, WAITING_MAX, DepthBook, Side
from piker.brokers.binance._wire import DepthFrame, DepthSnapshot, Level
from piker.errors import SequenceGap


def update(first: int, last: int, b: list[Level] = [], a: list[Level] = []) -> DepthFrame:  # noqa: B006
    return DepthFrame(E=1, s="X", first_id=first, last_id=last, b=b, a=a)


def snapshot(last: int = 100) -> DepthSnapshot:
    return DepthSnapshot(
        lastUpdateId=last, bids=[(10.0, 1.0), (9.0, 2.0)], asks=[(11.0, 1.0), (12.0, 2.0)]
    )


def synced() -> DepthBook:
    book = DepthBook()
    book.load(snapshot())
    return book


def test_updates_wait_for_the_snapshot_and_bridge_it() -> None:
    book = DepthBook()
    assert not book.apply(update(90, 95))  # older than the snapshot: dropped by it
    assert not book.apply(update(96, 103, b=[(10.5, 4.0)]))
    assert not book.apply(update(104, 105, a=[(11.0, 0.0)]))
    book.load(snapshot())
    assert book.update_id == 105
    assert book.bids.top(2) == [(10.5, 4.0), (10.0, 1.0)]
    assert book.asks.top(2) == [(12.0, 2.0)]


def test_a_snapshot_older_than_the_first_waiting_update_is_refused() -> None:
    book = DepthBook()
    book.apply(update(102, 103))
    with pytest.raises(SequenceGap, match="older"):
        book.load(snapshot())
    assert not book.is_synced
    book.load(snapshot(102))  # a newer one joins what waited
    assert book.update_id == 103


def test_the_first_update_may_overlap_the_snapshot_and_a_later_one_may_not() -> None:
    book = synced()
    assert book.apply(update(95, 101))
    with pytest.raises(SequenceGap):
        book.apply(update(101, 102 + 1))


def test_a_missing_update_drops_the_book_and_waits_for_a_new_one() -> None:
    book = synced()
    book.apply(update(101, 101))
    with pytest.raises(SequenceGap, match="had update 101, next was 103"):
        book.apply(update(103, 104, b=[(10.7, 1.0)]))
    assert not book.is_synced
    assert book.bids.best is None
    book.load(snapshot(102))
    assert book.update_id == 104  # the update that showed the gap was kept
    assert book.bids.best == 10.7


def test_a_repeated_update_changes_nothing() -> None:
    book = synced()
    book.apply(update(101, 105, b=[(10.0, 5.0)]))
    assert not book.apply(update(101, 105, b=[(10.0, 9.0)]))
    assert book.bids.top(1) == [(10.0, 5.0)]


def test_a_crossed_book_is_dropped() -> None:
    book = synced()
    with pytest.raises(SequenceGap, match="crossed"):
        book.apply(update(101, 101, b=[(11.5, 1.0)]))
    assert not book.is_synced


def test_waiting_updates_are_bounded() -> None:
    book = DepthBook()
    for i in range(3 * WAITING_MAX):
        book.apply(update(i, i))
    with pytest.raises(SequenceGap):
        book.load(snapshot(1))


def test_a_side_equals_a_naive_one_under_random_updates() -> None:
    rng = Random(6116)
    for is_bid in (True, False):
        side, naive = Side(is_bid), {}
        for _ in range(3000):
            price, size = float(rng.randrange(1, 60)), float(rng.choice((0, 1, 2)))
            side.apply([(price, size)])
            naive[price] = size
            alive = sorted(((p, s) for p, s in naive.items() if s), reverse=is_bid)
            assert side.top(20) == alive[:20]


def test_the_farthest_levels_are_forgotten_first() -> None:
    bids, asks = Side(is_bid=True), Side(is_bid=False)
    levels = [(float(price), 1.0) for price in range(1, SIDE_LEVELS_MAX + 101)]
    for side in (bids, asks):
        side.apply(levels)
        assert len(side.top(10**6)) == SIDE_LEVELS_MAX
    assert bids.best == SIDE_LEVELS_MAX + 100
    assert asks.best == 1
