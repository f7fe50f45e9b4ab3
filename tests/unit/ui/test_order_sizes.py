"""The sizes that the order pane offers: slots of a limit, exits of a position."""

from decimal import Decimal

import pytest

from piker.model.market import Asset, MktPair
from piker.ui.order_messages import AllocAsked, SizeAsked
from piker.ui.order_sizes import Sizer, position_of

MKT = MktPair(
    dst=Asset("btc", "crypto", Decimal("0.00001")),
    src=Asset("usdt", "crypto_currency", Decimal("0.01")),
    price_tick=Decimal("0.01"),
    size_tick=Decimal("0.00001"),
    bs_mktid="BTCUSDT",
    broker="binance",
    venue="spot",
)


def held(size, average="50000"):
    return position_of(MKT, "paper", Decimal(size), Decimal(average))


@pytest.fixture
def sizer():
    return Sizer(MKT, "paper")


def ask(sizer, side="buy", price="50000", steps=1):
    return sizer.size(SizeAsked(1, 1, side, price, steps))


def change(sizer, **fields):
    sizer.change(AllocAsked(1, 1, **fields))


@pytest.mark.parametrize(
    ("steps", "size", "share"), [(1, "0.02", "1.0"), (2, "0.04", "2.0"), (9, "0.12", "6.0")]
)
def test_an_entry_is_so_many_slots_but_never_more_than_the_limit(sizer, steps, size, share):
    answer = ask(sizer, steps=steps)
    assert (answer.size, answer.share) == (size, share)


def test_an_answer_tells_its_worth_to_the_cent(sizer):
    assert ask(sizer, price="61278.90").fiat == "1000.07"


def test_an_exit_is_never_more_than_is_held(sizer):
    sizer.hold(held("0.03"))
    assert ask(sizer, "sell").size == "0.02"
    assert ask(sizer, "sell", steps=5).size == "0.03"


def test_a_used_up_limit_gives_no_size_and_says_why(sizer):
    sizer.hold(held("0.12"))
    answer = ask(sizer)
    assert (answer.size, answer.text) == ("", "the limit is used up; raise it in the order pane")


@pytest.mark.parametrize("price", ["", "0", "-5", "nan", "five"])
def test_a_price_that_is_none_gives_no_size_and_names_the_field(sizer, price):
    assert ask(sizer, price=price).text.startswith("price: was ")


def test_a_position_above_the_limit_raises_it(sizer):
    assert sizer.hold(held("0.2"))
    assert sizer.state(1, 0, [], "paper", None).limit == "10000"
    assert sizer.used() == "6.0"


@pytest.mark.parametrize(
    "fields",
    [{"limit": "0"}, {"limit": "-1"}, {"limit": "lots"}, {"limit": "1e99"}, {"slots": 0},
     {"slots": 101}, {"limit": "400"}],
)  # fmt: skip
def test_a_limit_that_cannot_be_is_refused_and_nothing_changes(sizer, fields):
    sizer.hold(held("0.01"))
    before = sizer.state(1, 0, [], "paper", None)
    with pytest.raises(ValueError, match=r"limit|slots"):
        change(sizer, **fields)
    assert sizer.state(1, 0, [], "paper", None) == before


def test_a_limit_is_read_with_its_suffix(sizer):
    change(sizer, limit="12k", slots=4)
    assert ask(sizer).size == "0.06"


def test_a_short_position_counts_against_the_limit_as_a_long_one(sizer):
    sizer.hold(held("-0.12"))
    assert sizer.used() == "6.0"
    with pytest.raises(ValueError, match="which is held"):
        change(sizer, limit="3000")


def test_sizes_may_be_in_units(sizer):
    change(sizer, unit="units", limit="3")
    answer = ask(sizer)
    state = sizer.state(1, 0, [], "paper", Decimal(50000))
    assert (answer.size, state.unit, state.step, state.step_fiat) == (
        "0.5",
        "units",
        "0.5",
        "25000",
    )


def test_the_pane_tells_a_slot_at_the_last_price(sizer):
    state = sizer.state(1, 0, [], "paper", Decimal("61250"))
    assert (state.step, state.step_fiat, state.base, state.quote) == (
        "0.01633", "1000", "BTC", "USDT",
    )  # fmt: skip
