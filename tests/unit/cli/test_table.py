"""Rows leave as a table for people and as one JSON list for programs."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest

from piker.cli.table import cell, print_rows
from piker.model.bars import FILLED, REPAIRED

ROW = {"fqme": "btcusdt.spot.binance", "last": 64_000.1, "time_ns": 1_723_161_253_937_085_768}


def test_json_is_a_list_of_objects_with_values_as_they_are(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_rows([ROW], as_json=True)
    assert json.loads(capsys.readouterr().out) == [ROW]


def test_no_rows_are_an_empty_json_list(capsys: pytest.CaptureFixture[str]) -> None:
    print_rows([], as_json=True)
    assert json.loads(capsys.readouterr().out) == []


def test_decimals_are_strings_in_json(capsys: pytest.CaptureFixture[str]) -> None:
    print_rows([{"price_tick": Decimal("0.010")}], as_json=True)
    assert json.loads(capsys.readouterr().out) == [{"price_tick": "0.010"}]


def test_a_table_for_a_pipe_has_aligned_columns_and_no_colour(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_rows([{"fqme": "a", "last": 1.5}, {"fqme": "bcd", "last": 12.25}], as_json=False)
    assert capsys.readouterr().out == "fqme   last\na       1.5\nbcd   12.25\n"


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("time", 1_723_161_240, "2024-08-08 23:54:00"),
        ("time_ns", 1_723_161_253_937_085_768, "2024-08-08 23:54:13.937"),
        ("time_ns", 0, "0"),
        ("flags", FILLED | REPAIRED, "filled+repaired"),
        ("flags", 0, ""),
        ("last", 0.1 + 0.2, "0.3"),
        ("last", 0.00000123, "0.00000123"),
        ("last", float("nan"), "nan"),
        ("bid_size", 2.5e7, "25000000"),
        ("volume", 1234567.891, "1234567.891"),
        ("average_price", "51962.449618585298", "51962.4496"),
        ("ppu", "-0.00000012345678912", "-0.000000123456789"),
        ("break_even", "100", "100"),
        ("bid", None, ""),
        ("is_open", True, "yes"),
        ("matches", ["a", "b"], "a, b"),
    ],
)
def test_a_cell_reads_by_the_unit_in_its_name(name: str, value: object, text: str) -> None:
    assert cell(name, value) == text


def test_prices_of_a_table_have_the_digits_of_their_market(
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows = [
        {"close": 50_373.8, "volume": 1.5, "price_tick": "0.01"},
        {"close": 50_403.175, "volume": 2.25, "price_tick": "0.01"},
        {"close": 50_400.0, "volume": 2.0, "price_tick": "0"},
    ]
    print_rows(rows, as_json=False)
    assert [line.split() for line in capsys.readouterr().out.splitlines()] == [
        ["close", "volume"],
        ["50373.80", "1.5"],
        ["50403.175", "2.25"],
        ["50400", "2"],
    ]


def test_an_increment_without_prices_is_a_column_of_its_own(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_rows([{"fqme": "a", "price_tick": "0.01"}], as_json=False)
    assert capsys.readouterr().out.splitlines()[0].split() == ["fqme", "price_tick"]


def test_rows_of_a_local_venue_say_so_once_above_the_table(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_rows([{"last": 1.5, "local": "demo"}, {"last": 2.5, "local": "demo"}], as_json=False)
    assert capsys.readouterr().out == "LOCAL venue demo\nlast\n 1.5\n 2.5\n"
