"""Which trades are passed on, and what a parser keeps over a reconnect."""

from __future__ import annotations

import pytest

from piker.brokers.binance._stream import TID_JUMP_MAX, TradeSequence
from piker.errors import BadPayload
from piker.model.feed import Trade


def trade(tid: int, time_ns: int | None = None) -> Trade:
    return Trade(tid, 1.0, 1.0, False, tid if time_ns is None else time_ns, 0)


@pytest.fixture
def sequence() -> TradeSequence:
    sequence = TradeSequence()
    assert sequence.is_news(trade(100))
    assert sequence.is_news(trade(101))
    return sequence


def test_a_repeated_trade_is_no_news(sequence: TradeSequence) -> None:
    assert not sequence.is_news(trade(101))
    assert not sequence.is_news(trade(50))
    assert sequence.repeated == 2
    assert sequence.is_news(trade(102))


def test_a_small_jump_is_a_gap_and_is_passed(sequence: TradeSequence) -> None:
    assert sequence.is_news(trade(105))
    assert sequence.gaps == 1


def test_a_garbled_id_does_not_silence_the_tape(sequence: TradeSequence) -> None:
    with pytest.raises(BadPayload):
        sequence.is_news(trade(101 + TID_JUMP_MAX + 1, 102))
    assert sequence.is_news(trade(102))
    assert sequence.is_news(trade(103))


def test_a_far_jump_is_believed_when_it_goes_on(sequence: TradeSequence) -> None:
    with pytest.raises(BadPayload):
        sequence.is_news(trade(10_000_000))
    assert sequence.is_news(trade(10_000_001))


def test_a_far_jump_after_a_reconnect_is_believed_at_once(sequence: TradeSequence) -> None:
    sequence.reconnected()
    assert not sequence.is_news(trade(101))
    assert sequence.is_news(trade(10_000_000))
    with pytest.raises(BadPayload):
        sequence.is_news(trade(99_000_000))


def test_a_venue_that_counts_anew_is_believed_after_one_trade(sequence: TradeSequence) -> None:
    with pytest.raises(BadPayload):
        sequence.is_news(trade(5, 10_000))
    assert sequence.is_news(trade(6, 10_001))
    assert sequence.is_news(trade(7, 10_002))
