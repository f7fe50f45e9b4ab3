"""A batch of records becomes one sequence, whatever the order it came in."""

from __future__ import annotations

import random
from datetime import datetime
from decimal import Decimal

import msgspec
import pytest
from ledgers import BEGIN, fill, fills, random_ledger

import piker.accounting
from piker.accounting import Transaction, fold, iter_by_dt, order_ledger
from piker.errors import LedgerError


def test_transaction_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        fill(1, "1", "100").size = Decimal(2)  # type: ignore[misc]


def test_every_public_name_loads() -> None:
    for name in piker.accounting.__all__:
        assert getattr(piker.accounting, name) is not None
    assert set(piker.accounting.__all__) <= set(dir(piker.accounting))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = piker.accounting.nothing


def test_same_records_in_any_order_make_the_same_ledger() -> None:
    records = list(random_ledger(3, 400))
    expected, _ = order_ledger(records)
    for seed in range(5):
        shuffled = random.Random(seed).sample(records + records[::7], len(records + records[::7]))
        ordered, errors = order_ledger(shuffled)
        assert errors == []
        assert [record.tid for record in ordered] == [record.tid for record in expected]


def test_trades_of_one_instant_stand_in_the_order_of_their_numbers() -> None:
    records = [fill(1, "1", "100", tid=tid, dt=BEGIN) for tid in ("B-10", "B-9", "B-100")]
    assert [record.tid for record in iter_by_dt(records)] == ["B-9", "B-10", "B-100"]


def test_same_tid_never_counts_twice() -> None:
    records = [fill(1, "1", "100"), fill(1, "1.0", "100.00"), fill(2, "1", "100")]
    ordered, errors = order_ledger(records)
    assert ([record.tid for record in ordered], errors) == (["1", "2"], [])


def test_transfer_seen_twice_is_no_contradiction() -> None:
    transfer = fill(1, "1", "NaN", etype="transfer")
    ordered, errors = order_ledger([transfer, msgspec.structs.replace(transfer)])
    assert (len(ordered), errors) == (1, [])


@pytest.mark.parametrize("name", ["broker", "account", "bs_mktid"])
def test_same_tid_elsewhere_is_another_fill(name: str) -> None:
    ordered, errors = order_ledger([fill(1, "1", "100"), fill(1, "2", "100", **{name: "other"})])
    assert (len(ordered), errors) == (2, [])


def test_market_without_an_id_is_its_fqme() -> None:
    record = fill(1, "1", "100", bs_mktid=None)
    assert record.key == ("binance", "paper", "btcusdt.spot.binance", "1")


def test_contradicting_record_is_an_error_and_the_first_stands() -> None:
    ordered, errors = order_ledger([fill(1, "1", "100"), fill(1, "2", "101"), fill(2, "1", "9")])
    assert [(record.tid, record.size) for record in ordered] == [("1", 1), ("2", 1)]
    assert [str(error) for error in errors] == [
        "ledger binance.paper, BTCUSDT, 1: two records of one fill differ in size, price"
    ]
    assert isinstance(errors[0], LedgerError)
    assert errors[0].tid == "1"


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"size": Decimal(0)}, "size was 0, expected a number other than 0"),
        ({"size": Decimal("NaN")}, "size was NaN"),
        ({"size": Decimal("-Infinity")}, "size was -Infinity"),
        ({"price": Decimal("NaN")}, "price was NaN, expected a number"),
        ({"price": Decimal("sNaN")}, "price was sNaN, expected a number"),
        ({"cost": Decimal("Infinity")}, "cost was Infinity"),
        ({"etype": "transfer"}, "price was 100, expected NaN: a transfer has none"),
        ({"etype": "split"}, "etype was 'split', expected 'clear' or 'transfer'"),
        ({"dt": datetime(2026, 1, 1)}, "expected a time with its zone"),
        ({"tid": ""}, "tid was empty"),
        ({"account": ""}, "account was empty"),
    ],
)
def test_unfit_record_is_an_error_and_hides_no_other(fields: dict[str, object], text: str) -> None:
    bad = msgspec.structs.replace(fill(1, "1", "100"), **fields)
    ordered, errors = order_ledger([bad, fill(2, "1", "100")])
    assert [record.tid for record in ordered] == ["2"]
    assert len(errors) == 1
    assert text in str(errors[0])


def test_recorded_cost_is_what_a_position_is_charged() -> None:
    """DEFECT 7.1: a cost worked out again from a fee table is not what was paid."""
    [position] = fold(fills(("1", "100", "0.123"))).values()
    assert position.costs == Decimal("0.123")


def test_transaction_keeps_the_fields_of_its_file() -> None:
    kept = {"fqme", "tid", "size", "price", "cost", "dt", "etype", "expiry", "bs_mktid"}
    assert kept < set(Transaction.__struct_fields__)
