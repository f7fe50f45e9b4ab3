"""Ledger files: every cut, every typo, every difference; nothing is lost and nothing invented."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest
from ledgers import BEGIN, fill, fills, random_ledger

from piker.accounting import Transaction, _tables, _tables_read, fold, order_ledger
from piker.accounting._ledger import is_same
from piker.accounting.files import (
    LedgerLocked,
    LedgerWriter,
    ledger_path,
    load_ledger,
    open_ledger_writer,
    open_trade_ledger,
    read_ledger,
    read_tables,
)
from piker.errors import ConfigError
from piker.storage.memory_disk import MemoryDisk

NAME = "trades_binance_paper.toml"
D = Decimal


@pytest.fixture
def writer(tmp_path: Path) -> LedgerWriter:
    return open_ledger_writer("binance", "paper", folder=tmp_path)


def read(folder: Path) -> list[Transaction]:
    """Return the ledger's fills."""
    return read_ledger("binance", "paper", folder=folder / "ledgers")


def same(ours: list[Transaction], theirs: list[Transaction]) -> bool:
    """Whether two ledgers say the same."""
    return len(ours) == len(theirs) and all(map(is_same, ours, theirs))


def in_memory(disk: MemoryDisk, accounts: MemoryDisk | None = None) -> LedgerWriter:
    """Return an open writer of a folder in memory."""
    made = LedgerWriter("binance", "paper", ledgers=disk, accounts=accounts or MemoryDisk())
    made.open()
    return made


# ---- what is written is what is read


def test_ledger_is_read_as_it_was_written_to_the_last_digit(
    writer: LedgerWriter, tmp_path: Path
) -> None:
    records = list(random_ledger(11, 300))
    assert writer.append(records).written == 300
    assert same(read(tmp_path), records)
    assert not writer.rewrite()


def test_slow_and_quick_reading_agree(writer: LedgerWriter, tmp_path: Path) -> None:
    records = list(random_ledger(12, 100))
    writer.append(records)
    path = tmp_path / "ledgers" / NAME
    path.write_text(path.read_text().replace("\n\n", "\n# a remark\n"))
    assert same(read(tmp_path), records)


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({"size": D("1E-8")}, "size = 0.00000001\n"),
        ({"size": D("12")}, "size = 12.0\n"),
        ({"price": D("0.1000")}, "price = 0.1000\n"),
        ({"cost_asset": "bnb"}, 'cost_asset = "bnb"\n'),
        ({"tid": "ab"}, '["ab"]\n'),
        ({}, '["BTCUSDT-1"]\n'),
        ({"tid": 'a"\\\n'}, 'tid = "a\\"\\\\\\u000A"\n'),
        ({"dt": BEGIN + timedelta(microseconds=1)}, 'dt = "2026-01-01T00:00:00.000001+00:00"\n'),
    ],
)
def test_table_is_toml_with_every_digit(
    writer: LedgerWriter, tmp_path: Path, fields: dict[str, object], line: str
) -> None:
    record = msgspec.structs.replace(fill(1, "1", "100"), **fields)
    writer.append([record])
    assert line in (tmp_path / "ledgers" / NAME).read_text()
    [found] = read(tmp_path)
    assert found == record


def test_transfer_has_no_price_in_the_file(writer: LedgerWriter, tmp_path: Path) -> None:
    transfer = fill(1, "1", "NaN", etype="transfer")
    writer.append([transfer])
    [found] = read(tmp_path)
    assert found.price.is_nan()
    assert found.etype == "transfer"


def test_same_fills_again_change_no_byte(writer: LedgerWriter, tmp_path: Path) -> None:
    records = list(random_ledger(13, 50))
    writer.append(records)
    before = (tmp_path / "ledgers" / NAME).stat()
    assert writer.append(records[::-1]) == writer.append([])
    assert writer.reconcile(records).written == 0
    assert not writer.rewrite()
    after = (tmp_path / "ledgers" / NAME).stat()
    assert (before.st_mtime_ns, before.st_ino) == (after.st_mtime_ns, after.st_ino)


def test_new_fill_is_appended_and_a_late_one_put_in_its_place(
    writer: LedgerWriter, tmp_path: Path
) -> None:
    one, two, three = fills(("1", "100"), ("1", "101"), ("1", "102"))
    writer.append([one])
    inode = (tmp_path / "ledgers" / NAME).stat().st_ino
    writer.append([three])
    assert (tmp_path / "ledgers" / NAME).stat().st_ino == inode
    writer.append([two])
    assert (tmp_path / "ledgers" / NAME).stat().st_ino != inode
    assert same(read(tmp_path), [one, two, three])


def test_any_order_of_any_batches_makes_the_same_bytes(tmp_path: Path) -> None:
    records = [*random_ledger(14, 60), fill(5, "1", "100", bs_mktid="ETHUSDT"), fill(6, "2", "9")]
    records, _ = order_ledger(records)
    texts = set()
    for seed in range(8):
        rng = random.Random(seed)
        disk = MemoryDisk()
        writer = in_memory(disk)
        shuffled = rng.sample(records, len(records))
        while shuffled:
            writer.append([shuffled.pop() for _ in range(min(len(shuffled), rng.randint(1, 9)))])
        writer.rewrite()
        texts.add(disk.read(NAME))
    assert len(texts) == 1


def test_trades_numbered_per_market_do_not_meet(writer: LedgerWriter, tmp_path: Path) -> None:
    one, other = fill(1, "1", "100"), fill(1, "2", "50", bs_mktid="ETHUSDT", tid="1")
    writer.append([one, other])
    assert len(read(tmp_path)) == 2
    lettered = [msgspec.structs.replace(each, tid="x") for each in (one, other)]
    writer.append(lettered[:1])
    writer.append(lettered[1:])
    assert len(read(tmp_path)) == 4


def test_positions_are_the_fold_of_the_file(writer: LedgerWriter) -> None:
    records = list(random_ledger(15, 40))
    for record in records:
        writer.append([record])
    assert writer.positions() == fold(records)
    writer.append([fill(0, "1", "1", tid="late", dt=BEGIN - timedelta(days=1))])
    assert writer.positions() == fold(writer.transactions())


# ---- cut, full, locked


def test_ledger_cut_at_any_byte_loses_only_its_last_table(tmp_path: Path) -> None:
    records = [*random_ledger(16, 4), fill(9, "1", "5", cost_asset="bnb", tid="ä\\x")]
    source = MemoryDisk()
    in_memory(source).append(records)
    data = source.read(NAME)
    starts = [at for at in range(len(data)) if data[at : at + 2] == b"\n["]
    for end in range(starts[-1] + 2, len(data)):
        disk = MemoryDisk()
        disk.damage(NAME, data[:end])
        writer = in_memory(disk)
        kept = writer.transactions()
        assert same(kept, records[: len(kept)])
        assert len(kept) >= len(records) - 1
        writer.append(records)
        writer.rewrite()
        assert disk.read(NAME) == data


def test_room_that_was_taken_and_never_written_is_cut_off(tmp_path: Path) -> None:
    source = MemoryDisk()
    records = list(random_ledger(17, 5))
    in_memory(source).append(records)
    data = source.read(NAME)
    disk = MemoryDisk()
    disk.damage(NAME, data[:-40] + bytes(4_000))
    writer = in_memory(disk)
    assert same(writer.transactions(), records[:4])
    writer.append(records)
    assert disk.read(NAME) == data


def test_write_that_fails_leaves_what_was_there() -> None:
    records = list(random_ledger(18, 6))
    for step in range(12):
        disk = MemoryDisk()
        writer = in_memory(disk)
        writer.append(records[:3])
        seen: list[str] = []

        def fail(operation: str, name: str, seen: list[str] = seen, step: int = step) -> None:
            seen.append(operation)
            if len(seen) == step + 1:
                raise OSError(28, "No space left on device")

        disk.on_step = fail
        try:
            writer.append(records[3:])
            writer.append([fill(0, "1", "1", tid="late", dt=BEGIN - timedelta(days=1))])
        except OSError:
            disk.on_step = None
            assert same(writer.transactions()[:3], records[:3]) or len(writer.transactions()) == 7
            writer.append(records)
        disk.on_step = None
        assert same(in_memory(disk.after_kill()).transactions()[-6:], records)


def test_power_loss_at_an_append_keeps_what_was_synced() -> None:
    records = list(random_ledger(19, 8))
    for seed in range(30):
        disk = MemoryDisk()
        writer = in_memory(disk)
        writer.append(records[:5])

        def stop(operation: str, name: str) -> None:
            if operation == "sync":
                raise OSError(5, "Input/output error")

        disk.on_step = stop
        with pytest.raises(OSError, match="Input"):
            writer.append(records[5:])
        after = disk.after_power_loss(random.Random(seed))
        found = in_memory(after)
        assert same(found.transactions()[:5], records[:5])
        found.append(records)
        assert same(found.transactions(), records)


def test_second_writer_is_refused_by_name(writer: LedgerWriter, tmp_path: Path) -> None:
    with pytest.raises(LedgerLocked, match=r"is written by process [0-9]+; stop that one first"):
        open_ledger_writer("binance", "paper", folder=tmp_path)
    open_ledger_writer("binance", "demo", folder=tmp_path).close()
    writer.close()
    open_ledger_writer("binance", "paper", folder=tmp_path).close()


def test_account_of_a_broker_is_named_by_its_label(tmp_path: Path) -> None:
    with_label = open_ledger_writer("kraken", "kraken.main", folder=tmp_path)
    with_label.append([fill(1, "1", "9", broker="kraken", account="kraken.main")])
    assert (tmp_path / "ledgers" / "trades_kraken_main.toml").exists()
    assert ledger_path("kraken", "main", tmp_path) == ledger_path("kraken", "kraken.main", tmp_path)


# ---- edited by hand


def edit(folder: Path, change: Callable[[str], str]) -> None:
    """Change a ledger as an editor does."""
    path = folder / "ledgers" / NAME
    path.write_text(change(path.read_text()))


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ("size = 1.0", "size = 1.0.0", r"trades_binance_paper.toml:6: is not valid TOML"),
        ("size = 1.0", "sizes = 1.0", r"toml:6: \[BTCUSDT-1\]: sizes is an unknown key"),
        ("size = 1.0", "size = 0.0", r"toml:6: \[BTCUSDT-1\]: size was 0.0, expected a number oth"),
        ("size = 1.0", "size = 1e99", r"size was 1E\+99, expected at most 30 decimals and less"),
        ('tid = "1"', 'tid = "2"', r"toml:16: \[BTCUSDT-2\]: tid was 2, which \[BTCUSDT-1\] has"),
        ("price = 100.0", "price = inf", r"toml:7: \[BTCUSDT-1\]: price was Infinity"),
        ("price = 100.0\n", "", r"toml:3: \[BTCUSDT-1\]: price is missing"),
        ("+00:00", "", r"toml:9: \[BTCUSDT-1\]: dt was .* expected a time with its zone"),
        ('"clear"', '"fill"', r"toml:10: \[BTCUSDT-1\]: etype was 'fill'"),
        ("format 1", "format 9", r"toml:1: format was 9, expected 1; another version of piker"),
        ("ledger", "account", r"toml:1: is a account, expected a ledger"),
    ],
)
def test_typo_is_refused_by_file_line_and_key(
    writer: LedgerWriter, tmp_path: Path, old: str, new: str, text: str
) -> None:
    writer.append(fills(("1", "100"), ("1", "101")))
    writer.close()
    edit(tmp_path, lambda content: content.replace(old, new, 1))
    before = (tmp_path / "ledgers" / NAME).read_bytes()
    with pytest.raises(ConfigError, match=text):
        open_ledger_writer("binance", "paper", folder=tmp_path)
    assert (tmp_path / "ledgers" / NAME).read_bytes() == before


def test_ledger_changed_anywhere_is_read_or_refused_in_words() -> None:
    source = MemoryDisk()
    in_memory(source).append(list(random_ledger(22, 4)))
    data = source.read(NAME)
    rng = random.Random(22)
    pieces = (b"", b"\xff", b"[[", b'"', b"9" * 500, b"1e999999", b"\n\n[")
    for _ in range(1_000):
        changed = bytearray(data)
        for _ in range(rng.randint(1, 3)):
            at = rng.randrange(len(changed))
            changed[at : at + rng.randint(0, 20)] = rng.choice(pieces)
        with contextlib.suppress(ConfigError):
            tables = _tables_read.parse(bytes(changed), NAME, "binance", "paper")
            text = _tables.render(tables)
            again = _tables_read.parse(text.encode(), NAME, "binance", "paper")
            assert _tables.render(again) == text


def test_typo_in_the_last_table_is_no_torn_write(writer: LedgerWriter, tmp_path: Path) -> None:
    writer.append(fills(("1", "100")))
    writer.close()
    edit(tmp_path, lambda content: content.replace("size = 1.0", "size = 1.0.0"))
    with pytest.raises(ConfigError, match="is not valid TOML"):
        open_ledger_writer("binance", "paper", folder=tmp_path)


def test_last_line_end_may_be_missing(writer: LedgerWriter, tmp_path: Path) -> None:
    one, two = fills(("1", "100"), ("1", "101"))
    writer.append([one])
    writer.close()
    edit(tmp_path, str.rstrip)
    again = open_ledger_writer("binance", "paper", folder=tmp_path)
    again.append([two])
    assert same(read(tmp_path), [one, two])


def test_ledger_that_is_edited_while_it_is_held_is_read_again(
    writer: LedgerWriter, tmp_path: Path
) -> None:
    one, two, three = fills(("1", "100"), ("1", "101"), ("1", "102"))
    writer.append([one, two])
    edit(tmp_path, lambda content: content.replace("\n\n", "\n# a remark\n\n"))
    writer.append([three])
    assert same(read(tmp_path), [one, two, three])
    (tmp_path / "ledgers" / NAME).unlink()
    writer.append([one, two, three])
    assert same(read(tmp_path), [one, two, three])


# ---- what differs from the journal


def test_changed_fill_stands_as_the_journal_has_it(writer: LedgerWriter, tmp_path: Path) -> None:
    records = fills(("1", "100"), ("-1", "120"))
    writer.append(records)
    edit(tmp_path, lambda content: content.replace("size = 1.0\n", "size = 3.0\n"))
    outcome = writer.reconcile(records)
    assert [str(each) for each in outcome.differences] == [
        "unexplained: BTCUSDT, fill 1: the file said size 3 where the journal has 1"
    ]
    assert same(read(tmp_path), records)
    [kept] = writer.unexplained
    assert (kept.fields["size"], kept.fields["tid"], kept.market) == (D("3.0"), "1", "BTCUSDT")
    assert kept.size == 3
    assert writer.reconcile(records).differences == ()
    assert not writer.rewrite()


def test_fill_that_only_the_file_knows_is_in_no_position(
    writer: LedgerWriter, tmp_path: Path
) -> None:
    records = fills(("1", "100"), ("1", "120"))
    writer.append(records)
    outcome = writer.reconcile(records[:1])
    assert "BTCUSDT, fill 2: the journal has no such fill" in str(outcome.differences[0])
    assert same(read(tmp_path), records[:1])
    assert writer.positions()["binance", "paper", "BTCUSDT"].size == 1
    [kept] = read_tables("binance", "paper", folder=tmp_path / "ledgers").unexplained
    assert kept.fields["price"] == D("120.0")


def test_fill_of_before_the_journal_begins_is_left_alone(writer: LedgerWriter) -> None:
    records = fills(("1", "100"), ("1", "120"), ("1", "130"))
    writer.append(records)
    assert writer.reconcile(records[2:], since=records[1].dt).differences == ()
    outcome = writer.reconcile(records[2:], since=records[1].dt - timedelta(seconds=2))
    assert [each.tid for each in outcome.differences] == ["2"]
    assert writer.reconcile(records[2:], since=BEGIN).differences == ()


def test_size_that_older_fills_do_not_add_up_to_is_booked_once(writer: LedgerWriter) -> None:
    records = fills(("1", "100"), ("1", "120"))
    writer.append(records)
    for held, booked in (("2", []), ("5", ["3"]), ("5", ["3"]), ("4", ["3", "-1"])):
        writer.reconcile(records, None, {"BTCUSDT": D(held)})
        assert [each.size for each in writer.unexplained] == [D(size) for size in booked]
    assert writer.positions()["binance", "paper", "BTCUSDT"].size == 2
    writer.append(fills(("1", "1"), ("1", "1"), ("2", "7")))
    assert len(writer.transactions()) == 3


def test_missing_fills_are_written_from_the_journal(writer: LedgerWriter, tmp_path: Path) -> None:
    records = list(random_ledger(21, 40))
    writer.append(records[:10])
    outcome = writer.reconcile(records)
    assert (outcome.written, outcome.differences) == (30, ())
    assert same(read(tmp_path), records)


# ---- older files


LEGACY = """
["8f31"]
fqsn = "xbtusdt.spot.kraken"
size = 0.01
price = 27000.6
cost = 0.25
dt = "2023-07-01T12:00:00+00:00"
bs_mktid = "xbtusdt.spot.kraken"

["9a"]
fqme = "xbtusdt.spot.kraken"
tid = "9a"
size = -1
price = "NaN"
dt = 2023-07-02T12:00:00Z
etype = "transfer"
expiry = ""
"""
NATIVE = """
["TQ3V"]
ordertxid = "OA"
pair = "XBTUSDT"
time = 1688212800.5
type = "buy"
vol = "0.01"
price = "27000.6"
fee = "0.25"
"""


def normalise(key: str, fields: dict[str, object]) -> Transaction | None:
    """Return a record of kraken's as a transaction."""
    if fields.get("type") == "margin":
        return None
    return fill(
        1, str(fields["vol"]), str(fields["price"]), str(fields["fee"]), tid=key, broker="kraken"
    )


def write_legacy(folder: Path, text: str) -> None:
    (folder / "ledgers").mkdir(exist_ok=True)
    (folder / "ledgers" / "trades_kraken_paper.toml").write_text(text)


def test_older_file_is_read_by_its_older_names(tmp_path: Path) -> None:
    write_legacy(tmp_path, LEGACY)
    clear, transfer = read_ledger("kraken", "paper", folder=tmp_path / "ledgers")
    assert (clear.fqme, clear.tid, clear.cost) == ("xbtusdt.spot.kraken", "8f31", D("0.25"))
    assert (transfer.etype, transfer.size) == ("transfer", -1)


def test_older_file_stays_one_until_its_fills_are_in_the_journal(tmp_path: Path) -> None:
    write_legacy(tmp_path, LEGACY)
    writer = open_ledger_writer("kraken", "paper", folder=tmp_path)
    new = fill(1, "1", "9", broker="kraken", fqme="xbtusdt.spot.kraken", bs_mktid=None, tid="n")
    outcome = writer.reconcile([new])
    assert [each.tid for each in outcome.imports] == ["8f31", "9a"]
    assert (outcome.written, outcome.differences) == (1, ())
    again = writer.reconcile([new, *outcome.imports])
    assert (again.imports, again.differences) == ((), ())
    text = (tmp_path / "ledgers" / "trades_kraken_paper.toml").read_text()
    assert text.startswith("# piker ledger, format 1\n")
    assert writer.reconcile([new]).differences[0].tid == "8f31"


def test_brokers_own_record_is_kept_as_it_is(tmp_path: Path) -> None:
    write_legacy(tmp_path, NATIVE + NATIVE.replace("TQ3V", "M1").replace('"buy"', '"margin"'))
    with pytest.raises(ConfigError, match=r"TQ3V.*kraken has no `norm_trade`"):
        open_ledger_writer("kraken", "paper", folder=tmp_path)
    writer = open_ledger_writer("kraken", "paper", folder=tmp_path, normalise=normalise)
    [record] = writer.transactions()
    assert (record.tid, record.price) == ("TQ3V", D("27000.6"))
    writer.append([fill(9, "1", "8", broker="kraken", tid="zz")])
    raw, _ = load_ledger("kraken", "paper", tmp_path / "ledgers")
    assert raw["TQ3V"]["time"] == D("1688212800.5")
    assert raw["M1"]["type"] == "margin"
    assert raw["zz"]["price"] == 8


def test_recorded_cost_is_never_worked_out_again(tmp_path: Path) -> None:
    """DEFECT 7.1: paper fills keep the cost that was recorded."""
    write_legacy(tmp_path, LEGACY)
    [position] = fold(read_ledger("kraken", "paper", folder=tmp_path / "ledgers")[:1]).values()
    assert position.costs == D("0.25")


# ---- the ledger as a table of scripts


def test_trade_ledger_is_changed_and_written_at_its_end(tmp_path: Path) -> None:
    folder = tmp_path / "ledgers"
    with open_trade_ledger("binance", "paper", True, _fp=folder) as ledger:
        for record in fills(("1", "100"), ("2", "101")):
            ledger.update_from_t(record)
        assert [record.tid for record in ledger.iter_txns()] == ["1", "2"]
        assert list(ledger.to_txns()) == ["1", "2"]
        assert not ledger.file_path.exists()
    assert [record.size for record in read(tmp_path)] == [1, 2]
    before = (folder / NAME).stat().st_ino
    with open_trade_ledger("binance", "paper", True, _fp=folder):
        pass
    assert (folder / NAME).stat().st_ino == before


def test_trade_ledger_asks_for_an_event_loop_or_the_flag() -> None:
    with pytest.raises(RuntimeError, match="pass allow_from_sync_code=True"):
        with open_trade_ledger("binance", "paper"):
            pass


def test_trade_ledger_is_held_by_one(writer: LedgerWriter, tmp_path: Path) -> None:
    writer.append(fills(("1", "100")))
    with pytest.raises(LedgerLocked):
        with open_trade_ledger("binance", "paper", True, _fp=tmp_path / "ledgers"):
            pass


def test_missing_ledger_is_empty_and_made_on_demand(tmp_path: Path) -> None:
    assert read(tmp_path) == []
    content, path = load_ledger("binance", "paper", tmp_path / "ledgers")
    assert content == {}
    assert path.read_text() == ""
    assert read(tmp_path) == []


def test_archived_ledger_begins_empty(writer: LedgerWriter, tmp_path: Path) -> None:
    writer.append(fills(("1", "100")))
    writer.write_account()
    writer.archive("20260101T000000")
    assert (tmp_path / "ledgers" / "trades_binance_paper.20260101T000000.toml").exists()
    assert (tmp_path / "account.binance.paper.20260101T000000.toml").exists()
    assert writer.positions() == {}
    writer.append(fills(("2", "7")))
    assert [record.size for record in read(tmp_path)] == [2]
