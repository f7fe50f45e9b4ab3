"""What `piker store verify` finds below a state folder, and that it changes nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import trio
from journals import ACCOUNT, fill, write

from piker import cli
from piker.cli import boundary
from piker.model.bars import empty_bars
from piker.storage.bars import open_bar_store
from piker.storage.disk import FolderDisk
from piker.storage.journal import open_journal
from piker.storage.verify import Finding, verify_state

FQME = "btcusdt.spot.binance"
DAY = 86_400


def journal_folder(root: Path) -> Path:
    """Return where the account's journal lies."""
    return root / "journal" / ACCOUNT


async def store_all(root: Path) -> None:
    """Store a closed journal and two days of bars."""
    await write(FolderDisk(journal_folder(root)), 20)
    rows = empty_bars(4)
    rows["time"] = np.array([0, 60, DAY, DAY + 60]) + 200 * DAY
    open_bar_store(root / "bars").append(FQME, 60, rows)


def found(root: Path) -> dict[str, Finding]:
    """Return the findings by kind and name."""
    return {f"{finding.kind} {finding.name}": finding for finding in verify_state(root)}


def flip(path: Path, offset: int) -> None:
    """Change one bit of a file."""
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)


async def test_what_is_whole_is_sound(tmp_path: Path) -> None:
    await store_all(tmp_path)
    await store_all(tmp_path / "venues" / "mine")
    findings = list(verify_state(tmp_path))
    assert [(one.kind, one.venue, one.state, one.records, one.text) for one in findings] == [
        ("journal", "", "sound", 20, ""),
        ("bars", "", "sound", 4, ""),
        ("journal", "mine", "sound", 20, ""),
        ("bars", "mine", "sound", 4, ""),
    ]
    assert findings[0].name == ACCOUNT
    assert findings[1].name == f"{FQME} 60s"


async def test_a_flipped_bit_of_a_journal_is_said_with_what_is_lost(tmp_path: Path) -> None:
    await store_all(tmp_path)
    segment = next(journal_folder(tmp_path).glob("*.log"))
    flip(segment, segment.read_bytes().index(b"00000004"))
    finding = found(tmp_path)[f"journal {ACCOUNT}"]
    assert finding.state == "damaged"
    assert "are lost" in finding.text


async def test_a_damaged_file_of_bars_is_named_and_left_where_it_is(tmp_path: Path) -> None:
    await store_all(tmp_path)
    file = min((tmp_path / "bars").rglob("*.parquet"))
    flip(file, 100)
    finding = found(tmp_path)[f"bars {FQME} 60s"]
    assert (finding.state, finding.records) == ("damaged", 2)
    assert file.name in finding.text
    assert file.exists()
    file.rename(file.with_name(f"{file.name}.damaged-1"))
    assert "set aside earlier" in found(tmp_path)[f"bars {FQME} 60s"].text


async def test_a_journal_that_is_being_written_is_said_to_be(tmp_path: Path) -> None:
    folder = journal_folder(tmp_path)
    async with open_journal(FolderDisk(folder), ACCOUNT) as journal:
        await fill(journal, 3)
        finding = await trio.to_thread.run_sync(found, tmp_path)
    assert finding[f"journal {ACCOUNT}"].text == "being written"
    assert finding[f"journal {ACCOUNT}"].state == "sound"


async def test_a_journal_that_was_not_stopped_cleanly_says_what_cannot_be_told(
    tmp_path: Path,
) -> None:
    folder = journal_folder(tmp_path)
    with trio.CancelScope():
        async with open_journal(FolderDisk(folder), ACCOUNT) as journal:
            await fill(journal, 3)
            copy = {path.name: path.read_bytes() for path in folder.iterdir()}
    for name, data in copy.items():
        (folder / name).write_bytes(data)
    finding = found(tmp_path)[f"journal {ACCOUNT}"]
    assert finding.state == "doubt"
    assert "cannot be told" in finding.text


def test_the_command_fails_with_one_line_when_something_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PIKER_CONFIG_DIR", str(tmp_path))
    assert "store" in cli.COMMANDS
    assert boundary.main("piker", ["store", "verify"]) == 0
    assert "nothing is stored" in capsys.readouterr().out
    trio.run(store_all, tmp_path / "venues" / "mine")
    flip(min(tmp_path.rglob("*.parquet")), 100)
    assert boundary.main("piker", ["store", "verify"]) == 1
    said = capsys.readouterr()
    assert "LOCAL mine" in said.out
    assert said.err.startswith(f"piker: store: 1 of 2 damaged, first bars {FQME} 60s: ")
    assert said.err.count("\n") == 1
