"""The allocator's sizes, each worked out by hand."""

from __future__ import annotations

from decimal import Decimal

import pytest
from ledgers import fills

from piker.accounting import Allocator, Asset, MktPair, OrderSize, Position, fold, mk_allocator
from piker.accounting._alloc import SizeUnit

D = Decimal
FLAT = Position(broker="b", account="paper", market="m", fqme="m.b")


def market(size_tick: str = "0.001", atype: str = "crypto") -> MktPair:
    """Return a market whose base asset is of a kind."""
    return MktPair(
        dst=Asset("btc", atype, D(size_tick)),
        src="usdt",
        price_tick=D("0.01"),
        size_tick=D(size_tick),
        bs_mktid="BTCUSDT",
        broker="binance",
    )


def allocator(unit: SizeUnit, limit: str, slots: int, size_tick: str = "0.001") -> Allocator:
    """Return an allocator of one limit."""
    return Allocator(
        mkt=market(size_tick),
        size_unit=unit,
        units_limit=D(limit),
        currency_limit=D(limit),
        slots=slots,
    )


def holding(size: str, price: str = "100") -> Position:
    """Return a position opened in one fill."""
    return next(iter(fold(fills((size, price))).values())) if D(size) else FLAT


def test_default_is_6000_in_six_slots() -> None:
    made = mk_allocator(market())
    assert (made.currency_limit, made.slots, made.size_unit) == (6000, 6, "currency")
    assert made.step_sizes()[1] == 1000
    own = mk_allocator(market(), limit=D(900), slots=3, account="demo")
    assert (own.step_sizes()[1], own.account) == (300, "demo")


def test_derivative_is_sized_by_one_unit_a_slot() -> None:
    made = mk_allocator(market("1", "future"))
    assert (made.size_unit, made.units_limit, made.step_sizes()[0]) == ("units", 6, 1)
    assert made.next_order_info(FLAT, FLAT, D(20000), "buy").size == 1


def test_entry_takes_a_slot_at_the_orders_price() -> None:
    info = allocator("currency", "6000", 6).next_order_info(FLAT, FLAT, D(80), "buy")
    assert info == OrderSize(D("12.5"), 3, D("1000.00"), D(1), "paper")


@pytest.mark.parametrize(("held", "action"), [("55", "buy"), ("-55", "sell")])
def test_entry_takes_what_is_left_of_the_limit(held: str, action: str) -> None:
    """DEFECT 7.7: the share of a slot is the order's own, not an empty position's."""
    live = holding(held)
    info = allocator("currency", "6000", 6).next_order_info(live, live, D(100), action)
    assert (info.size, info.fiat_size, info.slots_used) == (5, 500, D("0.5"))


@pytest.mark.parametrize("unit", ["currency", "units"])
def test_entry_beyond_the_limit_is_nothing(unit: SizeUnit) -> None:
    live = holding("70")
    info = allocator(unit, "60", 6).next_order_info(live, live, D(100), "buy")
    assert (info.size, info.fiat_size, info.slots_used) == (0, 0, 0)


def test_exit_is_slotted_in_units_whatever_the_price() -> None:
    live = holding("60")
    own = allocator("currency", "6000", 6)
    for price in ("10", "100", "1000"):
        assert own.next_order_info(live, live, D(price), "sell").size == 10


def test_exit_of_more_than_the_limit_takes_larger_steps() -> None:
    live = holding("120")
    assert allocator("units", "60", 6).next_order_info(live, live, D(1), "sell").size == 20


def test_exit_steps_do_not_shrink_as_the_position_does() -> None:
    own, startup = allocator("units", "60", 6), holding("120")
    assert own.next_order_info(startup, holding("40"), D(1), "sell").size == 20


@pytest.mark.parametrize(
    ("live", "size"), [("9", "9"), ("10", "10"), ("14", "14"), ("15", "10"), ("-14", "14")]
)
def test_exit_takes_all_when_less_than_half_a_slot_would_be_left(live: str, size: str) -> None:
    position = holding(live)
    action = "sell" if position.size > 0 else "buy"
    for startup in (position, holding("50")):
        info = allocator("units", "60", 6).next_order_info(startup, position, D(1), action)
        assert info.size == D(size)


def test_exit_never_goes_through_zero() -> None:
    own = allocator("units", "6", 6)
    assert own.next_order_info(holding("12"), holding("1.5"), D(1), "sell").size == D("1.5")


def test_last_unit_of_a_whole_number_market_goes_out() -> None:
    own = allocator("units", "2", 6, "1")
    assert own.next_order_info(holding("1"), holding("1"), D(1), "sell").size == 1


def test_size_is_a_multiple_of_the_markets_tick() -> None:
    info = allocator("currency", "1000", 3, "0.01").next_order_info(FLAT, FLAT, D(7), "buy")
    assert (info.size, info.size_digits) == (D("47.62"), 2)


@pytest.mark.parametrize(("size", "slots"), [("0", 0), ("12", 1), ("-36", 4), ("60", 6)])
def test_slots_used_is_the_nearest_whole_number(size: str, slots: int) -> None:
    assert allocator("units", "60", 6).slots_used(holding(size)) == slots
    assert allocator("currency", "6000", 6).slots_used(holding(size)) == slots


@pytest.mark.parametrize("price", ["0", "-1", "NaN", "Infinity"])
def test_bad_price_is_refused(price: str) -> None:
    with pytest.raises(ValueError, match=f"price was {price}, expected more than 0"):
        allocator("units", "60", 6).next_order_info(FLAT, FLAT, D(price), "buy")


def test_bad_action_and_bad_limits_are_refused() -> None:
    with pytest.raises(ValueError, match="action was 'alert'"):
        allocator("units", "60", 6).next_order_info(FLAT, FLAT, D(1), "alert")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="units_limit was 0"):
        allocator("units", "0", 6)
    with pytest.raises(ValueError, match="slots was 0"):
        allocator("units", "60", 0)
