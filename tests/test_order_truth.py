"""
The order path tells the truth: seeded runs of the whole path in one loop, against a naive oracle.

Router, paper engine and order clients are the real ones; clock, disks and channels are simulated
(`tests/sim`). Journal, ledger, positions, balances and what each client heard have to agree to the
last digit.
"""

from __future__ import annotations

import shutil
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
import trio.testing
from fixtures_feeds import open_market_tree
from helpers import TEST_CONF
from sim import sim_oracle as oracle
from sim.sim_traders import Trader
from sim.sim_world import LIMITS, SimTree, SimWorld, one_order, snapshots_every

from piker import clock, config
from piker.clearing import exact, open_ems, read_journal, sync_ledger
from piker.clearing._actor_world import ActorWorld, journal_folder
from piker.service.rpc import service_rows
from piker.storage.disk import FolderDisk

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
            found = Ran(world, tree, traders, await oracle.rows_of(world.journal), world.now_ns())
            check(found, is_whole=not kills)
            for trader in traders:
                await trader.settle()
            await trio.sleep(6)
            found.journal = await oracle.rows_of(world.journal)
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
                if world.draw.random() < 0.01:
                    market.gap()
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
    oracle.check_account(ran.world.files, ran.journal, ran.traders, ran.book)
    oracle.check_clients(ran.traders, ran.journal)
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


@pytest.mark.parametrize("kills", [0, 4])
def test_the_same_seed_gives_a_byte_identical_journal(kills: int) -> None:
    one, two = run(7, 90, kills), run(7, 90, kills)
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


# ---- the same in real processes


class RealDesk:
    """A real tree; prices from its own feed."""

    unit = Decimal("0.000001")

    def __init__(self, view: Any) -> None:
        self._view = view

    def now_ns(self) -> int:
        return clock.now_ns()

    def price_of(self, fqme: str) -> Decimal:
        bid = self._view.l1().bid
        return exact("bid", bid).quantize(Decimal("0.1"))

    def client(self, fqme: str, name: str | None) -> Any:
        return open_ems(fqme, client_ref=name)


async def is_engine_up() -> bool:
    """Whether the paper engine, which the first client has asked for, is ready."""
    rows = await service_rows()
    return any((row["name"], row["state"]) == ("paperboi.binance", "ready") for row in rows)


async def run_really(folder: Path, seed: int, requests: int) -> None:
    """Let three clients of a real tree ask, then compare what it has left on the disk."""
    conf = TEST_CONF + '[clearing]\norders_per_s = 60\nmax_notional = "20000"\ndaily_loss = 0\n'
    async with (
        open_market_tree(folder, "--synthetic", "--seed", str(seed), conf=conf, seconds=280),
        ActorWorld().open_market(BTC) as view,
    ):
        desk = RealDesk(view)
        traders = [
            Trader(desk, BTC, name, seed * 10 + n) for n, name in enumerate([None, "a", None])
        ]
        async with trio.open_nursery() as nursery:
            for trader in traders:
                nursery.start_soon(trader.run)
            with trio.fail_after(20):  # asked before that, and ended by then, nothing would fill
                while not await is_engine_up():
                    await trio.sleep(0.05)
            async with trio.open_nursery() as asking:
                for trader in traders:
                    asking.start_soon(trader.ask, requests // len(traders))
            await trio.sleep(1)
            for trader in traders:
                await trader.settle()
            client = traders[0].client
            assert client is not None
            with trio.fail_after(20):
                while client.dialogs:
                    await trio.sleep(0.1)
            await sync_ledger("binance", "paper")
            await trio.sleep(0.5)
            nursery.cancel_scope.cancel()
        accounting = config.broker_dir("binance") / "accounting" / "ledgers"
        left = shutil.copytree(journal_folder("binance", "paper"), folder / "journal")
        records = await oracle.records_of(FolderDisk(left))
        journal = oracle.as_rows(records)
        book = read_journal(records, "binance", "paper").book
        naive = oracle.check_account(FolderDisk(accounting), journal, traders, book)
        oracle.check_clients(traders, journal)
        oracle.check_brackets(journal, book)
        assert naive.tids
        assert not book.active()


@pytest.mark.tree
async def test_a_real_tree_agrees_with_the_oracle_too(tmp_path: Path) -> None:
    await run_really(tmp_path, 1, 60)


@pytest.mark.tree
@pytest.mark.soak
@pytest.mark.parametrize("seed", range(300, 310))
async def test_a_real_tree_agrees_over_long_runs(tmp_path: Path, seed: int) -> None:
    await run_really(tmp_path, seed, 1000)
