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
from sim.sim_world import LIMITS, SimTree, SimWorld, one_order, snapshots_every

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


def run(seed: int, requests: int, kills: int = 0) -> Ran:
    """
    Let three clients ask `requests` times in all, then cancel what is left.

    Meanwhile something is killed `kills` times: `emsd`, the whole machine, the paper engine, or a
    client's connection; the journal then begins many segments.
    """
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
                asking.start_soon(kill, tree, kills, requests * 0.014)
                for trader in traders:
                    asking.start_soon(trader.ask, requests // len(traders))
            await trio.sleep(1)
            living.cancel()
            await trio.sleep(6)
            found = Ran(
                world, tree, traders, await oracle.records_of(world.journal), world.now_ns()
            )
            check(found, is_whole=not kills)
            for trader in traders:
                await trader.settle()
            await trio.sleep(6)
            found.journal = await oracle.records_of(world.journal)
            check(found, is_whole=not kills)
            assert not found.book.active()
            ran.append(found)
            nursery.cancel_scope.cancel()

    with one_order(seed), snapshots_every(40_000 if kills else 3 << 20):
        trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    return ran[0]


async def live(world: SimWorld, scope: trio.CancelScope) -> None:
    """Let the markets live until `scope` ends."""
    with scope:
        while True:
            for market in world.markets.values():
                market.step()
            await trio.sleep(0.02)


async def kill(tree: SimTree, times: int, within_s: float) -> None:
    """Kill something at random moments."""
    draw = tree.world.draw
    moments = sorted(draw.uniform(0.2, within_s) for _ in range(times))
    for moment in moments:
        await trio.sleep_until(moment)
        world = tree.world
        draw.choice([tree.kill, tree.cut_power, world.kill_engine, world.kill_client])()


def check(ran: Ran, *, is_whole: bool) -> None:
    """Compare everything that says something about the account; `is_whole`: nothing was killed."""
    oracle.check_account(ran.world, ran.journal, ran.traders, ran.book)
    oracle.check_clients(ran.world, ran.traders, ran.journal)
    oracle.check_brackets(ran.journal, ran.book)
    oracle.check_engine(ran.world, ran.book)
    if is_whole:
        oracle.check_venue(ran.world, ran.book)
        oracle.check_limits(ran.world, ran.journal)
        oracle.check_legs_apart(ran.world, ran.book)
        oracle.check_triggers(ran.world, ran.journal, ran.end_ns)
    assert ran.world.notices == []


@pytest.mark.parametrize("seed", range(3))
def test_everything_that_tells_of_an_account_agrees_to_the_last_digit(seed: int) -> None:
    run(seed, 300)


def test_the_same_seed_gives_a_byte_identical_journal() -> None:
    one, two = run(7, 90), run(7, 90)
    assert oracle.bytes_of(one.world.journal) == oracle.bytes_of(two.world.journal)
    assert oracle.bytes_of(one.world.files) == oracle.bytes_of(two.world.files)


@pytest.mark.parametrize("seed", range(20, 23))
def test_whatever_is_killed_nothing_is_lost_or_doubled(seed: int) -> None:
    run(seed, 240, kills=8)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(100, 200))
def test_everything_agrees_over_many_long_runs(seed: int) -> None:
    run(seed, 1000)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(200, 300))
def test_nothing_is_lost_or_doubled_over_many_kills(seed: int) -> None:
    run(seed, 600, kills=30)
