"""Quote messages: newest scalars, own ticks, losses said."""

from __future__ import annotations

import math

import numpy as np

from piker.data._quotes import TICKS_MAX, QuoteFrame
from piker.model.ticks import BAR, GAP, QUOTE, STATE, TAKER_SELL, TICK_DTYPE, TRADE

NAN = math.nan


def records(*rows):
    return np.array([(seq, *row) for seq, row in enumerate(rows)], TICK_DTYPE)


def trade(price, size=1.0, flags=0, tid=7, at_s=10):
    return TRADE, flags, price, size, NAN, NAN, at_s * 10**9, (at_s + 1) * 10**9, tid


def book(bid, ask):
    return QUOTE, 0, bid, 2.0, ask, 3.0, 0, 12 * 10**9, -1


def test_scalars_are_the_newest_values():
    frame = QuoteFrame("BTCUSDT", "btcusdt.spot.binance")
    quote = frame.build(records(trade(100.0), book(99.0, 101.0), trade(101.0, at_s=11)))
    assert quote is not None
    assert (quote["last"], quote["bid"], quote["ask"]) == (101.0, 99.0, 101.0)
    assert (quote["bsize"], quote["asize"]) == (2.0, 3.0)
    assert (quote["broker_ts"], quote["brokerd_ts"]) == (11.0, 12.0)
    assert "lost" not in quote


def test_ticks_keep_the_order_and_name_the_taker():
    frame = QuoteFrame("BTCUSDT", "btcusdt.spot.binance")
    quote = frame.build(records(trade(100.0, flags=TAKER_SELL), book(99.0, 101.0)))
    assert quote is not None
    assert [tick["type"] for tick in quote["ticks"]] == ["trade", "bid", "bsize", "ask", "asize"]
    assert quote["ticks"][0]["side"] == "sell"
    assert "tbt" not in quote


def test_a_throttled_message_groups_by_type_without_doubling():
    frame = QuoteFrame("BTCUSDT", "btcusdt.spot.binance")
    quote = frame.build(records(trade(100.0), trade(101.0)), grouped=True)
    assert quote is not None
    assert [tick["price"] for tick in quote["tbt"]["trade"]] == [100.0, 101.0]
    assert len(quote["ticks"]) == 2


def test_a_gap_record_marks_the_message_as_resumed_with_the_count():
    frame = QuoteFrame("BTCUSDT", "btcusdt.spot.binance")
    quote = frame.build(records((GAP, 0, NAN, NAN, NAN, NAN, 0, 0, 42), trade(100.0)))
    assert quote is not None
    assert quote["resumed"] is True
    assert quote["lost"] == 42
    assert quote["last"] == 100.0


def test_a_restarted_writer_loses_an_unknown_number():
    frame = QuoteFrame("BTCUSDT", "btcusdt.spot.binance")
    quote = frame.build(records((GAP, 0, NAN, NAN, NAN, NAN, 0, 0, -1)))
    assert quote is not None
    assert quote["lost"] == -1


def test_a_long_backlog_is_cut_to_its_newest_ticks_and_counted():
    frame = QuoteFrame("BTCUSDT", "btcusdt.spot.binance")
    rows = [book(1.0, 2.0)] + [trade(float(i)) for i in range(TICKS_MAX)]
    quote = frame.build(records(*rows))
    assert quote is not None
    assert len(quote["ticks"]) == TICKS_MAX
    assert quote["lost"] == 1
    assert quote["bid"] == 1.0


def test_scalars_outlive_a_batch_without_them():
    frame = QuoteFrame("BTCUSDT", "btcusdt.spot.binance", {"last": 5.0, "foreign": 1})
    quote = frame.build(records(book(4.0, 6.0)))
    assert quote is not None
    assert quote["last"] == 5.0
    assert "foreign" not in quote


def test_nothing_makes_no_message_and_two_consumers_share_nothing():
    one, two = QuoteFrame("a", "a.b"), QuoteFrame("a", "a.b")
    batch = records(trade(1.0))
    assert one.build(batch[:0]) is None
    first, second = one.build(batch), two.build(batch)
    assert first is not None
    assert second is not None
    assert first["ticks"][0] is not second["ticks"][0]


def test_bars_and_states_are_told():
    frame = QuoteFrame("a", "a.b")
    bar = (BAR, 60, 10.0, 1.0, 9.0, 3.0, 60 * 10**9, 0, 5)
    state = (STATE, 1, NAN, NAN, NAN, NAN, 0, 0, -1)
    quote = frame.build(records(bar, state))
    assert quote is not None
    assert quote["bars"] == [{"period_s": 60, "time": 60, "close": 10.0}]
    assert quote["state"] == "live"
