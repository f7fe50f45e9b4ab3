"""
A local venue that speaks Binance's spot protocol: REST and WebSocket on one loopback port.

    async with open_venue(seed=7) as venue:
        ...  # point any Binance client at venue.url

Paths are Binance's: `/api/v3/...`, `/ws/<stream>/...`, `/stream?streams=a/b`. `/venue/faults` and
`/venue/stats` are this venue's own.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio

from piker import clock
from piker.clock import NS, ClockSpec
from piker.errors import ConfigError
from piker.venues._faults import Faults
from piker.venues._flow import DEFAULT_MARKETS, Flow
from piker.venues._synthetic import HISTORY_MS, SyntheticSource, first_start_ms
from piker.venues._tape import Tape, load_tape
from piker.venues._time import PacedClock, VenueClock
from piker.venues.binance._edge import Edge
from piker.venues.binance._exchange import Exchange, Market
from piker.venues.binance._players import SyntheticPlayer, TapePlayer
from piker.venues.binance._streams import Hub
from piker.web.server import open_server

SPEED_MAX = 100_000
GOODBYE_S = 1.5  # what clients get to answer the close at the end


class Venue:
    """A running local venue; `clock_spec` is what the other processes of its run need."""

    def __init__(self, url: str, exchange: Exchange, faults: Faults, edge: Edge) -> None:
        self.url = url
        self.clock_spec = exchange.clock.spec
        self.exchange = exchange
        self.faults = faults
        self._edge = edge

    def stats(self) -> dict[str, Any]:
        """Return the counters: what was played, to whom, and what went wrong."""
        return self._edge.stats()


@asynccontextmanager
async def open_venue(
    *,
    tapes: Sequence[Path] = (),
    seed: int | None = None,
    speed: float = 1.0,
    start_in_s: float = 0.0,
    base_ns: int | None = None,
    host: str = "127.0.0.1",
    port: int = 0,
    state_dir: Path | None = None,
    is_looping: bool = False,
) -> AsyncIterator[Venue]:
    """
    Serve recorded `tapes`, or the made-up markets of `seed`, until the block ends.

    `speed` market seconds pass in a real one. The clock stands at its base (`base_ns`; a tape's
    first stamp; now) for `start_in_s` real seconds, so that a tree can boot without missing
    anything. A synthetic market at speed 1 without a base runs on real time (`clock_spec` None).
    Speed 0, tapes only: as fast as the clients read, without a clock. `state_dir` remembers the
    first start, so that history is the same after a restart.

    Raises:
      ConfigError: a tape cannot be used, the address is taken, or the choice makes no sense.
    """
    if bool(tapes) == (seed is not None):
        raise ConfigError("venue: choose either recorded tapes or a synthetic market with a seed")
    if not 0 <= speed <= SPEED_MAX or (speed == 0 and not tapes):
        raise ConfigError(
            f"venue: speed was {speed:g}, expected above 0 and at most {SPEED_MAX} "
            "(0, as fast as clients read, is for tapes)"
        )
    faults = Faults()
    hub = Hub(faults)
    player: SyntheticPlayer | TapePlayer
    if tapes:
        tape = await trio.to_thread.run_sync(load_tape, tapes)
        exchange = _tape_exchange(tape, hub, speed, start_in_s, base_ns)
        player = TapePlayer(exchange, tape, is_looping=is_looping)
    else:
        assert seed is not None
        exchange = _synthetic_exchange(seed, hub, speed, start_in_s, base_ns, state_dir)
        player = SyntheticPlayer(exchange)
    edge = Edge(exchange, faults)
    async with open_server(edge.answer, host=host, port=port) as server:
        edge.server = server
        async with trio.open_nursery() as nursery:
            nursery.start_soon(player.run)
            yield Venue(server.url, exchange, faults, edge)
            hub.shut_down()
            await hub.wait_empty(GOODBYE_S)
            nursery.cancel_scope.cancel()


def _spec(base_ns: int, start_in_s: float, speed: float) -> ClockSpec:
    return ClockSpec(base_ns, clock.monotonic_ns() + int(start_in_s * NS), speed)


def _tape_exchange(
    tape: Tape, hub: Hub, speed: float, start_in_s: float, base_ns: int | None
) -> Exchange:
    base_ns = base_ns or tape.frames[0].local_ns
    venue_clock = VenueClock(_spec(base_ns, start_in_s, speed)) if speed else PacedClock(base_ns)
    return Exchange(venue_clock, [Market(source) for source in tape.sources.values()], hub)


def _synthetic_exchange(
    seed: int,
    hub: Hub,
    speed: float,
    start_in_s: float,
    base_ns: int | None,
    state_dir: Path | None,
) -> Exchange:
    is_real_time = speed == 1 and base_ns is None and not start_in_s
    base_ns = base_ns or clock.now_ns()
    venue_clock = VenueClock(None if is_real_time else _spec(base_ns, start_in_s, speed))
    started_ms = first_start_ms(state_dir, seed, base_ns // 1_000_000)
    sources = [
        SyntheticSource(Flow(seed, spec), started_ms - HISTORY_MS) for spec in DEFAULT_MARKETS
    ]
    return Exchange(venue_clock, [Market(source) for source in sources], hub)
