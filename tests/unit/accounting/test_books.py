"""Accounts as `piker ledger` reads and writes them, from journals that an `emsd` would leave."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest
from paper_journals import FQME, SECOND, START_NS, order_records, write_journal

from piker.accounting._books import accounts_of, choose, read_books
from piker.accounting._report import audit_rows
from piker.accounting._sync import sync_books
from piker.accounting._views import position_rows
from piker.clearing import _records as rec
from piker.errors import PikerError

ROWS = (("buy", "2", "100"), ("buy", "2", "110", 4), ("sell", "1", "130"))


async def make_journal(home: Path) -> None:
    """Write a small journal: bought 2 at 100 and 2 at 110, sold 1 at 130."""
    records = [
        record for number, row in enumerate(ROWS, 1) for record in order_records(number, *row)
    ]
    await write_journal(home, records)


async def test_account_is_whole_before_any_file_is_written(tmp_conf: Path) -> None:
    await make_journal(tmp_conf)
    [account] = choose("binance", "paper")
    books = read_books(account)
    [row] = position_rows(books.holdings, {FQME: Decimal(120)})
    assert (row["size"], row["average_price"], row["realised"]) == ("3", "105", "25")
    assert (row["unrealised"], row["fees"], row["fills"]) == ("45", "0.6", 6)
    assert (books.found.written, len(books.orders)) == (6, 3)
    assert books.quotes == {FQME: "usdt"}
    assert not account.ledger.exists()


async def test_sync_writes_once_and_the_second_run_changes_no_byte(tmp_conf: Path) -> None:
    await make_journal(tmp_conf)
    [account] = choose("binance", "paper")
    first = await sync_books(account)
    assert (first.written, first.is_changed, first.differences) == (6, True, ())
    files = [account.ledger, account.accounting / "account.binance.paper.toml"]
    before = [(path.stat().st_ino, path.stat().st_mtime_ns) for path in files]
    again = await sync_books(account)
    assert (again.written, again.is_changed) == (0, False)
    assert [(path.stat().st_ino, path.stat().st_mtime_ns) for path in files] == before
    assert audit_rows(read_books(account)) == []


async def test_edited_ledger_is_found_booked_and_never_invented_away(tmp_conf: Path) -> None:
    await make_journal(tmp_conf)
    [account] = choose("binance", "paper")
    await sync_books(account)
    text = account.ledger.read_text()
    account.ledger.write_text(text.replace("price = 100.0", "price = 90.0"))
    [row] = audit_rows(read_books(account))
    assert "price 90 where the journal has 100" in row["text"]
    done = await sync_books(account)
    assert len(done.differences) == 1
    [row] = audit_rows(read_books(account))
    assert row["where"] == "unexplained"
    assert "price = 90.0" in account.ledger.read_text()
    [position] = read_books(account).holdings.positions()
    assert position.realised_pnl == 25


async def test_deleted_ledger_is_written_again(tmp_conf: Path) -> None:
    await make_journal(tmp_conf)
    [account] = choose("binance", "paper")
    await sync_books(account)
    text = account.ledger.read_text()
    account.ledger.unlink()
    assert (await sync_books(account)).written == 6
    assert account.ledger.read_text() == text


async def test_account_file_that_says_otherwise_is_found(tmp_conf: Path) -> None:
    await make_journal(tmp_conf)
    [account] = choose("binance", "paper")
    await sync_books(account)
    path = account.accounting / "account.binance.paper.toml"
    path.write_text(path.read_text().replace(" size = 2.0,", " size = 5.0,"))
    [row] = audit_rows(read_books(account))
    assert (row["where"], "it says 6, the ledger 3" in row["text"]) == ("account file", True)
    await sync_books(account)
    assert audit_rows(read_books(account)) == []


async def test_older_ledger_is_imported_into_the_journal(tmp_conf: Path) -> None:
    folder = tmp_conf / "accounting" / "ledgers"
    folder.mkdir(parents=True)
    (folder / "trades_binance_paper.toml").write_text(
        '["a1"]\nfqme = "btcusdt.spot.binance"\nsize = 1.5\nprice = 10\ncost = 0\n'
        'dt = "2023-07-01T12:00:00+00:00"\n'
    )
    [account] = choose("binance", "paper")
    assert "not in the journal yet" in audit_rows(read_books(account))[0]["text"]
    done = await sync_books(account)
    assert (done.imported, done.differences) == (1, ())
    assert (await sync_books(account)).is_changed is False
    assert audit_rows(read_books(account)) == []
    account.ledger.unlink()
    await sync_books(account)
    [position] = read_books(account).holdings.positions()
    assert position.size == Decimal("1.5")


async def test_accounts_are_those_of_journals_ledgers_and_configuration(tmp_conf: Path) -> None:
    (tmp_conf / "brokers.toml").write_text("[binance.accounts]\nmain = '1'\n")
    (tmp_conf / "accounting" / "ledgers").mkdir(parents=True)
    (tmp_conf / "accounting" / "ledgers" / "trades_binance_old.toml").touch()
    (tmp_conf / "accounting" / "ledgers" / "trades_binance_paper.1767225600.toml").touch()
    names = [(each.name, each.account) for each in accounts_of("binance")]
    assert names == [
        ("binance.paper", "paper"),
        ("binance.main", "binance.main"),
        ("binance.old", "binance.old"),
    ]
    with pytest.raises(PikerError, match=r"binance.foo: no such account, expected one of binance"):
        choose("binance", "foo")


async def test_accounts_of_local_venues_are_found_apart(tmp_conf: Path) -> None:
    await make_journal(tmp_conf / "venues" / "demo")
    [account] = choose("binance", "paper")
    assert (account.local, account.home) == ("demo", tmp_conf / "venues" / "demo")


async def test_damaged_journal_takes_nothing_out_of_a_ledger(tmp_conf: Path) -> None:
    await make_journal(tmp_conf)
    [account] = choose("binance", "paper")
    await sync_books(account)
    [segment] = [path for path in account.journal.iterdir() if path.stat().st_size > 1 << 20]
    data = bytearray(segment.read_bytes())
    at = data.index(b"0000000200000003")
    data[at] ^= 1
    segment.write_bytes(data)
    books = read_books(account)
    assert books.warnings
    assert books.found.differences == ()
    assert [position.size for position in books.holdings.positions()] == [3]


async def test_ledger_of_before_a_reset_is_put_aside(tmp_conf: Path) -> None:
    await make_journal(tmp_conf)
    [account] = choose("binance", "paper")
    await sync_books(account)
    reset = rec.Reset(time_ns=START_NS + 100 * SECOND, balance=Decimal(1))
    await write_journal(tmp_conf, [reset, *order_records(200, "buy", "7", "9")])
    assert [p.size for p in read_books(account).holdings.positions()] == [7]
    done = await sync_books(account)
    assert (done.written, done.differences) == (1, ())
    aside = account.ledger.with_suffix(f".{START_NS // SECOND + 100}.toml")
    assert aside.read_text().count("size = ") == 6
    assert (await sync_books(account)).is_changed is False
    assert audit_rows(read_books(account)) == []
