"""An account as tables, and in the forms of other programs."""

from __future__ import annotations

import csv
import io
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest
from ledgers import BEGIN, fill, fills, random_ledger

from piker.accounting import Transaction, order_ledger
from piker.accounting._exports import account_part, assets_of, commodity, to_beancount, to_csv
from piker.accounting._lots import Method
from piker.accounting._views import (
    Holdings,
    fill_rows,
    gain_rows,
    lot_rows,
    parse_since,
    position_rows,
    summary,
    totals,
)

D = Decimal
FQME = "btcusdt.spot.binance"


def holdings(records: list[Transaction], **fields: object) -> Holdings:
    """Return an account of some transactions."""
    made = {"broker": "binance", "account": "paper", "transactions": tuple(records)}
    return Holdings(**(made | fields))  # type: ignore[arg-type]


def test_position_row_holds_every_figure_as_a_decimal_string() -> None:
    records = [*fills(("2", "100", "1"), ("-1", "130", "0.5")), fill(3, "1", "NaN", "0.2")]
    records[2] = msgspec.structs.replace(records[2], etype="transfer", cost_asset="bnb")
    [row] = position_rows(holdings(records), {FQME: D("110")})
    assert row == {
        "account": "binance.paper",
        "fqme": FQME,
        "size": "1",
        "average_price": "100",
        "ppu": "101",
        "break_even": "72",
        "last": "110",
        "unrealised": "10",
        "realised": "30",
        "fees": "1.5",
        "fees_other": {"bnb": "0.2"},
        "transferred": "1",
        "fills": 3,
    }


def test_worth_without_a_price_is_not_known() -> None:
    [row] = position_rows(holdings(fills(("2", "100"))), {})
    assert (row["last"], row["unrealised"]) == (None, None)
    [flat] = position_rows(holdings(fills(("2", "100"), ("-2", "101"))), {})
    assert (flat["unrealised"], flat["realised"], flat["average_price"]) == ("0", "2", None)


def test_since_narrows_what_was_made_and_never_what_is_held() -> None:
    records = fills(("2", "100", "1"), ("-1", "130", "1"), ("-1", "150", "1"), ("1", "9", "1"))
    since = records[2].dt
    [row] = position_rows(holdings(records), {}, since)
    assert (row["size"], row["realised"], row["fees"], row["fills"]) == ("1", "50", "2", 2)
    assert len(fill_rows(holdings(records), since)) == 2
    assert [gain["gain"] for gain in gain_rows(holdings(records), "fifo", since)] == ["50"]
    flat = fills(("2", "100"), ("-2", "130"))
    assert position_rows(holdings(flat), {}, BEGIN + timedelta(days=1)) == []


def test_blotter_says_what_was_done() -> None:
    records = [*fills(("2", "100", "-0.1"), ("-1", "130")), fill(3, "-1", "NaN", etype="transfer")]
    rows = fill_rows(holdings(records))
    assert [(row["action"], row["size"], row["price"]) for row in rows] == [
        ("buy", "2", "100"),
        ("sell", "1", "130"),
        ("send", "1", None),
    ]
    assert (rows[0]["fee"], rows[0]["time"]) == ("-0.1", "2026-01-01T00:00:01Z")


def test_lots_are_those_of_the_method() -> None:
    records = fills(("1", "10"), ("1", "14"), ("-1", "15"))
    assert [row["price"] for row in lot_rows(holdings(records), "fifo")] == ["14"]
    assert [row["price"] for row in lot_rows(holdings(records), "lifo")] == ["10"]
    assert [row["price"] for row in lot_rows(holdings(records), "average")] == ["12"]


def test_summary_is_a_head_and_a_line_a_position() -> None:
    other = fill(1, "-15000", "2", fqme="ethusdt.spot.binance", bs_mktid="ETHUSDT")
    lines = summary(holdings([*fills(("0.5", "60000")), other]))
    assert [(line.text, line.side) for line in lines] == [
        ("Piker Position Summary binance.paper -> total pps: 2", 0),
        ("btcusdt.spot.binance: 0.5u @60000.00 = $ 30.0k", 1),
        ("ethusdt.spot.binance: -15.0ku @2.00 = $ -30.0k", -1),
    ]


def test_small_sizes_and_prices_keep_the_digits_that_count() -> None:
    tiny = fill(1, "0.00012", "50635.78")
    cheap = fill(1, "3", "0.000012345678", fqme="pepeusdt.spot.binance", bs_mktid="PEPE")
    assert [line.text for line in summary(holdings([tiny, cheap]))[1:]] == [
        "btcusdt.spot.binance: 0.00012u @50635.78 = $ 6.1",
        "pepeusdt.spot.binance: 3.0u @0.00001235 = $ 0.00003704",
    ]


def test_totals_add_up_what_is_known() -> None:
    rows = position_rows(holdings(fills(("2", "100", "1"), ("-1", "130"))), {FQME: D(90)})
    assert totals(rows) == {"realised": "30", "unrealised": "-10", "fees": "1"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-01-31", datetime(2026, 1, 31, tzinfo=UTC)),
        ("2026-01-31T12:00+01:00", datetime(2026, 1, 31, 11, tzinfo=UTC)),
        ("7d", datetime(2026, 1, 25, tzinfo=UTC)),
        ("90m", datetime(2026, 1, 31, 22, 30, tzinfo=UTC)),
    ],
)
def test_since_is_a_date_or_how_long_ago(text: str, expected: datetime) -> None:
    assert parse_since(text, datetime(2026, 2, 1, tzinfo=UTC)) == expected


def test_bad_since_is_refused_in_words() -> None:
    with pytest.raises(ValueError, match=r"was 'last week', expected 2026-01-31, .* or 7d"):
        parse_since("last week", BEGIN)


# ---- other programs' forms


def test_csv_is_read_back_by_a_reader_of_csv() -> None:
    rows = [{"a": 'x,"y"\n', "b": None, "c": {"bnb": "1"}}, {"a": "z", "d": "ä"}]
    assert list(csv.reader(io.StringIO(to_csv(rows)))) == [
        ["a", "b", "c", "d"],
        ['x,"y"\n', "", "bnb=1", ""],
        ["z", "", "", "ä"],
    ]


def bean_check(text: str, folder: Path) -> None:
    """Let beancount's own program judge a file."""
    path = folder / "ledger.beancount"
    path.write_text(text)
    program = Path(sys.executable).with_name("bean-check")
    done = subprocess.run([program, path], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.parametrize("method", ["fifo", "lifo", "hifo"])
def test_bean_check_accepts_an_export(method: Method, tmp_path: Path) -> None:
    btc = [
        msgspec.structs.replace(record, dt=BEGIN + timedelta(minutes=number // 5))
        for number, record in enumerate(random_ledger(31, 400))
    ]
    eth = [
        msgspec.structs.replace(record, fqme="eth-perp.usdtm.binance", bs_mktid="ETH")
        for record in random_ledger(32, 100)
    ]
    records, _ = order_ledger([*btc, *eth])
    accounts = [holdings(records), holdings(btc, account="binance.my account", broker="binance")]
    bean_check(to_beancount(accounts, {FQME: "usdt"}, method), tmp_path)


def test_bean_check_accepts_an_empty_account(tmp_path: Path) -> None:
    bean_check(to_beancount([holdings([])]), tmp_path)


def test_flip_closes_and_opens_in_postings_of_their_own() -> None:
    text = to_beancount([holdings(fills(("1", "100"), ("-3", "120", "0.5")))])
    assert '  Assets:Binance:Paper:Btcusdt-spot  -1 BTC {100 USDT, "1"} @ 120 USDT\n' in text
    assert '  Assets:Binance:Paper:Btcusdt-spot  -2 BTC {120 USDT, "2"}\n' in text
    assert "  Income:Binance:Paper:Gains  -20 USDT\n" in text
    assert "  Expenses:Binance:Paper:Fees  0.5 USDT\n" in text


def test_average_lots_have_no_names_for_beancount() -> None:
    with pytest.raises(ValueError, match="method was 'average', expected fifo, lifo or hifo"):
        to_beancount([holdings([])], method="average")


@pytest.mark.parametrize(
    ("fqme", "quotes", "assets"),
    [
        ("btcusdt.spot.binance", {}, ("BTC", "USDT")),
        ("btcusdt.spot.binance", {"btcusdt.spot.binance": "usdt"}, ("BTC", "USDT")),
        ("1000shib.x.b", {}, ("X1000SHIB", "USD")),
        ("mnq.cme.20261218.ib", {"mnq.cme.20261218.ib": "usd"}, ("MNQ", "USD")),
        ("usdt.x.b", {}, ("USDT", "USD")),
    ],
)
def test_assets_of_a_market(fqme: str, quotes: dict[str, str], assets: tuple[str, str]) -> None:
    assert assets_of(fqme, quotes) == assets


def test_names_are_made_to_fit_beancount() -> None:
    assert commodity("a") == "AX"
    assert commodity("btc/usd!") == "BTC-USD"
    assert account_part("-odd name") == "X-odd-name"
