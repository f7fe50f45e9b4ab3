"""The matching engine against rules read from a rule book, and against a naive oracle."""

from __future__ import annotations

import random
from decimal import Decimal

import pytest

from piker.venues._engine import BUY, SELL, Engine, FeeRates, Fill, commissions


def test_better_price_trades_first_then_the_older_order() -> None:
    engine = Engine()
    late = engine.submit("a", SELL, 5, 101)[0]
    first = engine.submit("b", SELL, 5, 100)[0]
    second = engine.submit("c", SELL, 5, 100)[0]
    order, fills = engine.submit("d", BUY, 12, 101)
    assert [(fill.maker_oid, fill.price, fill.size) for fill in fills] == [
        (first.oid, 100, 5),
        (second.oid, 100, 5),
        (late.oid, 101, 2),
    ]
    assert (order.status, late.open_size) == ("filled", 3)


def test_what_is_left_of_a_limit_order_rests() -> None:
    engine = Engine()
    engine.submit("a", SELL, 3, 100)
    order, fills = engine.submit("b", BUY, 10, 100)
    assert (order.status, order.open_size, len(fills)) == ("partially_filled", 7, 1)
    assert engine.best(BUY) == (100, 7)
    assert engine.best(SELL) is None


def test_market_order_expires_when_the_book_is_empty() -> None:
    engine = Engine()
    engine.submit("a", SELL, 3, 100)
    order, fills = engine.submit("b", BUY, 10)
    assert (order.status, order.filled_size, len(fills)) == ("expired", 3, 1)
    assert engine.best(BUY) is None


def test_post_only_order_that_would_trade_is_rejected() -> None:
    engine = Engine()
    engine.submit("a", SELL, 3, 100)
    assert engine.submit("b", BUY, 1, 100, post_only=True)[0].status == "rejected"
    assert engine.submit("b", BUY, 1, 99, post_only=True)[0].status == "open"


def test_fill_or_kill_trades_whole_or_not_at_all() -> None:
    engine = Engine()
    engine.submit("a", SELL, 3, 100)
    engine.submit("a", SELL, 3, 102)
    assert engine.submit("b", BUY, 4, 101, time_in_force="FOK")[1] == []
    assert len(engine.submit("b", BUY, 4, 102, time_in_force="FOK")[1]) == 2


def test_canceled_order_is_gone_and_cannot_be_canceled_again() -> None:
    engine = Engine()
    order = engine.submit("a", BUY, 3, 100)[0]
    assert engine.cancel(order.oid) is order
    assert engine.cancel(order.oid) is None
    assert engine.best(BUY) is None


def test_changes_name_each_touched_level_once_with_its_new_size() -> None:
    engine = Engine()
    engine.submit("a", SELL, 3, 100)
    engine.submit("a", SELL, 4, 101)
    engine.take_changes()
    engine.submit("b", BUY, 5, 101)
    assert engine.take_changes() == ([], [(100, 0), (101, 2)])
    assert engine.take_changes() == ([], [])


@pytest.mark.parametrize(("side", "size", "price"), [(BUY, 0, 1), (0, 1, 1), (SELL, 1, -1)])
def test_impossible_order_is_refused(side: int, size: int, price: int) -> None:
    with pytest.raises(ValueError, match="expected positive"):
        Engine().submit("a", side, size, price)


def test_buyer_pays_in_base_and_seller_in_quote() -> None:
    fill = Fill(6_150_000, 2_000, BUY, 1, 2, "maker", "taker")
    rates = FeeRates(maker=Decimal("0.0008"), taker=Decimal("0.001"))
    maker, taker = commissions(fill, rates, Decimal("0.01"), Decimal("0.00001"))
    assert taker == Decimal("0.02") * Decimal("0.001")
    assert maker == Decimal("61500.00") * Decimal("0.02") * Decimal("0.0008")


class NaiveBook:
    """The same rules by exhaustive search over a list of orders."""

    def __init__(self) -> None:
        self.orders: list[list[int]] = []  # oid, side, price, open size

    def submit(
        self, oid: int, side: int, size: int, price: int | None
    ) -> list[tuple[int, int, int]]:
        fills = []
        while size:
            others = [
                order
                for order in self.orders
                if order[1] == -side and (price is None or (price - order[2]) * side >= 0)
            ]
            if not others:
                break
            best = min(others, key=lambda order: (order[2] * side, order[0]))
            traded = min(size, best[3])
            fills.append((best[0], best[2], traded))
            size -= traded
            best[3] -= traded
            self.orders = [order for order in self.orders if order[3]]
        if size and price is not None:
            self.orders.append([oid, side, price, size])
        return fills

    def depth(self, side: int) -> dict[int, int]:
        found: dict[int, int] = {}
        for _, order_side, price, size in self.orders:
            if order_side == side:
                found[price] = found.get(price, 0) + size
        return found


@pytest.mark.parametrize("seed", range(5))
def test_random_flow_matches_the_naive_book(seed: int) -> None:
    draw = random.Random(seed)
    engine, naive = Engine(), NaiveBook()
    view: dict[int, dict[int, int]] = {BUY: {}, SELL: {}}  # built from the diffs alone
    for _ in range(600):
        if naive.orders and draw.random() < 0.25:
            oid = draw.choice(naive.orders)[0]
            naive.orders = [order for order in naive.orders if order[0] != oid]
            assert engine.cancel(oid) is not None
        else:
            side = draw.choice((BUY, SELL))
            size = draw.randint(1, 20)
            price = None if draw.random() < 0.1 else draw.randint(90, 110)
            order, fills = engine.submit("x", side, size, price)
            assert [(f.maker_oid, f.price, f.size) for f in fills] == naive.submit(
                order.oid, side, size, price
            )
        for side, changes in zip((BUY, SELL), engine.take_changes(), strict=True):
            for price, size in changes:
                view[side][price] = size
        for side in (BUY, SELL):
            depth = naive.depth(side)
            assert dict(engine.levels(side, 1000)) == depth
            assert {p: s for p, s in view[side].items() if s} == depth
        bid, ask = engine.best(BUY), engine.best(SELL)
        assert not bid or not ask or bid[0] < ask[0]
