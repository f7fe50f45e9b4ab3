"""
A WebSocket that stays: it reconnects, subscribes again, notices silence and says so.

A backend gives a URL and a subscribe function and reads one sequence of items: `Batch` (the
whole messages of one socket read) and `LinkState` (what became of the connection). Everything is
bounded: message size, queue, time to connect, time to answer a ping, silence, the backoff. When
the consumer is slow nothing is read, so TCP holds the venue back.

Reading order: `open_autorecon_ws`, `NoBsWs`, then the helpers above them; `_ws_link` is one
connection.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import msgspec
import trio

from piker import clock
from piker.data._ws_link import WsLink, open_link
from piker.errors import ConnectionLost
from piker.log import get_logger
from piker.model.ticks import FEED_CONNECTING, FEED_DOWN, FEED_LIVE, FEED_STALE

log = get_logger(__name__)

BACKOFF_FIRST_S = 0.2
BACKOFF_FACTOR = 1.6
BACKOFF_MAX_S = 30.0
HEALTHY_AFTER_S = 10.0  # a connection that lived this long starts the backoff anew
PING_EVERY_S = 20.0
PONG_WITHIN_S = 10.0
ROTATE_AFTER_S = 23.5 * 3600  # Binance ends a connection after 24 h
QUEUE_MAX = 64  # batches and states; a full queue blocks the reader
WATCH_EVERY_S = 0.25
PROBE_EVERY_S = 1.0
SILENCE_LEAST_S = 2.0  # real seconds: below, our own scheduling looks like silence


class Batch(msgspec.Struct, frozen=True):
    """The whole messages of one socket read, and the run's time when they were read."""

    messages: list[bytes]
    time_recv_ns: int


class LinkState(msgspec.Struct, frozen=True):
    """The connection changed: `state` is one of FEED_*, `cause` a sentence unless live."""

    state: int
    cause: str = ""
    attempt: int = 0
    retry_in_s: float = 0.0


class WsStats(msgspec.Struct, frozen=True):
    """Counters since the start; `rejected` includes what the backend could not parse."""

    messages: int
    rejected: int
    reconnects: int
    stale: int
    state: int
    last_error: str


class Backoff:
    """Waits that grow from 0.2 s by 1.6 to 30 s, spread by jitter."""

    def __init__(self) -> None:
        self._next_s = BACKOFF_FIRST_S

    def reset(self) -> None:
        """Start again from the shortest wait."""
        self._next_s = BACKOFF_FIRST_S

    def wait_s(self) -> float:
        """Return the wait before the next try."""
        wait_s, self._next_s = self._next_s, min(self._next_s * BACKOFF_FACTOR, BACKOFF_MAX_S)
        return clock.jitter(wait_s)


class ArrivalModel:
    """
    How long a stream may be silent, learnt from its own gaps, in market seconds.

    Expected is 20 mean gaps (chance alone gives that once in 5e8 messages) or 3 times the
    longest recent gap, whichever is longer, within the given bounds: a busy market is missed
    after seconds, a sleepy one after minutes.
    """

    def __init__(self, least_s: float = 5.0, most_s: float = 300.0, first_s: float = 30.0) -> None:
        self._least_s = least_s
        self._most_s = most_s
        self._mean_s = first_s / 20
        self._longest_s = 0.0

    def seen(self, gap_s: float) -> None:
        """Learn one gap between two messages."""
        gap_s = max(0.0, gap_s)
        self._mean_s += 0.05 * (gap_s - self._mean_s)
        self._longest_s = max(gap_s, self._longest_s * 0.999)

    def relax(self) -> None:
        """Learn that the present silence is the market's own."""
        self._longest_s = max(self._longest_s, self.expected_gap_s * 0.6)

    @property
    def expected_gap_s(self) -> float:
        """The longest silence that is still normal, market seconds."""
        return min(max(20 * self._mean_s, 3 * self._longest_s, self._least_s), self._most_s)


Fixture = Callable[["NoBsWs"], AbstractAsyncContextManager[object]]
Probe = Callable[[], Awaitable[bool | None]]


class NoBsWs:
    """
    The handle of `open_autorecon_ws`: iterate it for `Batch` and `LinkState` items.

    Cancelling the reader loses nothing that was queued.
    """

    def __init__(self, url: str, fixture: Fixture | None, probe: Probe | None) -> None:
        self.url = url
        self.arrivals = ArrivalModel()
        self._fixture = fixture
        self._probe = probe
        self._send_chan, self._recv_chan = trio.open_memory_channel[Batch | LinkState](QUEUE_MAX)
        self._link: WsLink | None = None
        self._scope: trio.CancelScope | None = None
        self._verdict: ConnectionLost | None = None
        self._backoff = Backoff()
        self._state = FEED_CONNECTING
        self._messages = self._rejected = self._reconnects = self._stale = self._attempt = 0
        self._last_error = ""
        self._is_reading = False
        self._read_at = self._message_at = 0.0
        self._probed_at = -PROBE_EVERY_S

    def __aiter__(self) -> AsyncIterator[Batch | LinkState]:
        return self

    async def __anext__(self) -> Batch | LinkState:
        return await self._recv_chan.receive()

    async def send_msg(self, msg: object) -> None:
        """Send `msg` as JSON. Raises ConnectionLost when there is no connection now."""
        if self._link is None:
            raise ConnectionLost(f"{self.url}: not connected")
        await self._link.send(msgspec.json.encode(msg))

    def reject(self, count: int = 1) -> None:
        """Count messages that the backend could not parse."""
        self._rejected += count

    def reset(self, cause: str, retry_after_s: float = 0.0) -> None:
        """End this connection and make a new one; `cause` is told to the reader."""
        self._end(ConnectionLost(cause, retry_after_s))

    def statistics(self) -> WsStats:
        """Return the counters."""
        return WsStats(
            self._messages,
            self._rejected,
            self._reconnects,
            self._stale,
            self._state,
            self._last_error,
        )

    async def run(self) -> None:
        """Connect, read and connect again until cancelled."""
        while True:
            self._attempt += 1
            await self._say(
                FEED_CONNECTING, "connecting" if self._attempt == 1 else self._last_error
            )
            opened_at = trio.current_time()
            try:
                await self._live_once()
                lost = self._verdict or ConnectionLost("the connection ended")
            except ConnectionLost as err:
                lost = self._verdict or err
            self._verdict = None
            self._reconnects += 1
            self._last_error = str(lost)
            if trio.current_time() - opened_at > HEALTHY_AFTER_S:
                self._backoff.reset()
                self._attempt = 0
            wait_s = max(self._backoff.wait_s(), lost.retry_after_s)
            log.warning("connection lost url=%s cause=%s retry_in_s=%.1f", self.url, lost, wait_s)
            await self._say(
                FEED_DOWN, f"{lost}, waiting {wait_s:.{0 if wait_s > 2 else 1}f} s", wait_s
            )
            await trio.sleep(wait_s)

    async def _live_once(self) -> None:
        """Hold one connection until it ends; a verdict of the watch wins over other causes."""
        link = await open_link(self.url)
        try:
            self._read_at = self._message_at = trio.current_time()
            async with trio.open_nursery() as nursery:
                self._link, self._scope = link, nursery.cancel_scope
                nursery.start_soon(self._watch, link)
                try:
                    await self._subscribe_and_read(link)
                except ConnectionLost as err:
                    self._end(err)
        finally:
            self._rejected += link.is_garbled
            self._link = self._scope = None
            await link.aclose()

    async def _subscribe_and_read(self, link: WsLink) -> None:
        if self._fixture is None:
            await self._read_all(link)
        else:
            async with self._fixture(self):
                await self._read_all(link)

    async def _read_all(self, link: WsLink) -> None:
        while True:
            self._is_reading = True
            messages = await link.read()
            self._is_reading = False
            now = self._read_at = trio.current_time()
            if not messages:
                continue
            self.arrivals.seen((now - self._message_at) * clock.speed())
            self._message_at = now
            self._messages += len(messages)
            if self._state != FEED_LIVE:
                await self._say(FEED_LIVE, "")
            await self._send_chan.send(Batch(messages, clock.now_ns()))

    async def _watch(self, link: WsLink) -> None:
        """End a connection that is too old, does not answer or has gone silent."""
        opened_at = trio.current_time()
        pinged_at = opened_at
        while True:
            await trio.sleep(WATCH_EVERY_S)
            now = trio.current_time()
            if now - opened_at > ROTATE_AFTER_S:
                return self._end(ConnectionLost("reconnecting before the venue's 24 h limit"))
            if not self._is_reading:  # we are slow, not the venue
                self._read_at = self._message_at = now
            if now - pinged_at > PING_EVERY_S:
                pinged_at = now
                try:
                    await link.ping()
                except ConnectionLost as err:
                    return self._end(err)
            elif now - pinged_at > PONG_WITHIN_S and self._read_at < pinged_at:
                return self._end(
                    ConnectionLost(
                        f"{link.host} did not answer a ping within {PONG_WITHIN_S:.0f} s"
                    )
                )
            await self._check_silence(link, now - self._message_at)

    async def _check_silence(self, link: WsLink, silent_s: float) -> None:
        limit_s = max(self.arrivals.expected_gap_s / clock.speed(), SILENCE_LEAST_S)
        if silent_s < limit_s:
            return
        market_s = silent_s * clock.speed()
        agrees = await self._ask_probe()
        if agrees:
            # The venue says itself that nothing happened: a quiet market, not a dead stream.
            self.arrivals.relax()
            self._message_at = trio.current_time()
            if self._state == FEED_STALE:
                await self._say(FEED_LIVE, "")
        elif self._state != FEED_STALE:
            self._stale += 1
            await self._say(
                FEED_STALE,
                f"{link.host} sent nothing for {market_s:.0f} s, "
                f"expected a message within {self.arrivals.expected_gap_s:.0f} s",
            )
        elif agrees is False or silent_s > 3 * limit_s:
            self._end(ConnectionLost(f"{link.host} sent nothing for {market_s:.0f} s"))

    async def _ask_probe(self) -> bool | None:
        if self._probe is None or trio.current_time() - self._probed_at < PROBE_EVERY_S:
            return None
        self._probed_at = trio.current_time()
        return await self._probe()

    def _end(self, verdict: ConnectionLost) -> None:
        if self._verdict is None:
            self._verdict = verdict
        if self._scope is not None:
            self._scope.cancel()

    async def _say(self, state: int, cause: str, retry_in_s: float = 0.0) -> None:
        self._state = state
        await self._send_chan.send(LinkState(state, cause, self._attempt, retry_in_s))


@asynccontextmanager
async def open_autorecon_ws(
    url: str, fixture: Fixture | None = None, *, probe: Probe | None = None
) -> AsyncIterator[NoBsWs]:
    """
    Open a connection to `url` that is made again for ever, and yield its handle.

    `fixture(ws)` is entered on each connection, to subscribe (and, on leaving, to unsubscribe
    when the connection still lives). `probe` answers, when the stream has gone silent, whether
    the venue's other interface agrees that nothing has happened (None: it cannot say); it must
    end within seconds and not raise.
    """
    ws = NoBsWs(url, fixture, probe)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ws.run)
        try:
            yield ws
        finally:
            nursery.cancel_scope.cancel()
