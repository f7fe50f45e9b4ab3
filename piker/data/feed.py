"""
The client half of a feed: `open_feed`, search, and how they survive a restart of `datad`.

    async with open_feed(['btcusdt.spot.binance']) as feed:
        flume = feed.flumes['btcusdt.spot.binance']
        async for quotes in feed.streams['binance']: ...

Control goes over one dialog per broker, data through shared memory (`Flume`). When the dialog is
lost, its task spawns or finds the daemon again with backoff and binds the same flumes to the
new shared memory. The server half is `_feed_bus`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from types import ModuleType
from typing import Any

import tractor
import trio

from piker import errors
from piker.brokers import get_brokermod
from piker.data._daemon import maybe_spawn_datad
from piker.data._feed_dialog import Dialog, raise_described
from piker.data._quote_streams import QuoteStream, open_quote_stream
from piker.data.flume import Flume
from piker.errors import ConnectionLost, PikerError
from piker.log import get_logger
from piker.model.market import unpack_fqme
from piker.service.rpc import translate_errors

__all__ = [
    "Feed",
    "Flume",
    "install_datad_search",
    "maybe_open_feed",
    "open_feed",
    "raise_described",
]

log = get_logger(__name__)

SEARCH_TIMEOUT_S = 6.0


class Feed:
    """Some markets of one or more brokers, live."""

    def __init__(self, dialogs: dict[str, Dialog]) -> None:
        self.mods: dict[str, ModuleType] = {name: get_brokermod(name) for name in dialogs}
        self.flumes: dict[str, Flume] = {}
        for broker, dialog in dialogs.items():
            for symbol, flume in dialog.flumes.items():
                self.flumes[flume.fqme] = flume
                self.flumes.setdefault(_with_broker(symbol, broker), flume)
        self.streams: dict[str, QuoteStream] = {}
        self.throttle_rate: float | None = None
        self._dialogs = dialogs

    @property
    def portals(self) -> dict[ModuleType, Any]:
        """The present portal to each broker's daemon; None while it is out of reach."""
        return {self.mods[name]: dialog.portal for name, dialog in self._dialogs.items()}

    @property
    def reopened(self) -> int:
        """How often a dialog was opened again."""
        return sum(dialog.reopened for dialog in self._dialogs.values())

    def of_broker(self, broker: str) -> list[Flume]:
        """Return the markets of one broker, each once."""
        return list(dict.fromkeys(self._dialogs[broker].flumes.values()))

    @property
    def status(self) -> dict[str, Any]:
        """Where the data come from: actor, address, sizes of the arrays, throttle."""
        broker, dialog = next(iter(self._dialogs.items()))
        flume = self.of_broker(broker)[0]
        address = getattr(getattr(dialog.portal, "channel", None), "raddr", None)
        host, port = address[:2] if address else ("", 0)
        sizes = {
            name: flume.message[token]["size"] * 80 / 2**20
            for name, token in (("hist_shm", "_hist_shm_token"), ("rt_shm", "_rt_shm_token"))
        }
        return {
            "actor_name": f"datad.{broker}",
            "host": "localhost" if host == "127.0.0.1" else host,
            "port": port,
            "hist_shm": f"{sizes['hist_shm']:.1f} MiB",
            "rt_shm": f"{sizes['rt_shm']:.1f} MiB",
            "throttle_rate": self.throttle_rate,
        }

    async def pause(self) -> None:
        """Stop the delivery of quotes and control messages; shared memory goes on."""
        for stream in self.streams.values():
            stream.pause()
        for dialog in self._dialogs.values():
            await dialog.pause(True)

    async def resume(self) -> None:
        """Deliver again, from the newest record on."""
        for dialog in self._dialogs.values():
            await dialog.pause(False)
        for stream in self.streams.values():
            stream.resume()

    @asynccontextmanager
    async def open_multi_stream(
        self, brokers: Sequence[str] | None = None
    ) -> AsyncIterator[QuoteStream]:
        """Yield one stream of all markets (of `brokers`), with a place of its own in each ring."""
        flumes = [flume for name in brokers or self._dialogs for flume in self.of_broker(name)]
        async with open_quote_stream(flumes, self.throttle_rate) as stream:
            yield stream


def _with_broker(symbol: str, broker: str) -> str:
    return symbol if symbol.endswith(f".{broker}") else f"{symbol}.{broker}"


@asynccontextmanager
async def _open_dialogs(
    fqmes: Sequence[str], loglevel: str | None
) -> AsyncIterator[dict[str, Dialog]]:
    """Open one dialog per broker, all at once; yields them by broker."""
    symbols: dict[str, list[str]] = {}
    for fqme in fqmes:
        try:
            broker = unpack_fqme(fqme)[0]
        except ValueError as error:
            raise errors.SymbolNotFound(str(error)) from None
        get_brokermod(broker)
        symbols.setdefault(broker, []).append(fqme.lower())
    dialogs = {broker: Dialog(broker, asked, loglevel) for broker, asked in symbols.items()}
    async with trio.open_nursery() as nursery:
        async with trio.open_nursery() as opening:
            for dialog in dialogs.values():
                opening.start_soon(nursery.start, dialog.run)
        yield dialogs
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def _open_view(
    dialogs: dict[str, Dialog], tick_throttle: float | None, start_stream: bool
) -> AsyncIterator[Feed]:
    """Yield a `Feed` over dialogs that may be shared, with quote streams of its own."""
    feed = Feed(dialogs)
    feed.throttle_rate = tick_throttle
    async with AsyncExitStack() as stack:
        for broker in dialogs if start_stream else ():
            feed.streams[broker] = await stack.enter_async_context(
                open_quote_stream(feed.of_broker(broker), tick_throttle)
            )
        yield feed


@asynccontextmanager
async def open_feed(
    fqmes: Sequence[str],
    loglevel: str | None = None,
    tick_throttle: float | None = None,
    start_stream: bool = True,
    allow_overruns: bool = True,
    allow_remote_ctl_ui: bool = False,
) -> AsyncIterator[Feed]:
    """
    Yield a live feed of `fqmes`; daemons that do not run are started.

    `tick_throttle`: at most so many quote messages a second and market. `allow_overruns` is kept
    for callers of old: a slow consumer is never closed, it is told what it missed.

    Raises:
      SymbolNotFound: a market is unknown; `.matches` has the closest names.
      ModuleNotFoundError: no backend has the broker's name.
      ServiceUnavailable: a daemon or the venue does not answer; says why.
      ConnectionLost: no `pikerd` answers.
    """
    async with (
        _open_dialogs(fqmes, loglevel) as dialogs,
        _open_view(dialogs, tick_throttle, start_stream) as feed,
    ):
        yield feed


class _Shared:
    """Dialogs shared by the tasks of this actor that asked for the same markets."""

    def __init__(self) -> None:
        self.users = 0
        self.lock = trio.Lock()
        self.unused = trio.Event()
        self.dialogs: dict[str, Dialog] | None = None

    async def run(
        self,
        fqmes: Sequence[str],
        loglevel: str | None,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Hold the dialogs open while anybody uses them."""
        async with _open_dialogs(fqmes, loglevel) as self.dialogs:
            task_status.started()
            await self.unused.wait()


_shared: dict[tuple[str, ...], _Shared] = {}


@asynccontextmanager
async def maybe_open_feed(
    fqmes: Sequence[str],
    loglevel: str | None = None,
    tick_throttle: float | None = None,
    start_stream: bool = True,
) -> AsyncIterator[Feed]:
    """
    Yield a feed like `open_feed`, whose dialogs are shared with others of this actor.

    They are kept per set of markets, and end with their last user; each user has streams and a
    throttle of its own.
    """
    key = tuple(sorted({fqme.lower() for fqme in fqmes}))
    shared = _shared.setdefault(key, _Shared())
    shared.users += 1
    try:
        async with shared.lock:
            if shared.dialogs is None:
                # The actor's own nursery: the dialogs may outlive the task that came first.
                await tractor.current_actor()._service_n.start(shared.run, key, loglevel)
        assert shared.dialogs is not None
        async with _open_view(shared.dialogs, tick_throttle, start_stream) as feed:
            yield feed
    finally:
        shared.users -= 1
        if not shared.users:
            _shared.pop(key, None)
            shared.unused.set()


Search = Callable[[str], Awaitable[list[dict[str, Any]]]]


@asynccontextmanager
async def install_datad_search(broker: str, loglevel: str | None = None) -> AsyncIterator[Search]:
    """
    Yield `search(text)`, which asks the broker's `datad` and returns hits, best first.

    A hit is a record with `fqme`, `broker` and what the backend adds (`symbol`, `price_tick` …).
    Answers belong to their request by its id, so a search that was given up never shifts the
    next one's answer. Several may be under way.

    Raises (search): ConnectionLost, when the daemon is gone or does not answer in 6 s.
    """
    mod = get_brokermod(broker)
    waiting: dict[int, trio.MemorySendChannel[dict[str, Any]]] = {}
    asked = 0

    async with AsyncExitStack() as stack:
        with translate_errors(f"datad.{broker}"):
            portal = await stack.enter_async_context(maybe_spawn_datad(broker, loglevel))
            ctx, _ = await stack.enter_async_context(portal.open_context(mod.open_symbol_search))
            stream = await stack.enter_async_context(ctx.open_stream())

        async def search(text: str) -> list[dict[str, Any]]:
            nonlocal asked
            asked += 1
            mid = asked
            send, receive = trio.open_memory_channel[dict[str, Any]](1)
            waiting[mid] = send
            try:
                with translate_errors(f"datad.{broker}"):
                    await stream.send({"id": mid, "text": text})
                with trio.move_on_after(SEARCH_TIMEOUT_S):
                    return _hits(broker, await receive.receive())
                raise ConnectionLost(f"datad.{broker}: no answer to a search in 6 s")
            finally:
                del waiting[mid]

        async def take_answers() -> None:
            async for answer in stream:
                if (channel := waiting.get(answer.get("id"))) is None:
                    log.warning("Dropping stale method-resp id=%s", answer.get("id"))
                else:
                    channel.send_nowait(answer)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(take_answers)
            yield search
            nursery.cancel_scope.cancel()
        await ctx.cancel()


def _hits(broker: str, answer: dict[str, Any]) -> list[dict[str, Any]]:
    if answer.get("error"):
        raise PikerError(str(answer["error"]))
    return [
        {"fqme": f"{name}.{broker}".lower(), "broker": broker, **facts}
        for name, facts in answer["results"].items()
    ]
