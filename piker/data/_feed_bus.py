"""
The feed bus: the server half of a feed, in `datad`.

One `_FeedsBus` per daemon holds the markets that anybody has asked for. A market is started by
its first client, in the bus's own nursery, and lasts as long as the daemon. Ticks and bars go
through shared memory; a client's dialog carries its tokens and then only control messages:

    {'fqme', 'event': 'state', 'state', 'name', 'cause', 'attempt', 'retry_in_s', 'expected_gap_s'}
    {'fqme', 'event': 'dirty', 'period_s', 't0', 't1', 'rev'}       rows in [t0, t1) were rewritten
    {'fqme', 'event': 'load', 'period_s', 'have', 'total', 'source', 't0', 'done', 'cause'}
    {'fqme', 'event': 'gap', 't0', 't1', 'kind', 'n', 'filled'}     kind: feed, lost or closed

Reading order: `allocate_persistent_feed` (one market), `_FeedsBus`, `open_feed_bus`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from types import ModuleType
from typing import TYPE_CHECKING, Any

import msgspec
import tractor
import trio

from piker import config
from piker.brokers import get_brokermod
from piker.data._doorbell import DoorbellServer
from piker.data._feed_tasks import Stream, pump, recover_losses, tell_changes
from piker.data._market_service import MarketService, make_loaders, open_market_service
from piker.data._outbox import Message, Outbox
from piker.data._sampling import open_sample_stream
from piker.data.validate import validate_backend
from piker.errors import PikerError, ServiceUnavailable, SymbolNotFound, innermost
from piker.log import get_logger
from piker.model.feed import FeedState
from piker.model.ticks import FEED_CONNECTING, FEED_DOWN, FEED_STALE
from piker.service.rpc import actor_name, endpoint, run_id

if TYPE_CHECKING:
    from piker.storage.bars import BarStore

log = get_logger(__name__)

FIRST_QUOTE_S = 12.0  # real time a backend has for its first words
HISTORY_GRACE_S = 5.0  # and history, before the handshake goes out without it
STARTING_S = 3.0  # is normal; longer is worth a word
STARTING_MAX_S = 20.0  # a market that nobody asks for any more is not missed longer
SYMBOLS_MAX = 64  # of one dialog


class _FeedsBus:
    """The markets of one `datad` and the clients that listen to them."""

    def __init__(self, brokername: str, nursery: trio.Nursery) -> None:
        self.brokername = brokername
        self.nursery = nursery
        self.feeds: dict[str, MarketService] = {}  # by full fqme and every name it was asked by
        self.bells = DoorbellServer(run_id(), actor_name())
        self.starting: dict[str, Stream] = {}  # asked for, without a first quote yet
        self._store: BarStore | None = None
        self._locks: dict[str, trio.Lock] = {}
        self._subscribers: dict[str, set[Outbox]] = {}

    @property
    def mod(self) -> ModuleType:
        """The backend, looked up by its name."""
        return get_brokermod(self.brokername)

    @property
    def services(self) -> list[MarketService]:
        """The markets that are served, each once."""
        return list({id(service): service for service in self.feeds.values()}.values())

    async def open_store(self) -> BarStore:
        """
        Return the store of this broker's bars, opened on first use, in a worker thread.

        Raises:
          ConfigError: its folder cannot be made.
        """

        def open_it() -> BarStore:
            # Here, and not at the top: importing it takes a tenth of a second.
            from piker.storage.bars import open_bar_store

            return open_bar_store(config.broker_dir(self.brokername) / "bars")

        if self._store is None:
            self._store = await trio.to_thread.run_sync(open_it)
        return self._store

    async def open_market(self, symbol: str, loglevel: str | None) -> MarketService:
        """
        Return the market `symbol` names, started unless it is served already.

        Raises:
          SymbolNotFound: the venue does not know it.
          ServiceUnavailable: the venue gave no first quote in time; says why.
        """
        key = symbol.lower()
        async with self._locks.setdefault(key, trio.Lock()):
            try:
                if key not in self.feeds:
                    service = await self.nursery.start(
                        partial(allocate_persistent_feed, self, key, loglevel)
                    )
                    self.feeds[key] = service
                return self.feeds[key]
            finally:
                if key not in self.feeds:
                    del self._locks[key]

    def publish(self, fqme: str, message: Message) -> None:
        """Give a control message to every client of a market; never blocks."""
        message = {"fqme": fqme, **message}
        if message["event"] == "load":
            self.feeds[fqme].newest[message["period_s"]] = message
        for outbox in self._subscribers.get(fqme, ()):
            outbox.put(message)

    @contextmanager
    def subscription(self, fqmes: list[str]) -> Iterator[Outbox]:
        """Listen to some markets for the length of the block; the newest state comes first."""
        outbox = Outbox()
        for fqme in fqmes:
            self._subscribers.setdefault(fqme, set()).add(outbox)
            service = self.feeds[fqme]
            outbox.put({"fqme": fqme, "event": "state", **service.feed.describe_state()})
            for message in service.newest.values():
                outbox.put(message)
        try:
            yield outbox
        finally:
            for fqme in fqmes:
                self._subscribers[fqme].discard(outbox)

    async def follow_clock(self) -> None:
        """Close bars on the announcements of `samplerd`, across its restarts, for ever."""
        async with open_sample_stream(None) as stream:
            async for message in stream:
                for service in self.services:
                    service.feed.announce(int(message["period"]), int(message["index"]))

    def statistics(self) -> dict[str, Any]:
        """Return the counters of the daemon: per market, and how many clients there are."""
        clients = {id(outbox) for group in self._subscribers.values() for outbox in group}
        of_backend: dict[str, Any] = getattr(self.mod, "statistics", dict)()
        return {
            "backend": msgspec.to_builtins(of_backend),
            "markets": len(self.services),
            "clients": len(clients),
            "bell_readers": self.bells.statistics().readers,
            **{service.feed.mkt.fqme: service.statistics() for service in self.services},
        }

    def status(self) -> dict[str, Any]:
        """Return the daemon's heartbeat: degraded while a feed is down or cannot start."""
        down = [
            f"{service.feed.mkt.fqme}: {service.feed.state.cause}"
            for service in self.services
            if is_lost(service.feed.state)
        ]
        now_s = trio.current_time()
        self.starting = {
            name: stream
            for name, stream in self.starting.items()
            if now_s - stream.begun_s < STARTING_MAX_S
        }
        down += [
            f"{symbol}: {stream.cause}"
            for symbol, stream in self.starting.items()
            if stream.restarts > 0 or now_s - stream.begun_s > STARTING_S
        ]
        return {
            "state": "degraded" if down else "ready",
            "cause": "; ".join(down)[:500],
            "stats": self.statistics(),
        }

    def close(self) -> None:
        """Unlink every segment of this daemon."""
        for service in self.services:
            for segment in service.segments:
                segment.unlink()


def is_lost(state: FeedState) -> bool:
    """Whether a feed has no data; connecting again after a loss is no recovery yet."""
    is_again = state.state == FEED_CONNECTING and state.attempt > 1
    return is_again or state.state in (FEED_DOWN, FEED_STALE)


_bus: _FeedsBus | None = None


def get_feed_bus(brokername: str, nursery: trio.Nursery | None = None) -> _FeedsBus:
    """Return this actor's bus; made by the lifetime fixture, which gives it its `nursery`."""
    global _bus
    if nursery is not None:
        assert _bus is None, "a datad has one feed bus"
        _bus = _FeedsBus(brokername, nursery)
    assert _bus is not None, "no feed bus: this actor is no datad"
    assert _bus.brokername == brokername, f"this datad serves {_bus.brokername}, not {brokername}"
    return _bus


def drop_feed_bus() -> None:
    """Forget the bus at the end of its daemon and unlink its segments."""
    global _bus
    if _bus is not None:
        _bus.close()
    _bus = None


async def allocate_persistent_feed(
    bus: _FeedsBus,
    symbol: str,
    loglevel: str | None = None,
    task_status: trio.TaskStatus[MarketService] = trio.TASK_STATUS_IGNORED,
) -> None:
    """
    Serve one market for ever; started with its service once stored bars or a frame are in.

    A backend that gives no first quote within `FIRST_QUOTE_S` is an error with the cause; one
    without history, or whose stream never goes live, is served all the same.
    """
    mod = bus.mod
    async with trio.open_nursery() as nursery:
        stream = Stream(mod, symbol.removesuffix(f".{bus.brokername}"), loglevel)
        bus.starting[symbol] = stream
        with trio.move_on_after(FIRST_QUOTE_S) as waiting:
            init_msgs, first_quote = await nursery.start(stream.run)
        if waiting.cancelled_caught:
            raise ServiceUnavailable(
                f"{symbol}: no first quote within {FIRST_QUOTE_S:g} s: {stream.cause}"
            )
        bus.starting.pop(symbol, None)
        store = await bus.open_store()
        init = validate_backend(mod, [symbol], init_msgs)
        fqme = init.mkt_info.fqme
        if fqme in bus.feeds:  # asked for by another name before
            task_status.started(bus.feeds[fqme])
            nursery.cancel_scope.cancel()
            return
        publish = partial(bus.publish, fqme)
        service = open_market_service(init, first_quote, bus.bells, publish)
        bus.feeds[fqme] = service
        try:
            async with mod.open_history_client(init.mkt_info) as (get_hist, hist_config):
                make_loaders(service, get_hist, hist_config, store, publish)
                for loader in service.loaders.values():
                    nursery.start_soon(loader.run)
                nursery.start_soon(pump, stream.batches, service.feed)
                nursery.start_soon(recover_losses, service.feed, hist_config.get("get_trades"))
                nursery.start_soon(tell_changes, service.feed)
                with trio.move_on_after(HISTORY_GRACE_S):
                    for loader in service.loaders.values():
                        await loader.is_ready.wait()
                task_status.started(service)
                for segment in service.segments:
                    segment.unlink_predecessors()
                await trio.sleep_forever()
        finally:
            bus.feeds = {key: one for key, one in bus.feeds.items() if one is not service}
            for segment in service.segments:
                segment.unlink()


@endpoint(only=("datad",))
@tractor.context
async def open_feed_bus(
    ctx: tractor.Context,
    brokername: str,
    symbols: list[str],
    loglevel: str | None = None,
    tick_throttle: float | None = None,
    start_stream: bool = True,
    allow_remote_ctl_ui: bool = False,
) -> None:
    """
    Serve one client: `started({symbol: flume message})`, then control messages on the stream.

    A request that cannot be served is answered with `started({'error': {...}})`: `type` (a name
    of `piker.errors`), `text`, and for an unknown market its closest `matches`. The client may
    send 'pause' and 'resume'. `tick_throttle` is the client's own affair and only accepted here.
    """
    assert actor_name() == f"datad.{brokername}", f"{actor_name()} serves no {brokername}"
    bus = get_feed_bus(brokername)
    try:
        services = await _open_markets(bus, symbols, loglevel)
    except PikerError as error:
        await ctx.started({"error": describe_error(error)})
        return
    await ctx.started({symbol: service.describe() for symbol, service in services.items()})
    if not start_stream:
        await trio.sleep_forever()
    fqmes = sorted({service.feed.mkt.fqme for service in services.values()})
    with bus.subscription(fqmes) as outbox:
        async with trio.open_nursery() as nursery, ctx.open_stream() as stream:
            nursery.start_soon(_send_messages, outbox, stream)
            async for message in stream:
                if message not in ("pause", "resume"):
                    raise ValueError(f"feed bus: message was {message!r}, expected pause or resume")
                if message == "pause":
                    outbox.pause()
                else:
                    outbox.resume()
            nursery.cancel_scope.cancel()


async def _open_markets(
    bus: _FeedsBus, symbols: list[str], loglevel: str | None
) -> dict[str, MarketService]:
    if not 0 < len(symbols) <= SYMBOLS_MAX:
        raise SymbolNotFound(f"feed bus: got {len(symbols)} symbols, expected 1 to {SYMBOLS_MAX}")
    services: dict[str, MarketService] = {}
    errors: list[PikerError] = []

    async def open_one(symbol: str) -> None:
        try:
            services[symbol] = await bus.open_market(symbol, loglevel)
        except* PikerError as group:
            error = innermost(group)
            assert isinstance(error, PikerError)
            errors.append(error)

    async with trio.open_nursery() as nursery:
        for symbol in symbols:
            nursery.start_soon(open_one, symbol)
    if errors:
        raise errors[0]
    return services


async def _send_messages(outbox: Outbox, stream: tractor.MsgStream) -> None:
    while True:
        await outbox.wait()
        for message in outbox.take():
            await stream.send(message)


def describe_error(error: PikerError) -> dict[str, Any]:
    """Return an error as plain values; `feed.raise_described` makes the error again."""
    return {
        "type": type(error).__name__,
        "text": str(error),
        "broker": getattr(error, "broker", ""),
        "matches": list(getattr(error, "matches", ())),
        "retry_after_s": float(getattr(error, "retry_after_s", 0.0)),
    }
