"""
The invariant sentences of the contract that apply now, a test each, named after the sentence.

Those that need more than a boot stand where their subject is tested: the gate, the callable names
and the message limit in `test_services` and `unit/service`, the single home of `maybe_spawn_*` in
`test_tidy`, a chart session without order actors in `system/test_chart_session`.
"""

from __future__ import annotations

import logging
import os
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest
from helpers import open_test_pikerd

from piker import config
from piker.brokers import get_brokermod, iter_brokermods
from piker.data._daemon import _datad_service_mods, datad_init, maybe_spawn_datad
from piker.data._sampling import maybe_open_samplerd
from piker.data.validate import get_eps, missing_eps
from piker.service import _actor_runtime
from piker.service.rpc import service_rows


def test_datad_hosts_every_endpoint_of_the_datad_kind() -> None:
    for mod in iter_brokermods():
        assert missing_eps(mod, "datad") == []
        assert datad_init(mod.__name__.rpartition(".")[2]).modules


def test_get_eps_returns_what_a_backend_defines_for_that_kind() -> None:
    found = get_eps(get_brokermod("binance"), "datad")
    assert set(found) == {
        "get_mkt_info", "open_history_client", "open_symbol_search", "stream_quotes",
    }  # fmt: skip
    assert "open_trade_dialog" not in get_eps(get_brokermod("binance"), "brokerd")


def test_datad_init_warns_about_missing_data_endpoints(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    bare = ModuleType("piker.brokers.bare")
    monkeypatch.setattr("piker.data._daemon.get_brokermod", lambda name: bare)
    monkeypatch.setattr(logging.getLogger("piker"), "propagate", True)
    with caplog.at_level(logging.WARNING, "piker"):
        datad_init("bare")
    assert "bare lacks data endpoints: get_mkt_info" in caplog.text


def test_each_backend_declares_the_modules_of_its_daemon_kinds() -> None:
    binance = get_brokermod("binance")
    assert binance._datad_mods == ["api", "feed"]
    assert datad_init("binance").modules == [
        *_datad_service_mods,
        "piker.brokers.binance",
        "piker.brokers.binance.api",
        "piker.brokers.binance.feed",
    ]


def test_the_service_modules_of_datad_are_the_seven_of_the_contract() -> None:
    assert _datad_service_mods == [
        "piker.brokers.core",
        "piker.brokers.data",
        "piker.data",
        "piker.data.feed",
        "piker.data._feed_bus",
        "piker.data._sampling",
        "piker.data._daemon",
    ]
    for name in _datad_service_mods:
        import_module(name)


def test_root_modules_hold_the_daemon_modules_so_that_spawning_resolves_in_the_root() -> None:
    assert "piker.data._daemon" in _actor_runtime._root_modules
    assert "piker.brokers._daemon" in _actor_runtime._root_modules
    assert "piker.data._sampling" in _actor_runtime._root_modules


async def test_all_datad_actors_are_siblings_directly_under_pikerd() -> None:
    async with (
        open_test_pikerd(),
        maybe_spawn_datad("binance"),
        maybe_open_samplerd(),
    ):
        rows = {row["name"]: row for row in await service_rows()}
        for name in ("datad.binance", "samplerd"):
            stat = Path(f"/proc/{rows[name]['pid']}/stat").read_text()
            assert int(stat.rpartition(")")[2].split()[1]) == os.getpid()
        assert not any(name.startswith("brokerd") for name in rows)


def test_what_belongs_to_a_local_venue_lives_apart_from_the_real_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIKER_CONFIG_DIR", str(tmp_path))
    assert config.broker_dir("binance") == tmp_path
    (tmp_path / "brokers.toml").write_text('[binance]\nvenue_url = "http://127.0.0.1:81#mine"\n')
    assert config.broker_dir("binance") == tmp_path / "venues" / "mine"
