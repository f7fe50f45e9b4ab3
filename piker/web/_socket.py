"""
One accepted WebSocket of the server edge: frames in, frames out, bounds on both.

Reading order: `text_frame` (a frame without a connection: serialise once, send to many), then
`WebSocket`. Compression is off: on loopback it costs more than it saves. The class must never
hold messages of its own; who cannot wait for a slow peer keeps the queue (and its bound).
"""

from __future__ import annotations

import contextlib
import socket
import struct
from collections import deque

import trio
from websockets.datastructures import Headers
from websockets.exceptions import InvalidState
from websockets.frames import CloseCode, Frame, Opcode
from websockets.http11 import Request as Handshake
from websockets.http11 import Response as HandshakeReply
from websockets.protocol import State
from websockets.server import ServerProtocol

from piker.errors import ConnectionLost

READ_BYTES = 65536
CLOSE_TIMEOUT_S = 2.0  # how long a peer may take to answer our close
SEND_TIMEOUT_S = 20.0  # a peer that takes nothing for this long is gone


class SocketClosed(ConnectionLost):
    """The peer closed the WebSocket or vanished; `code` is 1006 when no close frame came."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"websocket: closed by the peer, code {code} {reason}".rstrip())
        self.code = code
        self.reason = reason


def reset(stream: trio.SocketStream) -> None:
    """Close the TCP connection at once with a reset, losing what was not yet sent."""
    with contextlib.suppress(OSError):
        stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    stream.socket.close()


async def drain(stream: trio.SocketStream, protocol: ServerProtocol | None = None) -> None:
    """
    Read and drop until the peer is done: its close frame, or the end of its stream.

    Closing a socket with unread bytes resets it, and the peer would lose our last words. The
    caller bounds the time.
    """
    if protocol is None or protocol.parser_exc is not None:
        await stream.send_eof()
        protocol = None
    while protocol is None or protocol.close_rcvd is None:
        data = await stream.receive_some(READ_BYTES)
        if not data:
            return
        if protocol is not None:
            protocol.receive_data(data)


def text_frame(payload: bytes) -> bytes:
    """Return `payload` (UTF-8) as one complete unmasked text frame, as a server sends it."""
    size = len(payload)
    if size < 126:
        return bytes((0x81, size)) + payload
    if size < 65536:
        return b"\x81\x7e" + size.to_bytes(2, "big") + payload
    return b"\x81\x7f" + size.to_bytes(8, "big") + payload


class WebSocket:
    """
    The server's end of one WebSocket; made by `piker.web.server`, not by hand.

    One task may receive while others send. `heard_at` is `trio.current_time()` of the last bytes
    from the peer (any frame, so also a pong): what a keep-alive looks at.
    """

    def __init__(self, stream: trio.SocketStream, protocol: ServerProtocol) -> None:
        self._stream = stream
        self._protocol = protocol
        self._send_lock = trio.Lock()
        self._inbox: deque[str | bytes] = deque()
        self._parts: list[bytes] = []
        self._parts_are_text = False
        self._is_reading = False
        self._is_torn = False  # a write was cut off in the middle of a frame
        self.heard_at = trio.current_time()
        self._take_events()  # frames that came in one packet with the handshake

    @property
    def is_open(self) -> bool:
        """Whether frames may still be sent."""
        return self._protocol.state is State.OPEN

    async def recv(self) -> str | bytes:
        """
        Return the next message, text as `str`; pings are answered on the way.

        Raises:
          SocketClosed: no more messages; carries the close code.
        """
        while not self._inbox:
            if not self.is_open:
                raise self._closed()
            self._is_reading = True
            try:
                data = await self._stream.receive_some(READ_BYTES)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                data = b""
            finally:
                self._is_reading = False
            await self._feed(data)
        return self._inbox.popleft()

    async def send_text(self, text: str | bytes) -> None:
        """Send one text message (`bytes`: already UTF-8); raises SocketClosed."""
        await self.send_frames(text_frame(text.encode() if isinstance(text, str) else text))

    async def send_bytes(self, data: bytes) -> None:
        """Send one binary message; raises SocketClosed."""
        if not self.is_open:
            raise self._closed()
        self._protocol.send_binary(data)
        await self._flush()

    async def send_frames(self, frames: bytes) -> None:
        """Send whole frames (made by `text_frame`) in one write; raises SocketClosed."""
        if not self.is_open:
            raise self._closed()
        await self._write([frames])

    async def send_raw(self, data: bytes) -> None:
        """Send bytes as they are, whole frames or not: for a server that plays a broken one."""
        await self._write([data])

    async def ping(self, payload: bytes = b"") -> None:
        """Send a ping; the pong shows as a newer `heard_at`."""
        if not self.is_open:
            raise self._closed()
        self._protocol.send_ping(payload)
        await self._flush()

    async def close(self, code: int = CloseCode.NORMAL_CLOSURE, reason: str = "") -> None:
        """
        Send a close frame and wait a bounded time for the peer's; safe to call twice.

        After a cancelled send the frame under way is incomplete, so the connection is reset.
        """
        with trio.move_on_after(CLOSE_TIMEOUT_S) as scope:
            scope.shield = True
            try:
                async with self._send_lock:
                    if self._is_torn:
                        return self.abort()
                if self.is_open:
                    self._protocol.send_close(code, reason)
                    await self._flush()
                if not self._is_reading:
                    await drain(self._stream, self._protocol)
            except (SocketClosed, InvalidState, trio.BrokenResourceError, trio.ClosedResourceError):
                return

    def abort(self) -> None:
        """Reset the TCP connection without a close frame, as a crashed peer does."""
        reset(self._stream)

    async def _feed(self, data: bytes) -> None:
        if data:
            self.heard_at = trio.current_time()
            self._protocol.receive_data(data)
        else:
            self._protocol.receive_eof()
        self._take_events()
        try:
            await self._flush()
        except SocketClosed:
            if not self._inbox:
                raise

    def _take_events(self) -> None:
        for event in self._protocol.events_received():
            if isinstance(event, Frame):
                self._take(event)

    def _take(self, frame: Frame) -> None:
        # The protocol itself answers pings and closes; only data frames reach the inbox.
        if frame.opcode >= Opcode.CLOSE:
            return
        if frame.opcode != Opcode.CONT:
            self._parts_are_text = frame.opcode == Opcode.TEXT
        self._parts.append(bytes(frame.data))
        if frame.fin:
            whole = b"".join(self._parts)
            self._parts.clear()
            self._inbox.append(whole.decode("utf-8", "replace") if self._parts_are_text else whole)

    async def _flush(self) -> None:
        await self._write(self._protocol.data_to_send())

    async def _write(self, chunks: list[bytes]) -> None:
        payload = b"".join(chunks)  # an empty chunk asks for EOF; closing the stream does that
        if not payload:
            return
        with trio.move_on_after(SEND_TIMEOUT_S) as scope:
            try:
                async with self._send_lock:
                    self._is_torn = True
                    await self._stream.send_all(payload)
                    self._is_torn = False
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                raise self._closed() from None
        if scope.cancelled_caught:
            self.abort()
            raise SocketClosed(1006, f"took nothing for {SEND_TIMEOUT_S:g} s")

    def _closed(self) -> SocketClosed:
        for close in (self._protocol.close_rcvd, self._protocol.close_sent):
            if close is not None:
                return SocketClosed(close.code, close.reason)
        return SocketClosed(1006, "connection lost")


def accept(
    path: str, headers: list[tuple[str, str]], message_bytes_max: int
) -> tuple[ServerProtocol, HandshakeReply]:
    """Return a protocol that took this upgrade request, and its answer (101, or a refusal)."""
    protocol = ServerProtocol(max_size=message_bytes_max)
    request = Handshake(path, _headers(headers))
    protocol.receive_data(request.serialize())
    (event,) = protocol.events_received()
    assert isinstance(event, Handshake)
    return protocol, protocol.accept(event)


def _headers(items: list[tuple[str, str]]) -> Headers:
    headers = Headers()
    for name, value in items:
        headers[name] = value
    return headers
