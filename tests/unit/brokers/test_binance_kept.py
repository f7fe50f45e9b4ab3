"""A kept listing serves for a day, and a broken file is as good as none."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import msgspec
import pytest

from piker import clock
from piker.brokers.binance import _kept
from piker.brokers.binance._kept import find_kept, keep
from piker.brokers.binance._symbols import Pair

BTC = Pair("BTCUSDT", "TRADING", "BTC", "USDT", 8, 8, Decimal("0.01"), Decimal("0.00001"))


def test_a_kept_listing_is_found_again_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "cache" / "kept.json"
    assert find_kept(path, "BTCUSDT") is None
    keep(path, BTC)
    keep(path, msgspec.structs.replace(BTC, symbol="ETHUSDT"))
    assert find_kept(path, "BTCUSDT") == BTC
    assert find_kept(path, "SOLUSDT") is None


def test_a_listing_is_good_for_a_day(tmp_path: Path) -> None:
    path = tmp_path / "kept.json"
    old = _kept.Kept(BTC, clock.now_s() - _kept.KEPT_FOR_S - 1)
    path.write_bytes(msgspec.json.encode({"BTCUSDT": old}))
    assert find_kept(path, "BTCUSDT") is None


def test_a_broken_file_is_as_good_as_none(tmp_path: Path) -> None:
    path = tmp_path / "kept.json"
    path.write_text("{")
    assert find_kept(path, "BTCUSDT") is None
    keep(path, BTC)
    assert find_kept(path, "BTCUSDT") == BTC
    keep(path / "no folder", BTC)


def test_the_oldest_listings_make_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_kept, "KEPT_MAX", 2)
    path = tmp_path / "kept.json"
    for symbol in ("A", "B", "C"):
        keep(path, msgspec.structs.replace(BTC, symbol=symbol))
    assert [find_kept(path, symbol) is None for symbol in ("A", "B", "C")] == [True, False, False]
