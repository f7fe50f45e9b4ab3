"""
The WebSocket side: who hears which stream, and what a client may ask.

`Hub` knows the subscriptions and hands payloads to `Session`s; a session owns one socket and a
bounded queue of frames. A client that does not read is closed with 1008 when its queue is full:
the venue never waits for a client, and never holds more than the bound for one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec
import trio

from piker.log import get_logger
from piker.venues._faults import Faults
from piker.web.server import SocketClosed, WebSocket, text_frame

log = get_logger(__name__)

QUEUE_BYTES_MAX: Final = 8_000_000  # about 8 s of the busiest market at 200 times real time
DROP_GRACE_S: Final = 2.0
PING_S: Final = 20.0
PONG_TIMEOUT_S: Final = 60.0
LIFE_S: Final = 86_400.0
STREAMS_MAX: Final = 1024
REQUESTS_PER_S: Final = 5
SHUTDOWN: Final = "!serverShutdown"


class _Request(msgspec.Struct):
    method: str
    id: int | str | None = None
    params: list[Any] | None = None


class Hub:
    """Subscriptions of all sessions; publishing to nobody costs one dictionary look-up."""

    def __init__(self, faults: Faults) -> None:
        self.faults = faults
        self.sessions: set[Session] = set()
        self._heard: dict[str, set[Session]] = {}
        self.counts = {"frames": 0, "dropped_clients": 0}
        self.now_ms: Callable[[], int] = lambda: 0  # venue time; set by the exchange
        self._emptied = trio.Event()

    def is_heard(self, stream: str) -> bool:
        """Whether anybody is subscribed to `stream`."""
        return stream in self._heard

    def streams(self) -> list[str]:
        """Return all streams that somebody hears."""
        return list(self._heard)

    def publish(self, stream: str, payload: bytes, combined: bytes | None = None) -> None:
        """Send `payload` to who hears `stream`; `combined` is its wrapped form, if at hand."""
        sessions = self._heard.get(stream)
        if not sessions or self.faults.is_muted(stream):
            return
        raw = wrapped = b""
        for session in sessions:
            if session.is_combined:
                wrapped = wrapped or text_frame(
                    combined or b'{"stream":"%s","data":%s}' % (stream.encode(), payload)
                )
                session.push(wrapped)
            else:
                raw = raw or text_frame(payload)
                session.push(raw)
        self.counts["frames"] += len(sessions)

    def add(self, session: Session, streams: list[str]) -> None:
        """Subscribe a session."""
        for stream in streams:
            self._heard.setdefault(stream, set()).add(session)
            session.streams.setdefault(stream)

    def remove(self, session: Session, streams: list[str]) -> None:
        """Unsubscribe a session."""
        for stream in streams:
            session.streams.pop(stream, None)
            heard = self._heard.get(stream)
            if heard is not None:
                heard.discard(session)
                if not heard:
                    del self._heard[stream]

    def backlog(self) -> int:
        """Return the bytes that wait for the slowest client."""
        return max((session.queued for session in self.sessions), default=0)

    def leave(self, session: Session) -> None:
        """Forget a session that has ended."""
        self.remove(session, list(session.streams))
        self.sessions.discard(session)
        if not self.sessions:
            self._emptied.set()
            self._emptied = trio.Event()

    async def wait_empty(self, timeout_s: float) -> None:
        """Wait until no session is left, at most `timeout_s`."""
        with trio.move_on_after(timeout_s):
            while self.sessions:
                await self._emptied.wait()

    def shut_down(self) -> None:
        """Tell every session that the server goes, then close it."""
        for session in self.sessions:
            session.say_goodbye("server shutdown")


class Session:
    """One client's WebSocket."""

    def __init__(self, hub: Hub, streams: list[str], *, is_combined: bool) -> None:
        self.hub = hub
        self.is_combined = is_combined
        self.streams: dict[str, None] = {}  # a set that keeps its order, as the venue lists it
        self.queued = 0
        self._first = streams
        self._queue: list[bytes] = []
        self._wake = trio.Event()
        self._finish: tuple[int, str] | None = None
        self._overflowed = trio.Event()

    def push(self, frame: bytes) -> None:
        """Queue one frame; a full queue ends the session."""
        if self._finish is not None:
            return
        if self.queued + len(frame) > QUEUE_BYTES_MAX:
            self.hub.counts["dropped_clients"] += 1
            self._queue.clear()
            self.finish(1008, "too slow")
            self._overflowed.set()
            return
        self._queue.append(frame)
        self.queued += len(frame)
        self._wake.set()

    def say_goodbye(self, reason: str) -> None:
        """Announce the end as the venue does, then close with 1001."""
        event = b'{"e":"serverShutdown","E":%d}' % self.hub.now_ms()
        wrapped = b'{"stream":"%s","data":%s}' % (SHUTDOWN.encode(), event)
        self.push(text_frame(wrapped if self.is_combined else event))
        self.finish(1001, reason)

    def finish(self, code: int, reason: str) -> None:
        """Let the writer close the socket once it has written what is queued."""
        self._finish = self._finish or (code, reason)
        self._wake.set()

    async def run(self, ws: WebSocket) -> None:
        """Serve the socket until either side ends it."""
        self.hub.sessions.add(self)
        self.hub.add(self, self._first)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._write, ws, nursery.cancel_scope)
                nursery.start_soon(self._keep_alive, ws)
                nursery.start_soon(self._play_faults, ws)
                nursery.start_soon(self._drop, ws)
                try:
                    await self._read(ws)
                except SocketClosed:
                    nursery.cancel_scope.cancel()
        finally:
            self.hub.leave(self)

    async def _write(self, ws: WebSocket, scope: trio.CancelScope) -> None:
        while True:
            await self._wake.wait()
            self._wake = trio.Event()
            try:
                # What comes in while a part is on its way out goes out before the close.
                while self._queue and (self._finish is None or self._finish[0] != 1008):
                    frames, self._queue = b"".join(self._queue), []
                    await ws.send_frames(frames)
                    self.queued -= len(frames)
                if self._finish is not None:
                    with trio.CancelScope(shield=True):
                        await ws.close(*self._finish)
                    scope.cancel()
                    return
            except SocketClosed:
                scope.cancel()
                return

    async def _keep_alive(self, ws: WebSocket) -> None:
        end = trio.current_time() + LIFE_S
        while True:
            await trio.sleep(PING_S)
            now = trio.current_time()
            if now > end:
                self.say_goodbye("24 hours are over")
            elif now - ws.heard_at > PONG_TIMEOUT_S:
                self.finish(1008, "no pong")
            else:
                try:
                    await ws.ping()
                except SocketClosed:
                    return

    async def _drop(self, ws: WebSocket) -> None:
        """Reset a client whose queue is full when it does not even take the close in time."""
        await self._overflowed.wait()
        await trio.sleep(DROP_GRACE_S)
        ws.abort()

    async def _read(self, ws: WebSocket) -> None:
        window, count = trio.current_time(), 0
        while True:
            message = await ws.recv()
            now = trio.current_time()
            window, count = (now, 1) if now - window >= 1 else (window, count + 1)
            if count > REQUESTS_PER_S:
                self.finish(1008, "too many requests")
            reply = msgspec.json.encode(self._answer(message))
            self.push(text_frame(reply))

    def _answer(self, message: str | bytes) -> dict[str, Any]:
        try:
            request = msgspec.json.decode(message, type=_Request)
        except msgspec.DecodeError as error:
            text = (
                "Invalid JSON"
                if not isinstance(error, msgspec.ValidationError)
                else "Invalid request"
            )
            return _error(3 if text == "Invalid JSON" else 2, f"{text}: {error}", None)
        streams = [item for item in request.params or [] if isinstance(item, str)]
        if len(streams) != len(request.params or []) and request.method.endswith("SUBSCRIBE"):
            return _error(2, "Invalid request: params must be a list of stream names", request.id)
        match request.method:
            case "SUBSCRIBE":
                if len(self.streams) + len(streams) > STREAMS_MAX:
                    return _error(2, "Invalid request: too many streams", request.id)
                self.hub.add(self, streams)
            case "UNSUBSCRIBE":
                self.hub.remove(self, streams)
            case "LIST_SUBSCRIPTIONS":
                return {"result": list(self.streams), "id": request.id}
            case "SET_PROPERTY" if request.params and request.params[0] == "combined":
                self.is_combined = bool(request.params[-1])
            case "GET_PROPERTY":
                return {"result": self.is_combined, "id": request.id}
            case _:
                return _error(2, f"Invalid request: unknown method {request.method!r}", request.id)
        return {"result": None, "id": request.id}

    async def _play_faults(self, ws: WebSocket) -> None:
        while True:
            fault = await self.hub.faults.wait_socket()
            try:
                match fault.kind:
                    case "close":
                        self.finish(fault.code, "fault")
                    case "reset":
                        ws.abort()
                    case "rubbish":
                        self.push(text_frame(fault.text.encode()))
                    case "half_frame":
                        await ws.send_raw(text_frame(b"x" * 200)[:50])
                        ws.abort()
            except SocketClosed:
                return


def _error(code: int, text: str, request_id: int | str | None) -> dict[str, Any]:
    return {"error": {"code": code, "msg": text}, "id": request_id}
