"""
Any process of the paper order path may be killed at any of its steps: nothing is lost or doubled.

The daemons kill themselves at a named point (`piker.faults`), a bot goes on through it or, killed
itself, is started again. What is checked is what people can see: what the bot was told, the
ledger file, the positions, the orders that go on, and what `piker store verify` says.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tomllib
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
import trio

from piker.clearing import order_book, sync_ledger
from piker.service import open_piker_runtime
from piker.service.rpc import HEARTBEAT_S, service_rows
from system.harness import (
    environment,
    is_soak,
    open_pikerd,
    open_venue,
    pid_of,
    scripts,
)

pytestmark = pytest.mark.tree

FQME = "btcusdt.spot.binance"
SIZE = Decimal("0.01")
LIVES = 4  # kills in one run: more within a minute would be a restart storm
BOTS_MAX = 5  # until one of them is struck
HELD = ("dark", "alert", "leg0", "leg1")
ARMED_S = 1.0  # from a new emsd's first heartbeat to its triggers being watched
CONF = "[clearing]\norders_per_s = 0\n"

# Each point, and the last pass at which a round is sure to come by.
POINTS = {
    "emsd.request.taken": 8,
    "emsd.record.durable": 20,
    "emsd.telling.pending": 3,
    "emsd.order.leaving": 4,
    "emsd.request.left": 6,
    "emsd.broker.heard": 12,
    "emsd.telling.open": 4,
    "emsd.telling.fill": 3,
    "emsd.telling.closed": 3,
    "emsd.telling.canceled": 1,
    "emsd.telling.dark_open": 4,
    "emsd.trigger.fired": 1,
    "emsd.ledger.appending": 2,
    "client.request.leaving": 6,
    "client.request.left": 6,
    "client.status.taken": 10,
    "paperboi.request.taken": 6,
    "paperboi.fill.made": 3,
    "paperboi.answer.sent": 12,
    "datad.ticks.published": 40,
}
SHORT = ("emsd.record.durable", "paperboi.fill.made", "client.request.left")


class Told(msgspec.Struct):
    """What bots printed: all that their user knows."""

    placed: dict[str, Decimal] = {}
    not_taken: set[str] = set()
    fills: dict[str, dict[str, Any]] = {}  # by tid
    ends: Counter[str] = msgspec.field(default_factory=Counter)
    done: dict[str, str] = {}
    deaths: int = 0  # of bots: what one placed as it died, nobody may know of

    def read(self, output: bytes) -> None:
        """Take the lines of one bot; a killed one may leave half a line."""
        ends: Counter[str] = Counter()
        for line in output.splitlines():
            try:
                said = json.loads(line)
            except ValueError:
                continue
            match said:
                case {"placed": oid, "size": size}:
                    self.placed[oid] = Decimal(size)
                case {"not_taken": oid}:
                    self.not_taken.add(oid)
                case {"attached": _, "fills": fills}:
                    for told in fills.values():
                        self._take_fills(told)
                case {"done": done}:
                    self.done = done
                case {"oid": oid, "is_terminal": is_terminal, "fill": fill}:
                    ends[oid] += is_terminal
                    self._take_fills([fill] if fill else [])
        doubled = {oid: count for oid, count in ends.items() if count > 1}
        assert not doubled, f"more than one end was told: {doubled}"

    def _take_fills(self, fills: list[dict[str, Any]]) -> None:
        for fill in fills:
            known = self.fills.setdefault(fill["tid"], fill)
            for name in ("oid", "size", "price", "fee"):
                assert known[name] == fill[name], f"a fill was told twice, differently: {fill}"


def ledger(state: Path) -> dict[str, dict[str, Any]]:
    """Return the paper ledger's tables by their key."""
    path = next(state.glob("venues/*/accounting/ledgers/trades_binance_paper.toml"))
    return tomllib.loads(path.read_text(), parse_float=Decimal)


@asynccontextmanager
async def open_armed_run(folder: Path, point: str, nth: int) -> AsyncIterator[tuple[Path, str]]:
    """Yield the state folder of a run whose `point` strikes at its pass `nth`, and a price."""
    folder.mkdir(parents=True, exist_ok=True)
    state = folder / "state"
    state.mkdir()
    (state / "conf.toml").write_text(CONF)
    async with (
        open_venue(folder / "venue", "--synthetic", "--seed", "4") as venue,
        open_pikerd(state, venue, "--fault", f"{point}={nth}"),
    ):
        last = await last_price(venue.url)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PIKER_CONFIG_DIR", str(state))
            async with open_piker_runtime("auditor"):
                yield state, last


async def last_price(url: str) -> str:
    """Ask the venue for the last price: a `datad` that is asked may be the one to be struck."""
    async with httpx.AsyncClient(trust_env=False, timeout=10) as client:
        answer = await client.get(f"{url}/api/v3/ticker/price", params={"symbol": "BTCUSDT"})
        return str(answer.json()["price"])


async def run_bot(state: Path, last: str, told: Told, *options: str) -> int:
    """Run a bot to its end and take what it printed; returns its exit code, -9 when killed."""
    command = [sys.executable, str(Path(__file__).parent / "order_client.py"), FQME, last]
    with open(state / "bot.log", "ab") as errors, trio.fail_after(120):
        done = await trio.run_process(
            [*command, *options],
            env=environment(state),
            capture_stdout=True,
            stderr=errors,
            check=False,
        )
    told.read(done.stdout)
    told.deaths += done.returncode == -9
    assert done.returncode in (0, -9), (state / "bot.log").read_text()[-3000:]
    return int(done.returncode)


async def check(state: Path, told: Told) -> None:
    """Compare what bots were told with the ledger, the positions and the orders that go on."""
    view = await order_book(ended=True)
    going = {status.oid: status for status in view.dialogs}
    known = going | {status.oid: status for status in view.ended}
    assert not view.failed
    assert len(known) == len(view.dialogs) + len(view.ended)
    await sync_ledger("binance")
    tables = ledger(state)
    by_tid = Counter(table["tid"] for table in tables.values())
    assert all(count == 1 for count in by_tid.values()), f"booked twice: {by_tid}"
    booked = {table["tid"]: table for table in tables.values()}
    missing = [tid for tid in told.fills if tid not in booked]
    assert not missing, f"told, but not in the ledger: {missing}"
    filled: defaultdict[str, Decimal] = defaultdict(Decimal)
    for tid, fill in told.fills.items():
        sign = -1 if fill["action"] == "sell" else 1
        assert booked[tid]["size"] == sign * Decimal(fill["size"]), tid
        assert booked[tid]["price"] == Decimal(fill["price"]), tid
        assert booked[tid]["cost"] == Decimal(fill["fee"]), tid
        filled[fill["oid"]] += Decimal(fill["size"])
    for oid, size in filled.items():
        assert size <= told.placed[oid], f"{oid} was filled twice: {size}"
    for kind in ("taker", "fired", "bracket"):
        assert filled[told.done[kind]] == SIZE, kind
    for kind in HELD:
        assert going[told.done[kind]].resp == "dark_open", kind
    assert not told.not_taken & known.keys(), "said not to be taken, but there"
    untracked = [oid for oid in told.placed if oid not in known and oid not in told.not_taken]
    assert len(untracked) <= told.deaths, f"placed, but nobody knows of it: {untracked}"
    held = sum((table["size"] for table in tables.values()), Decimal(0))
    positions = view.positions[("binance", "paper")]
    assert sum((Decimal(row["size"]) for row in positions.values()), Decimal(0)) == held


async def check_armed(state: Path) -> None:
    """All that is held must be watched soon after a new emsd's first heartbeat."""
    emsd = pid_of(state, "emsd")
    assert emsd is not None
    os.kill(emsd, signal.SIGKILL)
    heard_at = None
    with trio.fail_after(20):
        while True:
            row = {row["name"]: row for row in await service_rows()}["emsd"]
            if row["state"] == "ready" and row["pid"] != emsd and row["stats"]:
                heard_at = heard_at or trio.current_time()
                if row["stats"].get("binance.paper", {}).get("armed", 0) >= len(HELD):
                    break
            await trio.sleep(0.02)
    # The next heartbeat that can show it is up to one second away.
    assert trio.current_time() - heard_at <= ARMED_S + HEARTBEAT_S


async def strike(state: Path, point: str, last: str, told: Told) -> bool:
    """
    Let bots trade until the point has struck among them; returns whether it did.

    A daemon that works on between two bots may be struck there: the next ones strike it again.
    """
    mark = state / "run" / f"fault.{point}"
    mark.unlink(missing_ok=True)
    for _ in range(BOTS_MAX):
        while await run_bot(state, last, told) == -9:
            assert mark.exists(), "the bot was killed, and not by the fault"
        if mark.exists():
            return True
    return False


@pytest.mark.parametrize(
    "point",
    [pytest.param(name, marks=() if name in SHORT else pytest.mark.soak) for name in POINTS],
)
async def test_nothing_is_lost_or_doubled_by_a_kill(tmp_path: Path, point: str) -> None:
    struck = 0
    for life in range(5 if is_soak() else 1):
        nth = 1 + (life * 7) % POINTS[point]
        async with open_armed_run(tmp_path / str(life), point, nth) as (state, last):
            told = Told()
            for _ in range(LIVES if is_soak() else 1):
                struck += await strike(state, point, last, told)
                await check(state, told)
            assert await run_bot(state, last, told, "--finish") == 0
            assert not (await order_book()).dialogs
        verified = subprocess.run(
            [*scripts()[0], "store", "verify"], env=environment(state), check=False
        )
        assert verified.returncode == 0
    assert struck == (5 * LIVES if is_soak() else 1), f"struck {struck} times"


async def test_what_is_held_is_watched_again_within_a_second(tmp_path: Path) -> None:
    for run in range(5 if is_soak() else 1):
        async with open_armed_run(tmp_path / str(run), "none", 1) as (state, last):
            told = Told()
            assert await run_bot(state, last, told) == 0
            for _ in range(LIVES if is_soak() else 1):
                await check_armed(state)
            await check(state, told)
