"""`piker ledger` beside a run: what `emsd` holds it leaves to `emsd`, a venue it asks by itself."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from helpers import TEST_CONF, open_test_pikerd
from system.harness import open_venue

from piker.clearing import Status, open_ems
from piker.service.rpc import service_rows

pytestmark = [pytest.mark.tree, pytest.mark.timeout(120)]

FQME = "btcusdt.spot.binance"
TRADES = {"binance": "trading_backend"}
MAIN = "from piker._entry import piker; piker()"


@asynccontextmanager
async def open_market(state: Path, **options: Any) -> AsyncIterator[None]:
    """Serve a made-up market and boot a tree on it, with one live account."""
    state.mkdir()
    (state / "conf.toml").write_text(TEST_CONF)
    (state / "brokers.toml").write_text("[binance.accounts]\nmain = '1'\n")
    async with open_venue(state.parent / "venue", "--synthetic", "--seed", "3") as venue:
        async with open_test_pikerd(venues={"binance": venue.url}, conf_dir=state, **options):
            yield


async def buy(mode: Any) -> None:
    """Buy a little at the market and wait for the end of the order."""
    async with open_ems(FQME, mode=mode) as (client, trades, _, _, _):
        await client.send(client.order("buy", 0, "0.001", order_type="market"))
        with trio.fail_after(15):
            async for message in trades:
                if isinstance(message, Status) and message.is_terminal:
                    assert message.resp == "closed", message
                    return


async def ledger(state: Path, *args: str, code: int = 0) -> str:
    """Run `piker ledger …` in a process of its own and return what it printed."""
    env = {**os.environ, "PIKER_CONFIG_DIR": str(state)}
    done = await trio.run_process(
        [sys.executable, "-c", MAIN, "ledger", *args],
        env=env, capture_stdout=True, capture_stderr=True, check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stderr.decode()
    return done.stdout.decode()


async def names() -> set[str]:
    return {row["name"] for row in await service_rows()}


async def test_ledger_of_a_running_emsd_is_read_and_left_to_it(tmp_path: Path) -> None:
    state = tmp_path / "state"
    async with open_market(state):
        await buy("paper")
        await buy("paper")
        [row] = json.loads(await ledger(state, "binance.paper", "--json"))
        assert (row["size"], row["fills"] >= 2, row["local"] != "") == ("0.002", True, True)
        assert float(row["last"]) > 0
        assert row["unrealised"] is not None
        [synced] = json.loads(await ledger(state, "binance.paper", "sync", "--json"))
        assert synced["by"] == "emsd"
        assert "agree" in await ledger(state, "binance.paper", "audit")
        [file] = state.glob("venues/*/accounting/ledgers/trades_binance_paper.toml")
        whole = file.read_text()
        file.write_text(whole.replace("price = ", "price = 1", 1))
        [synced] = json.loads(await ledger(state, "binance.paper", "sync", "--json", code=1))
        assert synced["unexplained"] == 1
        assert file.read_text().startswith(whole)
        assert not [name for name in await names() if name.startswith("brokerd")]


async def test_audit_asks_the_venue_through_an_actor_of_its_own(tmp_path: Path) -> None:
    state = tmp_path / "state"
    async with open_market(state, backends=TRADES):
        assert "agree" in await ledger(state, "binance.main", "audit")
        assert not [name for name in await names() if name.startswith(("brokerd", "adhoc"))]
        await buy("live")
        [shown] = json.loads(await ledger(state, "binance.main", "--json"))
        assert (shown["account"], shown["size"]) == ("binance.main", "0.001")
        [row] = json.loads(await ledger(state, "binance.main", "audit", "--json", code=1))
        assert row["where"] == "venue"
        assert row["text"] == f"{FQME}: the venue holds 0, the ledger 0.001"
