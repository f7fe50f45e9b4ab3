"""
The one HTTP and WebSocket server of the house: h11 and sans-IO websockets over trio.

The chart page and the local venues stand on it. It knows nothing of either: a `Handler` gets a
`Request` and returns a `Response`, or an `Upgrade` when `request.is_upgrade` and the socket shall
be accepted. Reading order: the records, `open_server`, `_Connection`. Every size, count and wait
is bounded. For the venues' faults a response can be cut short or replaced by a reset.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from http import HTTPStatus
from urllib.parse import parse_qsl, unquote, urlsplit

import h11
import msgspec
import trio

from piker.errors import ConfigError
from piker.log import get_logger
from piker.web._socket import (
    READ_BYTES,
    SEND_TIMEOUT_S,
    SocketClosed,
    WebSocket,
    accept,
    drain,
    reset,
    text_frame,
)

__all__ = [
    "Handler",
    "Request",
    "Reset",
    "Response",
    "Server",
    "SocketClosed",
    "Upgrade",
    "WebSocket",
    "open_server",
    "text_frame",
]

log = get_logger(__name__)

HEADER_BYTES_MAX = 16_384  # request line and headers together
BODY_BYTES_MAX = 1_000_000
HEADER_TIMEOUT_S = 5.0  # from the first byte of a request to its last
BODY_TIMEOUT_S = 10.0
IDLE_TIMEOUT_S = 75.0  # a kept-alive connection without a request
CONNECTIONS_MAX = 256


class Request(msgspec.Struct, frozen=True):
    """One HTTP request; `path` is decoded, header names are lower case, the last repeat wins."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes = b""
    query_text: str = ""

    @property
    def is_upgrade(self) -> bool:
        """Whether the client asks to go on as a WebSocket."""
        return self.headers.get("upgrade", "").lower() == "websocket"


class Response(msgspec.Struct, frozen=True):
    """What to answer; `cut_at` sends only so many bytes of the body and then resets."""

    body: bytes = b""
    status: int = 200
    content_type: str = "text/plain; charset=utf-8"
    headers: tuple[tuple[str, str], ...] = ()
    cut_at: int | None = None


class Upgrade(msgspec.Struct, frozen=True):
    """Accept the WebSocket and let `run` own it; it is closed when `run` returns."""

    run: Callable[[WebSocket], Awaitable[None]]
    headers: tuple[tuple[str, str], ...] = ()
    message_bytes_max: int = 65_536


class Reset(msgspec.Struct, frozen=True):
    """Reset the connection instead of an answer: for a server that plays a broken one."""


Handler = Callable[[Request], Awaitable[Response | Upgrade | Reset]]


class Server:
    """A listening server: its address and its counters."""

    def __init__(self, host: str, port: int) -> None:
        self.host = host
        self.port = port
        self.connections = 0
        self._counts = {"requests": 0, "sockets": 0, "refused": 0, "bad_requests": 0}

    @property
    def url(self) -> str:
        """The origin, for example `http://127.0.0.1:8123`."""
        return f"http://{self.host}:{self.port}"

    def count(self, what: str) -> None:
        """Add one to the counter `what`."""
        self._counts[what] += 1

    def statistics(self) -> dict[str, int]:
        """Return the counters: connections open now; requests, sockets, refusals so far."""
        return {"connections": self.connections, **self._counts}


@asynccontextmanager
async def open_server(
    handler: Handler,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    connections_max: int = CONNECTIONS_MAX,
) -> AsyncIterator[Server]:
    """
    Serve `handler` on `host:port` (0: a free one); all connections end with the block.

    Raises:
      ConfigError: the address is taken or not ours.
    """
    try:
        listeners = await trio.open_tcp_listeners(port, host=host)
    except OSError as error:
        raise ConfigError(
            f"listen: {host}:{port} is not to be had ({error.strerror or error}); "
            "choose another port with --port, or end the process that holds it"
        ) from None
    server = Server(host, listeners[0].socket.getsockname()[1])

    async def serve_one(stream: trio.SocketStream) -> None:
        if server.connections >= connections_max:
            server.count("refused")
            reset(stream)
            return
        server.connections += 1
        try:
            await _Connection(server, handler, stream).run()
        finally:
            server.connections -= 1
            await _close(stream)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, serve_one, listeners)
        try:
            yield server
        finally:
            nursery.cancel_scope.cancel()


async def _close(stream: trio.SocketStream) -> None:
    with trio.CancelScope(shield=True):
        await trio.aclose_forcefully(stream)


class _Connection:
    """One TCP connection: requests one after the other, until it ends or becomes a WebSocket."""

    def __init__(self, server: Server, handler: Handler, stream: trio.SocketStream) -> None:
        self._server = server
        self._handler = handler
        self._stream = stream
        self._h11 = h11.Connection(h11.SERVER, max_incomplete_event_size=HEADER_BYTES_MAX)

    async def run(self) -> None:
        """Serve requests until either side ends the connection."""
        try:
            while await self._serve_request():
                self._h11.start_next_cycle()
        except h11.RemoteProtocolError as error:
            self._server.count("bad_requests")
            await self._refuse(error.error_status_hint)
        except (trio.BrokenResourceError, trio.ClosedResourceError, h11.LocalProtocolError):
            return

    async def _serve_request(self) -> bool:
        request = await self._read_request()
        if request is None:
            return False
        self._server.count("requests")
        answer = await self._ask(request)
        match answer:
            case Reset():
                reset(self._stream)
                return False
            case Upgrade() if request.is_upgrade:
                await self._run_socket(answer)
                return False
            case Upgrade():
                answer = Response(b"this path is a WebSocket", status=426)
        await self._send(request.method, answer)
        return self._h11.our_state is h11.DONE and self._h11.their_state is h11.DONE

    async def _ask(self, request: Request) -> Response | Upgrade | Reset:
        try:
            return await self._handler(request)
        except Exception:  # relay: to the client, as a 500
            log.exception("request failed path=%s", request.path)
            return Response(b"internal error", status=500)

    async def _read_request(self) -> Request | None:
        """Return the next request, None when the client has gone or took too long."""
        event = await self._next_event(IDLE_TIMEOUT_S)
        if not isinstance(event, h11.Request):
            return None
        size = len(event.target) + sum(len(n) + len(v) for n, v in event.headers)
        if size > HEADER_BYTES_MAX:  # h11 checks only what arrives in pieces
            raise h11.RemoteProtocolError("headers too large", error_status_hint=431)
        self._raw_headers = [(n.decode(), v.decode("latin-1")) for n, v in event.headers]
        self._target = event.target.decode("latin-1")
        body = bytearray()
        if not any(name == "upgrade" for name, _ in self._raw_headers):
            with trio.move_on_after(BODY_TIMEOUT_S) as scope:
                while isinstance(part := await self._next_event(HEADER_TIMEOUT_S), h11.Data):
                    body += part.data
                    if len(body) > BODY_BYTES_MAX:
                        raise h11.RemoteProtocolError("body too large", error_status_hint=413)
            if scope.cancelled_caught or not isinstance(part, h11.EndOfMessage):
                return None
        parts = urlsplit(self._target)
        return Request(
            method=event.method.decode(),
            path=unquote(parts.path),
            query=dict(parse_qsl(parts.query, keep_blank_values=True)),
            headers=dict(self._raw_headers),
            body=bytes(body),
            query_text=parts.query,
        )

    async def _next_event(self, idle_s: float) -> h11.Event | None:
        # A client gets `idle_s` for its first byte and a fixed time from there, so that one which
        # sends a byte now and then does not hold a connection for ever.
        deadline_s = idle_s
        with trio.CancelScope(deadline=trio.current_time() + deadline_s) as scope:
            while (event := self._h11.next_event()) is h11.NEED_DATA:
                if self._h11.they_are_waiting_for_100_continue:
                    await self._write(h11.InformationalResponse(status_code=100, headers=[]))
                is_fresh = not self._h11.trailing_data[0]
                self._h11.receive_data(await self._stream.receive_some(READ_BYTES))
                if is_fresh:
                    scope.deadline = trio.current_time() + HEADER_TIMEOUT_S
        return event if isinstance(event, h11.Event) else None

    async def _send(self, method: str, answer: Response) -> None:
        headers = [
            ("Content-Type", answer.content_type),
            ("Content-Length", str(len(answer.body))),
            *answer.headers,
        ]
        head = h11.Response(
            status_code=answer.status, headers=headers, reason=_reason(answer.status)
        )
        chunks = [self._h11.send(head) or b""]
        if answer.cut_at is not None:
            chunks.append(answer.body[: answer.cut_at])
            await self._stream.send_all(b"".join(chunks))
            reset(self._stream)
            return
        if answer.body and method != "HEAD":
            chunks.append(self._h11.send(h11.Data(data=answer.body)) or b"")
        chunks.append(self._h11.send(h11.EndOfMessage()) or b"")
        with trio.move_on_after(SEND_TIMEOUT_S) as scope:
            await self._stream.send_all(b"".join(chunks))
        if scope.cancelled_caught:
            reset(self._stream)

    async def _write(self, event: h11.Event) -> None:
        await self._stream.send_all(self._h11.send(event) or b"")

    async def _refuse(self, status: int) -> None:
        if self._h11.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            return
        with trio.move_on_after(HEADER_TIMEOUT_S):
            try:
                answer = Response(
                    _reason(status), status=status, headers=(("Connection", "close"),)
                )
                await self._send("GET", answer)
                await drain(self._stream)
            except (trio.BrokenResourceError, trio.ClosedResourceError, h11.LocalProtocolError):
                return

    async def _run_socket(self, answer: Upgrade) -> None:
        protocol, reply = accept(self._target, self._raw_headers, answer.message_bytes_max)
        if reply.status_code == 101:
            for name, value in answer.headers:
                reply.headers[name] = value
        protocol.send_response(reply)
        await self._stream.send_all(b"".join(protocol.data_to_send()))
        if reply.status_code != 101:
            self._server.count("bad_requests")
            return
        self._server.count("sockets")
        early, _ = self._h11.trailing_data
        if early:
            protocol.receive_data(early)
        socket = WebSocket(self._stream, protocol)
        try:
            await answer.run(socket)
        except SocketClosed:
            return
        finally:
            await socket.close()


def _reason(status: int) -> bytes:
    try:
        return HTTPStatus(status).phrase.encode()
    except ValueError:
        return b"Unknown"
