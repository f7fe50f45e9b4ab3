"""The dark book: which ticks cross which triggers, once, and what is then sent."""

from __future__ import annotations

import random
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from trigger_helpers import FQME, MKT, dark, ticks

from piker.clearing._messages import Order
from piker.clearing._triggers import DarkBook, Fired, side_of, trigger_of
from piker.model.ticks import QUOTE, RECOVERED, TRADE


def book(*orders: Order, last: Any = 95, pad_ticks: int = 5) -> DarkBook:
    held = DarkBook("binance", pad_ticks)
    for each in orders:
        held.arm(each, side_of(each, Decimal(last)), Decimal(last) if each.trail else None)
    return held


def fire(held: DarkBook, *records: Any) -> list[tuple[str, Decimal | None]]:
    return [(one.oid, one.price) for one in held.on_ticks(FQME, ticks(*records), MKT)]


# ---- which side


@pytest.mark.parametrize(("last", "side"), [(95, ">="), (100, ">="), (105, "<=")])
def test_a_trigger_fires_where_the_market_comes_from(last: int, side: str) -> None:
    assert side_of(dark(), Decimal(last)) == side
    assert side_of(dark(action="sell"), Decimal(last)) == side


@pytest.mark.parametrize("last", [95, 105, None])
@pytest.mark.parametrize(
    ("kind", "action", "side"),
    [
        ("stop", "buy", ">="),
        ("stop", "sell", "<="),
        ("take_profit", "buy", "<="),
        ("take_profit", "sell", ">="),
    ],
)
def test_stops_and_take_profits_say_their_side_themselves(
    kind: str, action: str, side: str, last: int | None
) -> None:
    order = dark(action=action, order_type=kind, trigger_price=Decimal(100))
    assert side_of(order, None if last is None else Decimal(last)) == side


def test_the_trigger_is_the_price_unless_another_is_given() -> None:
    assert trigger_of(dark(price=100)) == 100
    assert trigger_of(dark(price=99, trigger_price=Decimal(100))) == 100
    assert trigger_of(dark(price=0, trail="1")) is None


# ---- which ticks


def test_a_buy_looks_at_trades_and_the_ask_and_never_at_the_bid() -> None:
    assert fire(book(dark()), (100.5, 99.0)) == []
    assert fire(book(dark()), (99.0, 100.0)) == [("d", Decimal("100.5"))]
    assert fire(book(dark()), 100.0) == [("d", Decimal("100.5"))]


def test_a_sell_looks_at_trades_and_the_bid_and_never_at_the_ask() -> None:
    sell = dark(action="sell", price=90)
    assert fire(book(sell), (91.0, 89.0)) == []
    assert fire(book(sell), (90.0, 91.0)) == [("d", Decimal("89.5"))]
    assert fire(book(sell), 89.9) == [("d", Decimal("89.4"))]


def test_an_alert_looks_at_trades_alone() -> None:
    alert = dark(action="alert", size=0)
    assert fire(book(alert), (101.0, 102.0)) == []
    assert fire(book(alert), 100.0) == [("d", None)]


def test_an_alert_fires_on_a_trade_that_came_with_the_history() -> None:
    held, batch = book(dark(action="alert", size=0)), ticks(100.0)
    batch["flags"] = RECOVERED
    (fired,) = held.on_ticks(FQME, batch, MKT)
    assert (fired.oid, fired.gapped) == ("d", True)
    assert FQME not in held.lasts


def test_last_prices_come_from_trades_only() -> None:
    held = book()
    held.on_ticks(FQME, ticks(95.0, (94.0, 96.0), 95.2, (94.1, 95.9)), MKT)
    assert held.lasts == {FQME: Decimal("95.2")}
    held.on_ticks(FQME, ticks((94.0, 96.0)), MKT)
    assert held.lasts == {FQME: Decimal("95.2")}


# ---- what is sent


def test_the_pad_is_in_ticks_of_the_price_beyond_the_price_that_crossed() -> None:
    assert fire(book(dark(), pad_ticks=3), 104.2) == [("d", Decimal("104.5"))]
    assert fire(book(dark(action="sell"), last=105, pad_ticks=3), 99.8) == [("d", Decimal("99.5"))]


def test_a_padded_price_is_never_zero_or_below() -> None:
    low = dark(action="sell", price="0.3")
    assert fire(book(low, last=1), 0.3) == [("d", Decimal("0.1"))]


@pytest.mark.parametrize(
    ("terms", "price"),
    [
        ({"order_type": "market"}, None),
        ({"order_type": "stop", "trigger_price": 100, "price": 0}, None),
        ({"order_type": "stop", "trigger_price": 100, "price": 101}, None),
        ({"order_type": "take_profit", "trigger_price": 100, "price": 99}, None),
        ({"order_type": "take_profit", "trigger_price": 100, "price": 0}, Decimal("100.5")),
    ],
)
def test_a_price_of_its_own_is_not_padded(terms: dict[str, Any], price: Decimal | None) -> None:
    order = dark(**terms)
    assert fire(book(order), 100.0) == [("d", price)]


# ---- once


def test_what_fires_leaves_the_book() -> None:
    held = book(dark())
    assert len(fire(held, 100.0, 101.0, (99.0, 102.0))) == 1
    assert fire(held, 103.0) == []
    assert "d" not in held
    assert held.fqmes() == set()


def test_a_disarmed_order_does_not_fire() -> None:
    held = book(dark(), dark("e"))
    assert held.disarm("d")
    assert not held.disarm("d")
    assert [oid for oid, _ in fire(held, 100.0)] == ["e"]


def test_an_order_that_is_armed_again_takes_the_place_of_the_older_one() -> None:
    held = book(dark())
    held.arm(dark(price=110), ">=")
    assert fire(held, 105.0) == []
    assert fire(held, 110.0) == [("d", Decimal("110.5"))]


def test_orders_fire_in_the_order_of_the_ticks_that_cross_them() -> None:
    held = book(dark("high", price=104), dark("low", price=90), dark("mid", price=101))
    batch = ticks(95.0, 102.0, 104.0, 90.0)
    assert [one.oid for one in held.on_ticks(FQME, batch, MKT)] == ["mid", "high", "low"]


def test_a_side_given_is_kept_whatever_the_market_does() -> None:
    held = book()
    held.arm(dark(), ">=")  # entered below its trigger; the market is above it now
    assert fire(held, 105.0) == [("d", Decimal("105.5"))]


# ---- gaps


def test_a_trigger_crossed_while_nobody_watched_fires_once_and_is_marked() -> None:
    held = book(dark(), dark("far", price=200))
    (fired,) = held.crossed_while_down(FQME, Decimal(103), MKT)
    assert fired == Fired("d", Decimal("103.5"), Decimal(103), 0, gapped=True)
    assert held.crossed_while_down(FQME, Decimal(103), MKT) == []
    assert len(held) == 1


def test_the_first_price_after_lost_records_fires_as_gapped() -> None:
    held = book(dark(), dark("later", price=104))
    fired = held.on_ticks(FQME, ticks(95.0, "gap", "state", 101.0, 104.0), MKT)
    assert [(one.oid, one.gapped) for one in fired] == [("d", True), ("later", False)]


# ---- trails


def trail(action: str = "sell", by: str = "2", **terms: Any) -> Order:
    return dark("t", action, 0, order_type="stop", trail=by, **terms)


def test_a_trailing_sell_follows_the_best_price_up_and_never_down() -> None:
    held = book(trail(), last=100)
    assert held.trigger("t") == 98
    assert fire(held, 101.0, 99.5, 103.0, 101.1) == []
    assert held.trigger("t") == 101
    assert held.bests() == {"t": 103}
    assert held.bests() == {}
    assert fire(held, 101.0) == [("t", None)]


def test_a_trailing_buy_follows_the_best_price_down() -> None:
    held = book(trail("buy"), last=100)
    assert fire(held, 97.0, 98.9) == []
    assert fire(held, 99.0) == [("t", None)]


def test_a_percent_trail_is_compared_exactly() -> None:
    held = book(trail(by="0.5%"), last=100)
    assert fire(held, 103.3) == []
    assert held.trigger("t") == Decimal("102.7835")
    assert fire(held, 102.8) == []
    assert fire(held, 102.7) == [("t", None)]


def test_a_trail_begins_with_the_stop_that_it_is_given() -> None:
    held = book(trail(trigger_price=Decimal(99)), last=100)
    assert held.trigger("t") == 99
    assert fire(held, 105.0) == []
    assert held.trigger("t") == 103


def test_a_trail_that_has_seen_no_price_begins_with_the_first() -> None:
    held = DarkBook("binance")
    held.arm(trail(), "<=")
    assert fire(held, 100.0, 98.1) == []
    assert fire(held, 98.0) == [("t", None)]


def test_the_best_price_of_a_trail_survives_an_edit_and_a_restart() -> None:
    held = book(trail(), last=100)
    fire(held, 110.0)
    held.arm(trail(by="5"), "<=", Decimal(100))
    assert held.trigger("t") == 105
    again = DarkBook("binance")
    again.arm(trail(by="5"), "<=", Decimal(110))
    assert again.trigger("t") == 105


# ---- against a naive book, tick by tick


def naive(orders: list[Order], last: float, batches: list[np.ndarray]) -> list[tuple[str, str]]:
    """Return `(oid, price that crossed)` by looking at every order at every tick."""
    sides = {each.oid: side_of(each, Decimal(str(last))) for each in orders}
    best = {each.oid: Decimal(str(last)) for each in orders if each.trail}
    waiting, fired = list(orders), []
    for row in (row for batch in batches for row in batch):
        for each in tuple(waiting):
            if row["type"] == TRADE:
                price = float(row["price"])
            elif row["type"] == QUOTE and each.action != "alert":
                price = float(row["price2" if each.action == "buy" else "price"])
            else:
                continue
            exact, is_up = Decimal(str(price)), sides[each.oid] == ">="
            level = each.trigger_price or each.price
            if each.trail:
                now = (min if is_up else max)(best[each.oid], exact)
                best[each.oid] = now
                way = Decimal(each.trail.rstrip("%"))
                way = now * way / 100 if each.trail.endswith("%") else way
                level = now + way if is_up else now - way
            if exact >= level if is_up else exact <= level:
                waiting.remove(each)
                fired.append((each.oid, str(exact)))
    return fired


def any_order(draw: random.Random, oid: str) -> Order:
    action = draw.choice(["buy", "sell", "alert"])
    if action != "alert" and draw.random() < 0.3:
        by = draw.choice(["0.3", "1.2", "0.4%", "1.35%"])
        return dark(oid, action, 0, order_type="stop", trail=by)
    size = 0 if action == "alert" else 1
    return dark(oid, action, Decimal(draw.randrange(970, 1030)) / 10, size=size)


@pytest.mark.parametrize("seed", range(20))
def test_a_book_fires_what_a_look_at_every_tick_would(seed: int) -> None:
    draw = random.Random(seed)
    orders = [any_order(draw, f"o{number}") for number in range(40)]
    batches, price = [], 100.0
    for _ in range(60):
        records: list[Any] = []
        for _ in range(draw.randrange(1, 12)):
            price = round(price + draw.randrange(-4, 5) / 10, 1)
            spread = draw.randrange(1, 6) / 10
            quote = (round(price - spread, 1), round(price + spread, 1))
            records.append(draw.choice([price, quote, "state"]))
        batches.append(ticks(*records))
    held = book(*orders, last="100")
    got = [one for batch in batches for one in held.on_ticks(FQME, batch, MKT)]
    wanted = naive(orders, 100.0, batches)
    assert [(one.oid, f"{one.at}") for one in got] == wanted
