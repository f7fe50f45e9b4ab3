"""
The order daemon in a real tree: paper orders over a local venue, and what survives a kill.

Rules that need no actors are tested in `tests/unit/clearing/test_router.py`.
"""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import trio
from fixtures_feeds import open_market_tree

from piker.clearing import (
    BrokerdPosition,
    OrderClient,
    Status,
    arm,
    cancel_all,
    open_ems,
    order_book,
    reset_paper,
    stop_all,
    sync_ledger,
)
from piker.errors import OrderRejected, SymbolNotFound
from piker.service.rpc import service_rows

pytestmark = pytest.mark.tree

BTC = "btcusdt.spot.binance"
SYNTHETIC = ("--synthetic", "--seed", "7")


@asynccontextmanager
async def open_desk(folder: Path, fqme: str = BTC) -> AsyncIterator[OrderClient]:
    """Boot a tree on a local venue and attach an order client."""
    async with (
        open_market_tree(folder, *SYNTHETIC),
        open_ems(fqme) as (client, _, _, _, _),
    ):
        yield client


async def news(client: OrderClient, until: Callable[[Any], bool], seconds: float = 25) -> list[Any]:
    """Return what is told up to the first that `until` is true for."""
    told = []
    with trio.fail_after(seconds):
        async for message in client.trades:
            told.append(message)
            if until(message):
                return told
    raise AssertionError("the stream ended")


def is_over(oid: str) -> Callable[[Any], bool]:
    return lambda told: isinstance(told, Status) and told.oid == oid and told.is_terminal


def says(oid: str, resp: str, revision: int = 0) -> Callable[[Any], bool]:
    return lambda told: (
        isinstance(told, Status)
        and (told.oid, told.resp) == (oid, resp)
        and told.revision >= revision
    )


async def bought(client: OrderClient, size: str = "0.01") -> Decimal:
    """Buy at the market; return the price paid."""
    order = client.order("buy", "0", size, order_type="market")
    await client.send(order)
    await news(client, is_over(order.oid))
    return client.fills[order.oid][0].price


def at(client: OrderClient, price: Decimal, share: str) -> Decimal:
    return client.mkt.quantize(price * Decimal(share), "price")


async def kill(name: str) -> None:
    [pid] = [row["pid"] for row in await service_rows() if row["name"] == name]
    os.kill(pid, signal.SIGKILL)


async def test_a_paper_order_is_filled_and_booked(tmp_path: Path) -> None:
    async with open_desk(tmp_path, "btcusdt.binance") as client:
        assert client.fqme == BTC  # the name it was opened with is expanded
        order = client.order("buy", "0", "0.01", order_type="market")
        await client.send(order)
        told = await news(client, is_over(order.oid))
        words = [one.resp for one in told if isinstance(one, Status)]
        assert words[:2] == ["pending", "open"]
        assert set(words[2:-1]) == {"fill"}
        assert words[-1] == "closed"
        assert all(
            one.mode == "paper" and one.account == "paper" for one in told if hasattr(one, "mode")
        )
        fills = client.fills[order.oid]
        assert sum(fill.size for fill in fills) == Decimal("0.01")
        held = client.positions["binance", "paper"][BTC]
        assert Decimal(held["size"]) == Decimal("0.01")
        assert any(isinstance(one, BrokerdPosition) for one in told)
        assert (await sync_ledger("binance", "paper"))["differences"] == []
        names = {row["name"] for row in await service_rows()}
        assert {"datad.binance", "emsd", "paperboi.binance"} <= names
        assert not any(name.startswith("brokerd") for name in names)


async def test_orders_survive_a_killed_emsd_and_paperboi(tmp_path: Path) -> None:
    async with open_desk(tmp_path) as client:
        price = await bought(client)
        rest = client.order("buy", at(client, price, "0.99"), "0.01")
        dark = client.order("sell", at(client, price, "1.5"), "0.01", exec_mode="dark")
        alert = client.order("alert", at(client, price, "1.5"), "0")
        for order in (rest, dark, alert):
            client.send_nowait(order)
        await news(client, says(rest.oid, "open"))
        while set(client.dialogs) != {rest.oid, dark.oid, alert.oid}:
            await news(client, lambda _: True)

        await kill("emsd")
        await client.wait_state_change()
        assert client.state == "reconnecting"
        with trio.fail_after(25):
            while client.state != "ready":
                await client.wait_state_change()
        assert set(client.dialogs) == {rest.oid, dark.oid, alert.oid}
        assert client.dialogs[dark.oid]["brokerd_msg"]["fires"] == ">="
        assert client.not_watched is not None
        assert client.not_watched["held"] == 3
        held = client.positions["binance", "paper"][BTC]
        assert Decimal(held["size"]) == Decimal("0.01")

        await kill("paperboi.binance")
        await client.update(rest.oid, size="0.02")
        await news(client, says(rest.oid, "open", revision=2))
        for oid in (rest.oid, dark.oid, alert.oid):
            client.cancel_nowait(oid)
        with trio.fail_after(25):
            while client.dialogs:
                await client.trades.receive()
        assert {client.statuses[oid].resp for oid in (rest.oid, dark.oid, alert.oid)} == {
            "canceled"
        }


async def test_two_clients_share_one_order(tmp_path: Path) -> None:
    async with open_desk(tmp_path) as client:
        price = await bought(client)
        order = client.order("buy", at(client, price, "0.99"), "0.01")
        await client.send(order)
        await news(client, says(order.oid, "open"))
        async with open_ems(BTC) as (other, _, _, _, dialogs):
            assert list(dialogs) == [order.oid]
            assert dialogs[order.oid]["brokerd_msg"]["in_force"]["size"] == "0.01"
            begun = trio.current_time()
            await other.update(order.oid, size="0.02")
            await news(client, says(order.oid, "open", revision=2))
            assert trio.current_time() - begun < 1
            assert client.statuses[order.oid].req is not None
            stale = client.order("buy", order.price, "0.03", oid=order.oid, revision=1)
            await client.send(stale)
            [*_, refused] = await news(client, lambda told: bool(getattr(told, "refused", "")))
            assert (refused.refused, refused.revision) == ("amend", 2)
            await client.cancel(order.oid)
            await news(other, is_over(order.oid))


async def test_what_the_client_does_not_know_is_refused_at_once(tmp_path: Path) -> None:
    async with open_desk(tmp_path) as client:
        with pytest.raises(OrderRejected, match="Unknown order nobody"):
            await client.cancel("nobody")
        with pytest.raises(OrderRejected, match="symbol: was ethusdt"):
            client.send_nowait(client.order("buy", "1", "1", symbol="ethusdt.spot.binance"))
        with pytest.raises(OrderRejected, match="size: was 0"):
            client.order("buy", "1", "0")
        await client.cancel("f" * 32, symbol=BTC)
        [refused] = await news(client, lambda _: True)
        assert (refused.resp, refused.refused) == ("error", "cancel")
        assert not refused.is_terminal
        with pytest.raises(SymbolNotFound):
            async with open_ems("nosuchcoin.spot.binance"):
                pass


async def test_whole_accounts_are_stopped_armed_reset_and_listed(tmp_path: Path) -> None:
    async with open_desk(tmp_path) as client:
        price = await bought(client)
        resting = [client.order("buy", at(client, price, "0.99"), "0.01") for _ in range(2)]
        for order in resting:
            await client.send(order)
            await news(client, says(order.oid, "open"))
        view = await order_book()
        assert [status.oid for status in view.dialogs] == [order.oid for order in resting]
        assert Decimal(view.positions["binance", "paper"][BTC]["size"]) == Decimal("0.01")
        [row] = await stop_all("paper", "a test")
        assert (row["state"], row["cancelled"]) == ("stopped", 2)
        await news(client, is_over(resting[1].oid))
        refused = client.order("buy", at(client, price, "0.99"), "0.01")
        await client.send(refused)
        [*_, answer] = await news(client, is_over(refused.oid))
        assert "a test" in answer.reason
        leaving = client.order("sell", "0", "0.01", order_type="market", reduce_only=True)
        await client.send(leaving)
        await news(client, says(leaving.oid, "closed"))
        assert client.state == "stopped"
        [row] = await arm()
        assert row["state"] == "armed"
        again = client.order("buy", at(client, price, "0.99"), "0.01")
        await client.send(again)
        await news(client, says(again.oid, "open"))
        assert await cancel_all(BTC) == [again.oid]
        await news(client, is_over(again.oid))
        row = await reset_paper("binance", "5000")
        assert row["balances"] == {"usdt": "5000"}
