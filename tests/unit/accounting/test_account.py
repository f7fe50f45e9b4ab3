"""Account files: what is open, the fills since it opened, and older forms of the file."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import msgspec
import pytest
from ledgers import fill, fills, random_ledger
from paper_journals import MKT

from piker import clock
from piker.accounting import fold, load_account, load_account_from_ledger, minimise, open_account
from piker.accounting._account import Account
from piker.accounting.files import open_ledger_writer
from piker.errors import ConfigError

NAME = "account.binance.paper.toml"
FQME = "btcusdt.spot.binance"
D = Decimal

LEGACY = """
[binance.paper."btcusdt.spot.binance"]
bsuid = "BTCUSDT"
lot_tick_size = "0.001"
expiry = 2126-12-18T00:00:00Z
clears = [
  {dt = 2026-01-01T00:00:00Z, accum_size = 2, price = 100, size = 2, cost = 1, tid = "1"},
]
"""


def write(folder: Path, *rows: tuple[str, ...]) -> Path:
    """Write the files of an account with some fills; return its account file."""
    writer = open_ledger_writer("binance", "paper", folder=folder)
    writer.append(fills(*rows))
    writer.write_account({FQME: MKT})
    writer.close()
    return folder / NAME


def test_account_file_holds_open_positions_in_the_known_layout(tmp_path: Path) -> None:
    path = write(tmp_path, ("2", "100", "1"), ("-1", "130", "0.5"))
    assert path.read_text() == (
        "# piker account, format 1\n"
        "\n"
        '["btcusdt.spot.binance"]\n'
        'bs_mktid = "BTCUSDT"\n'
        'asset_type = "crypto"\n'
        "price_tick = 0.01\n"
        "size_tick = 0.00001\n"
        "clears = [\n"
        "  {ppu = 101.0, cumsize = 2.0, price = 100.0, size = 2.0, cost = 1.0,"
        ' dt = 2026-01-01T00:00:01+00:00, tid = "1"},\n'
        "  {ppu = 101.0, cumsize = 1.0, price = 130.0, size = -1.0, cost = 0.5,"
        ' dt = 2026-01-01T00:00:02+00:00, tid = "2"},\n'
        "]\n"
    )


def test_replaying_the_ledger_gives_the_account_file(tmp_path: Path) -> None:
    records = list(random_ledger(41, 500))
    writer = open_ledger_writer("binance", "paper", folder=tmp_path)
    for start in range(0, 500, 50):
        writer.append(records[start : start + 50])
    writer.write_account()
    conf, _ = load_account("binance", "paper", tmp_path)
    expected = minimise(records)
    found = [clear for holding in conf.values() for clear in holding.clears]
    assert [(each.tid, each.size) for each in found] == [(e.tid, e.size) for e in expected]
    [position] = fold(found).values()
    [whole] = fold(records).values()
    assert (position.size, position.average_entry_price) == (whole.size, whole.average_entry_price)
    assert not writer.write_account()


def test_only_fills_since_the_last_zero_are_kept(tmp_path: Path) -> None:
    """DEFECT 7.3: at zero everything before goes, not the last two entries."""
    write(tmp_path, ("1", "1"), ("1", "2"), ("-2", "3"), ("3", "4"))
    conf, _ = load_account("binance", "paper", tmp_path)
    assert [clear.tid for clear in conf[FQME].clears] == ["4"]


def test_flip_keeps_the_flipping_fill_with_the_residual_size(tmp_path: Path) -> None:
    """DEFECT 7.3: at a flip the history before goes, not the flipping entry."""
    write(tmp_path, ("1", "1"), ("-3", "2"))
    conf, _ = load_account("binance", "paper", tmp_path)
    assert [(clear.tid, clear.size) for clear in conf[FQME].clears] == [("2", -2)]


def test_nothing_open_leaves_no_table(tmp_path: Path) -> None:
    path = write(tmp_path, ("1", "1"), ("-1", "2"))
    assert path.read_text() == "# piker account, format 1\n"


def test_transfer_does_not_upset_a_position(tmp_path: Path) -> None:
    """DEFECT 7.4: a position takes a transfer without falling over."""
    writer = open_ledger_writer("binance", "paper", folder=tmp_path)
    writer.append([*fills(("1", "10")), fill(2, "5", "NaN", etype="transfer")])
    writer.write_account()
    conf, _ = load_account("binance", "paper", tmp_path)
    assert [clear.tid for clear in conf[FQME].clears] == ["1"]


def test_facts_of_a_market_stay_when_it_is_not_known_now(tmp_path: Path) -> None:
    path = write(tmp_path, ("1", "1"))
    before = path.read_text()
    writer = open_ledger_writer("binance", "paper", folder=tmp_path)
    assert not writer.write_account()
    writer.append([fill(9, "1", "3", tid="x")])
    writer.write_account()
    assert 'asset_type = "crypto"\nprice_tick = 0.01' in path.read_text() != before


def test_expired_contract_is_dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = open_ledger_writer("binance", "paper", folder=tmp_path)
    writer.append([fill(1, "1", "10", expiry="20260301")])
    for now_s, held in ((1_772_323_200, 1), (1_772_409_600, 0)):  # the last day, and after it
        monkeypatch.setattr(clock, "now_ns", lambda now_s=now_s: now_s * 10**9)
        writer._now_ns = clock.now_ns
        writer.write_account()
        conf, _ = load_account("binance", "paper", tmp_path)
        assert len(conf) == held
        with open_account("binance", "paper", _fp=tmp_path) as account:
            assert len(account.dump_active()[0]) == held


def test_older_layout_and_names_are_read(tmp_path: Path) -> None:
    (tmp_path / "pps.binance.paper.toml").write_text(LEGACY)
    conf, path = load_account("binance", "paper", tmp_path)
    holding = conf[FQME]
    assert path.name == NAME
    assert (holding.bs_mktid, holding.size_tick) == ("BTCUSDT", D("0.001"))
    assert (holding.price_tick, holding.asset_type) == (D("0.01"), "n/a")
    assert holding.clears[0].size == 2
    with open_account("binance", "paper", write_on_exit=True, _fp=tmp_path) as account:
        assert account.pps["BTCUSDT"].ppu == 101
    again, _ = load_account("binance", "paper", tmp_path)
    assert again[FQME].clears == holding.clears
    assert "expiry = 2126-12-18T00:00:00+00:00\n" in path.read_text()


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ("size = 2.0", "size = two", "is not valid TOML"),
        ('tid = "1"', 'id = "1"', r"\[btcusdt.spot.binance\] clears: tid is missing"),
        ("size = 2.0", "size = 0.0", r"clears: size was 0.0, expected a number other than 0"),
        ("price_tick = 0.01", "price_tick = true", r"price_tick was True, expected a number"),
        ("format 1", "format 2", "format was 2, expected 1"),
    ],
)
def test_typo_in_an_account_file_is_refused_by_place(
    tmp_path: Path, old: str, new: str, text: str
) -> None:
    path = write(tmp_path, ("2", "100"))
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(ConfigError, match=text):
        load_account("binance", "paper", tmp_path)


def test_damaged_account_file_is_written_anew_from_the_ledger(tmp_path: Path) -> None:
    path = write(tmp_path, ("2", "100"))
    whole = path.read_text()
    path.write_text(whole[:100])
    write(tmp_path, ("2", "100"))
    assert path.read_text() == whole


def test_account_is_updated_from_a_ledger_once_a_fill() -> None:
    account = Account("binance", "paper", {}, Path("nowhere"), {})
    records = fills(("2", "100"), ("-1", "130"))
    account.update_from_ledger(records)
    changed = account.update_from_ledger(records[:1])
    assert (changed["BTCUSDT"].size, account.pps["BTCUSDT"].count) == (1, 2)
    longer = msgspec.structs.replace(records[1], tid="3", fqme="btcusdt.spot.usdtm.binance")
    account.update_from_ledger([longer])
    assert account.pps["BTCUSDT"].fqme == "btcusdt.spot.usdtm.binance"


def test_unknown_market_is_refused_unless_a_table_has_it() -> None:
    account = Account("binance", "paper", {}, Path("nowhere"), {})
    with pytest.raises(KeyError, match="is in no table of markets"):
        account.update_from_ledger(fills(("2", "100")), _mktmap_table={})
    account.update_from_ledger(fills(("2", "100")), _mktmap_table={FQME: MKT})
    assert account.conf[FQME].size_tick == D("0.00001")
    with pytest.raises(ValueError, match="cost_scalar: was 1, expected 2"):
        account.update_from_ledger([], cost_scalar=1)


def test_positions_come_from_a_ledger_without_an_account_file(tmp_path: Path) -> None:
    write(tmp_path, ("2", "100"), ("-1", "130"))
    folder = tmp_path / "ledgers"
    positions = load_account_from_ledger("binance", "paper", folder=folder)
    assert positions["BTCUSDT"].size == 1
    assert load_account_from_ledger("binance", "paper", ["1"], folder=folder)["BTCUSDT"].size == 2
