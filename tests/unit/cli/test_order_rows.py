"""Orders and positions as rows, and what one command has heard of its order."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from piker.clearing import Order, Status
from piker.cli.order_rows import (
    Heard,
    find_oid,
    mark_of,
    order_row,
    order_terms,
    position_row,
    shown,
    text,
)
from piker.errors import OrderRejected

FQME = "btcusdt.spot.binance"
OID = "8f3a91c2" + "0" * 24


def order(**fields: Any) -> Order:
    """Return a limit order to buy; `fields` say what is different."""
    made = {"action": "buy", "exec_mode": "live", "oid": OID, "symbol": FQME, "account": "paper"}
    return Order(**{**made, "price": Decimal(65000), "size": Decimal("0.02"), **fields})


def status(resp: str, **fields: Any) -> Status:
    """Return a status of that order."""
    told = {"time_ns": 1, "oid": OID, "resp": resp, "req": order(), "account": "paper"}
    return Status(**{**told, "revision": 1, "state": resp, **fields})


def fill(tid: str, size: str, price: str, fee: str = "0.1") -> Status:
    """Return the status of one fill."""
    told = {"time_ns": 2, "broker_time": 2.0, "reqid": "r", "size": size, "price": price}
    told |= {"tid": tid, "fee": fee, "fee_asset": "usdt"}
    return status("fill", brokerd_msg=told, state="partially_filled")


def test_fills_are_summed_and_one_told_twice_counts_once() -> None:
    heard = Heard(order())
    assert not heard.has_word
    heard.take(status("open"))
    heard.take(fill("a", "0.005", "64000"))
    heard.take(fill("a", "0.005", "64000"))
    heard.take(fill("b", "0.015", "65000"))
    heard.take(status("closed"))
    row = heard.row()
    assert heard.has_ended
    assert (row["filled"], row["average_price"]) == ("0.02", "64750")
    assert row["fees"] == {"usdt": "0.2"}
    assert row["state"] == "closed"


def test_a_late_fill_does_not_open_an_order_again() -> None:
    heard = Heard(order())
    heard.take(status("canceled"))
    heard.take(fill("a", "0.005", "64000"))
    assert (heard.row()["state"], heard.row()["filled"]) == ("canceled", "0.005")


def test_pending_is_no_news() -> None:
    heard = Heard(order())
    heard.take(status("pending"))
    assert not heard.has_word
    heard.take(status("dark_open"))
    assert heard.has_word


def test_a_row_says_in_a_word_how_an_order_acts() -> None:
    stop = {"order_type": "stop", "trigger_price": Decimal(66000)}
    kinds = [
        order_terms(one)["type"]
        for one in (
            order(),
            order(order_type="market", price=Decimal(0)),
            order(**stop),
            order(**stop, price=Decimal(0)),
            order(exec_mode="dark"),
            order(exec_mode="dark", order_type="stop", trail="0.5%", price=Decimal(0)),
            order(action="alert", size=Decimal(0)),
        )
    ]
    assert kinds == [
        "limit", "market", "stop limit", "stop", "dark limit", "dark trail 0.5%", "alert",
    ]  # fmt: skip


def test_a_row_leaves_out_what_was_not_asked_for() -> None:
    row = order_row(status("open"))
    assert {"trail", "post_only", "take_profit", "reason", "gapped"}.isdisjoint(row)
    assert row["price"] == "65000"
    assert order_row(status("open", gapped=True, reason="why"))["reason"] == "why"


def test_every_row_is_marked_and_a_local_venue_too() -> None:
    row = order_row(status("open"))
    assert mark_of(row, {}) == "PAPER"
    assert mark_of(row, {"binance": "demo"}) == "PAPER LOCAL"
    assert mark_of({**row, "mode": "live"}, {}) == "LIVE"
    (cells,) = shown([row], {"binance": "demo"})
    assert (cells["oid"], cells["mode"]) == (OID[:8], "PAPER LOCAL")
    assert "account" not in cells
    (cells,) = shown([{**row, "mode": "live", "account": "binance.main"}], {})
    assert (cells["mode"], cells["account"]) == ("LIVE", "binance.main")


def test_a_dark_order_says_on_which_side_it_fires() -> None:
    told = status("dark_open", req=order(exec_mode="dark"), brokerd_msg={"fires": ">="})
    (cells,) = shown([order_row(told)], {})
    assert cells["type"] == "dark limit >="


def test_a_position_is_told_with_its_gain_at_the_last_trade() -> None:
    held = {"symbol": FQME, "account": "paper", "size": "-0.5", "avg_price": "65000.10"}
    row = position_row(held, "paper", {"last": 64000.1})
    assert (row["size"], row["average_price"], row["unrealised"]) == ("-0.5", "65000.1", "500")
    assert position_row(held, "paper", None)["unrealised"] is None


def test_an_amount_has_no_exponent_and_no_needless_zero() -> None:
    assert text(Decimal("1E-8")) == "0.00000001"
    assert text(Decimal("1E+3")) == "1000"
    assert text("0.500") == "0.5"
    assert text(Decimal(2) / 3) == "0.666666666667"
    assert text(None) is None


def test_an_oid_is_found_by_how_it_begins() -> None:
    one, two = status("open"), status("open", oid="8f3a0000")
    assert find_oid("8F3A9", [one, two]) is one
    with pytest.raises(OrderRejected, match="begins several orders: 8f3a91c200000000, 8f3a0000"):
        find_oid("8f3a", [one, two])
    with pytest.raises(OrderRejected, match="no open order begins with 'ffff'; see `piker orders`"):
        find_oid("ffff", [one])
    with pytest.raises(OrderRejected, match="expected at least 4 characters"):
        find_oid("8f", [one])
