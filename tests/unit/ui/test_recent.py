"""The markets that were last looked at."""

import pytest

from piker.ui.recent import RECENT_MAX, Recent


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("PIKER_CONFIG_DIR", str(tmp_path))
    return tmp_path


def test_the_last_used_are_kept_newest_first_each_once():
    recent = Recent()
    for n in range(RECENT_MAX + 2):
        recent.use(f"m{n}.binance")
    recent.use("M4.binance")
    expected = ["m4.binance", "m6.binance", "m5.binance", "m3.binance", "m2.binance"]
    assert recent.fqmes == Recent().fqmes == expected


def test_what_is_no_market_is_not_kept():
    recent = Recent()
    recent.use("nothing")
    assert Recent().fqmes == []


@pytest.mark.parametrize("kept", [b"", b"{}", b"[1]", b"\xff"])
def test_a_damaged_list_is_an_empty_one(folder, kept):
    (folder / "recent_markets.json").write_bytes(kept)
    assert Recent().fqmes == []


def test_a_folder_that_cannot_be_written_costs_nothing_but_the_memory(folder):
    (folder / "recent_markets.new").mkdir()
    recent = Recent()
    recent.use("a.binance")
    assert recent.fqmes == ["a.binance"]
    assert Recent().fqmes == []
