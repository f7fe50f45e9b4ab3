"""
When a brokerd runs, and when it never does: sessions on paper and live, with the real emsd.

Binance itself cannot trade here; `trading_backend` stands for it where a broker shall.
"""

from __future__ import annotations

import importlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest
import tractor
import trio
from helpers import TEST_CONF, open_test_pikerd
from system.harness import open_venue

from piker.brokers import _daemon, get_brokermod
from piker.clearing import Status, open_ems
from piker.clearing._ems import emsd_init, open_brokerd_dialog
from piker.clearing._paper_engine import paperboi_init
from piker.errors import EndpointMissing, PikerError
from piker.service._registry import connect
from piker.service._tractor_shim import PROVEN
from piker.service.rpc import EXPOSED, service_rows, translate_errors

FQME = "btcusdt.spot.binance"
TRADES = {"binance": "trading_backend"}


@asynccontextmanager
async def open_market(folder: Path, **options: Any) -> AsyncIterator[Any]:
    """Serve a made-up market and boot a tree on it, with one live account; yields `Services`."""
    state = folder / "state"
    state.mkdir()
    (state / "conf.toml").write_text(TEST_CONF)
    (state / "brokers.toml").write_text("[binance.accounts]\nmain = '1'\n")
    async with open_venue(folder / "venue", "--synthetic", "--seed", "3") as venue:
        async with open_test_pikerd(
            venues={"binance": venue.url}, conf_dir=state, **options
        ) as opened:
            yield opened[3]


async def rows() -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in await service_rows()}


async def buy_at_market(mode: Any) -> list[str]:
    """Place a market order and return what was said of it until its end."""
    said = []
    async with open_ems(FQME, mode=mode) as (client, trades, _, _, _):
        await client.send(client.order("buy", 0, "0.001", order_type="market"))
        with trio.fail_after(15):
            async for message in trades:
                if isinstance(message, Status):
                    assert message.mode == mode
                    said.append(f"{message.resp} {message.reason}".strip())
                    if message.is_terminal:
                        break
    return said


async def test_a_paper_session_runs_zero_brokerd(tmp_path: Path) -> None:
    async with open_market(tmp_path, backends=TRADES):
        assert (await buy_at_market("paper"))[-1] == "closed"
        names = set(await rows())
        assert {"datad.binance", "emsd", "paperboi.binance"} <= names
        assert not [name for name in names if name.startswith("brokerd")]


async def test_brokerd_appears_at_the_first_live_dialog_and_not_before(tmp_path: Path) -> None:
    async with open_market(tmp_path, backends=TRADES) as services:
        async with open_ems(FQME):
            assert "brokerd.binance" not in await rows()
            assert (await buy_at_market("live"))[-1] == "closed"
            found = await rows()
            assert {"datad.binance", "emsd", "brokerd.binance"} <= set(services.service_tasks)
            pids = [found[name]["pid"] for name in ("pikerd", "datad.binance", "brokerd.binance")]
            assert {psutil.Process(pid).ppid() for pid in pids[1:]} == {pids[0]}
            assert (await buy_at_market("live"))[-1] == "closed"
            assert (await rows())["brokerd.binance"]["pid"] == pids[2]


async def test_a_live_request_to_a_broker_that_cannot_trade_is_refused_by_name(
    tmp_path: Path,
) -> None:
    async with open_market(tmp_path):
        with pytest.raises(EndpointMissing, match=r"binance.*paper"):
            async with open_ems(FQME, mode="live"):
                raise AssertionError("not reached")
        assert not [name for name in await rows() if name.startswith(("brokerd", "paperboi"))]


async def test_a_passed_portal_is_used_instead_of_a_brokerd(tmp_path: Path) -> None:
    (tmp_path / "brokers.toml").write_text("[binance.accounts]\nmain = '1'\n")
    async with open_test_pikerd(backends=TRADES, conf_dir=tmp_path) as (_, _, _, services):
        spec = msgspec.structs.replace(
            _daemon.broker_init("binance"), name="adhoc.binance.1", kind="adhoc"
        )
        async with connect(await services.ensure(spec)) as portal:
            mod = get_brokermod("binance")
            async with open_brokerd_dialog(mod, "live", portal=portal) as dialog:
                assert dialog.accounts == ["binance.main"]
                assert not dialog.is_paper
            assert list(services.service_tasks) == ["adhoc.binance.1"]


async def test_a_backend_without_accounts_is_never_silently_served_by_paper() -> None:
    async with open_test_pikerd(backends=TRADES) as (_, _, _, services):
        with pytest.raises(PikerError, match="no live account"):
            async with open_brokerd_dialog(get_brokermod("binance"), "live"):
                raise AssertionError("not reached")
        assert list(services.service_tasks) == ["brokerd.binance"]


# ---- who may ask for orders ----


@pytest.mark.parametrize("kind", ["emsd", "paperboi"])
def test_whatever_an_order_daemon_serves_wants_the_runs_token(kind: str) -> None:
    spec = emsd_init() if kind == "emsd" else paperboi_init("binance")
    for name in spec.modules:
        module = importlib.import_module(name)
        assert not hasattr(module, "__getattr__"), name
    served = {key for key, (_, only) in EXPOSED.items() if key[0] in spec.modules and kind in only}
    assert served
    assert served <= PROVEN
    open_to_all = {key for key, (_, only) in EXPOSED.items() if not only}
    assert not [key for key in open_to_all if key[0] in spec.modules]


async def test_an_order_daemon_refuses_a_client_without_the_token() -> None:
    async with open_test_pikerd() as (_, _, _, services):
        async with connect(await services.ensure(emsd_init())) as emsd:
            for module, name in sorted(PROVEN):
                if module != "piker.clearing._ems":
                    continue
                with pytest.raises(PikerError, match="needs the run's token"), translate_errors():
                    await call(emsd, getattr(importlib.import_module(module), name))


async def call(portal: tractor.Portal, endpoint: Any) -> None:
    if getattr(endpoint, "_tractor_context_function", False):
        async with portal.open_context(endpoint, proof="0" * 128):
            raise AssertionError("not reached")
    await portal.run(endpoint, proof="0" * 128)
