"""The announcer: boundaries of the run's clock, each exactly once, also when it was late."""

from __future__ import annotations

import pytest

from piker.data._sampling import INFOS_MAX, Announcer, Subscriber

NS = 1_000_000_000
START_NS = 1_700_000_000 * NS + NS // 3  # 20 s into a minute, a third into a second


def subscribed(announcer, *periods):
    subscriber = Subscriber(frozenset(periods))
    announcer.subscribers.add(subscriber)
    return subscriber


def test_the_first_announcement_is_the_next_boundary():
    announcer = Announcer((1, 60), START_NS)
    assert announcer.next_boundary_ns() == 1_700_000_001 * NS
    subscriber = subscribed(announcer, 1)
    announcer.advance(START_NS)
    assert subscriber.take() == []
    announcer.advance(1_700_000_001 * NS)
    assert subscriber.take() == [{"period": 1, "index": 1_700_000_001, "first": 1_700_000_001}]


def test_waking_late_never_moves_the_boundaries():
    announcer = Announcer((1,), START_NS)
    announcer.advance(1_700_000_001 * NS + 400_000_000)
    assert announcer.next_boundary_ns() == 1_700_000_002 * NS


def test_every_skipped_epoch_is_caught_up():
    announcer = Announcer((1,), START_NS)
    subscriber = subscribed(announcer, 1)
    announcer.advance(1_700_000_005 * NS)
    assert subscriber.take() == [{"period": 1, "index": 1_700_000_005, "first": 1_700_000_001}]
    assert announcer.counters["epochs"] == 5
    assert announcer.counters["caught_up"] == 4


def test_a_clock_set_back_announces_nothing_twice():
    announcer = Announcer((1,), START_NS)
    subscriber = subscribed(announcer, 1)
    announcer.advance(1_700_000_005 * NS)
    subscriber.take()
    announcer.advance(1_700_000_002 * NS)
    assert subscriber.take() == []


def test_a_minute_opens_on_the_minute():
    announcer = Announcer((1, 60), START_NS)
    subscriber = subscribed(announcer, 1, 60)
    announcer.advance(1_700_000_040 * NS)
    assert [(m["period"], m["index"]) for m in subscriber.take()] == [
        (1, 1_700_000_040),
        (60, 1_700_000_040),
    ]


def test_a_reader_that_does_not_read_holds_one_range_per_period():
    announcer = Announcer((1,), START_NS)
    subscriber = subscribed(announcer, 1)
    for second in range(1, 1000):
        announcer.advance((1_700_000_000 + second) * NS)
    assert subscriber.take() == [{"period": 1, "index": 1_700_000_999, "first": 1_700_000_001}]


def test_a_period_is_told_to_its_own_subscribers_only():
    announcer = Announcer((1, 60), START_NS)
    minutes = subscribed(announcer, 60)
    announcer.advance(1_700_000_010 * NS)
    assert minutes.take() == []


def test_a_broadcast_reaches_every_period_and_is_bounded():
    announcer = Announcer((1, 60), START_NS)
    both = subscribed(announcer, 1, 60)
    announcer.broadcast({"backfilling": ["btcusdt.spot.binance", 60]})
    assert [message["period"] for message in both.take()] == [1, 60]
    for _ in range(INFOS_MAX):
        announcer.broadcast({"n": 1})
    assert len(both.take()) == INFOS_MAX


@pytest.mark.parametrize("speed", [1, 50, 400])
def test_no_epoch_is_lost_at_any_speed(speed):
    announcer = Announcer((1,), START_NS)
    subscriber = subscribed(announcer, 1)
    told = []
    now_ns = START_NS
    for _ in range(500):
        now_ns += 20_000_000 * speed
        announcer.advance(now_ns)
        for message in subscriber.take():
            told += range(message["first"], message["index"] + 1)
    assert told == list(range(1_700_000_001, now_ns // NS + 1))
