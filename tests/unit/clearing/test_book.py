"""The life of an order: each rule of the transition table, by hand."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from book_helpers import Run, amend, fill, order

from piker.clearing import _book_events as on
from piker.clearing._book import DEADLINE_NS, TABLE
from piker.clearing._book_diagram import order_states_page
from piker.clearing._dialog import STATES, TERMINAL, Dialog
from piker.clearing._ids import client_order_id

SUBMIT = on.Submit(time_ns=1)
LEFT = on.Left(time_ns=1, number=1)
ACK = on.Acked(time_ns=1, reqid=7)
OPEN = on.Opened(time_ns=1, reqid=7)
CANCEL = on.CancelAsked(time_ns=1)
CLOSED = on.Closed(time_ns=1)
CANCELED = on.Canceled(time_ns=1)
LATE = on.TimedOut(time_ns=1)
WORKING = (SUBMIT, LEFT, ACK, OPEN)


def refused(request: str = "", number: int = 0) -> on.Refused:
    return on.Refused(time_ns=1, reason="no", request=request, number=number)  # type: ignore[arg-type]


def test_a_live_order_is_told_pending_open_fill_closed() -> None:
    run = Run(order(), *WORKING, fill("a", 4), fill("b", 6), CLOSED)
    assert [status.resp for status in run.told()] == ["pending", "open", "fill", "fill", "closed"]
    assert run.dialog.filled == 10
    assert run.told()[-1].is_terminal
    assert {status.client_ref for status in run.told()} == {"bot"}


def test_an_intent_carries_its_client_id_and_deadline() -> None:
    (sent,) = Run(order(), on.Submit(time_ns=5)).sent()
    assert sent.client_id == client_order_id("paper", sent.oid, 1)
    assert sent.deadline_ns == 5 + DEADLINE_NS
    assert (sent.symbol, sent.reqid) == ("btcusdt.spot", None)


def test_an_edit_before_the_ack_is_queued_not_doubled() -> None:
    run = Run(order(), SUBMIT, LEFT, amend(1))
    assert len(run.sent()) == 1
    run.step(ACK)
    assert len(run.sent()) == 1
    run.step(OPEN)
    assert [(sent.number, sent.reqid, sent.price) for sent in run.sent()] == [
        (1, None, 100),
        (2, 7, 101),
    ]
    assert run.dialog.state == "amend_in_flight"


def test_a_newer_edit_takes_the_place_of_the_queued_one() -> None:
    run = Run(order(), SUBMIT, LEFT, amend(1), amend(2, 102), ACK, OPEN)
    assert [sent.price for sent in run.sent()] == [100, 102]


@pytest.mark.parametrize("revision", [None, 1, 3])
def test_a_stale_amend_is_refused_and_changes_nothing(revision: int | None) -> None:
    on_two = (*WORKING, amend(1), on.Left(time_ns=1, number=2), on.Opened(time_ns=1, number=2))
    run = Run(order(), *on_two)
    before = run.dialog
    run.step(amend(revision, 102))
    status = run.last_told()
    assert (status.resp, status.revision, status.refused) == ("open", 2, "amend")
    assert "revision" in status.reason
    assert run.dialog == before


@pytest.mark.parametrize(
    ("changes", "field"),
    [({"action": "sell"}, "action"), ({"size": 2}, "size"), ({"account": "other"}, "account")],
)
def test_an_amend_that_cannot_be_names_the_field(changes: dict[str, object], field: str) -> None:
    run = Run(order(), *WORKING, fill("a", 2), amend(1, **changes))
    assert run.last_told().refused == "amend"
    assert run.last_told().reason.startswith(field)


def test_a_refused_amend_leaves_the_order_as_it_was() -> None:
    run = Run(order(), *WORKING, amend(1), on.Left(time_ns=1, number=2), refused(number=2))
    status = run.last_told()
    assert (status.resp, status.revision, status.refused, status.reason) == (
        "open",
        1,
        "amend",
        "no",
    )
    assert run.dialog.order.price == 100
    assert not run.dialog.is_terminal


def test_an_amend_queued_on_a_refused_one_falls_with_it() -> None:
    run = Run(order(), *WORKING, amend(1), amend(2, 102), refused("amend"))
    assert [status.refused for status in run.told()][-2:] == ["amend", "amend"]
    assert (run.dialog.state, run.dialog.newest, len(run.sent())) == ("open", 1, 2)
    run.step(amend(1, 103))
    assert run.dialog.newest == 4, "numbers are never used twice"


def test_a_repeated_open_of_the_entry_confirms_no_amend() -> None:
    run = Run(order(), *WORKING, amend(1), OPEN)
    assert run.dialog.state == "amend_in_flight", "the amend has not left yet"
    run.step(on.Left(time_ns=1, number=2))
    run.step(on.Opened(time_ns=1, number=1))
    assert run.dialog.state == "amend_in_flight"
    run.step(OPEN)
    assert (run.dialog.state, run.dialog.revision) == ("open", 2)


TRIGGERED = on.Triggered(time_ns=1, price=Decimal(105))
DARK = order(exec_mode="dark")
WAYS: dict[str, Run] = {
    "dark_open": Run(DARK, SUBMIT),
    "pending": Run(order(), SUBMIT, LEFT),
    "triggered": Run(DARK, SUBMIT, TRIGGERED, LEFT),
    "open": Run(order(), *WORKING),
    "partially_filled": Run(order(), *WORKING, fill("a")),
    "amend_in_flight": Run(order(), *WORKING, amend(1), on.Left(time_ns=1, number=2)),
    "cancel_in_flight": Run(order(), *WORKING, CANCEL),
    "unknown": Run(order(), SUBMIT, LEFT, LATE),
}


def at(state: str) -> Run:
    """Return a new run that stands in `state`."""
    run = Run()
    run.dialog = WAYS[state].dialog
    assert run.dialog.state == state
    return run


@pytest.mark.parametrize("state", WAYS)
def test_a_cancel_works_in_every_state_that_is_not_terminal(state: str) -> None:
    run = at(state)
    run.step(CANCEL)
    assert run.last_told().cancel_called
    if state == "dark_open":
        assert on.Disarm(oid=run.dialog.oid) in run.last
    else:
        assert run.cancels() >= 1
        run.step(CANCELED)
    assert run.dialog.state == "canceled"
    assert sum(status.is_terminal for status in run.told()) == 1


def test_a_cancel_of_an_intent_that_has_not_left_kills_it_in_the_queue() -> None:
    run = Run(order(), SUBMIT, CANCEL)
    assert on.Withdraw(oid=run.dialog.oid, number=1) in run.last
    assert (run.cancels(), run.last_told().reason) == (0, "never sent")
    run = Run(order(), *WORKING, amend(1), CANCEL)
    assert on.Withdraw(oid=run.dialog.oid, number=2) in run.last
    assert (run.cancels(), run.dialog.in_flight) == (1, None)


def test_an_amend_that_has_not_left_is_taken_back_when_the_order_ends() -> None:
    for end in (CLOSED, CANCELED):
        run = Run(order(), *WORKING, amend(1), end)
        assert on.Withdraw(oid=run.dialog.oid, number=2) in run.last
        left = Run(order(), *WORKING, amend(1), on.Left(time_ns=1, number=2), end)
        assert not any(isinstance(output, on.Withdraw) for output in left.outputs)


def test_a_cancel_before_the_ack_is_repeated_with_the_ack() -> None:
    run = Run(order(), SUBMIT, LEFT, CANCEL, refused("cancel"), LATE)
    assert run.dialog.state == "unknown"
    run = Run(order(), SUBMIT, LEFT, CANCEL, refused("cancel"), ACK)
    assert (run.cancels(), run.dialog.state) == (2, "cancel_in_flight")


def test_a_refused_cancel_is_told_and_the_order_rests_on() -> None:
    run = Run(order(), *WORKING, fill("a"), CANCEL, refused("cancel"))
    status = run.last_told()
    assert (status.resp, status.refused, status.cancel_called) == ("open", "cancel", False)
    assert run.dialog.state == "partially_filled"


@pytest.mark.parametrize("end", [CLOSED, CANCELED, refused("entry")])
def test_after_the_terminal_status_nothing_ends_it_again(end: on.Event) -> None:
    run = Run(order(), SUBMIT, LEFT, end)
    for event in (CLOSED, CANCELED, refused(), OPEN, ACK, LATE, CANCEL, amend(1), fill("late")):
        run.step(event)
    assert sum(status.is_terminal for status in run.told()) == 1
    assert len(run.sent()) == 1


def test_a_fill_after_the_terminal_status_is_booked_and_told_late() -> None:
    run = Run(order(), *WORKING, CANCELED, fill("late", 2))
    (booked,) = [output.fill for output in run.last if isinstance(output, on.Book)]
    assert (booked.late, booked.oid) == (True, run.dialog.oid)
    assert run.last_told().resp == "fill"
    assert run.last_told().brokerd_msg["late"] is True
    assert run.dialog.state == "canceled"


def test_a_fill_said_twice_is_booked_once() -> None:
    run = Run(order(), *WORKING, fill("a"), fill("a"))
    assert run.dialog.filled == 1
    assert sum(isinstance(output, on.Book) for output in run.outputs) == 1


def test_a_fill_before_the_ack_opens_the_order() -> None:
    run = Run(order(), SUBMIT, LEFT, fill("a"))
    assert (run.dialog.state, run.dialog.reqid) == ("partially_filled", 7)


def test_a_request_of_unknown_outcome_is_not_sent_again() -> None:
    run = Run(order(), SUBMIT, LEFT, LATE, LATE, amend(1))
    assert (run.dialog.state, len(run.sent())) == ("unknown", 1)
    assert run.told()[1].state == "unknown"
    assert not run.told()[1].is_terminal


@pytest.mark.parametrize(
    ("proof", "state"),
    [
        (on.Found(time_ns=1, number=1, reqid=7), "open"),
        (on.Absent(time_ns=1), "canceled"),
        (ACK, "pending"),
        (fill("a"), "partially_filled"),
        (refused("entry"), "error"),
    ],
)
def test_unknown_is_left_by_proof(proof: on.Event, state: str) -> None:
    assert Run(order(), SUBMIT, LEFT, LATE, proof).dialog.state == state


def test_an_amend_in_doubt_is_resolved_for_the_old_and_the_new_id() -> None:
    doubt = (*WORKING, amend(1), on.Left(time_ns=1, number=2), LATE)
    run = Run(order(), *doubt, OPEN, ACK, fill("a"))
    assert run.dialog.state == "unknown", "none of these says which of the two rests"
    run.step(CANCEL)
    assert run.cancels() == 2
    for number, price in ((1, 100), (2, 101)):
        run = Run(order(), *doubt, on.Found(time_ns=1, number=number))
        assert (run.dialog.revision, run.dialog.order.price) == (number, price)
        assert run.dialog.state == "open"


def test_a_dark_order_is_triggered_at_most_once() -> None:
    run = Run(DARK, SUBMIT, amend(1, 104, exec_mode="dark"), TRIGGERED, TRIGGERED)
    assert [status.resp for status in run.told()] == ["dark_open", "dark_open", "triggered"]
    (sent,) = run.sent()
    assert (sent.price, sent.number) == (105, 2)
    assert run.dialog.order.trigger_price == 104
    armed = [output for output in run.outputs if isinstance(output, on.Arm | on.Disarm)]
    assert [type(output) for output in armed] == [on.Arm, on.Arm, on.Disarm]


@pytest.mark.parametrize(
    ("terms", "sent"),
    [
        ({}, ("limit", 105)),
        ({"order_type": "market"}, ("market", 0)),
        ({"order_type": "stop", "trigger_price": 104, "price": 0}, ("market", 0)),
        ({"order_type": "stop", "trigger_price": 104, "price": 106}, ("limit", 106)),
        ({"order_type": "take_profit", "trigger_price": 104}, ("limit", 100)),
    ],
)
def test_a_fired_order_leaves_as_a_plain_limit_or_market_order(
    terms: dict[str, Any], sent: tuple[str, int]
) -> None:
    price = Decimal(105) if not terms else None
    dark = order(**{"exec_mode": "dark", **terms})
    run = Run(dark, SUBMIT, on.Triggered(time_ns=1, price=price))
    (left,) = run.sent()
    assert left.order_type == sent[0]
    assert left.price == sent[1]
    assert left.trigger_price is None


@pytest.mark.parametrize(("last", "side"), [(95, ">="), (100, ">="), (101, "<=")])
def test_the_side_of_a_trigger_is_fixed_at_entry(last: int, side: str) -> None:
    run = Run(DARK, on.Submit(time_ns=1, last=Decimal(last)))
    assert run.outputs[0] == on.Arm(order=DARK, side=side)  # type: ignore[arg-type]
    assert run.last_told().brokerd_msg == {"fires": side}
    same = order(exec_mode="dark", size=Decimal(3), revision=1)
    run.step(on.Amend(time_ns=1, order=same, last=Decimal(105 if side == ">=" else 90)))
    assert run.dialog.trigger_side == side, "an edit keeps it while the trigger's price stands"


def test_an_edit_of_the_triggers_price_makes_its_side_anew() -> None:
    run = Run(DARK, on.Submit(time_ns=1, last=Decimal(95)))
    moved = order(exec_mode="dark", price=Decimal(90), revision=1)
    run.step(on.Amend(time_ns=1, order=moved, last=Decimal(95)))
    assert run.dialog.trigger_side == "<="


def test_the_best_price_of_a_trail_goes_with_the_order() -> None:
    trail = order(exec_mode="dark", order_type="stop", price=0, trail="2", action="sell")
    run = Run(trail, on.Submit(time_ns=1, last=Decimal(100)))
    run.step(on.Trailed(time_ns=2, best=Decimal(103)))
    assert run.last == (on.Arm(order=trail, side="<=", best=Decimal(103)),)


def test_a_fired_order_that_is_held_back_leaves_when_it_is_released() -> None:
    held = on.Triggered(time_ns=1, price=Decimal(105), hold=True)
    run = Run(DARK, SUBMIT, held)
    assert (run.dialog.state, run.sent(), run.last_told().src) == ("triggered", [], "dark")
    run.step(on.Released(time_ns=2))
    run.step(on.Released(time_ns=3))
    assert len(run.sent()) == 1
    run = Run(DARK, SUBMIT, held, CANCEL)
    assert (run.dialog.state, run.cancels()) == ("canceled", 0)


def test_a_leg_that_covers_nothing_is_not_armed() -> None:
    leg = order(
        exec_mode="dark", action="sell", order_type="stop", price=0, trigger_price=90,
        parent="e", size=0,
    )  # fmt: skip
    run = Run(leg, SUBMIT)
    assert not any(isinstance(output, on.Arm) for output in run.outputs)
    run.step(on.Resized(time_ns=1, size=Decimal(4)))
    (arm,) = (output for output in run.last if isinstance(output, on.Arm))
    assert arm.order.size == 4
    run.step(on.Resized(time_ns=1, size=Decimal(0)))
    assert on.Disarm(oid=leg.oid) in run.last


def test_an_order_triggered_while_nobody_watched_is_marked() -> None:
    run = Run(DARK, SUBMIT, on.Triggered(time_ns=1, gapped=True))
    assert run.last_told().gapped


def test_an_alert_tells_once_and_sends_nothing() -> None:
    run = Run(order(action="alert", size=0), SUBMIT, on.Triggered(time_ns=1))
    assert [status.resp for status in run.told()] == ["dark_open", "triggered", "closed"]
    assert run.sent() == []


def test_a_refused_entry_is_the_one_error() -> None:
    for first in (order(), DARK):
        run = Run(first, refused("entry"))
        assert (run.dialog.state, run.last_told().resp) == ("error", "error")
    run = Run(order(), *WORKING, refused())
    assert (run.dialog.state, run.last) == ("open", run.last[:1])
    assert isinstance(run.last[0], on.Note)


def test_an_unknown_word_of_the_venue_is_a_note_in_every_state() -> None:
    for state in WAYS:
        run = at(state)
        run.step(on.Unrecognised(time_ns=1, text="status 'expired'"))
        assert run.dialog.state == state
        assert isinstance(run.last[0], on.Note)


def test_a_reqid_that_changes_is_followed() -> None:
    run = Run(order(), *WORKING, CANCEL, on.Acked(time_ns=1, reqid=8))
    assert (run.dialog.reqid, run.cancels()) == (8, 2)


def test_a_dialog_reads_back_from_a_snapshot() -> None:
    for run in WAYS.values():
        wire = msgspec.msgpack.encode(run.dialog)
        assert msgspec.msgpack.decode(wire, type=Dialog) == run.dialog


def test_every_state_is_reached_and_every_terminal_one_answers_requests() -> None:
    targets = {target for rule in TABLE.values() for target in rule.to} | {"new"}
    assert targets == set(STATES)
    for state in STATES[1:]:
        assert (state, on.CancelAsked) in TABLE
        assert (state, on.Amend) in TABLE
    for state in TERMINAL:
        for event in (on.Amend, on.CancelAsked, on.Filled):
            assert TABLE[state, event].to == (state,)


def test_the_page_of_states_is_drawn_from_the_table() -> None:
    page = Path(__file__).parents[3] / "docs" / "reference" / "order-states.md"
    assert page.read_text(encoding="utf-8") == order_states_page()
