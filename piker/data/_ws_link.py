"""
One WebSocket connection as a client: `websockets`' sans-I/O protocol over a trio stream.

It connects, reads whole messages, writes, pings and closes; every way to fail is one
`ConnectionLost` with a sentence. What to do then is `_web_bs`'s business. Pings of the peer are
answered here, whenever something is read.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterable
from functools import cache

import trio
from websockets.client import ClientProtocol
from websockets.exceptions import InvalidStatus, WebSocketException
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.protocol import State
from websockets.uri import WebSocketURI, parse_uri

from piker.errors import ConnectionLost
from piker.web.budget import parse_retry_after

MESSAGE_MAX = 1 << 20  # the largest market message seen is a few kB; a book of 5000 levels 300 kB
READ_SIZE = 1 << 16
OPEN_TIMEOUT_S = 10.0
SEND_TIMEOUT_S = 10.0
CLOSE_TIMEOUT_S = 1.0

LOOPBACK = ("127.0.0.1", "::1", "localhost")


@cache
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()


class WsLink:
    """An open connection; one task reads, any task sends."""

    def __init__(self, stream: trio.abc.Stream, proto: ClientProtocol, host: str) -> None:
        self.host = host
        self._stream = stream
        self._proto = proto
        self._sending = trio.Lock()
        self._parts: list[bytes] = []
        self._early: list[bytes] = []

    async def read(self) -> list[bytes]:
        """
        Return the whole messages that the next socket read completes, often none.

        Raises:
          ConnectionLost: the peer closed, broke the protocol or sent over `MESSAGE_MAX`.
        """
        if self._early:
            early, self._early = self._early, []
            return early
        if self._proto.state is not State.OPEN:
            raise ConnectionLost(self._why_closed())
        try:
            data = await self._stream.receive_some(READ_SIZE)
        except (trio.BrokenResourceError, trio.ClosedResourceError, OSError) as err:
            raise ConnectionLost(f"{self.host} dropped the connection") from err
        if data:
            self._proto.receive_data(data)
        else:
            self._proto.receive_eof()
        messages = self._whole_messages(self._proto.events_received())
        await self.flush()
        return messages

    async def send(self, text: bytes) -> None:
        """Send one text message; raises ConnectionLost."""
        await self._send(lambda: self._proto.send_text(text))

    async def ping(self) -> None:
        """Send a ping; the answer counts as something read. Raises ConnectionLost."""
        await self._send(lambda: self._proto.send_ping(b"piker"))

    async def aclose(self) -> None:
        """Say goodbye within a second and close the socket; never raises, not even cancelled."""
        with trio.CancelScope(shield=True), trio.move_on_after(CLOSE_TIMEOUT_S):
            try:
                await self._send(lambda: self._proto.send_close(1000))
            except ConnectionLost:
                pass
        await trio.aclose_forcefully(self._stream)

    async def _send(self, put: Callable[[], None]) -> None:
        try:
            put()
        except WebSocketException as err:
            raise ConnectionLost(self._why_closed()) from err
        await self.flush()

    async def flush(self) -> None:
        """Write what the protocol has queued; raises ConnectionLost."""
        async with self._sending:
            try:
                with trio.fail_after(SEND_TIMEOUT_S):
                    for data in self._proto.data_to_send():
                        if data:  # an empty one asks for a half-close: the final close is one
                            await self._stream.send_all(data)
            except trio.TooSlowError as err:
                raise ConnectionLost(f"{self.host} takes nothing any more") from err
            except (trio.BrokenResourceError, trio.ClosedResourceError, OSError) as err:
                raise ConnectionLost(f"{self.host} dropped the connection") from err

    def _whole_messages(self, events: Iterable[object]) -> list[bytes]:
        messages = []
        for event in events:
            if not isinstance(event, Frame):
                continue
            if event.opcode in (Opcode.TEXT, Opcode.BINARY) and event.fin:
                messages.append(bytes(event.data))
            elif event.opcode in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
                self._parts.append(bytes(event.data))
                if event.fin:
                    messages.append(b"".join(self._parts))
                    self._parts = []
        return messages

    def take_early(self) -> None:
        """Keep messages that came in one packet with the answer to the handshake."""
        self._early = self._whole_messages(self._proto.events_received())

    @property
    def is_garbled(self) -> bool:
        """Whether the peer broke the WebSocket protocol itself."""
        why = self._proto.parser_exc
        return why is not None and not isinstance(why, EOFError)

    def _why_closed(self) -> str:
        if self.is_garbled:
            return f"{self.host} sent what is not WebSocket ({self._proto.parser_exc})"
        close = self._proto.close_rcvd
        if close is None:
            return f"{self.host} dropped the connection"
        reason = f", {close.reason!r}" if close.reason else ""
        return f"{self.host} closed the connection (code {close.code}{reason})"


async def open_link(url: str) -> WsLink:
    """
    Connect to `url` (ws or wss) within `OPEN_TIMEOUT_S`; the caller closes the link.

    Raises:
      ConnectionLost: no connection, no answer, or a refusal: with its Retry-After.
    """
    uri = parse_uri(url)
    with trio.move_on_after(OPEN_TIMEOUT_S):
        try:
            stream = await _connect(uri)
        except (OSError, trio.BrokenResourceError) as err:
            reason = getattr(err, "strerror", None) or str(err) or type(err).__name__
            raise ConnectionLost(f"{uri.host}:{uri.port} cannot be reached ({reason})") from err
        try:
            return await _shake_hands(stream, uri)
        except BaseException:
            await trio.aclose_forcefully(stream)
            raise
    raise ConnectionLost(f"{uri.host}:{uri.port} did not answer within {OPEN_TIMEOUT_S:.0f} s")


async def _connect(uri: WebSocketURI) -> trio.abc.Stream:
    stream = await trio.open_tcp_stream(uri.host, uri.port)
    if not uri.secure:
        return stream
    secured = trio.SSLStream(stream, _tls(), server_hostname=uri.host, https_compatible=True)
    try:
        await secured.do_handshake()
    except BaseException:
        await trio.aclose_forcefully(stream)
        raise
    return secured


async def _shake_hands(stream: trio.abc.Stream, uri: WebSocketURI) -> WsLink:
    # Compression on loopback costs both ends CPU and saves nothing.
    extensions = None if uri.host in LOOPBACK else [ClientPerMessageDeflateFactory()]
    proto = ClientProtocol(uri, extensions=extensions, max_size=MESSAGE_MAX)
    request = proto.connect()
    request.headers["User-Agent"] = "piker"
    proto.send_request(request)
    link = WsLink(stream, proto, uri.host)
    await link.flush()
    while proto.state is State.CONNECTING and proto.handshake_exc is None:
        try:
            data = await stream.receive_some(READ_SIZE)
        except (trio.BrokenResourceError, OSError) as err:
            raise ConnectionLost(f"{uri.host} dropped the connection") from err
        if data:
            proto.receive_data(data)
        else:
            proto.receive_eof()
    if proto.handshake_exc is not None:
        raise explain_refusal(uri.host, proto.handshake_exc)
    link.take_early()
    return link


def explain_refusal(host: str, why: Exception) -> ConnectionLost:
    """Return the refused handshake `why` as one sentence, with the venue's Retry-After."""
    if not isinstance(why, InvalidStatus):
        return ConnectionLost(f"{host} answered with something that is not HTTP or WebSocket")
    response: Response = why.response
    status = response.status_code
    retry_after = response.headers.get("Retry-After")
    if status in (418, 429):
        word = "too many requests" if status == 429 else "this address is banned for a while"
        return ConnectionLost(
            f"{host} says: {word} (HTTP {status})", parse_retry_after(retry_after, 10.0)
        )
    what = "no stream now"
    if status == 403:
        what = "no, by its firewall or for this region"
    elif b"<html" in (response.body or b"")[:1000].lower():
        what = "a web page instead of a market stream"
    return ConnectionLost(
        f"{host} says: {what} (HTTP {status})", parse_retry_after(retry_after, 0.0)
    )
