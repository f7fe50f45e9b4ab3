"""The life of an order under random events, against a naive venue that keeps the truth."""

from __future__ import annotations

import random
from decimal import Decimal
from functools import cache

import pytest
from book_helpers import Run, Venue, amend, fill, order

from piker.clearing import _book_events as on
from piker.clearing._book import TABLE
from piker.clearing._messages import Order

SEEDS = range(60)
STEPS = 80_000
KEPT_MAX = 100  # walks of each state that may be gone on with


ENTRIES: tuple[Order, ...] = (
    order(), order(exec_mode="dark"), order(action="alert", size=0),
)  # fmt: skip


def any_event(draw: random.Random, run: Run) -> on.Event:
    """Return any event at all, sensible or not, leaning towards those that do not end it."""
    dialog = run.dialog
    if dialog.state == "new" and draw.random() < 0.7:
        return on.Submit(time_ns=1)
    number = draw.choice([0, 0, dialog.revision, dialog.sent_number, draw.randrange(9)])
    reqid = draw.choice([None, 7, 7, 7, "other"])
    base = draw.choice([dialog.newest, dialog.newest, dialog.revision, None])
    dark = {"exec_mode": dialog.order.exec_mode, "action": dialog.order.action}
    common: list[on.Event] = [
        amend(base, draw.randrange(90, 110), size=Decimal(draw.randrange(5, 20)), **dark),
        on.CancelAsked(time_ns=1),
        on.Left(time_ns=1, number=dialog.sent_number),
        on.TimedOut(time_ns=1),
        on.Acked(time_ns=1, reqid=reqid, number=number),
        on.Opened(time_ns=1, reqid=reqid, number=number),
        fill(f"t{draw.randrange(30)}", draw.randrange(1, 4)),
        on.Refused(time_ns=1, reason="no", request=draw.choice(["", "amend", "cancel"])),
        on.Refused(time_ns=1, reason="no", number=number),
        on.Found(time_ns=1, number=number or dialog.revision, reqid=reqid),
        on.Unrecognised(time_ns=1, text="?"),
        on.Resized(time_ns=1, size=Decimal(draw.randrange(5, 20))),
    ]
    rare: list[on.Event] = [
        on.Submit(time_ns=1),
        on.Adopted(time_ns=1, reqid=7),
        on.Triggered(time_ns=1, price=Decimal(99), hold=draw.random() < 0.5),
        on.Released(time_ns=1),
        on.Trailed(time_ns=1, best=Decimal(99)),
        on.NeverSent(time_ns=1, number=dialog.sent_number),
        on.Refused(time_ns=1, reason="no", request="entry"),
        on.Closed(time_ns=1),
        on.Canceled(time_ns=1, number=number),
        on.Absent(time_ns=1),
    ]
    return draw.choice(rare if draw.random() < 0.25 else common)


def check(run: Run, event: on.Event, sent_before: int) -> None:
    """Hold what has to be true after any event."""
    dialog, terminal = run.dialog, [status for status in run.told() if status.is_terminal]
    assert len(terminal) == int(dialog.is_terminal)
    booked = [output.fill for output in run.outputs if isinstance(output, on.Book)]
    assert sum((one.size for one in booked), Decimal(0)) == dialog.filled
    assert len({one.tid for one in booked}) == len(booked)
    numbers = [sent.number for sent in run.sent()]
    assert numbers == sorted(set(numbers)), "no request is sent twice"
    assert dialog.revision <= dialog.newest <= dialog.last_number
    assert len(run.sent()) - sent_before <= 1
    if isinstance(event, on.Amend | on.CancelAsked) and dialog.state != "new":
        assert any(isinstance(output, on.Tell) for output in run.last), "each request is answered"


@cache
def walked() -> frozenset[tuple[str, type, str]]:
    """
    Walk random events, going on from each state equally often so that rare ones are not missed,
    and from those without a cancel as often as from those with one.

    Return each `(state, event, next state)` seen.
    """
    draw = random.Random(9)
    runs = {("new", False): [Run(entry) for entry in ENTRIES]}
    seen = set()
    for _ in range(STEPS):
        start = draw.choice(runs[draw.choice(list(runs))])
        run = Run(start.dialog.order)
        run.dialog, run.outputs = start.dialog, list(start.outputs)
        event, sent = any_event(draw, run), len(run.sent())
        run.step(event)
        check(run, event, sent)
        state = run.dialog.state
        seen.add((start.dialog.state, type(event), state))
        kept = runs.setdefault((state, run.dialog.cancel_called), [])
        if len(run.outputs) < 40:
            kept.append(run)
            if len(kept) > KEPT_MAX:
                kept.pop(draw.randrange(len(kept)))
    return frozenset(seen)


def test_any_events_keep_the_promises() -> None:
    assert len(walked()) > 100


def test_the_table_promises_no_transition_that_never_happens() -> None:
    declared = {
        (state, event, to)
        for (state, event), rule in TABLE.items()
        for to in rule.to
        if to != state
    }
    happened = {way for way in walked() if way[0] != way[2]}
    assert happened <= declared
    missing = sorted(f"{a} {e.__name__} {b}" for a, e, b in declared - happened)
    assert missing == []


@pytest.mark.parametrize("seed", SEEDS)
def test_a_dialog_agrees_with_the_venue_that_keeps_the_truth(seed: int) -> None:
    draw = random.Random(seed)
    for _ in range(10):
        run, venue = Run(order()), Venue(draw)
        act(run, venue, on.Submit(time_ns=1))
        for _ in range(60):
            one_turn(draw, run, venue)
        settle(run, venue)
        dialog = run.dialog
        assert dialog.filled == venue.filled
        assert sum(status.is_terminal for status in run.told()) == int(dialog.is_terminal)
        if venue.status == "none":
            assert dialog.state == "canceled"
        elif venue.status == "open":
            assert dialog.state in {"open", "partially_filled"}
            assert dialog.order.price == venue.price
            assert dialog.order.size == venue.size
        else:
            assert dialog.state == venue.status


def one_turn(draw: random.Random, run: Run, venue: Venue) -> None:
    """Let one thing happen: a client asks, the venue works, trades, or is heard."""
    chance = draw.random()
    if chance < 0.15:
        size = Decimal(draw.randrange(5, 20))
        act(run, venue, amend(run.dialog.newest, draw.randrange(90, 110), size=size))
    elif chance < 0.17:
        act(run, venue, on.CancelAsked(time_ns=1))
    elif chance < 0.5:
        venue.take_one()
    elif chance < 0.6:
        venue.trade()
    elif venue.answers:
        act(run, venue, venue.answers.popleft())


def act(run: Run, venue: Venue, event: on.Event) -> None:
    """Step, and hand what is to be sent to the venue; it has then left."""
    for output in run.step(event):
        if isinstance(output, on.Send | on.SendCancel):
            venue.inbox.append(output)
        if isinstance(output, on.Send):
            run.step(on.Left(time_ns=1, number=output.order.number))


def settle(run: Run, venue: Venue) -> None:
    """Let everything arrive, then time out and look up until nothing is in doubt."""
    for _ in range(200):
        while venue.inbox or venue.answers:
            venue.take_one()
            if venue.answers:
                act(run, venue, venue.answers.popleft())
        match run.dialog.state:
            case "unknown":
                act(run, venue, venue.look_up())
            case "pending" if run.dialog.reqid is not None:
                act(run, venue, on.Opened(time_ns=1, reqid=7))  # a broker reads open orders again
            case "pending" | "amend_in_flight" | "cancel_in_flight":
                act(run, venue, on.TimedOut(time_ns=1))
            case _:
                return
    raise AssertionError(f"still {run.dialog.state}")
