"""The server edge: requests, refusals, bounds and WebSockets, over real sockets on loopback."""

from __future__ import annotations

import socket as stdlib_socket

import httpx
import pytest
import trio
from fixtures_socket import connect
from websockets.frames import Frame, Opcode

from piker.errors import ConfigError
from piker.web import server as edge
from piker.web.server import (
    Request,
    Reset,
    Response,
    SocketClosed,
    Upgrade,
    WebSocket,
    open_server,
    text_frame,
)


async def echo(request: Request) -> Response | Upgrade | Reset:
    """Answer with what was asked; `/ws` echoes messages, other paths play a broken server."""
    match request.path:
        case "/ws":
            return Upgrade(echo_socket, headers=(("X-Edge", "yes"),), message_bytes_max=1000)
        case "/reset":
            return Reset()
        case "/cut":
            return Response(b"x" * 1000, cut_at=10)
        case "/boom":
            raise RuntimeError("handler bug")
        case _:
            text = f"{request.method} {request.path} {sorted(request.query.items())} "
            return Response(text.encode() + request.body, headers=(("X-Edge", "yes"),))


async def echo_socket(ws: WebSocket) -> None:
    """Send every message back, `many` as three frames in one write; `bye` closes with 4000."""
    while True:
        message = await ws.recv()
        if message == "bye":
            return await ws.close(4000, "as asked")
        if message == "drop":
            return ws.abort()
        if message == "many":
            await ws.send_frames(b"".join(text_frame(b"%d" % n) for n in range(3)))
        elif isinstance(message, str):
            await ws.send_text(message)
        else:
            await ws.send_bytes(message)


async def get(url: str, **kwargs: object) -> httpx.Response:
    """GET once without environment proxies."""
    async with httpx.AsyncClient(trust_env=False, timeout=5) as client:
        return await client.request("GET", url, **kwargs)  # type: ignore[arg-type]


async def test_request_reaches_the_handler_whole() -> None:
    async with open_server(echo) as server, httpx.AsyncClient(trust_env=False) as client:
        answer = await client.post(f"{server.url}/a%20b?x=1&y=%2F", content=b"body")
        assert answer.text == "POST /a b [('x', '1'), ('y', '/')] body"
        assert answer.headers["x-edge"] == "yes"
        again = await client.get(f"{server.url}/second")
        assert again.text.startswith("GET /second")
        assert server.statistics()["requests"] == 2


async def test_head_sends_no_body_but_its_length() -> None:
    async with open_server(echo) as server, httpx.AsyncClient(trust_env=False) as client:
        answer = await client.head(f"{server.url}/x")
        assert answer.content == b""
        assert int(answer.headers["content-length"]) > 0


async def test_handler_error_is_a_500_and_the_server_lives() -> None:
    async with open_server(echo) as server:
        assert (await get(f"{server.url}/boom")).status_code == 500
        assert (await get(f"{server.url}/x")).status_code == 200


async def test_header_too_large_is_refused() -> None:
    async with open_server(echo) as server:
        answer = await get(f"{server.url}/", headers={"x": "y" * 40_000})
        assert answer.status_code == 431
        assert server.statistics()["bad_requests"] == 1


async def test_body_too_large_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edge, "BODY_BYTES_MAX", 100)
    async with open_server(echo) as server, httpx.AsyncClient(trust_env=False) as client:
        answer = await client.post(server.url, content=b"x" * 1000)
        assert answer.status_code == 413


async def test_rubbish_is_refused_with_400() -> None:
    async with open_server(echo) as server:
        async with await trio.open_tcp_stream(server.host, server.port) as stream:
            await stream.send_all(b"\x00\x01 rubbish\r\n\r\n")
            assert (await stream.receive_some(1000)).startswith(b"HTTP/1.1 400")


async def test_half_a_header_is_dropped_after_its_time_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edge, "HEADER_TIMEOUT_S", 0.05)
    async with open_server(echo) as server:
        async with await trio.open_tcp_stream(server.host, server.port) as stream:
            await stream.send_all(b"GET / HTTP/1.1\r\nHost:")
            with trio.fail_after(2):
                assert await stream.receive_some(100) == b""


async def test_connections_are_bounded() -> None:
    async with open_server(echo, connections_max=1) as server:
        async with await trio.open_tcp_stream(server.host, server.port) as first:
            await first.send_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert await first.receive_some(1000)
            with pytest.raises(httpx.TransportError):
                await get(server.url)
        assert server.statistics()["refused"] == 1


async def test_reset_and_cut_answers_are_seen_as_broken() -> None:
    async with open_server(echo) as server:
        for path in ("/reset", "/cut"):
            with pytest.raises(httpx.TransportError):
                await get(server.url + path)


async def test_port_in_use_is_one_line_that_says_what_to_do() -> None:
    with stdlib_socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(ConfigError, match="choose another port"):
            async with open_server(echo, port=taken.getsockname()[1]):
                pass


async def test_socket_echoes_and_coalesced_frames_arrive_one_by_one() -> None:
    async with open_server(echo) as server, connect(server.url, "/ws") as client:
        await client.send("hello")
        assert await client.next() == b"hello"
        await client.send("many")
        assert [await client.next() for _ in range(3)] == [b"0", b"1", b"2"]


async def test_socket_close_code_arrives() -> None:
    async with open_server(echo) as server, connect(server.url, "/ws") as client:
        await client.send("bye")
        assert await client.end() == 4000


async def test_message_above_its_bound_closes_with_1009() -> None:
    async with open_server(echo) as server, connect(server.url, "/ws") as client:
        await client.send("x" * 2000)
        assert await client.end() == 1009


async def test_dropped_socket_ends_without_a_close_frame() -> None:
    async with open_server(echo) as server, connect(server.url, "/ws") as client:
        await client.send("drop")
        assert await client.end() == 1006


async def test_frames_sent_with_the_handshake_are_not_lost() -> None:
    early = Frame(Opcode.TEXT, b"early").serialize(mask=True)
    async with open_server(echo) as server, connect(server.url, "/ws", early) as client:
        assert await client.next() == b"early"


async def test_plain_get_of_a_socket_path_is_told_so() -> None:
    async with open_server(echo) as server:
        assert (await get(f"{server.url}/ws")).status_code == 426


async def test_closed_socket_names_its_code() -> None:
    seen: list[SocketClosed] = []

    async def handler(request: Request) -> Upgrade:
        return Upgrade(run)

    async def run(ws: WebSocket) -> None:
        try:
            await ws.recv()
        except SocketClosed as error:
            seen.append(error)
            raise

    async with open_server(handler) as server, connect(server.url, "/") as client:
        client.protocol.send_close(1001, "leaving")
        await client.flush()
        await client.end()
    assert [(error.code, error.reason) for error in seen] == [(1001, "leaving")]


async def test_cancelled_send_resets_rather_than_sends_half_a_frame() -> None:
    ended = trio.Event()

    async def handler(request: Request) -> Upgrade:
        return Upgrade(run)

    async def run(ws: WebSocket) -> None:
        with trio.move_on_after(0.1):
            while True:
                await ws.send_bytes(bytes(1_000_000))
        await ws.close(4000)
        ended.set()

    async with open_server(handler) as server, connect(server.url, "/") as client:
        with trio.fail_after(5):
            await ended.wait()
        assert await client.end() == 1006
