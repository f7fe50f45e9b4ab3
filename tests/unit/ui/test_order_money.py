"""What was made today of one market: from the ledger and from the fills since."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from test_order_sizes import MKT

from piker.accounting import Transaction
from piker.clearing import BrokerdFill
from piker.ui.order_messages import Fill
from piker.ui.order_money import MARKS_MAX, Money
from piker.ui.order_sizes import position_of

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC).timestamp()


def record(tid, size, price, hours, cost="1", asset=""):
    return Transaction(
        broker="binance", account="paper", fqme=MKT.fqme, tid=tid, size=Decimal(size),
        price=Decimal(price), dt=datetime.fromtimestamp(NOON + 3600 * hours, UTC),
        cost=Decimal(cost), cost_asset=asset,
    )  # fmt: skip


def live(tid, size, price, action, fee_asset="USDT"):
    fill = BrokerdFill(
        time_ns=1, broker_time=NOON, reqid="r", size=size, price=price, tid=tid, fee="1",
        fee_asset=fee_asset, action=action,
    )  # fmt: skip
    row = Fill(0, "o", tid, NOON, price, size, action, "paper", "paper")
    return fill, row


@pytest.fixture
def money():
    return Money(MKT, "paper", "paper")


def state(money, size, average="100", now=NOON):
    held = position_of(MKT, "paper", Decimal(size), Decimal(average))
    return money.state(0, held, "0.0", now)


def test_realised_and_fees_are_of_today_alone(money):
    money.load(
        [record("a", 3, 100, -30), record("b", -1, 110, -25), record("c", -1, 120, -1)], NOON
    )
    said = state(money, 1)
    assert (said.size, said.realised, said.fees) == ("1", "20", "1")


def test_a_fill_counts_once_whether_the_ledger_or_the_stream_tells_first(money):
    money.add(*live("a", "2", "100", "buy"), NOON)
    money.add(*live("b", "2", "105", "sell"), NOON)
    ledger = Money(MKT, "paper", "paper")
    ledger.load([record("a", 2, 100, 0)], NOON)
    ledger.adopt(money)
    ledger.add(*live("a", "2", "100", "buy"), NOON)
    said = state(ledger, 0)
    assert (ledger.size, said.realised, said.fees, len(ledger.marks)) == (0, "10", "2", 2)


def test_a_fee_in_another_asset_stands_under_its_name(money):
    money.add(*live("a", "2", "100", "buy", fee_asset="BNB"), NOON)
    said = state(money, 2)
    assert (said.fees, said.fees_other) == ("0", {"BNB": "1"})


def test_a_new_day_begins_at_zero(money):
    money.load([record("a", 2, 100, -1), record("b", -2, 110, 0)], NOON)
    assert state(money, 0).realised == "20"
    assert state(money, 0, now=NOON + 86400).realised == "0"


def test_the_break_even_price_is_told_while_the_fills_add_up_to_what_is_held(money):
    money.load([record("a", 2, 100, 0)], NOON)
    assert state(money, 2).break_even == "101"
    assert state(money, 5).break_even == ""


def test_the_newest_fills_are_marked(money):
    money.load([record(f"{i:04}", 1, 100, i / 1e4) for i in range(MARKS_MAX + 9)], NOON)
    assert len(money.marks) == MARKS_MAX
    assert money.marks[-1].tid == f"{MARKS_MAX + 8:04}"
