"""
Paper trading in a real tree over a local venue: terms, fees, and a killed engine.

Rules that need no actors are in `tests/unit/clearing/test_matching.py` and `test_paper_core.py`.
"""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import trio
from fixtures_feeds import open_market_tree

from piker.clearing import OrderClient, Status, open_ems
from piker.service.rpc import service_rows

pytestmark = pytest.mark.tree

BTC = "btcusdt.spot.binance"


@asynccontextmanager
async def open_desk(folder: Path) -> AsyncIterator[OrderClient]:
    """Boot a tree on a local venue and attach an order client."""
    async with (
        open_market_tree(folder, "--synthetic", "--seed", "11"),
        open_ems(BTC) as (client, _, _, _, _),
    ):
        yield client


async def ends(client: OrderClient, *oids: str, seconds: float = 30) -> dict[str, Status]:
    """Return the terminal status of each order, once all have theirs."""
    last: dict[str, Status] = {}
    with trio.fail_after(seconds):
        async for told in client.trades:
            if isinstance(told, Status) and told.is_terminal and told.oid in oids:
                assert told.oid not in last, "two terminal statuses"
                last[told.oid] = told
                if len(last) == len(oids):
                    return last
    raise AssertionError("the stream ended")


async def trade(client: OrderClient, *args: Any, **terms: Any) -> Status:
    """Send one order and return how it ended."""
    order = client.order(*args, **terms)
    await client.send(order)
    return (await ends(client, order.oid))[order.oid]


async def test_terms_of_an_order_hold_from_the_client_to_the_fill(tmp_path: Path) -> None:
    async with open_desk(tmp_path) as client:
        bought = await trade(client, "buy", "0", "0.01", order_type="market")
        assert bought.resp == "closed"
        fills = client.fills[bought.oid]
        assert sum(fill.size for fill in fills) == Decimal("0.01")
        for fill in fills:
            fee = (fill.price * fill.size * Decimal("0.001")).quantize(Decimal("1E-8"))
            assert abs(fill.fee - fee) <= Decimal("1E-8")
            assert (fill.fee_asset, fill.is_maker, len(fill.tid)) == ("usdt", False, 16)
        price = fills[0].price
        above, below = (
            client.mkt.quantize(price * Decimal(share), "price") for share in ("1.01", "0.99")
        )
        crossing = await trade(client, "buy", above, "0.01", post_only=True)
        assert (crossing.resp, crossing.reason[:9]) == ("error", "post_only")
        away = await trade(client, "buy", below, "0.01", time_in_force="ioc")
        assert (away.resp, away.reason[:3]) == ("canceled", "ioc")
        exit_ = await trade(client, "sell", "0", "0.03", order_type="market", reduce_only=True)
        assert (exit_.resp, exit_.reason) == ("canceled", "reduce_only: the position is 0.00000")
        assert sum(fill.size for fill in client.fills[exit_.oid]) == Decimal("0.01")
        flat = {"size": "0"}
        with trio.fail_after(10):
            while Decimal(client.positions["binance", "paper"].get(BTC, flat)["size"]):
                await trio.sleep(0.05)


async def test_resting_order_fills_once_after_its_engine_was_killed(tmp_path: Path) -> None:
    async with open_desk(tmp_path) as client:
        first = await trade(client, "buy", "0", "0.01", order_type="market")
        price = client.fills[first.oid][0].price
        above, below = (
            client.mkt.quantize(price * Decimal(share), "price") for share in ("1.05", "0.99")
        )
        rests = client.order("sell", above, "0.01")
        await client.send(rests)
        with trio.fail_after(20):
            async for told in client.trades:
                if isinstance(told, Status) and (told.oid, told.resp) == (rests.oid, "open"):
                    break
        [pid] = [row["pid"] for row in await service_rows() if row["name"] == "paperboi.binance"]
        os.kill(pid, signal.SIGKILL)
        await client.update(rests.oid, price=below)  # the new engine has it, and it crosses now
        closed = (await ends(client, rests.oid))[rests.oid]
        assert (closed.resp, closed.revision) == ("closed", 2)
        fills = client.fills[rests.oid]
        assert sum(fill.size for fill in fills) == Decimal("0.01")
        assert len({fill.tid for fill in fills}) == len(fills)
        assert all(fill.price >= below for fill in fills)
