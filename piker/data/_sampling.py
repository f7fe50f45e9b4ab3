"""
`samplerd`, the one clock of a run, and its clients.

It announces `{'period': period_s, 'index': epoch_s, 'first': epoch_s}` on the boundaries of the
run's clock: the period that opens at `index` begins now, and so did every one since `first`
(more than one when the daemon was late, or when market time runs so fast that boundaries are
announced together). It writes no array and attaches none; bars are closed by `datad`.

A subscriber that does not read costs one slot per period: announcements it has not taken are
joined into one. Reading order: `next_boundary` and `Announcer` (what is said), then the daemon,
then `open_sample_stream` (which goes on by itself after a restart of the daemon).
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import tractor
import trio

from piker import clock
from piker.errors import ConnectionLost, ServiceUnavailable
from piker.log import get_logger, setup_actor_logging
from piker.model.bars import PERIODS_S
from piker.service.rpc import endpoint, serve_until_cancelled, translate_errors
from piker.service.supervise import DaemonSpec, ensure, maybe_spawn_daemon

log = get_logger(__name__)

NS = clock.NS
SEND_INTERVAL_S = 0.02  # real time; boundaries that fall together within it are one message
CLOCK_STEP_NS = 250_000_000  # a jump of the real clock against the monotonic one worth saying
INFOS_MAX = 64  # broadcasts that wait for one subscriber; the oldest is dropped


class Subscriber:
    """What one client has not been told yet: an epoch range per period, and a few broadcasts."""

    def __init__(self, periods: frozenset[int]) -> None:
        self.periods = periods
        self._epochs: dict[int, tuple[int, int]] = {}
        self._infos: deque[dict[str, Any]] = deque(maxlen=INFOS_MAX)
        self._wake = trio.Event()

    def announce(self, period_s: int, first_s: int, last_s: int) -> None:
        """Add the epochs `[first_s, last_s]` of a period."""
        if period_s in self.periods:
            self._epochs[period_s] = (self._epochs.get(period_s, (first_s, 0))[0], last_s)
            self._wake.set()

    def inform(self, info: dict[str, Any]) -> None:
        """Add one broadcast message."""
        self._infos.append(info)
        self._wake.set()

    def take(self) -> list[dict[str, Any]]:
        """Return and forget what is pending: short periods first, then broadcasts."""
        self._wake = trio.Event()
        messages: list[dict[str, Any]] = [
            {"period": period_s, "index": last_s, "first": first_s}
            for period_s, (first_s, last_s) in sorted(self._epochs.items())
        ]
        messages += self._infos
        self._epochs.clear()
        self._infos.clear()
        return messages

    async def wait(self) -> None:
        """Wait until something is pending."""
        await self._wake.wait()


class Announcer:
    """Which boundaries have passed, and who is told."""

    def __init__(self, periods: tuple[int, ...], now_ns: int) -> None:
        """Begin with the next boundary after `now_ns` of each period."""
        self.last_s = {period_s: now_ns // NS // period_s * period_s for period_s in periods}
        self.subscribers: set[Subscriber] = set()
        self.counters = {"announced": 0, "epochs": 0, "caught_up": 0, "clock_steps": 0}

    def next_boundary_ns(self) -> int:
        """Return when the next period begins, in run time."""
        return min(last_s + period_s for period_s, last_s in self.last_s.items()) * NS

    def advance(self, now_ns: int) -> None:
        """Announce every boundary that has passed at `now_ns`, each exactly once."""
        for period_s, last_s in self.last_s.items():
            newest_s = now_ns // NS // period_s * period_s
            if newest_s <= last_s:
                continue
            self.last_s[period_s] = newest_s
            epochs = (newest_s - last_s) // period_s
            self.counters["announced"] += 1
            self.counters["epochs"] += epochs
            self.counters["caught_up"] += epochs - 1
            for subscriber in self.subscribers:
                subscriber.announce(period_s, last_s + period_s, newest_s)

    def broadcast(self, info: dict[str, Any]) -> None:
        """Send `info` to every subscriber, once for each of its periods."""
        for subscriber in self.subscribers:
            for period_s in sorted(subscriber.periods):
                index_s = self.last_s.get(period_s, 0)
                subscriber.inform({"index": index_s, "period": period_s, **info})


_announcer: Announcer | None = None


def get_announcer() -> Announcer:
    """Return this actor's announcer; only `samplerd` has one."""
    assert _announcer is not None, "no announcer: this actor is not samplerd"
    return _announcer


def broadcast_all(info: dict[str, Any]) -> None:
    """Send `info` to every subscriber of every period (in `samplerd`)."""
    get_announcer().broadcast(info)


async def _announce_forever(announcer: Announcer) -> None:
    offset_ns = clock.now_ns() - clock.monotonic_ns()
    while True:
        await clock.sleep_until_ns(announcer.next_boundary_ns())
        announcer.advance(clock.now_ns())
        if clock.spec() is None:
            offset_ns = _check_step(announcer, offset_ns)
        else:
            await trio.sleep(SEND_INTERVAL_S)


def _check_step(announcer: Announcer, offset_ns: int) -> int:
    now_offset_ns = clock.now_ns() - clock.monotonic_ns()
    step_ns = now_offset_ns - offset_ns
    if abs(step_ns) > CLOCK_STEP_NS:
        announcer.counters["clock_steps"] += 1
        log.warning("the host's clock was stepped by_s=%.3f", step_ns / NS)
    return now_offset_ns


@endpoint(only=("samplerd",))
@tractor.context
async def _setup_persistent_samplerd(ctx: tractor.Context, loglevel: str | None = None) -> None:
    global _announcer
    setup_actor_logging("samplerd", loglevel)
    assert _announcer is None, "samplerd has one announcer"
    _announcer = announcer = Announcer(PERIODS_S, clock.now_ns())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_announce_forever, announcer)
        await ctx.started()
        await serve_until_cancelled(
            ctx,
            lambda: {
                "state": "ready",
                "cause": "",
                "stats": announcer.counters | {"subscribers": len(announcer.subscribers)},
            },
        )
        nursery.cancel_scope.cancel()


@endpoint(only=("samplerd",))
@tractor.context
async def register_with_sampler(
    ctx: tractor.Context,
    period_s: float | None = None,
    shms_by_period: dict[str, Any] | None = None,
    open_index_stream: bool = True,
    sub_for_broadcasts: bool = True,
) -> None:
    """
    Subscribe the caller to announcements of `period_s` (None: of every period).

    The handshake carries the announced periods. With `open_index_stream` the messages of this
    module's docstring follow; a client message `{'broadcast_all': info}` is sent on to every
    subscriber. `shms_by_period` is accepted and not used: no array is attached here.
    """
    announcer = get_announcer()
    periods = frozenset(announcer.last_s if period_s is None else (int(period_s),))
    if unknown := periods - announcer.last_s.keys():
        raise ValueError(f"samplerd: period was {min(unknown)} s, expected {PERIODS_S}")
    await ctx.started(sorted(announcer.last_s))
    if not open_index_stream:
        await trio.sleep_forever()
    subscriber = Subscriber(periods if sub_for_broadcasts else frozenset())
    async with trio.open_nursery() as nursery, ctx.open_stream() as stream:
        announcer.subscribers.add(subscriber)
        nursery.start_soon(_send_pending, subscriber, stream)
        try:
            async for message in stream:
                broadcast_all(dict(message["broadcast_all"]))
        finally:
            announcer.subscribers.discard(subscriber)
            nursery.cancel_scope.cancel()


async def _send_pending(subscriber: Subscriber, stream: tractor.MsgStream) -> None:
    while True:
        await subscriber.wait()
        for message in subscriber.take():
            await stream.send(message)


def samplerd_init(loglevel: str | None = None) -> DaemonSpec:
    """Return how `samplerd` is started."""
    return DaemonSpec(
        name="samplerd",
        kind="samplerd",
        modules=["piker.data._sampling"],
        target=_setup_persistent_samplerd,
        kwargs={"loglevel": loglevel},
        spawn_kwargs={},
        policy="permanent",
    )


@endpoint(only=("pikerd",))
async def spawn_samplerd(loglevel: str | None = None) -> list[Any]:
    """Start `samplerd` unless it runs and return its address; runs in `pikerd`."""
    return list(await ensure(samplerd_init(loglevel)))


@asynccontextmanager
async def maybe_open_samplerd(loglevel: str | None = None) -> AsyncIterator[tractor.Portal]:
    """Yield a portal to the run's `samplerd`, started when it does not run."""
    async with maybe_spawn_daemon("samplerd", spawn_samplerd, {"loglevel": loglevel}) as portal:
        yield portal


open_samplerd = maybe_open_samplerd


class SampleStream:
    """
    Announcements as they come, across restarts of `samplerd`.

    `async for message in stream`; what was missed during an outage is not repeated here: the
    next announcement's `index` is enough for a reader that closes each skipped period.
    """

    def __init__(self, capacity: int = 256) -> None:
        self._send, self._receive = trio.open_memory_channel[dict[str, Any]](capacity)
        self._stream: tractor.MsgStream | None = None
        self.is_connected = False
        self.reconnects = -1

    def __aiter__(self) -> AsyncIterator[dict[str, Any]]:
        return self._receive.__aiter__()

    async def receive(self) -> dict[str, Any]:
        """Return the next announcement."""
        return await self._receive.receive()

    async def broadcast_all(self, info: dict[str, Any]) -> None:
        """
        Have `samplerd` send `info` to every subscriber.

        Raises:
          ConnectionLost: it is not reachable at the moment.
        """
        if self._stream is None:
            raise ConnectionLost("samplerd: not connected; reconnecting")
        with translate_errors():
            await self._stream.send({"broadcast_all": info})

    async def _run(self, period_s: int | None, loglevel: str | None) -> None:
        delay_s = 0.1
        while True:
            try:
                with translate_errors():
                    await self._relay(period_s, loglevel)
            except (ConnectionLost, ServiceUnavailable) as error:
                # A restart is nothing special; that it does not come back is.
                level = logging.INFO if delay_s < 0.5 else logging.WARNING
                log.log(level, "samplerd is out of reach cause=%s", error)
            if self.is_connected:
                delay_s = 0.1
            self.is_connected, self._stream = False, None
            await trio.sleep(clock.jitter(delay_s))
            delay_s = min(delay_s * 1.6, 2.0)

    async def _relay(self, period_s: int | None, loglevel: str | None) -> None:
        async with (
            maybe_open_samplerd(loglevel) as portal,
            portal.open_context(register_with_sampler, period_s=period_s) as (ctx, _),
            ctx.open_stream() as self._stream,
        ):
            self.is_connected = True
            self.reconnects += 1
            async for message in self._stream:
                await self._send.send(message)


@asynccontextmanager
async def open_sample_stream(
    period_s: int | None,
    shms_by_period: dict[str, Any] | None = None,
    open_index_stream: bool = True,
    sub_for_broadcasts: bool = True,
    loglevel: str | None = None,
) -> AsyncIterator[SampleStream]:
    """
    Yield the announcements of `period_s` (None: of every period).

    The stream is there at once and connects, and reconnects with backoff, in the background.
    """
    stream = SampleStream()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stream._run, period_s, loglevel)
        yield stream
        nursery.cancel_scope.cancel()
