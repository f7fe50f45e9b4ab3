"""The desk behind the pages: what it greets them with, and a file that is being edited."""

import pytest

from piker.errors import ConfigError
from piker.ui.desk import Desk, Options

FQME = "btcusdt.spot.binance"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("PIKER_CONFIG_DIR", str(tmp_path))
    return tmp_path


def test_a_page_is_told_what_was_last_used_and_how_to_behave(folder):
    (folder / "recent_markets.json").write_text('["ethusdt.spot.binance"]')
    (folder / "conf.toml").write_text('[ui]\nconfirm = "1000"\n[ui.notify]\nfill = "both"\n')
    said = Desk(Options((FQME,))).welcome()
    assert said.recent == ["ethusdt.spot.binance"]
    assert said.prefs["confirm"] == "1000"
    assert said.prefs["notify"]["fill"] == "both"


def test_a_file_with_a_slip_is_refused_at_start_and_costs_nothing_later(folder):
    conf = folder / "conf.toml"
    conf.write_text('[ui]\ntheme = "dark"\n')
    desk = Desk(Options((FQME,)))
    conf.write_text("[ui]\nthme = 1\n")
    assert desk.welcome().prefs["theme"] == "dark"
    with pytest.raises(ConfigError, match="thme"):
        Desk(Options((FQME,)))


def test_only_a_market_that_was_used_before_needs_no_word_of_the_venue(folder):
    assert not Desk(Options((FQME,))).vetted.is_set()
    assert Desk(Options(())).vetted.is_set()
    (folder / "recent_markets.json").write_text(f'["{FQME}"]')
    assert Desk(Options((FQME,))).vetted.is_set()
    desk = Desk(Options((FQME, "ethusdt.spot.binance")))
    desk.vet("ethusdt.spot.binance")
    assert desk.vetted.is_set()
