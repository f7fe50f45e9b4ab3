"""All dialogs of a daemon: found by oid or reqid, deaf to rubbish, told whole to a late client."""

from __future__ import annotations

import random
from typing import Any

import pytest
from book_helpers import OID, order

from piker.clearing import _book_events as on
from piker.clearing._dialogs import OrderDialogs
from piker.clearing._messages import Cancel
from piker.errors import OrderRejected

SYMBOL = "btcusdt.spot.binance"


def entered(*oids: str) -> OrderDialogs:
    dialogs = OrderDialogs()
    for oid in oids or (OID,):
        dialogs.request(order(oid=oid), "binance", "paper", 1)
        dialogs.apply(oid, on.Left(time_ns=1, number=1))
    return dialogs


def relay(dialogs: OrderDialogs, raw: Any) -> tuple[on.Output, ...]:
    return dialogs.relay("binance", "paper", raw, 2)


def fill(tid: str = "t", **changes: Any) -> dict[str, Any]:
    fields = {"name": "fill", "time_ns": 1, "broker_time": 1.0, "reqid": 7, "price": "100"}
    return {**fields, "size": "1", "tid": tid, **changes}


def status(word: str, **changes: Any) -> dict[str, Any]:
    return {"name": "status", "time_ns": 1, "reqid": 7, "status": word, **changes}


ACK = {"name": "ack", "reqid": 7, "oid": OID}


def test_messages_of_a_broker_find_their_order_by_either_id() -> None:
    dialogs = entered()
    for raw in (ACK, status("open"), fill(), status("closed", filled="10")):
        relay(dialogs, raw)
    assert dialogs[OID].state == "closed"
    assert dialogs[OID].filled == 1


def test_a_broker_that_numbers_per_market_is_followed_by_oid() -> None:
    dialogs = entered("a", "b")
    for oid in ("a", "b"):
        relay(dialogs, {**ACK, "oid": oid})
    (note,) = relay(dialogs, fill())
    assert isinstance(note, on.Note), "reqid 7 alone means two orders"
    relay(dialogs, fill(oid="b"))
    assert (dialogs["a"].filled, dialogs["b"].filled) == (0, 1)


@pytest.mark.parametrize(
    "raw",
    [
        None, 5, "x", b"\xff", [], {}, {"name": "boom"}, {"name": "fill"}, ACK | {"oid": "nobody"},
        status("expired"), status("filled"), status("open", reqid=99), {"name": "error"},
        {"name": "error", "reason": "no"}, {"name": "status", "resp": "open"}, fill(size="NaN"),
        fill(reqid=[]), {"name": "status", "resp": "closed", "time_ns": 1, "oid": "x"},
    ],
    ids=repr,
)  # fmt: skip
def test_an_unknown_message_is_a_note_and_changes_nothing(raw: Any) -> None:
    dialogs = entered()
    relay(dialogs, ACK)
    before = dialogs[OID]
    outputs = relay(dialogs, raw)
    assert [type(output) for output in outputs] == [on.Note]
    assert dialogs[OID] == before


def test_a_cancel_or_amend_of_an_order_nobody_knows_is_refused_by_name() -> None:
    dialogs = entered()
    for request in (Cancel(oid="x", symbol=SYMBOL), order(oid="x", revision=1)):
        with pytest.raises(OrderRejected, match="x"):
            dialogs.request(request, "binance", "paper", 1)
    with pytest.raises(OrderRejected, match="symbol"):
        dialogs.request(Cancel(oid=OID, symbol="ethusdt.spot.binance"), "binance", "paper", 1)


def test_an_oid_that_is_known_is_not_entered_again() -> None:
    dialogs = entered()
    relay(dialogs, status("canceled", oid=OID))
    (tell,) = dialogs.request(order(), "binance", "paper", 3)
    assert isinstance(tell, on.Tell)
    assert (tell.status.refused, tell.status.is_terminal) == ("amend", False)


def test_an_order_that_was_there_before_is_taken_over() -> None:
    dialogs = OrderDialogs()
    theirs = order(oid="x", symbol="btcusdt.spot").to_dict()
    raw = {"name": "status", "time_ns": 1, "oid": "", "resp": "open", "reqid": 9, "src": "binance"}
    (tell,) = relay(dialogs, raw | {"req": theirs})
    assert isinstance(tell, on.Tell)
    assert (tell.status.oid, tell.status.req and tell.status.req.symbol) == ("9", SYMBOL)
    dialogs.request(Cancel(oid="9", symbol=SYMBOL), "binance", "paper", 1)
    relay(dialogs, status("canceled", reqid=9))
    assert dialogs["9"].state == "canceled"
    for missing in ("src", "reqid", "req"):
        broken = {key: value for key, value in (raw | {"req": theirs}).items() if key != missing}
        assert isinstance(relay(OrderDialogs(), broken)[0], on.Note)


def test_positions_are_handed_on() -> None:
    raw = {"name": "position", "broker": "b", "account": "a", "symbol": "s"}
    (hold,) = relay(OrderDialogs(), raw | {"size": "-1", "avg_price": 2.5})
    assert isinstance(hold, on.Hold)
    assert hold.position.size == -1


def test_a_late_client_hears_of_open_dialogs_and_their_fills() -> None:
    dialogs = entered("a", "b")
    relay(dialogs, {**ACK, "oid": "a"})
    relay(dialogs, fill(oid="a"))
    relay(dialogs, status("canceled", oid="b", reqid=8))
    assert [(oid, one.resp) for oid, one in dialogs.active().items()] == [("a", "open")]
    assert [one.tid for one in dialogs.past_fills()["a"]] == ["t"]
    assert dialogs.statistics()["active"] == 1


def test_dialogs_survive_a_restart_and_ended_ones_are_forgotten_in_time() -> None:
    dialogs = entered("a", "b")
    relay(dialogs, {**ACK, "oid": "a"})
    relay(dialogs, status("canceled", oid="b", reqid=8))
    again = OrderDialogs(iter(dialogs))
    relay(again, fill())
    assert again["a"].filled == 1
    assert again.forget(before_ns=2) == 0
    assert again.forget(before_ns=3) == 1
    assert "b" not in again
    relay(again, fill("u"))
    assert again["a"].filled == 2


@pytest.mark.parametrize("seed", range(20))
def test_no_mangled_message_ever_raises(seed: int) -> None:
    draw = random.Random(seed)
    dialogs = entered("a", "b", OID)
    good = [ACK, fill(), status("open"), status("closed"), {"name": "error", "reason": "no"}]
    for _ in range(200):
        raw: dict[Any, Any] = dict(draw.choice(good))
        for _ in range(draw.randrange(3)):
            key = draw.choice([*raw, "oid", "number", "msg", 5])
            raw[key] = draw.choice([None, -1, 2**70, "", "a", "7", float("nan"), [], {}, b"x"])
        relay(dialogs, raw)
