"""Orders from the chart's pages, through real sockets and a real tree, on a local venue."""

from __future__ import annotations

import os
import signal
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import trio
from fixtures_feeds import open_market_tree
from fixtures_page import PageTab, open_chart
from helpers import open_test_pikerd
from system.harness import open_venue

from piker import config
from piker.clearing import open_ems
from piker.service.rpc import service_rows
from piker.ui.order_lines import text_of

pytestmark = [pytest.mark.tree, pytest.mark.timeout(120)]

FQME = "btcusdt.spot.binance"
SYNTHETIC = ("--synthetic", "--seed", "7")
AT_ONCE_S = 0.1


async def pids() -> dict[str, int]:
    """Return the process ids of the run's daemons by name."""
    return {row["name"]: row["pid"] for row in await service_rows()}


def last_price(tab: PageTab) -> float:
    """Return the last price, to some digits, out of what a slot is worth."""
    alloc = tab.newest["allocst"]
    return float(alloc["step_fiat"]) / float(alloc["step"])


async def fills_until_closed(tab: PageTab, oid: str) -> list[dict[str, Any]]:
    """Return an order's fills once it is closed; a market order may walk several levels."""
    with trio.fail_after(20):
        while True:
            mine = [said for said in tab.heard if said.get("oid") == oid]
            words = [said for said in mine if said["op"] == "ordst"]
            if words and words[-1]["state"] == "closed" and words[-1]["gone"]:
                return [said for said in mine if said["op"] == "fill"]
            await trio.sleep(0.01)


async def test_a_page_buys_holds_and_closes_without_any_brokerd(tmp_path: Path) -> None:
    async with open_market_tree(tmp_path, *SYNTHETIC), open_chart(FQME) as chart:
        tab = await chart.new_tab()
        oid = await tab.order(order_type="market")
        fills = await fills_until_closed(tab, oid)
        size = sum(Decimal(fill["size"]) for fill in fills)
        paid = sum(Decimal(fill["size"]) * Decimal(fill["price"]) for fill in fills)
        held = await tab.until("pos", size=text_of(Decimal(size)))
        assert Decimal(held["avg"]) == round(paid / size, 4)
        assert Decimal(held["fees"]) > 0
        exit_oid = await tab.order(action="sell", price=f"{float(fills[0]['price']) * 1.1:.2f}")
        await tab.until("ordst", oid=exit_oid, state="open")
        await tab.ask("flatten", account="paper")
        await tab.until("ordst", oid=exit_oid, state="canceled")
        await tab.until("pos", size="0")
        running = await pids()
        assert {"emsd", "paperboi.binance", "datad.binance"} <= set(running)
        assert not [name for name in running if name.startswith("brokerd")]


async def test_two_pages_and_a_terminal_see_and_amend_one_order_at_once(tmp_path: Path) -> None:
    async with (
        open_market_tree(tmp_path, *SYNTHETIC),
        open_chart(FQME) as chart,
        open_ems(FQME) as (client, trades, _, _, _),
    ):
        one, other = await chart.new_tab(), await chart.new_tab()
        last = last_price(one)
        oid = await one.order(price=f"{last * 0.99:.2f}", size="0.001")
        await other.until("ordst", 20, oid=oid, state="open")
        await one.until("ordst", oid=oid, state="open")
        while client.statuses.get(oid) is None or client.statuses[oid].resp != "open":
            await trades.receive()
        amends = (
            lambda: one.ask("amend", oid=oid, revision=1, price=f"{last * 0.985:.2f}"),
            lambda: other.ask("amend", oid=oid, revision=2, price=f"{last * 0.988:.2f}"),
            lambda: client.update(oid, price=Decimal(f"{last * 0.986:.2f}")),
        )
        took = []
        for number, amend in enumerate(amends, 2):
            began = trio.current_time()
            await amend()
            for tab in (one, other):
                await tab.until("ordst", oid=oid, revision=number)
            while client.statuses[oid].revision < number:
                await trades.receive()
            took.append(trio.current_time() - began)
            for tab in (one, other):
                await tab.until("ordst", oid=oid, revision=number, state="open")
            while client.statuses[oid].resp != "open":
                await trades.receive()
        assert min(took) < AT_ONCE_S  # the machine may have other things to do in between
        await one.ask("amend", oid=oid, revision=2, price=f"{last * 0.98:.2f}")
        assert (await one.until("err"))["code"] == "stale"


async def test_a_killed_emsd_is_said_and_its_orders_are_there_again(tmp_path: Path) -> None:
    async with open_market_tree(tmp_path, *SYNTHETIC), open_chart(FQME) as chart:
        tab = await chart.new_tab()
        oid = await tab.order(action="alert", price="1.00")
        await tab.until("ordst", oid=oid, state="dark_open")
        os.kill((await pids())["emsd"], signal.SIGKILL)
        await tab.until("desk", state="lost")
        await tab.until("desk", 20, state="ready")
        late = await chart.new_tab()
        (row,) = (await late.until("orders", 20, mode="paper"))["rows"]
        assert (row["oid"], row["state"], row["fires"]) == (oid, "dark_open", "at or below")
        await late.ask("cancel", oid=oid)
        assert (await tab.until("ordst", oid=oid, gone=True))["state"] == "canceled"


async def test_a_live_account_is_refused_by_name_and_paper_goes_on(tmp_path: Path) -> None:
    async with open_market_tree(tmp_path, *SYNTHETIC):
        folder = config.config_dir()
        (folder / "brokers.toml").write_text("[binance.accounts]\nmain = '1'\n")
        async with open_chart(FQME) as chart:
            tab = await chart.new_tab()
            await tab.ask("alloc", account="binance.main")
            said = await tab.until("desk", 20, mode="live", state="refused")
            assert "binance" in said["text"]
            await tab.order(price="1.00", size="1")
            assert (await tab.until("err"))["code"] == "gate"
            assert not [name for name in await pids() if name.startswith("brokerd")]
            await tab.ask("alloc", account="paper")
            await tab.until("allocst", account="paper")
            alert = await tab.order(action="alert", price="1.00")
            await tab.until("ordst", oid=alert, state="dark_open")


async def test_a_live_account_trades_once_its_orders_are_confirmed(tmp_path: Path) -> None:
    (tmp_path / "brokers.toml").write_text("[binance.accounts]\nmain = '1'\n")
    async with (
        open_venue(tmp_path / "venue", *SYNTHETIC) as venue,
        open_test_pikerd(
            venues={"binance": venue.url},
            backends={"binance": "trading_backend"},
            conf_dir=tmp_path,
        ),
        open_chart(FQME) as chart,
    ):
        tab = await chart.new_tab()
        assert not [name for name in await pids() if name.startswith("brokerd")]
        await tab.ask("alloc", account="binance.main")
        last = last_price(tab)
        await tab.until("desk", 20, mode="live", state="ready")
        assert "brokerd.binance" in await pids()
        fields = {"price": f"{last * 0.99:.2f}", "size": "0.001"}
        await tab.order(**fields)
        assert (await tab.until("err"))["code"] == "confirm"
        oid = await tab.order(**fields, confirmed=True)
        said = await tab.until("ordst", oid=oid, state="open")
        assert (said["mode"], said["account"]) == ("live", "binance.main")
        await tab.ask("cancel", oid=oid)
        await tab.until("ordst", oid=oid, state="canceled", gone=True)


async def test_the_legs_of_a_bracket_are_lines_of_their_own(tmp_path: Path) -> None:
    async with open_market_tree(tmp_path, *SYNTHETIC), open_chart(FQME) as chart:
        tab = await chart.new_tab()
        last = last_price(tab)
        legs = {"take_profit": f"{last * 1.1:.2f}", "stop_loss": f"{last * 0.9:.2f}"}
        oid = await tab.order(order_type="market", size="0.001", **legs)
        await tab.until("ordst", 20, oid=oid, state="closed")
        late = await chart.new_tab()
        rows = (await late.until("orders", 20, mode="paper"))["rows"]
        assert {row["order_type"]: (row["trigger_price"], row["size"]) for row in rows} == {
            "take_profit": (legs["take_profit"], "0.001"),
            "stop": (legs["stop_loss"], "0.001"),
        }
        assert {row["parent"] for row in rows} == {oid}
        stop = next(row for row in rows if row["order_type"] == "stop")
        moved = f"{last * 0.95:.2f}"
        await late.ask("amend", oid=stop["oid"], revision=stop["revision"], price=moved)
        await tab.until("ordst", oid=stop["oid"], trigger_price=moved)
        await tab.ask("flatten", account="paper")
        await tab.until("pos", size="0")
        await tab.until("ordst", order_type="market", gone=True)
        assert chart.lines() == []
