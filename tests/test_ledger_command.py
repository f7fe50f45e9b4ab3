"""`piker ledger` as a person runs it: on a journal at rest, beside a running `emsd`, on a venue."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path

import pytest
import trio
from paper_journals import order_records, write_journal

from piker import clock
from piker.cli import boundary

ROWS = (("buy", "2", "100"), ("buy", "2", "110", 4), ("sell", "1", "130"))
FILLS_MAX = 10_000
SYNC_MAX_S = 3.0


@pytest.fixture
def state(tmp_conf: Path) -> Path:
    """A state folder whose binance paper account has bought 4 and sold 1."""
    records = [
        record for number, row in enumerate(ROWS, 1) for record in order_records(number, *row)
    ]
    trio.run(write_journal, tmp_conf, records)
    return tmp_conf


class Terminal:
    """Runs `piker ledger …` in this process."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *args: str, code: int = 0) -> str:
        found = boundary.main("piker", ["ledger", *args])
        printed = self._capsys.readouterr()
        self.err = printed.err
        assert found == code, printed.err
        return printed.out

    def json(self, *args: str, code: int = 0) -> list[dict[str, object]]:
        rows: list[dict[str, object]] = json.loads(self(*args, "--json", code=code))
        return rows


@pytest.fixture
def ledger(capsys: pytest.CaptureFixture[str]) -> Terminal:
    return Terminal(capsys)


def test_summary_has_a_head_positions_and_totals(state: Path, ledger: Terminal) -> None:
    lines = ledger("binance").splitlines()
    assert lines[:2] == [
        "Piker Position Summary binance.paper -> total pps: 1",
        "btcusdt.spot.binance: 3.0u @105.25 = $ 315.8",
    ]
    assert "realised" in lines[2]
    assert lines[-1] == ("in usdt: realised 25, unrealised not known (no last price), fees 0.6")


def test_one_account_and_all_of_a_broker_are_the_same_here(state: Path, ledger: Terminal) -> None:
    assert ledger.json("binance") == ledger.json("binance.paper") == ledger.json("BINANCE.paper")


def test_json_holds_decimals_as_strings(state: Path, ledger: Terminal) -> None:
    [row] = ledger.json("binance.paper", "show")
    assert (row["size"], row["average_price"], row["realised"]) == ("3", "105", "25")
    assert row["last"] is None


def test_blotter_lots_gains_and_orders_have_tables(state: Path, ledger: Terminal) -> None:
    assert len(ledger.json("binance.paper", "--fills")) == 6
    assert len(ledger.json("binance.paper", "--fills", "--since", "2026-01-01T00:00:02")) == 5
    assert [row["price"] for row in ledger.json("binance.paper", "--lots", "--method", "lifo")] == [
        "100",
        "110",
        "110",
    ]
    assert [row["gain"] for row in ledger.json("binance.paper", "--gains")] == ["30"]
    orders = ledger.json("binance.paper", "--orders")
    assert [(row["action"], row["state"], row["filled"]) for row in orders] == [
        ("buy", "closed", "2"),
        ("buy", "closed", "2"),
        ("sell", "closed", "1"),
    ]


def test_export_is_csv_unless_asked_otherwise(state: Path, ledger: Terminal) -> None:
    rows = list(csv.DictReader(io.StringIO(ledger("binance.paper", "export"))))
    assert [(row["action"], row["size"]) for row in rows][:2] == [("buy", "2"), ("buy", "0.5")]
    assert ledger("binance.paper", "export", "--beancount").startswith('option "title" "piker"')


def test_looking_writes_nothing(state: Path, ledger: Terminal) -> None:
    ledger("binance")
    ledger("binance", "audit", code=1)
    assert not (state / "accounting").exists()


def test_sync_then_audit_agree(state: Path, ledger: Terminal) -> None:
    [row] = ledger.json("binance", "sync")
    assert (row["written"], row["is_changed"], row["unexplained"]) == (6, True, 0)
    assert ledger("binance", "audit") == ("binance.paper: journal, ledger and account file agree\n")


def test_difference_is_alarmed_booked_and_shown_until_it_is_removed(
    state: Path, ledger: Terminal
) -> None:
    ledger("binance", "sync")
    path = state / "accounting" / "ledgers" / "trades_binance_paper.toml"
    path.write_text(path.read_text().replace("size = 2.0", "size = 3.0"))
    ledger("binance", "sync", code=1)
    assert "fill 0000000100000000: the file said size 3 where the journal has 2" in ledger.err
    assert [row["where"] for row in ledger.json("binance", "audit", code=1)] == ["unexplained"]
    ledger("binance")
    assert "binance.paper: 1 unexplained" in ledger.err
    text = path.read_text()
    path.write_text(text[: text.index("[unexplained-")])
    ledger("binance", "audit")


def test_account_without_a_file_is_said_so(tmp_conf: Path, ledger: Terminal) -> None:
    out = ledger("binance")
    assert "No pps found for `binance.paper` account!" in out
    assert "None of the following ledger files exist: file://" in out
    assert ledger.json("binance") == []
    assert not (tmp_conf / "journal").exists()


def test_ledger_of_a_local_venue_says_local(tmp_conf: Path, ledger: Terminal) -> None:
    trio.run(write_journal, tmp_conf / "venues" / "demo", order_records(1, "buy", "1", "100"))
    assert ledger("binance").startswith("LOCAL venue demo\n")
    assert ledger.json("binance")[0]["local"] == "demo"


@pytest.mark.parametrize(
    ("args", "code", "text"),
    [
        (["nope"], 1, "no broker is named 'nope', expected one of"),
        (["binance.foo"], 1, "binance.foo: no such account, expected one of binance.paper"),
        (["binance.a.b"], 2, "account was 'binance.a.b', expected <broker> or <broker>.<account>"),
        (["binance", "look"], 2, "was 'look', expected one of show, sync, audit, export"),
        (["binance", "--fills", "--lots"], 2, "--fills and --lots exclude each other"),
        (["binance", "--since", "yore"], 2, "was 'yore', expected 2026-01-31"),
        (["binance", "--method", "best"], 2, "was 'best', expected one of fifo, lifo, hifo"),
        (["binance", "--beancount", "--method", "average"], 2, "expected fifo, lifo or hifo"),
    ],
)
def test_bad_input_is_one_line(
    state: Path, ledger: Terminal, args: list[str], code: int, text: str
) -> None:
    assert ledger(*args, code=code) == ""
    assert text in ledger.err
    assert ledger.err.count("\n") == 1


def test_half_written_and_misspelt_ledgers_are_told_apart(state: Path, ledger: Terminal) -> None:
    ledger("binance", "sync")
    path = state / "accounting" / "ledgers" / "trades_binance_paper.toml"
    whole = path.read_text()
    path.write_text(whole[:-30])
    assert any("torn" in str(row["text"]) for row in ledger.json("binance", "audit", code=1))
    ledger("binance", "sync")
    assert path.read_text() == whole
    path.write_text(whole.replace("price = 130.0", "prise = 130.0"))
    ledger("binance", "sync", code=1)
    assert "trades_binance_paper.toml:62: [btcusdt.spot.binance-0000000300000000]" in ledger.err
    assert "prise is an unknown key" in ledger.err


def write_fills(folder: Path, fills: int) -> None:
    """Write a journal of as many orders, each filled at once."""
    records = (
        record
        for number in range(1, fills + 1)
        for record in order_records(number, "buy" if number % 3 else "sell", "0.5", "60000")
    )
    trio.run(write_journal, folder, records)


def sync_twice(folder: Path, fills: int, ledger: Terminal) -> list[float]:
    """Sync from nothing, and again; return how long each took in seconds."""
    shutil.rmtree(folder / "accounting", ignore_errors=True)
    files = [
        folder / "accounting" / "ledgers" / "trades_binance_paper.toml",
        folder / "accounting" / "account.binance.paper.toml",
    ]
    times, states = [], []
    for written in (fills, 0):
        begin = clock.monotonic_ns()
        [row] = ledger.json("binance.paper", "sync")
        times.append((clock.monotonic_ns() - begin) / 1e9)
        assert (row["written"], row["is_changed"]) == (written, written > 0)
        states.append([(path.read_bytes(), path.stat().st_ino) for path in files])
    assert states[0] == states[1]
    return times


def test_second_sync_changes_no_byte(tmp_conf: Path, ledger: Terminal) -> None:
    write_fills(tmp_conf, 1_000)
    sync_twice(tmp_conf, 1_000, ledger)


@pytest.mark.soak
def test_sync_of_10_000_fills_takes_3_seconds_at_most(tmp_conf: Path, ledger: Terminal) -> None:
    write_fills(tmp_conf, FILLS_MAX)
    runs = [sync_twice(tmp_conf, FILLS_MAX, ledger) for _ in range(3)]
    assert max(map(min, zip(*runs, strict=True))) <= SYNC_MAX_S, runs
