"""
The order daemon: when it runs, what it serves, and who may talk to it.

`trading_backend` stands for binance in these runs: it can trade. The one place that boots a
brokerd in production is tested with the order dialogs.
"""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import tractor
import trading_backend as backend
import trio
from helpers import TEST_CONF, open_test_pikerd
from tractor._exceptions import ModuleNotExposed

from piker import config
from piker.brokers import _daemon, get_brokermod
from piker.clearing._messages import (
    BrokerdCancel,
    BrokerdFill,
    BrokerdOrder,
    BrokerdOrderAck,
    BrokerdStatus,
    parse_broker,
)
from piker.data._daemon import maybe_spawn_datad
from piker.errors import EndpointMissing, PikerError
from piker.service.rpc import EXPOSED, proof, service_rows, translate_errors

TRADES = {"binance": "trading_backend"}
spawn = getattr(_daemon, "maybe_spawn_" + "brokerd")


@pytest.fixture
def can_trade(monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process, binance is the backend that can trade."""
    monkeypatch.setattr(config, "_vars", lambda: {"backends": TRADES})


def accounts(folder: Path) -> Path:
    """Return a state folder whose binance has one account."""
    (folder / "conf.toml").write_text(TEST_CONF)
    (folder / "brokers.toml").write_text("[binance.accounts]\nmain = '1'\n")
    return folder


# ---- its description ----


def test_broker_init_fails_fast_when_the_backend_cannot_trade() -> None:
    with pytest.raises(EndpointMissing, match="binance is data-only: use paper mode"):
        _daemon.broker_init("binance")
    with pytest.raises(ModuleNotFoundError, match="no backend is named 'os'"):
        _daemon.broker_init("os")


def test_brokerd_enables_no_data_module(can_trade: None) -> None:
    spec = _daemon.broker_init("binance", "debug")
    assert spec.name == "brokerd.binance"
    assert spec.modules == ["piker.brokers._daemon", "trading_backend"]
    assert not [name for name in spec.modules if name.startswith("piker.data")]


def test_its_callable_list_holds_no_helper_and_no_data_function(can_trade: None) -> None:
    modules = _daemon.broker_init("binance").modules
    for name in modules:
        assert not hasattr(importlib.import_module(name), "__getattr__"), name
    for kind in ("brokerd", "adhoc"):
        found = {
            f"{module}:{name}"
            for (module, name), (_, only) in EXPOSED.items()
            if module in modules and (not only or kind in only)
        }
        assert found == {
            "piker.brokers._daemon:_setup_persistent_brokerd",
            "trading_backend:get_resting_orders",
            "trading_backend:open_trade_dialog",
        }


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ({"_brokerd_mods": ["api", "broker"], "__enable_modules__": ["x"]}, ["b.api", "b.broker"]),
        ({"_brokerd_mods": []}, []),
        ({"__enable_modules__": ["api", "feed"]}, ["b.api", "b.feed"]),
        ({}, ["b"]),
    ],
)
def test_each_backend_declares_the_modules_of_its_brokerd(
    names: dict[str, Any], expected: list[str]
) -> None:
    mod = ModuleType("b")
    for name, value in names.items():
        setattr(mod, name, value)
    assert _daemon.backend_modules(mod) == expected


def test_a_name_from_the_wire_is_looked_up_never_imported(can_trade: None) -> None:
    assert get_brokermod("binance") is backend
    for name in ("trading_backend", "os", "binance.api", "../x", ""):
        with pytest.raises(ModuleNotFoundError, match="no backend is named"):
            get_brokermod(name)


# ---- the process ----


async def test_brokerd_is_a_sibling_of_datad_directly_under_pikerd() -> None:
    async with open_test_pikerd(backends=TRADES) as (_, _, _, services):
        async with maybe_spawn_datad("binance"):
            names = [row["name"] for row in await service_rows()]
            assert names[:2] == ["pikerd", "datad.binance"]
            assert "brokerd.binance" not in names
            async with spawn("binance") as first, spawn("binance") as second:
                assert first.channel.uid == second.channel.uid
                assert first.channel.uid[0] == "brokerd.binance"
        assert {"datad.binance", "brokerd.binance"} <= set(services.service_tasks)


async def test_a_data_only_broker_starts_nothing() -> None:
    async with open_test_pikerd() as (_, _, pikerd, services):
        with pytest.raises(EndpointMissing, match="use paper mode"), translate_errors():
            await pikerd.run(_daemon.spawn_brokerd, brokername="binance")
        assert not services.service_tasks


async def test_any_call_into_a_data_module_of_brokerd_is_refused() -> None:
    async with open_test_pikerd(backends=TRADES), spawn("binance") as portal:
        for module, name in (
            ("piker.data._feed_bus", "open_feed_bus"),
            ("piker.data._daemon", "_setup_persistent_datad"),
            ("piker.brokers.core", "get_market"),
            ("piker.brokers._daemon", "spawn_brokerd"),
            ("trading_backend", "helper"),
            ("trading_backend", "open_symbol_search"),
            ("trading_backend", "parse_intent"),
        ):
            with pytest.raises(tractor.RemoteActorError) as caught:
                await portal.run_from_ns(module, name)
            assert caught.value.type is ModuleNotExposed, name


async def test_a_dialog_without_the_runs_token_is_refused(tmp_path: Path) -> None:
    async with open_test_pikerd(backends=TRADES, conf_dir=accounts(tmp_path)):
        async with spawn("binance") as portal:
            for target in (backend.open_trade_dialog, _daemon._setup_persistent_brokerd):
                with pytest.raises(PikerError, match="needs the run's token"), translate_errors():
                    async with portal.open_context(target):
                        raise AssertionError("not reached")


async def test_a_dialog_places_fills_and_cancels(tmp_path: Path) -> None:
    async with open_test_pikerd(backends=TRADES, conf_dir=accounts(tmp_path)):
        async with spawn("binance") as portal:
            target = backend.open_trade_dialog
            async with (
                portal.open_context(target, proof=proof(portal, target)) as (ctx, first),
                ctx.open_stream() as stream,
            ):
                assert list(first) == [[], ["binance.main"]]

                async def told(message: Any, count: int) -> list[Any]:
                    await stream.send(message.to_dict())
                    return [parse_broker(await stream.receive()) for _ in range(count)]

                ack, opened = await told(order("a", "limit"), 2)
                assert isinstance(ack, BrokerdOrderAck)
                assert (ack.reqid, opened.status, opened.remaining) == ("a", "open", 2)
                assert await portal.run(backend.get_resting_orders) == ["a"]
                _, _, fill, closed = await told(order("b", "market"), 4)
                assert isinstance(fill, BrokerdFill)
                assert (fill.size, fill.price, fill.tid) == (2, 7, "1")
                assert (closed.status, closed.filled) == ("closed", 2)
                cancel = BrokerdCancel(oid="a" * 32, time_ns=1, account="binance.main", reqid="a")
                (canceled,) = await told(cancel, 1)
                assert isinstance(canceled, BrokerdStatus)
                assert canceled.status == "canceled"
                (refused,) = await told(cancel, 1)
                assert "expected an order that rests here" in refused.reason
                await ctx.cancel()


async def test_a_backend_without_accounts_says_paper() -> None:
    async with open_test_pikerd(backends=TRADES), spawn("binance") as portal:
        shown = proof(portal, backend.open_trade_dialog)
        async with portal.open_context(backend.open_trade_dialog, proof=shown) as (_, first):
            assert first == "paper"


def order(client_id: str, order_type: str) -> BrokerdOrder:
    return BrokerdOrder(
        oid=client_id * 32,
        account="binance.main",
        time_ns=1,
        symbol="btcusdt.spot",
        price=Decimal(7),
        size=Decimal(2),
        action="buy",
        order_type=order_type,
        client_id=client_id,
    )


# ---- a command's own ----

ADHOC = """
import json, trio
from piker.brokers._daemon import open_adhoc_brokerd
from piker.service import open_piker_runtime
from piker.service.rpc import service_rows
async def main():
    async with open_piker_runtime("piker_query_1"):
        async with open_adhoc_brokerd("binance") as portal:
            with trio.fail_after(5):
                while len(rows := await service_rows()) < 3:
                    await trio.sleep(0.05)
            print(json.dumps([portal.channel.uid[0], [row["name"] for row in rows]]), flush=True)
trio.run(main)
"""


async def test_a_commands_own_actor_never_takes_the_name_of_brokerd() -> None:
    async with open_test_pikerd(backends=TRADES) as (_, _, _, services):
        process = await trio.lowlevel.open_process(
            [sys.executable, "-c", ADHOC],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"PIKER_CONFIG_DIR": str(config.config_dir())},
        )
        said = b""
        async with process.stdout:
            async for chunk in process.stdout:
                said += chunk
        assert await process.wait() == 0
        name = f"adhoc.binance.{process.pid}"
        assert said.decode() == f'["{name}", ["pikerd", "{name}", "piker_query_1"]]\n'
        assert not services.service_tasks
        assert [row["name"] for row in await service_rows()] == ["pikerd"]
