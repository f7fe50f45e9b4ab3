"""Brackets: two legs of one entry, by hand and against random events."""

from __future__ import annotations

import random
from decimal import Decimal
from typing import Any

import pytest
from book_helpers import order

from piker.clearing import _book_events as on
from piker.clearing._brackets import is_at_venue, leg_oid, rest, stop_first
from piker.clearing._dialog import Dialog
from piker.clearing._dialogs import OrderDialogs
from piker.clearing._messages import BrokerdFill, Order
from piker.clearing._triggers import Fired
from piker.errors import OrderRejected

ENTRY = "8f" * 16
GAIN, STOP = leg_oid(ENTRY, "take_profit"), leg_oid(ENTRY, "stop")


class Bracket:
    """A daemon's dialogs with one entry, and a venue that does as it is told."""

    def __init__(self, **terms: Any) -> None:
        legs = {"take_profit": Decimal(110), "stop_loss": Decimal(90)}
        self.dialogs = OrderDialogs()
        self.outputs: list[on.Output] = []
        self.tids = 0
        self.request(order(oid=ENTRY, **{**legs, **terms}))

    def __getitem__(self, oid: str) -> Dialog:
        return self.dialogs[oid]

    def request(self, asked: Order) -> list[on.Output]:
        return self.take(self.dialogs.request(asked, "binance", "paper", 1, Decimal(100)))

    def apply(self, oid: str, event: on.Event) -> list[on.Output]:
        return self.take(self.dialogs.apply(oid, event))

    def take(self, outputs: tuple[on.Output, ...]) -> list[on.Output]:
        self.last = list(outputs)
        self.outputs += outputs
        return self.last

    def open(self, oid: str) -> None:
        number = self[oid].sent_number
        self.apply(oid, on.Left(time_ns=1, number=number))
        self.apply(oid, on.Opened(time_ns=1, reqid=oid, number=number))

    def fill(self, oid: str, size: Any) -> list[on.Output]:
        self.tids += 1
        return self.apply(oid, on.Filled(time_ns=1, fill=BrokerdFill(
            time_ns=1, broker_time=1.0, reqid=oid, size=Decimal(size), price=Decimal(100),
            tid=f"t{self.tids}",
        )))  # fmt: skip

    def fire(self, oid: str, price: Any = None) -> list[on.Output]:
        price = None if price is None else Decimal(price)
        return self.apply(oid, on.Triggered(time_ns=1, price=price))

    def sent(self) -> list[tuple[str, Decimal]]:
        """Return oid and size of what was sent last, cancels with size 0."""
        out = []
        for one in self.last:
            if isinstance(one, on.Send):
                out.append((one.order.oid, one.order.size))
            elif isinstance(one, on.SendCancel):
                out.append((one.cancel.oid, Decimal(0)))
        return out

    def sizes(self) -> tuple[Decimal, Decimal]:
        return self[GAIN].order.size, self[STOP].order.size


def working(filled: int = 10, **terms: Any) -> Bracket:
    """Return a bracket whose entry of 10 is open, with some of it filled."""
    bracket = Bracket(**terms)
    bracket.open(ENTRY)
    if filled:
        bracket.fill(ENTRY, filled)
    return bracket


# ---- entering


def test_an_entry_with_leg_prices_makes_both_legs_at_once() -> None:
    bracket = Bracket()
    gain, stop = bracket[GAIN].order, bracket[STOP].order
    assert (gain.action, gain.order_type, gain.price, gain.trigger_price) == (
        "sell", "take_profit", 110, 110,
    )  # fmt: skip
    assert (stop.action, stop.order_type, stop.price, stop.trigger_price) == ("sell", "stop", 0, 90)
    assert all(leg.reduce_only and leg.parent == ENTRY for leg in (gain, stop))
    assert all(leg.client_ref == "bot" for leg in (gain, stop))
    assert bracket[GAIN].trigger_side == ">="
    assert bracket[STOP].trigger_side == "<="


def test_the_legs_of_a_sale_are_purchases_the_other_way_round() -> None:
    bracket = Bracket(action="sell", take_profit=Decimal(90), stop_loss=Decimal(110))
    assert (bracket[GAIN].trigger_side, bracket[STOP].trigger_side) == ("<=", ">=")
    assert {bracket[GAIN].order.action, bracket[STOP].order.action} == {"buy"}


def test_legs_are_not_armed_before_the_entry_has_a_fill() -> None:
    bracket = working(0)
    assert not any(isinstance(output, on.Arm) for output in bracket.outputs)
    assert bracket.dialogs.arms() == []


def test_legs_follow_the_filled_size_of_the_entry() -> None:
    bracket = working(4)
    assert bracket.sizes() == (4, 4)
    assert {arm.order.oid for arm in bracket.dialogs.arms()} == {GAIN, STOP}
    bracket.fill(ENTRY, 5)
    assert bracket.sizes() == (9, 9)


def test_an_entry_that_ends_without_a_fill_ends_its_legs() -> None:
    bracket = working(0)
    bracket.apply(ENTRY, on.Canceled(time_ns=1))
    assert (bracket[GAIN].state, bracket[STOP].state) == ("canceled", "canceled")
    refused = Bracket()
    refused.apply(ENTRY, on.Refused(time_ns=1, reason="no", request="entry"))
    assert (refused[GAIN].state, refused[STOP].state) == ("canceled", "canceled")


def test_an_entry_canceled_after_a_fill_keeps_its_legs() -> None:
    bracket = working(4)
    bracket.apply(ENTRY, on.Canceled(time_ns=1))
    assert (bracket[GAIN].state, bracket[STOP].state) == ("dark_open", "dark_open")
    assert bracket.sizes() == (4, 4)


# ---- firing


def test_a_fill_of_one_leg_reduces_the_other_before_anything_else() -> None:
    bracket = working()
    bracket.fire(GAIN)
    assert bracket.sent() == [(GAIN, 10)]
    bracket.open(GAIN)
    outputs = bracket.fill(GAIN, 3)
    assert bracket[STOP].order.size == 7
    assert [one.order.oid for one in outputs if isinstance(one, on.Arm)] == [STOP]


def test_when_one_leg_has_taken_all_the_other_ends() -> None:
    bracket = working()
    bracket.apply(ENTRY, on.Closed(time_ns=1))
    bracket.fire(GAIN)
    bracket.open(GAIN)
    bracket.fill(GAIN, 10)
    assert bracket[STOP].state == "canceled"
    bracket.apply(GAIN, on.Closed(time_ns=1))
    assert bracket[GAIN].state == "closed"


def test_a_fired_leg_cancels_the_rest_of_the_entry() -> None:
    bracket = working(4)
    bracket.fire(GAIN)
    assert set(bracket.sent()) == {(GAIN, Decimal(4)), (ENTRY, Decimal(0))}
    assert bracket[ENTRY].state == "cancel_in_flight"


def test_a_stop_that_fires_ends_the_take_profit_and_sells_at_the_market() -> None:
    bracket = working()
    outputs = bracket.fire(STOP)
    (sent,) = [one.order for one in outputs if isinstance(one, on.Send)]
    assert (sent.order_type, sent.price, sent.size, sent.reduce_only) == ("market", 0, 10, True)
    assert bracket[GAIN].state == "canceled"


def test_a_sibling_at_the_venue_ends_before_the_stop_is_sent() -> None:
    bracket = working()
    bracket.fire(GAIN)
    bracket.open(GAIN)
    bracket.fill(GAIN, 3)
    bracket.fire(STOP)
    assert bracket.sent() == [(GAIN, 0)]
    assert bracket[STOP].is_held_back
    bracket.fill(GAIN, 2)
    assert bracket.sent() == []
    bracket.apply(GAIN, on.Canceled(time_ns=1))
    assert bracket.sent() == [(STOP, 5)]


def test_a_stop_held_back_for_a_sibling_that_took_all_is_never_sent() -> None:
    bracket = working()
    bracket.apply(ENTRY, on.Closed(time_ns=1))
    bracket.fire(GAIN)
    bracket.open(GAIN)
    bracket.fire(STOP)
    bracket.fill(GAIN, 10)
    assert bracket[STOP].state == "canceled"
    assert not any(oid == STOP for oid, _ in bracket.sent())


def test_both_crossed_in_one_batch_fires_the_stop_alone() -> None:
    bracket = working()
    both = [Fired(GAIN, None, Decimal(110), 1), Fired(STOP, None, Decimal(90), 1)]
    other = Fired("other", None, Decimal(90), 1)
    find = {dialog.oid: dialog for dialog in bracket.dialogs}.get
    assert stop_first(find, [*both, other]) == [both[1], other]


def test_a_take_profit_that_yielded_waits_again_when_its_stop_is_refused() -> None:
    bracket = working()
    outputs = bracket.apply(STOP, on.Refused(time_ns=1, reason="no", request="entry"))
    assert bracket[STOP].state == "error"
    assert [one.order.oid for one in outputs if isinstance(one, on.Arm)] == [GAIN]


def test_a_leg_at_the_venue_grows_with_the_entry() -> None:
    bracket = working(4)
    bracket.fire(GAIN)
    bracket.open(GAIN)
    bracket.fill(ENTRY, 2)
    assert bracket.sent() == [(GAIN, 6)]
    assert bracket[STOP].order.size == 6


def test_what_fills_after_the_stop_has_closed_is_covered_by_another_stop() -> None:
    bracket = working(4)
    bracket.fire(STOP)
    bracket.open(STOP)
    bracket.fill(STOP, 4)
    bracket.apply(STOP, on.Closed(time_ns=2))
    bracket.fill(ENTRY, 1)
    another = bracket[leg_oid(ENTRY, "stop", 2)]
    assert (another.state, another.order.size, another.order.trigger_price) == ("dark_open", 1, 90)


# ---- clients


def leg(**terms: Any) -> Order:
    fields: dict[str, Any] = {
        "oid": "mine", "action": "sell", "exec_mode": "dark", "order_type": "stop", "price": 0,
        "trigger_price": Decimal(95), "parent": ENTRY,
    }  # fmt: skip
    return order(**{**fields, **terms})


def test_a_leg_may_be_sent_alone_for_an_entry_that_works() -> None:
    bracket = working(4, take_profit=None, stop_loss=None)
    bracket.request(leg())
    assert (bracket["mine"].order.size, bracket["mine"].order.reduce_only) == (4, True)
    bracket.fill(ENTRY, 2)
    assert bracket["mine"].order.size == 6
    bracket.fire("mine")
    assert set(bracket.sent()) == {("mine", Decimal(6)), (ENTRY, Decimal(0))}


@pytest.mark.parametrize(
    ("terms", "field"),
    [
        ({"parent": "nobody"}, "parent"),
        ({"action": "buy"}, "action"),
        ({"account": "other"}, "account"),
        ({"symbol": "ethusdt.spot.binance"}, "symbol"),
        ({}, "parent"),
    ],
)
def test_a_leg_that_cannot_be_is_refused_by_field(terms: dict[str, Any], field: str) -> None:
    bracket = working()
    with pytest.raises(OrderRejected, match=f"^{field}: "):
        bracket.request(leg(**terms))


def test_a_leg_of_an_ended_entry_is_refused() -> None:
    bracket = working(0, take_profit=None, stop_loss=None)
    bracket.apply(ENTRY, on.Canceled(time_ns=1))
    with pytest.raises(OrderRejected, match="is canceled, expected an entry that works"):
        bracket.request(leg())


def test_a_client_moves_a_leg_and_cannot_size_it() -> None:
    bracket = working(4)
    bracket.request(leg(oid=STOP, trigger_price=Decimal(93), size=99, revision=1))
    assert (bracket[STOP].order.trigger_price, bracket[STOP].order.size) == (93, 4)


@pytest.mark.parametrize("field", ["price", "trigger_price"])
def test_either_price_of_a_take_profit_moves_both(field: str) -> None:
    bracket = working(4)
    prices = {"price": Decimal(110), "trigger_price": Decimal(110), field: Decimal(112)}
    bracket.request(leg(oid=GAIN, order_type="take_profit", revision=1, **prices))
    now = bracket[GAIN].order
    assert (now.price, now.trigger_price) == (112, 112)


def test_an_amend_of_the_entrys_leg_prices_moves_enters_and_ends_legs() -> None:
    bracket = working(4, take_profit=None)
    bracket.request(order(oid=ENTRY, revision=1, take_profit=Decimal(120), stop_loss=Decimal(80)))
    assert bracket[STOP].order.trigger_price == 80
    assert (bracket[GAIN].order.price, bracket[GAIN].order.size) == (120, 4)
    bracket.apply(ENTRY, on.Opened(time_ns=1, number=2))
    bracket.request(order(oid=ENTRY, revision=2, take_profit=Decimal(120)))
    assert (bracket[STOP].state, bracket[GAIN].state) == ("canceled", "dark_open")


def test_a_leg_that_a_client_cancels_leaves_the_other() -> None:
    bracket = working()
    bracket.apply(GAIN, on.CancelAsked(time_ns=1))
    assert (bracket[GAIN].state, bracket[STOP].state) == ("canceled", "dark_open")
    assert bracket[STOP].order.size == 10


def test_an_entry_is_remembered_as_long_as_a_leg_goes_on() -> None:
    bracket = working()
    bracket.apply(ENTRY, on.Closed(time_ns=1))
    assert bracket.dialogs.forget(100) == 0
    bracket.apply(STOP, on.CancelAsked(time_ns=2))
    bracket.apply(GAIN, on.CancelAsked(time_ns=2))
    assert bracket.dialogs.forget(100) == 3
    assert len(bracket.dialogs) == 0


# ---- any events at all


def any_event(draw: random.Random, bracket: Bracket, tid: int) -> tuple[str, on.Event]:
    """Return what a client, the market or a venue that tells no lies may do next."""
    dialog = draw.choice(list(bracket.dialogs))
    number, reqid = dialog.sent_number, dialog.oid
    left = min(each.size for each in (dialog.order, dialog.asked)) - dialog.filled
    events: list[on.Event] = [on.CancelAsked(time_ns=tid)] if draw.random() < 0.1 else []
    if dialog.state == "dark_open" and dialog.order.size:
        events += [on.Triggered(time_ns=tid, price=None)] * 2
    is_out = not (dialog.is_terminal or dialog.is_held_back or dialog.state == "dark_open")
    if is_out:
        events += [
            on.Left(time_ns=tid, number=number),
            on.Opened(time_ns=tid, reqid=reqid, number=number),
            on.TimedOut(time_ns=tid),
            on.Found(time_ns=tid, reqid=reqid, number=number),
            on.Refused(time_ns=tid, reason="no", request=draw.choice(["amend", "cancel"])),
        ]
    if is_out and left > 0:
        size = min(left, Decimal(draw.randrange(1, 5)))
        events += [on.Filled(time_ns=tid, fill=BrokerdFill(
            time_ns=tid, broker_time=1.0, reqid=reqid, size=size, price=Decimal(100),
            tid=f"t{tid}",
        ))] * 3  # fmt: skip
    if is_out and left <= 0:
        events += [on.Closed(time_ns=tid)] * 3
    if dialog.cancel_called and is_out:
        events += [on.Canceled(time_ns=tid)] * 2
    return dialog.oid, draw.choice(events or [on.Unrecognised(time_ns=tid, text="?")])


@pytest.mark.parametrize("seed", range(150))
def test_any_events_keep_the_rules_of_a_bracket(seed: int) -> None:
    draw = random.Random(seed)
    bracket = Bracket()
    for step in range(80):
        oid, event = any_event(draw, bracket, step)
        bracket.apply(oid, event)
        entry, legs = bracket[ENTRY], bracket.dialogs.legs(ENTRY)
        back = sum((one.filled for one in legs), Decimal(0))
        assert back <= entry.filled, "legs never take back more than the entry has filled"
        at_venue = [one for one in legs if is_at_venue(one)]
        assert len(at_venue) <= 1, "one leg at the venue at a time"
        for one in legs:
            if not one.is_terminal and not is_at_venue(one):
                assert one.order.size == rest(entry, legs), "a waiting leg covers what is left"
        ends = [one.status for one in bracket.outputs if isinstance(one, on.Tell)]
        for one in bracket.dialogs:
            ended = sum(status.oid == one.oid and status.is_terminal for status in ends)
            assert ended == int(one.is_terminal)
        if any(one.is_fired for one in legs) and not isinstance(event, on.Refused):
            is_full = entry.filled >= entry.asked.size
            assert entry.is_terminal or entry.cancel_called or is_full
        if entry.is_terminal and not rest(entry, legs):
            assert all(one.is_terminal or is_at_venue(one) for one in legs)


def test_a_replay_of_the_same_events_makes_the_same_bracket() -> None:
    draw, one, two = random.Random(3), Bracket(), Bracket()
    for step in range(200):
        oid, event = any_event(draw, one, step)
        assert one.apply(oid, event) == two.apply(oid, event)
    assert list(one.dialogs) == list(two.dialogs)
