"""The paper market against the rules of a real one, rule by rule; prices and sizes in ticks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any

import pytest

from piker.clearing._fill_events import (
    Change,
    Closed,
    Ended,
    Fired,
    Opened,
    Output,
    Refused,
    Traded,
    fill_tid,
)
from piker.clearing._matching import PaperBook
from piker.clearing._own_side import BUY, SELL
from piker.clearing._queue import SETTLE_NS, UNKNOWN, Resting

BIDS = [(100, 10), (99, 20), (97, 30)]
ASKS = [(102, 10), (103, 20), (105, 30)]


def market(slippage_ticks: int = 0, position: int = 0) -> PaperBook:
    """Return a market of 100/102 with three levels a side."""
    book = PaperBook(Decimal("0.01"), Decimal("0.001"), slippage_ticks)
    book.on_quote(100, 10, 102, 10, 0)
    book.on_book(BIDS, ASKS, 0)
    book.resume(0)
    book.set_position(position, 0)
    return book


def enter(book: PaperBook, key: str, side: int, price: int, size: int, **terms: Any) -> list[Any]:
    """Let an order take effect at once; return what happened."""
    when_ns = terms.pop("when_ns", 1)
    order = Resting(key=key, side=side, price=price, size=size, **terms)
    book.submit(order, when_ns)
    return list(book.on_time(when_ns))


def fills(outputs: Iterable[Output]) -> list[tuple[str, int, int]]:
    """Return (order, price, size) of each execution."""
    return [(each.key, each.price, each.size) for each in outputs if isinstance(each, Traded)]


def kinds(outputs: Sequence[Output]) -> list[str]:
    """Return the kinds of what happened, in order."""
    return [type(each).__name__ for each in outputs]


def ahead(book: PaperBook, key: str) -> int:
    """Return the queue before an order."""
    order = book.order(key)
    assert order is not None
    return order.ahead


# ---- the queue


def test_order_rests_behind_what_is_displayed_at_its_price() -> None:
    book = market()
    assert kinds(enter(book, "a", BUY, 100, 5)) == ["Opened"]
    enter(book, "b", BUY, 99, 5)
    enter(book, "c", BUY, 98, 5)
    enter(book, "d", BUY, 96, 5)
    enter(book, "e", BUY, 101, 5)
    assert [ahead(book, key) for key in "abcde"] == [10, 20, 0, UNKNOWN, 0]


def test_trades_at_the_price_fill_only_once_the_queue_is_gone() -> None:
    book = market()
    enter(book, "a", BUY, 100, 5)
    assert fills(book.on_trade(100, 8, 2)) == []
    assert fills(book.on_trade(100, 4, 3)) == [("a", 100, 2)]
    assert kinds(done := list(book.on_trade(100, 9, 4))) == ["Traded", "Closed"]
    assert fills(done) == [("a", 100, 3)]


def test_trade_through_the_price_fills_at_the_order_s_own_price_by_what_traded() -> None:
    book = market()
    enter(book, "a", BUY, 99, 5)
    assert fills(book.on_trade(98, 2, 2)) == [("a", 99, 2)]
    assert fills(book.on_trade(98, 7, 3)) == [("a", 99, 3)]


def test_one_trade_is_shared_by_all_our_orders_better_price_first_then_the_older() -> None:
    book = market()
    for key, price in (("low", 98), ("old", 101), ("young", 101)):
        enter(book, key, BUY, price, 3)
    assert fills(book.on_trade(97, 7, 2)) == [("old", 101, 3), ("young", 101, 3), ("low", 98, 1)]


def test_canceled_size_moves_us_up_by_our_share_of_it_only() -> None:
    book = market()
    enter(book, "a", BUY, 100, 5)
    book.on_quote(100, 30, 102, 10, 2)  # 20 joined behind us
    book.on_quote(100, 15, 102, 10, 3)  # 15 of 30 left again
    assert ahead(book, "a") == 10
    book.on_quote(100, 15, 102, 10, 3 + SETTLE_NS)
    book.on_quote(100, 15, 102, 10, 3 + 2 * SETTLE_NS)
    assert ahead(book, "a") == 5


@pytest.mark.parametrize("quote_first", [True, False])
def test_a_trade_and_the_quote_that_shows_it_count_once(quote_first: bool) -> None:
    book = market()
    enter(book, "a", BUY, 100, 5)
    events = [lambda: book.on_quote(100, 4, 102, 10, 2), lambda: book.on_trade(100, 6, 2)]
    for event in events if quote_first else reversed(events):
        assert fills(event()) == []
    for beat in range(1, 6):
        book.on_quote(100, 4, 102, 10, 2 + beat * SETTLE_NS)
    assert ahead(book, "a") == 4


def test_level_swept_in_the_quotes_first_still_trades_its_queue_before_us() -> None:
    book = market()
    enter(book, "a", BUY, 100, 5)
    book.on_quote(99, 20, 102, 10, 2)
    assert fills(book.on_trade(100, 10, 3)) == []
    assert fills(book.on_trade(100, 1, 4)) == [("a", 100, 1)]


def test_price_out_of_sight_has_no_queue_until_it_is_seen() -> None:
    book = market()
    enter(book, "a", BUY, 96, 5)
    assert fills(book.on_trade(96, 100, 2)) == []
    book.on_quote(96, 7, 98, 5, 3)
    assert ahead(book, "a") == 7
    assert fills(book.on_trade(96, 9, 4)) == [("a", 96, 2)]


def test_quote_alone_never_fills_a_resting_order() -> None:
    book = market()
    enter(book, "a", BUY, 100, 5)
    for now_ns in range(2, 2 + 8 * SETTLE_NS, SETTLE_NS):
        assert not fills(book.on_quote(95, 5, 96, 5, now_ns))
        assert not fills(book.on_book([(95, 5)], [(96, 5)], now_ns))


def test_trade_of_before_the_order_is_not_for_it() -> None:
    book = market()
    enter(book, "a", BUY, 101, 5, when_ns=100)
    assert fills(book.on_trade(99, 5, 99)) == []
    assert fills(book.on_trade(99, 5, 100)) == [("a", 101, 5)]


# ---- taking


def test_market_order_walks_the_book_and_ends_when_no_more_is_in_sight() -> None:
    book = market()
    out = enter(book, "a", BUY, 0, 70, kind="market")
    assert fills(out) == [("a", 102, 10), ("a", 103, 20), ("a", 105, 30)]
    assert isinstance(out[-1], Ended)
    assert (out[-1].filled, out[-1].remaining) == (60, 10)
    assert not any(each.is_maker for each in out if isinstance(each, Traded))


def test_what_was_taken_is_gone_until_the_market_shows_it_anew() -> None:
    book = market()
    enter(book, "a", BUY, 0, 8, kind="market")
    assert fills(enter(book, "b", BUY, 0, 8, kind="market")) == [("b", 102, 2), ("b", 103, 6)]
    book.on_quote(100, 10, 102, 9, 2)
    assert fills(enter(book, "c", BUY, 0, 8, kind="market", when_ns=3)) == [("c", 102, 8)]


def test_newest_quote_wins_over_the_book_behind_it() -> None:
    book = market()
    book.on_quote(101, 1, 103, 4, 2)
    assert book.reach(BUY, 103) == [(103, 4)]
    assert book.reach(SELL, 100) == [(101, 1), (100, 10)]


def test_limit_that_crosses_takes_up_to_its_price_and_rests() -> None:
    book = market()
    out = enter(book, "a", BUY, 103, 40)
    assert fills(out) == [("a", 102, 10), ("a", 103, 20)]
    assert kinds(out) == ["Opened", "Traded", "Traded"]
    # It is still crossing: as the market shows more it goes on taking, never at a worse price.
    assert fills(book.on_quote(100, 10, 103, 6, 2)) == [("a", 103, 6)]
    assert fills(book.on_quote(100, 10, 105, 6, 3)) == []
    assert fills(book.on_trade(103, 9, 4)) == [("a", 103, 4)]


def test_slippage_makes_taking_dearer_but_never_beyond_the_limit() -> None:
    book = market(slippage_ticks=2)
    assert fills(enter(book, "a", BUY, 0, 1, kind="market")) == [("a", 104, 1)]
    assert fills(enter(book, "b", BUY, 103, 1)) == [("b", 103, 1)]
    assert fills(enter(book, "c", SELL, 0, 1, kind="market")) == [("c", 98, 1)]


def test_without_a_quote_a_market_order_ends_unfilled() -> None:
    book = PaperBook(Decimal(1), Decimal(1))
    book.resume(0)
    out = enter(book, "a", SELL, 0, 1, kind="market")
    assert kinds(out) == ["Opened", "Ended"]
    assert "there is no quote" in out[-1].reason


# ---- terms


def test_ioc_takes_what_is_there_and_ends() -> None:
    book = market()
    out = enter(book, "a", BUY, 102, 15, time_in_force="ioc")
    assert (fills(out), out[-1].remaining) == ([("a", 102, 10)], 5)


def test_fok_fills_whole_or_not_at_all() -> None:
    book = market()
    out = enter(book, "a", BUY, 103, 31, time_in_force="fok")
    assert (kinds(out), out[-1].filled) == (["Opened", "Ended"], 0)
    out = enter(book, "b", BUY, 103, 30, time_in_force="fok")
    assert (sum(size for *_, size in fills(out)), kinds(out)[-1]) == (30, "Closed")


def test_post_only_order_that_would_trade_is_refused() -> None:
    book = market()
    out = enter(book, "a", BUY, 102, 1, post_only=True)
    assert (kinds(out), out[0].request) == (["Refused"], "entry")
    assert out[0].reason == "post_only: 1.02 would trade at once, the market is at 1.02"
    assert kinds(enter(book, "b", BUY, 101, 1, post_only=True)) == ["Opened"]


def test_gtd_order_ends_at_its_time_and_a_past_one_is_refused() -> None:
    book = market()
    assert kinds(enter(book, "a", BUY, 100, 1, time_in_force="gtd", expire_ns=50)) == ["Opened"]
    assert book.next_ns() == 50
    (end,) = book.on_trade(102, 1, 60)
    assert isinstance(end, Ended)
    assert (end.time_ns, end.reason) == (50, "expire_time_ns: its time is over")
    late = enter(book, "b", BUY, 100, 1, time_in_force="gtd", expire_ns=50, when_ns=60)
    assert kinds(late) == ["Refused"]


def test_reduce_only_never_turns_a_position_around() -> None:
    book = market(position=4)
    out = enter(book, "a", SELL, 100, 10, reduce_only=True)
    assert fills(out) == [("a", 100, 4)]
    assert isinstance(out[-1], Ended)
    assert (book.position, out[-1].remaining) == (0, 6)
    assert out[-1].reason == "reduce_only: the position is 0.000"
    assert kinds(enter(book, "b", BUY, 90, 1, reduce_only=True)) == ["Refused"]


def test_resting_reduce_only_order_ends_when_another_has_closed_the_position() -> None:
    book = market(position=4)
    enter(book, "exit", SELL, 110, 4, reduce_only=True)
    out = enter(book, "close", SELL, 0, 4, kind="market")
    assert [(type(each).__name__, each.key) for each in out[-2:]] == [
        ("Closed", "close"),
        ("Ended", "exit"),
    ]


@pytest.mark.parametrize(
    ("kind", "side", "trigger", "calm", "reached"),
    [
        ("stop", BUY, 104, 103, 104),
        ("stop", SELL, 98, 99, 98),
        ("take_profit", BUY, 98, 99, 98),
        ("take_profit", SELL, 104, 103, 104),
    ],
)
def test_trigger_order_waits_for_a_trade_at_its_trigger(
    kind: str, side: int, trigger: int, calm: int, reached: int
) -> None:
    book = market()
    out = enter(book, "a", side, 0, 3, kind=kind, trigger=trigger)
    assert kinds(out) == ["Opened"]
    assert list(book.on_trade(calm, 50, 2)) == []
    out = list(book.on_trade(reached, 50, 3))
    assert kinds(out) == ["Fired", "Traded", "Closed"]
    assert fills(out) == [("a", 102 if side == BUY else 100, 3)]


def test_stop_limit_rests_at_its_price_once_fired() -> None:
    book = market()
    enter(book, "a", BUY, 101, 3, kind="stop", trigger=104)
    assert kinds(list(book.on_trade(104, 1, 2))) == ["Fired"]
    assert ahead(book, "a") == 0
    assert fills(book.on_trade(101, 1, 3)) == [("a", 101, 1)]


# ---- amend and cancel


def amend(book: PaperBook, key: str, price: int, size: int, when_ns: int = 5) -> list[Any]:
    """Let an amend take effect; return what happened."""
    book.amend(Change(key=key, number=2, price=price, size=size), when_ns)
    return list(book.on_time(when_ns))


def test_amend_keeps_the_place_only_when_the_size_shrinks_at_the_same_price() -> None:
    book = market()
    enter(book, "a", BUY, 100, 5)
    book.on_trade(100, 6, 2)
    assert [each.number for each in amend(book, "a", 100, 4)] == [2]
    assert ahead(book, "a") == 4
    amend(book, "a", 100, 6)
    assert ahead(book, "a") == 10
    amend(book, "a", 99, 6)
    assert ahead(book, "a") == 20


def test_amend_that_crosses_takes() -> None:
    book = market()
    enter(book, "a", BUY, 100, 5)
    assert fills(amend(book, "a", 102, 5)) == [("a", 102, 5)]


def test_amend_to_what_is_filled_already_or_to_nothing_known_is_refused() -> None:
    book = market()
    enter(book, "a", BUY, 101, 5)
    book.on_trade(101, 3, 2)
    (refused,) = amend(book, "a", 101, 3)
    assert (refused.request, refused.number) == ("amend", 2)
    assert refused.reason == "size: was 0.003, 0.003 are filled"
    assert isinstance(amend(book, "gone", 101, 3)[0], Refused)


def test_post_only_amend_that_would_trade_leaves_the_order_where_it_was() -> None:
    book = market()
    enter(book, "a", BUY, 100, 5, post_only=True)
    book.on_trade(100, 6, 2)
    assert isinstance(amend(book, "a", 102, 5)[0], Refused)
    assert ahead(book, "a") == 4


def test_cancel_ends_an_order_and_one_of_nothing_known_is_refused() -> None:
    book = market()
    enter(book, "a", BUY, 100, 5)
    book.cancel("a", 3)
    (end,) = book.on_time(3)
    assert isinstance(end, Ended)
    assert book.is_idle()
    book.cancel("a", 4)
    (refused,) = book.on_time(4)
    assert isinstance(refused, Refused)
    assert "expected an order that rests here" in refused.reason


def test_requests_take_effect_in_their_own_time_and_never_overtake_each_other() -> None:
    book = market()
    book.submit(Resting(key="a", side=BUY, price=101, size=5), 100)
    book.cancel("a", 50)
    assert book.is_awaited("a")
    assert list(book.on_trade(99, 5, 60)) == []
    assert kinds(list(book.on_trade(99, 5, 101))) == ["Opened", "Ended"]
    assert not book.is_awaited("a")


# ---- out of sight


def test_after_a_loss_of_sight_queues_start_again_at_the_display() -> None:
    book = market()
    enter(book, "a", BUY, 100, 5)
    book.on_trade(100, 9, 2)
    book.lose()
    assert list(book.on_trade(100, 50, 3)) == []
    book.on_quote(100, 12, 102, 10, 4)
    assert list(book.resume(5)) == []
    assert ahead(book, "a") == 12


def test_limit_that_the_market_went_through_unseen_fills_at_its_own_price() -> None:
    book = market()
    enter(book, "a", BUY, 100, 5)
    book.lose()
    book.on_quote(95, 1, 96, 1, 4)
    (fill, closed) = book.resume(5)
    assert isinstance(fill, Traded)
    assert (fill.price, fill.size, fill.gapped, fill.is_maker) == (100, 5, True, True)
    assert isinstance(closed, Closed)


def test_trigger_crossed_unseen_fires_once_and_is_marked() -> None:
    book = PaperBook(Decimal(1), Decimal(1))
    book.restore(Resting(key="a", side=SELL, price=0, size=2, kind="stop", trigger=98), 0)
    book.on_quote(95, 9, 96, 9, 1)
    book.last = 95
    out = book.resume(2)
    assert kinds(out) == ["Fired", "Traded", "Closed"]
    assert isinstance(out[0], Fired)
    assert out[0].gapped
    assert fills(out) == [("a", 95, 2)]
    book.lose()
    assert list(book.resume(3)) == []


def test_order_entered_out_of_sight_waits_and_then_takes_like_any_other() -> None:
    book = PaperBook(Decimal(1), Decimal(1))
    assert kinds(enter(book, "a", BUY, 103, 5)) == ["Opened"]
    assert kinds(enter(book, "b", BUY, 0, 5, kind="market")) == ["Opened", "Ended"]
    book.on_quote(100, 10, 102, 10, 2)
    assert fills(book.resume(3)) == [("a", 102, 5)]


def test_restored_order_goes_on_where_it_was() -> None:
    book = PaperBook(Decimal(1), Decimal(1))
    book.restore(Resting(key="a", side=BUY, price=100, size=5, filled=2, number=3), 0)
    book.on_quote(100, 10, 102, 10, 1)
    assert list(book.resume(1)) == []
    assert ahead(book, "a") == 10
    assert fills(book.on_trade(100, 99, 2)) == [("a", 100, 3)]


def test_trade_ids_are_a_pure_function_of_order_and_number() -> None:
    ids = {fill_tid(key, time_ns, n) for key in "ab" for time_ns in (1, 2) for n in (1, 2, 12)}
    assert len(ids) == 12
    assert all(len(one) == 16 and int(one, 16) >= 0 for one in ids)
    assert fill_tid("a", 1, 1) == fill_tid("a", 1, 1)


def test_open_says_which_request_is_in_force() -> None:
    book = market()
    (opened,) = enter(book, "a", BUY, 100, 5, number=1)
    assert isinstance(opened, Opened)
    assert (opened.number, opened.time_ns) == (1, 1)
