"""
The order path tells the truth: seeded runs of the whole path in one loop, against a naive oracle.

Router, paper engine and order clients are the real ones; clock, disks and channels are simulated
(`tests/sim`). Journal, ledger, positions, balances and what each client heard have to agree to the
last digit.
"""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
import trio
import trio.testing
from sim import sim_oracle as oracle
from sim.sim_traders import Trader
from sim.sim_world import LIMITS, SimTree, SimWorld, one_order

BTC, ETH = "btcusdt.spot.binance", "ethusdt.spot.binance"


class Ran(msgspec.Struct):
    """What a run has left behind, before and after all orders were cancelled."""

    world: SimWorld
    tree: SimTree
    traders: list[Trader]
    journal: list[dict[str, Any]]
    end_ns: int

    @property
    def book(self) -> Any:
        assert self.tree.router is not None
        return self.tree.router.keepers["binance", "paper"].book


def run(seed: int, requests: int) -> Ran:
    """Let three clients ask `requests` times in all, then cancel what is left."""
    ran: list[Ran] = []

    async def main() -> None:
        world = SimWorld(seed)
        tree = SimTree(world, LIMITS)
        traders = [
            Trader(tree, BTC, None, seed * 10 + 1),
            Trader(tree, BTC, "bot", seed * 10 + 2),
            Trader(tree, ETH, None, seed * 10 + 3),
        ]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(tree.run)
            living = trio.CancelScope()
            nursery.start_soon(live, world, living)
            for trader in traders:
                nursery.start_soon(trader.run)
            async with trio.open_nursery() as asking:
                for trader in traders:
                    asking.start_soon(trader.ask, requests // len(traders))
            await trio.sleep(1)
            living.cancel()
            await trio.sleep(4)
            found = Ran(
                world, tree, traders, await oracle.records_of(world.journal), world.now_ns()
            )
            check(found)
            for trader in traders:
                await trader.settle()
            await trio.sleep(4)
            found.journal = await oracle.records_of(world.journal)
            check(found)
            assert not found.book.active()
            ran.append(found)
            nursery.cancel_scope.cancel()

    with one_order(seed):
        trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    return ran[0]


async def live(world: SimWorld, scope: trio.CancelScope) -> None:
    with scope:
        while True:
            for market in world.markets.values():
                market.step()
            await trio.sleep(0.02)


def check(ran: Ran) -> None:
    """Compare everything that says something about the account."""
    oracle.check_account(ran.world, ran.journal, ran.traders, ran.book)
    oracle.check_clients(ran.world, ran.traders, ran.journal)
    oracle.check_venue(ran.world, ran.book)
    oracle.check_brackets(ran.world, ran.book)
    oracle.check_limits(ran.world, ran.journal)
    oracle.check_triggers(ran.world, ran.journal, ran.end_ns)
    assert ran.world.notices == []


@pytest.mark.parametrize("seed", range(3))
def test_everything_that_tells_of_an_account_agrees_to_the_last_digit(seed: int) -> None:
    run(seed, 300)


def test_the_same_seed_gives_a_byte_identical_journal() -> None:
    one, two = run(7, 90), run(7, 90)
    assert oracle.bytes_of(one.world.journal) == oracle.bytes_of(two.world.journal)
    assert oracle.bytes_of(one.world.files) == oracle.bytes_of(two.world.files)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(100, 200))
def test_everything_agrees_over_many_long_runs(seed: int) -> None:
    run(seed, 1000)
