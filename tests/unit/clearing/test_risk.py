"""The risk gate: which limit refuses what, in which words, and what passes it."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from msgspec.structs import replace
from trigger_helpers import FQME, MKT, dark

from piker.clearing._dialog import Dialog, new_dialog
from piker.clearing._messages import Order
from piker.clearing._risk import RiskGate, RiskLimits, RiskView, only_reduces

S = 1_000_000_000
OFF = RiskLimits(
    max_notional=Decimal(0), price_band_pct=Decimal(0), daily_loss=Decimal(0), orders_per_s=0
)


def live(action: str = "buy", price: Any = 100, size: Any = 1, **terms: Any) -> Order:
    return dark("x", action, price, size=Decimal(size), exec_mode="live", **terms)


def market(action: str = "buy", size: Any = 1, **terms: Any) -> Order:
    return live(action, 0, size, order_type="market", **terms)


def view(**facts: Any) -> RiskView:
    return RiskView(**{"now_ns": S, "mkt": MKT, "last": Decimal(100), **facts})


def check(order: Order, limits: RiskLimits = OFF, **facts: Any) -> str:
    return RiskGate(limits).check(order, view(**facts))


def resting(oid: str, action: str = "buy", size: int = 1, **facts: Any) -> Dialog:
    order = dark(oid, action, 100, size=Decimal(size), exec_mode="live")
    return replace(new_dialog(order, "binance"), state=facts.pop("state", "open"), **facts)


# ---- the words of each limit


@pytest.mark.parametrize(
    ("limits", "order", "facts", "reason"),
    [
        (
            {"max_notional": 2500},
            live(size="30.125"),
            {},
            "max_notional: was 3012.50 USDT, limit 2500",
        ),
        ({"max_size": 2}, live(size="2.001"), {}, "max_size: was 2.001 BTC, limit 2"),
        (
            {"max_position": 1000},
            live(size=6),
            {"position": Decimal(5)},
            "max_position: would be 1100.00 USDT, limit 1000",
        ),
        (
            {"price_band_pct": 2},
            live(price="102.1"),
            {},
            "price_band_pct: buy at 102.1, limit 102: 2.10 % off the last trade 100",
        ),
        (
            {"price_band_pct": 2},
            live("sell", "97.9"),
            {},
            "price_band_pct: sell at 97.9, limit 98: 2.10 % off the last trade 100",
        ),
        (
            {"daily_loss": 500},
            live(),
            {"realised": Decimal(-400), "fees": Decimal(60), "unrealised": Decimal(-40)},
            "daily_loss: was 500 USDT today, limit 500",
        ),
        ({}, live(), {"stale": "41 s old"}, f"stale_gate: {FQME} is stale: 41 s old"),
        ({}, live(), {"stopped": "by hand"}, "stopped: by hand; piker arm to trade again"),
        ({}, live(), {"unsound": "journal full"}, "no new risk: journal full"),
        ({}, live(price="1.23"), {}, "price: was 1.23, expected a multiple of 0.1"),
        ({}, live(size="0.0001"), {}, "size: was 0.0001, expected a multiple of 0.001"),
        ({}, live(size="1E-7"), {}, "size: was 0.0000001, expected a multiple of 0.001"),
        ({}, live(price="1E-7"), {}, "price: was 0.0000001, expected a multiple of 0.1"),
        ({}, market(), {"last": None}, f"last: no trade of {FQME} is known yet"),
        ({}, dark(), {"last": None}, f"last: no trade of {FQME} is known yet"),
    ],
)
def test_a_refusal_says_which_limit_and_which_value(
    limits: dict[str, Any], order: Order, facts: dict[str, Any], reason: str
) -> None:
    given = replace(OFF, **{name: Decimal(value) for name, value in limits.items()})
    assert check(order, given, **facts) == reason


@pytest.mark.parametrize("field", ["trigger_price", "take_profit", "stop_loss"])
def test_every_price_of_an_order_is_on_the_grid(field: str) -> None:
    prices = {"trigger_price": "100.05", "take_profit": "110.01", "stop_loss": "90.01"}
    terms: dict[str, Any] = {field: Decimal(prices[field])}
    if field == "trigger_price":
        terms |= {"order_type": "stop"}
    assert check(live(**terms)).startswith(f"{field}: was {prices[field]}")


def test_the_shipped_limits_let_an_everyday_order_pass() -> None:
    assert check(live(size=25), RiskLimits()) == ""
    assert check(live(size="25.001"), RiskLimits()).startswith("max_notional")


def test_a_value_that_rounds_to_its_limit_is_told_in_full() -> None:
    limits = replace(OFF, max_notional=Decimal(2500))
    assert check(live(price="100.1", size="24.975"), limits) == ""
    small = replace(OFF, max_notional=Decimal("0.001"))
    assert check(live(price="1.1", size="0.001"), small) == (
        "max_notional: was 0.0011 USDT, limit 0.001"
    )


# ---- the price band


@pytest.mark.parametrize(
    "order",
    [
        live(price=50),
        live("sell", 200),
        live(price=102),
        live("sell", 98),
        market(),
        dark(price=150),
    ],
)
def test_resting_away_from_the_market_is_free(order: Order) -> None:
    assert check(order, replace(OFF, price_band_pct=Decimal(2))) == ""


def test_a_stops_limit_is_held_against_its_trigger() -> None:
    limits = replace(OFF, price_band_pct=Decimal(2))
    stop = {"order_type": "stop", "trigger_price": Decimal(110)}
    assert check(live(price=112, **stop), limits) == ""
    assert check(live(price=113, **stop), limits).startswith("price_band_pct")


def test_an_order_that_reduces_keeps_to_the_band_too() -> None:
    limits = replace(OFF, price_band_pct=Decimal(2))
    assert check(live("sell", 90), limits, position=Decimal(5)).startswith("price_band_pct")


# ---- what only reduces


@pytest.mark.parametrize(
    "facts",
    [
        {"stopped": "by hand"},
        {"unsound": "journal full"},
        {"realised": Decimal(-9999)},
    ],
)
def test_what_only_reduces_passes_the_limits_of_risk(facts: dict[str, Any]) -> None:
    limits = replace(RiskLimits(), max_position=Decimal(10))
    held: dict[str, Any] = {"position": Decimal(50), **facts}
    assert check(live("sell", size=50), limits, **held) == ""
    assert check(market("sell", 50), limits, **held) == ""
    assert check(market("sell", 500, reduce_only=True), limits, **held) == ""
    assert check(live("sell", size=51), limits, **held) != ""
    assert check(live("buy", size=50), limits, **held) != ""


def test_two_exits_together_are_no_more_than_the_position() -> None:
    exits = [resting("a", "sell", 6)]
    order = live("sell", size=5)
    assert not only_reduces(order, view(position=Decimal(10), working=exits))
    assert only_reduces(order, view(position=Decimal(11), working=exits))


def test_an_amend_that_makes_an_order_smaller_passes_the_limits_of_risk() -> None:
    known = resting("x", "buy", 10)
    stopped = {"known": known, "working": [known], "stopped": "by hand"}
    assert check(live(price=99, size=9, revision=1), OFF, **stopped) == ""
    assert check(live(price=100, size=11, revision=1), OFF, **stopped) != ""
    assert check(live(price=101, size=10, revision=1), OFF, **stopped) != ""


def test_amends_are_checked_as_entries_are() -> None:
    known = resting("x", "buy", 10)
    order = live(price=100, size=26, revision=1)
    assert check(order, RiskLimits(), known=known).startswith("max_notional")


# ---- what counts


@pytest.mark.parametrize("state", ["pending", "open", "unknown", "cancel_in_flight"])
def test_an_order_of_unknown_outcome_counts_as_if_it_were_there(state: str) -> None:
    limits = replace(OFF, max_position=Decimal(1000))
    other = resting("other", "buy", 9, state=state)
    assert check(live(size=2), limits, working=[other]).startswith("max_position")
    assert check(live(size=1), limits, working=[other]) == ""


def test_only_what_is_left_of_a_working_order_counts() -> None:
    limits = replace(OFF, max_position=Decimal(1000))
    half = resting("other", "buy", 9, filled=Decimal(4))
    assert check(live(size=5), limits, working=[half]) == ""
    assert check(live(size=5), limits, working=[half], position=Decimal(4)) != ""


@pytest.mark.parametrize("state", ["dark_open", "closed", "canceled", "error"])
def test_held_and_ended_orders_do_not_count(state: str) -> None:
    limits = replace(OFF, max_position=Decimal(1000))
    other = resting("other", "buy", 9, state=state)
    assert check(live(size=10), limits, working=[other]) == ""


def test_an_alert_trades_nothing_and_passes_every_limit() -> None:
    alert = dark(action="alert", price=500, size=0)
    assert check(alert, RiskLimits(), stopped="by hand", stale="old") == ""
    assert check(alert, last=None).startswith("last"), "its side would be a guess"


# ---- orders per second


def test_one_order_too_many_within_a_second_is_refused() -> None:
    gate = RiskGate(replace(OFF, orders_per_s=3))
    at = [0, 100, 200, S - 1, S, S + 99, S + 100]
    said = [gate.check(live(), view(now_ns=5 * S + each)) for each in at]
    assert said[3] == "orders_per_s: were 4 within a second, limit 3"
    assert [bool(each) for each in said] == [False, False, False, True, False, True, False]


def test_a_refused_order_uses_up_nothing() -> None:
    gate = RiskGate(replace(OFF, orders_per_s=1, max_size=Decimal(1)))
    assert gate.check(live(size=2), view()) != ""
    assert gate.check(live(), view()) == ""


# ---- when a held order fires


def test_a_fired_order_is_checked_again_but_not_for_its_rate() -> None:
    gate = RiskGate(replace(RiskLimits(), orders_per_s=1))
    assert gate.check_fired(dark(), Decimal("100.5"), view()) == ""
    assert gate.check_fired(dark(), Decimal("100.5"), view()) == ""
    assert gate.check_fired(dark(), Decimal("103"), view()).startswith("price_band_pct")
    assert gate.check_fired(dark(), Decimal("100.5"), view(stopped="x")).startswith("stopped")
    loss = view(realised=Decimal(-600))
    assert gate.check_fired(dark(), Decimal("100.5"), loss).startswith("daily_loss")


def test_a_leg_fires_whatever_the_account_has_lost() -> None:
    leg = dark(
        action="sell", price=0, order_type="stop", trigger_price=Decimal(90), parent="e",
        reduce_only=True,
    )  # fmt: skip
    facts = view(stopped="x", unsound="y", realised=Decimal(-9999), position=Decimal(1))
    assert RiskGate(RiskLimits()).check_fired(leg, None, facts) == ""


# ---- brackets


@pytest.mark.parametrize(
    ("order", "field"),
    [
        (market(take_profit=Decimal(99)), "take_profit"),
        (market(stop_loss=Decimal(101)), "stop_loss"),
        (market("sell", stop_loss=Decimal(99)), "stop_loss"),
        (dark(take_profit=Decimal(100)), "take_profit"),
    ],
)
def test_a_leg_on_the_wrong_side_of_the_market_is_refused(order: Order, field: str) -> None:
    assert check(order).startswith(f"{field}: was")
