"""What a command checks before it asks, and how it marks what came from a local venue."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer

from piker.cli.client import brokers_of, check_brokers, check_fqmes, mark_local
from piker.errors import PikerError, SymbolNotFound

FQME = "btcusdt.spot.binance"


def test_addresses_are_lower_case_and_asked_once() -> None:
    assert check_fqmes(["BTCUSDT.spot.binance", FQME]) == [FQME]


@pytest.mark.parametrize("text", ["btcusdt", "", "btcusdt..binance", ".binance"])
def test_what_is_no_address_is_misuse(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="expected <pair>"):
        check_fqmes([text])


def test_an_unknown_broker_is_named_with_those_there_are() -> None:
    with pytest.raises(SymbolNotFound, match="expected one of binance"):
        check_fqmes(["btcusdt.doggy"])
    with pytest.raises(PikerError, match="expected one of binance"):
        check_brokers(["doggy"])


def test_brokers_are_listed_once() -> None:
    assert brokers_of([FQME, "ethusdt.spot.binance"]) == ["binance"]


def write_venue(tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make `tmp_path` the state folder, with binance on `url`."""
    monkeypatch.setenv("PIKER_CONFIG_DIR", str(tmp_path))
    (tmp_path / "brokers.toml").write_text(f'[binance]\nvenue_url = "{url}"\n')


def test_rows_of_a_local_venue_carry_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_venue(tmp_path, "http://127.0.0.1:8123#mine", monkeypatch)
    rows = mark_local([{"fqme": FQME}, {"time": 60}], ["binance"])
    assert [row["local"] for row in rows] == ["mine", "mine"]


def test_rows_of_the_official_venue_carry_no_mark(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_venue(tmp_path, "https://api.binance.com", monkeypatch)
    assert mark_local([{"fqme": FQME}], ["binance"]) == [{"fqme": FQME}]
