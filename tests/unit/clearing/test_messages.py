"""Order messages: exact decimals, names of the wire, and refusals that name the field."""

from __future__ import annotations

import random
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from piker.clearing._messages import (
    BrokerdCancel,
    BrokerdError,
    BrokerdFill,
    BrokerdOrder,
    BrokerdOrderAck,
    BrokerdPosition,
    BrokerdStatus,
    Cancel,
    Error,
    Message,
    Order,
    Status,
    exact,
    parse_broker,
    parse_intent,
    parse_reply,
    parse_request,
    parse_trail,
)
from piker.errors import BadPayload, OrderRejected

ORDER = {
    "action": "buy",
    "exec_mode": "live",
    "oid": "8f" * 16,
    "symbol": "btcusdt.spot.binance",
    "account": "paper",
    "price": "27000.5",
    "size": "0.01",
    "brokers": ["binance"],
}


def order(**changes: Any) -> Order:
    request = parse_request({**ORDER, **changes})
    assert isinstance(request, Order)
    return request


def every_message() -> list[tuple[Any, Message]]:
    one = Decimal("1.50")
    return [
        (parse_request, order(trail="0.5%", order_type="stop", revision=3)),
        (parse_request, Cancel(oid="a", symbol="btcusdt.spot.binance")),
        (parse_reply, Status(time_ns=1, oid="a", resp="open", req=order(), reqid=7)),
        (
            parse_reply,
            BrokerdPosition(broker="b", account="p", symbol="s", size=-one, avg_price=one),
        ),
        (
            parse_intent,
            BrokerdOrder(oid="a", account="p", time_ns=1, symbol="s", price=one, size=one),
        ),
        (parse_intent, BrokerdCancel(oid="a", time_ns=1, account="p", reqid="7")),
        (parse_broker, BrokerdOrderAck(reqid=7, oid="a")),
        (parse_broker, BrokerdStatus(time_ns=1, reqid=7, status="open", remaining=one)),
        (
            parse_broker,
            BrokerdFill(time_ns=1, broker_time=1.5, reqid=7, size=one, price=one, tid="t"),
        ),
        (parse_broker, BrokerdError(reason="no", oid="a")),
        (parse_broker, Status(time_ns=1, oid="", resp="open", req=order(), src="binance")),
    ]


@pytest.mark.parametrize(("parse", "message"), every_message(), ids=lambda v: type(v).__name__)
def test_a_message_reads_back_as_it_was_sent(parse: Any, message: Message) -> None:
    wire = message.to_dict()
    assert parse(wire) == message
    assert parse(msgspec.msgpack.decode(msgspec.msgpack.encode(message))) == message
    assert not any(isinstance(value, float) for key, value in wire.items() if key != "broker_time")


@pytest.mark.parametrize(("parse", "message"), every_message(), ids=lambda v: type(v).__name__)
def test_a_map_without_the_type_is_recognised_by_its_words(parse: Any, message: Message) -> None:
    wire = message.to_dict()
    del wire["msg"]
    assert parse(wire) == message


def test_an_error_is_a_status_that_ends_its_dialog() -> None:
    error = Error(time_ns=1, oid="a", reason="size: was 0, expected above 0")
    read = parse_reply(error.to_dict())
    assert isinstance(read, Status)
    assert (read.resp, read.is_terminal) == ("error", True)


def test_a_refused_amend_ends_nothing() -> None:
    assert not Status(time_ns=1, oid="a", resp="closed", refused="amend").is_terminal


def test_floats_are_read_by_their_shortest_form() -> None:
    assert order(price=27000.1, size=0.1).price == Decimal("27000.1")
    assert order(price=27000.1).to_dict()["price"] == "27000.1"
    made = Order(**{**ORDER, "price": 0.1, "size": -0.3})  # type: ignore[arg-type]
    assert (made.price, made.size) == (Decimal("0.1"), Decimal("0.3"))


def test_a_negative_size_is_made_positive_at_entry() -> None:
    assert order(action="sell", size="-0.5").size == Decimal("0.5")


def test_decimals_are_written_without_an_exponent() -> None:
    assert order(price="27E3").to_dict()["price"] == "27000"
    assert str(exact("price", "-0.0")) == "0"


def test_each_spelling_of_a_number_is_taken_as_the_same_digits() -> None:
    for text, digits in [
        ("1.50", "1.50"), ("-1.50", "-1.50"), ("007", "7"), ("1E-7", "0.0000001"), ("0.00", "0"),
        ("9" * 24, "9" * 24), ("9" * 25, "9" * 25), ("0." + "0" * 23 + "1", "0." + "0" * 23 + "1"),
        ("1" * 14 + "." + "5" * 14, "1" * 14 + "." + "5" * 14),
    ]:  # fmt: skip
        assert f"{exact('price', text):f}" == digits
        assert f"{exact('price', Decimal(text)):f}" == digits
    for text in ("9" * 26, "0." + "0" * 24 + "1", "1" * 15 + "." + "5" * 14, "1E+25", "-Infinity"):
        for value in (text, Decimal(text)):
            with pytest.raises(ValueError, match="price: was"):
                exact("price", value)


REFUSED = [
    ("action", "hold"), ("exec_mode", "later"), ("oid", ""), ("oid", "a\nb"), ("oid", "x" * 200),
    ("oid", 5), ("symbol", "btcusdt"), ("symbol", ""), ("account", ""), ("price", "0"),
    ("price", "-1"), ("price", "NaN"), ("price", float("nan")), ("price", "Infinity"),
    ("price", "ten"), ("price", "1E+999999999"), ("price", True),
    ("price", "0." + "1" * 40), ("price", None), ("size", "0"), ("size", 0.0), ("size", "-0"),
    ("size", float("inf")), ("size", []), ("order_type", "iceberg"), ("order_type", "stop"),
    ("time_in_force", "day"), ("trail", "-1"), ("trail", "100%"), ("trail", "x"),
    ("trigger_price", "0"), ("trigger_price", "sNaN"), ("revision", 0), ("revision", "1"),
    ("cause_ns", -1), ("expire_time_ns", 5), ("brokers", ["b"] * 9), ("client_ref", "\x00"),
]  # fmt: skip


@pytest.mark.parametrize(("field", "value"), REFUSED, ids=str)
def test_a_wrong_value_is_refused_by_the_name_of_its_field(field: str, value: Any) -> None:
    raw = {**ORDER, field: value}
    with pytest.raises(OrderRejected) as caught:
        parse_request(raw)
    assert field.replace("order_type", "") in caught.value.reason
    assert caught.value.oid == (raw["oid"] if isinstance(raw["oid"], str) else "")
    assert len(caught.value.reason) < 300


def test_terms_that_contradict_each_other_are_refused() -> None:
    for terms, field in [
        ({"post_only": True, "time_in_force": "ioc"}, "post_only"),
        ({"time_in_force": "gtd"}, "expire_time_ns"),
        ({"order_type": "market"}, "price"),
        ({"order_type": "market", "price": "0", "post_only": True}, "post_only"),
    ]:
        with pytest.raises(OrderRejected, match=field):
            order(**terms)
    assert order(order_type="market", price=0).price == 0
    assert order(order_type="stop", trigger_price="5", price=0).trigger_price == 5
    assert order(time_in_force="gtd", expire_time_ns=9).expire_time_ns == 9


def test_an_alert_needs_a_price_and_nothing_else() -> None:
    alert = order(action="alert", size=0, account="")
    assert alert.is_dark
    assert alert.is_alert
    with pytest.raises(OrderRejected, match="price"):
        order(action="alert", size=0, price=0)


@pytest.mark.parametrize("missing", ["action", "oid", "symbol", "account", "exec_mode"])
def test_a_missing_field_is_named(missing: str) -> None:
    raw = {key: value for key, value in ORDER.items() if key != missing}
    with pytest.raises(OrderRejected, match=missing):
        parse_request(raw)


def test_rubbish_is_refused_and_never_raises_anything_else() -> None:
    deep: Any = []
    for _ in range(2_000):
        deep = [deep]
    rubbish = [None, 5, "x", b"\xff", [], {}, {"msg": "boom"}, {5: 6}, {"name": []}, deep]
    rubbish += [{"name": "fill", "broker_details": {"a": deep}}, {"name": "status", "resp": {}}]
    for raw in rubbish:
        with pytest.raises(OrderRejected):
            parse_request(raw)
        for parse in (parse_broker, parse_reply, parse_intent):
            with pytest.raises(BadPayload):
                parse(raw)


def test_a_map_of_a_type_that_the_sender_does_not_use_is_refused_by_its_name() -> None:
    for parse, foreign in [
        (parse_request, "ack"), (parse_reply, "order"), (parse_intent, "fill"),
        (parse_broker, "paper_ready"), (parse_broker, 5), (parse_broker, ["ack"]),
    ]:  # fmt: skip
        with pytest.raises((OrderRejected, BadPayload), match=r"`\$\.msg`"):
            parse({**ORDER, "msg": foreign})


def test_a_fill_needs_a_trade_id_and_a_size() -> None:
    fill = {"name": "fill", "time_ns": 1, "broker_time": 1.0, "reqid": 7, "size": "1", "price": "2"}
    for changes, field in [({}, "tid"), ({"tid": "t", "size": 0}, "size")]:
        with pytest.raises(BadPayload, match=field):
            parse_broker({**fill, **changes})


def test_a_trail_is_a_distance_or_a_percentage() -> None:
    assert parse_trail("12.5") == (Decimal("12.5"), False)
    assert parse_trail("0.5%") == (Decimal("0.5"), True)


@pytest.mark.parametrize("seed", range(20))
def test_any_exact_decimal_survives_the_wire(seed: int) -> None:
    draw = random.Random(seed)
    for _ in range(100):
        digits = draw.randrange(1, 10 ** draw.randrange(1, 20))
        value = Decimal(digits).scaleb(-draw.randrange(0, 15))
        sent = order(price=str(value), size=str(value))
        read = parse_request(msgspec.json.decode(msgspec.json.encode(sent)))
        assert isinstance(read, Order)
        assert (read.price, read.size) == (value, value)
