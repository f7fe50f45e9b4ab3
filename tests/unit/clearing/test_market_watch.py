"""A watched market: its last price, on the ticks that it has now."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Any

import trio
from ems_world import FQME, MKT, FakeWorld, settle
from msgspec.structs import replace

from piker.clearing._market_watch import RETRY_MAX_S, MarketWatch


async def test_the_last_price_is_the_newest_trade_on_the_ticks_of_the_market(
    autojump_clock: Any,
) -> None:
    world = FakeWorld()
    watch = MarketWatch(world, FQME, lambda: ())
    async with trio.open_nursery() as nursery:
        assert watch.last is None
        nursery.start_soon(watch.run)
        await watch.wait_open()
        for price, last in [
            (100.0, "100.00"), (100.0, "100.00"), (100.004, "100.00"), (100.006, "100.01"),
            (math.nan, None), (100.006, "100.01"),
        ]:  # fmt: skip
            world.market.last = price
            assert watch.last == (last and Decimal(last))
        nursery.cancel_scope.cancel()


async def test_a_market_that_comes_back_with_another_tick_has_its_last_price_on_that(
    autojump_clock: Any,
) -> None:
    world = FakeWorld()
    watch = MarketWatch(world, FQME, lambda: ())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch.run)
        await watch.wait_open()
        await settle()
        world.market.last = 100.26
        assert watch.last == Decimal("100.26")
        world.market.mkt = replace(MKT, price_tick=Decimal("0.5"))
        for reader in world.market._readers:
            reader.close()
        await settle()
        assert watch.last is None
        await trio.sleep(RETRY_MAX_S)
        assert watch.last == Decimal("100.5")
        nursery.cancel_scope.cancel()
