"""What the EMS says of orders, as lines of the page."""

from decimal import Decimal

import pytest
from msgspec.structs import replace

from piker.clearing import BrokerdFill, Order, Status
from piker.ui.order_lines import Lines, price_text, text_of

FQME = "btcusdt.spot.binance"


def order(oid="a" * 32, **fields):
    base = {"action": "buy", "exec_mode": "live", "symbol": FQME, "account": "paper"}
    return Order(oid=oid, **base | {"price": "100.00", "size": "2"} | fields)


def status(made, resp="open", **fields):
    state = fields.pop("state", resp)
    base = {"time_ns": 10**9, "revision": 1, "account": made.account, "src": "paperboi"}
    return Status(oid=made.oid, resp=resp, state=state, req=made, **base | fields)


def fill(made, size, price="100", tid="t1"):
    return BrokerdFill(
        time_ns=1, broker_time=5.0, reqid=made.oid, size=size, price=price, tid=tid,
        action=made.action, account="paper", fee="0.1", fee_asset="usdt", is_maker=True,
    )  # fmt: skip


@pytest.fixture
def lines():
    return Lines("paper")


def test_an_order_handed_over_is_a_line_before_its_first_word(lines):
    row = lines.enter(order())
    assert (row.state, row.price, row.size, row.gone) == ("sent", "100.00", "2", False)
    assert [line.state for line in lines.working()] == ["sent"]


def test_an_amend_under_way_shows_what_is_in_force_and_what_was_asked(lines):
    made = order()
    lines.take(status(made))
    moved = replace(made, price=Decimal("101.00"))
    row, _ = lines.take(status(moved, "pending", state="amend_in_flight", revision=2))
    assert (row.price, row.asked_price, row.asked_size, row.revision) == ("100.00", "101.00", "", 2)
    row, _ = lines.take(status(moved, revision=2))
    assert (row.price, row.asked_price) == ("101.00", "")


def test_a_refused_amend_leaves_the_line_where_it_was_and_says_why(lines):
    made = order()
    lines.take(status(made))
    lines.take(
        status(replace(made, size=Decimal(9)), "pending", state="amend_in_flight", revision=2)
    )
    row, _ = lines.take(status(made, refused="amend", reason="size: was 9, limit 5"))
    assert (row.size, row.asked_size, row.state, row.gone) == ("2", "", "open", False)
    assert (row.refused, row.reason) == ("amend", "size: was 9, limit 5")
    (later,) = lines.rows()
    assert (later.refused, later.reason) == ("", "")


def test_a_refused_entry_takes_its_line_away_with_the_reason(lines):
    made = order()
    lines.enter(made)
    said = Status(time_ns=1, oid=made.oid, resp="error", state="error", reason="max_notional: no")
    row, _ = lines.take(said)
    assert (row.gone, row.refused, row.reason, row.price) == (
        True, "entry", "max_notional: no", "100.00",
    )  # fmt: skip
    assert not len(lines)


def test_fills_add_up_once_each(lines):
    made = order()
    lines.take(status(made))
    marks = []
    for tid, size in (("t1", "0.5"), ("t1", "0.5"), ("t2", "0.25")):
        said = fill(made, size, tid=tid).to_dict()
        row, mark = lines.take(status(made, "fill", state="partially_filled", brokerd_msg=said))
        marks.append(mark and mark.tid)
    assert marks == ["t1", None, "t2"]
    assert (row.filled, row.avg, row.state) == ("0.75", "100", "partially_filled")


def test_a_late_fill_is_marked_though_its_line_has_gone(lines):
    made = order()
    lines.take(status(made, "canceled"))
    said = status(made, "fill", state="canceled", brokerd_msg=fill(made, "1").to_dict())
    row, mark = lines.take(said)
    assert row is None
    assert (mark.size, mark.price) == ("1", "100")


def test_a_fired_alert_goes_with_one_word(lines):
    alert = order(action="alert", size="0")
    lines.take(status(alert, "dark_open", brokerd_msg={"fires": ">="}))
    row, _ = lines.take(status(alert, "triggered"))
    assert (row.state, row.gone) == ("triggered", True)
    assert lines.take(status(alert, "closed")) == (None, None)


def test_a_held_order_says_where_it_fires(lines):
    row, _ = lines.take(status(order(exec_mode="dark"), "dark_open", brokerd_msg={"fires": "<="}))
    assert row.fires == "at or below"


def test_a_new_snapshot_drops_what_has_ended_and_keeps_what_was_just_sent(lines):
    kept, ended, sent = order("a" * 32), order("b" * 32), order("c" * 32)
    lines.take(status(kept))
    lines.take(status(ended))
    lines.enter(sent)
    rows = lines.reset([status(kept)], {kept.oid: [fill(kept, "1")]})
    assert [(row.oid, row.state, row.filled) for row in rows] == [
        (kept.oid, "open", "1"),
        (sent.oid, "sent", "0"),
    ]


def test_a_late_client_sees_both_versions_of_an_order_that_is_being_amended(lines):
    made = order(price="101.00")
    said = {"in_force": {"price": "100.00", "size": "2"}, "entered_ns": 5 * 10**8, "fires": ""}
    status_now = status(made, "pending", state="amend_in_flight", revision=2, brokerd_msg=said)
    (row,) = lines.reset([status_now], {})
    assert (row.price, row.asked_price, row.asked_size) == ("100.00", "101.00", "")
    assert row.entered == 0.5


def test_an_order_that_never_left_is_dropped_only_without_a_word(lines):
    made = order()
    lines.enter(made)
    row = lines.drop(made.oid, "not sent: emsd has left")
    assert (row.gone, row.refused, row.reason) == (True, "entry", "not sent: emsd has left")
    lines.take(status(made))
    assert lines.drop(made.oid, "not sent") is None


def test_amounts_are_plain_text():
    assert text_of(Decimal("1E+3")) == "1000"
    assert text_of(Decimal("0.10000")) == "0.1"
    assert text_of(None) == ""
    assert price_text(Decimal("100.10")) == "100.10"
    assert price_text(Decimal(0)) == ""
