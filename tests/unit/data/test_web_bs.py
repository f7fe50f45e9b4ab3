"""The socket that stays: what it says and does when the other end is slow, rude or gone."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio
from helpers import free_port
from websockets.frames import Frame, Opcode

from piker.data import _web_bs
from piker.data._web_bs import ArrivalModel, Backoff, Batch, LinkState, NoBsWs, open_autorecon_ws
from piker.model.ticks import FEED_CONNECTING, FEED_DOWN, FEED_LIVE, FEED_STALE
from piker.web.server import Request, Response, Upgrade, WebSocket, open_server

Serve = Callable[[WebSocket], Awaitable[None]]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shrink the real waits, so that a test takes milliseconds."""
    monkeypatch.setattr(_web_bs, "BACKOFF_FIRST_S", 0.01)
    monkeypatch.setattr(_web_bs, "WATCH_EVERY_S", 0.01)
    monkeypatch.setattr(_web_bs, "SILENCE_LEAST_S", 0.05)
    monkeypatch.setattr(_web_bs, "PROBE_EVERY_S", 0.02)


@asynccontextmanager
async def open_pair(serve: Serve, **options: object) -> AsyncIterator[tuple[NoBsWs, list[Request]]]:
    """Open a server that runs `serve` on every socket, and a `NoBsWs` on it."""
    requests: list[Request] = []

    async def handle(request: Request) -> Upgrade:
        requests.append(request)
        return Upgrade(serve)

    async with open_server(handle) as server:
        url = f"ws://127.0.0.1:{server.port}/stream"
        with trio.fail_after(5):
            async with open_autorecon_ws(url, **options) as ws:  # type: ignore[arg-type]
                yield ws, requests


async def state_of(ws: NoBsWs, state: int) -> LinkState:
    """Read until the connection is in `state`."""
    async for item in ws:
        if isinstance(item, LinkState) and item.state == state:
            return item
    raise AssertionError("unreachable")


async def messages_of(ws: NoBsWs, n: int) -> list[bytes]:
    """Read until `n` messages have come."""
    found: list[bytes] = []
    while len(found) < n:
        item = await ws.__anext__()
        if isinstance(item, Batch):
            found += item.messages
    return found


async def stay(ws: WebSocket) -> None:
    while True:
        await ws.recv()


async def test_live_is_said_before_the_first_message() -> None:
    async def serve(ws: WebSocket) -> None:
        await ws.send_text("a")
        await ws.send_text("b")
        await stay(ws)

    async with open_pair(serve) as (ws, _):
        assert (await ws.__anext__()) == LinkState(FEED_CONNECTING, "connecting", 1)
        assert (await ws.__anext__()) == LinkState(FEED_LIVE, "", 1)
        assert await messages_of(ws, 2) == [b"a", b"b"]
        assert ws.statistics().messages == 2


async def test_a_dropped_connection_is_made_again_and_subscribed_again() -> None:
    subscribed: list[str | bytes] = []

    async def serve(ws: WebSocket) -> None:
        subscribed.append(await ws.recv())
        await ws.send_text(str(len(subscribed)))
        if len(subscribed) < 3:
            ws.abort()
        else:
            await stay(ws)

    @asynccontextmanager
    async def subscribe(ws: NoBsWs) -> AsyncIterator[None]:
        await ws.send_msg({"method": "SUBSCRIBE"})
        yield

    async with open_pair(serve, fixture=subscribe) as (ws, _):
        while (await messages_of(ws, 1)) != [b"3"]:
            pass
        assert subscribed == ['{"method":"SUBSCRIBE"}'] * 3
        assert ws.statistics().reconnects == 2


async def test_attempts_count_up_and_waits_grow() -> None:
    async def serve(ws: WebSocket) -> None:
        ws.abort()

    async with open_pair(serve) as (ws, requests):
        downs = [await state_of(ws, FEED_DOWN) for _ in range(5)]
        assert [down.attempt for down in downs] == [1, 2, 3, 4, 5]
        assert downs[-1].retry_in_s > 2 * downs[0].retry_in_s
        assert "dropped the connection, waiting" in downs[0].cause
        assert len(requests) == 5


@pytest.mark.parametrize(
    ("response", "cause", "least_s"),
    [
        (Response(status=429, headers=(("Retry-After", "38"),)), "too many requests", 38),
        (Response(status=418, headers=(("Retry-After", "500"),)), "banned for a while", 500),
        (Response(b"<html>", 403, "text/html"), "firewall", 0),
        (Response(b"<html>busy</html>", 200, "text/html"), "a web page instead", 0),
        (Response(status=503), "HTTP 503", 0),
    ],
)
async def test_a_refused_handshake_is_a_sentence(
    response: Response, cause: str, least_s: float
) -> None:
    async def handle(_: Request) -> Response:
        return response

    async with open_server(handle) as server:
        with trio.fail_after(5):
            async with open_autorecon_ws(f"ws://127.0.0.1:{server.port}/") as ws:
                down = await state_of(ws, FEED_DOWN)
    assert cause in down.cause
    assert down.retry_in_s >= least_s
    assert "\n" not in down.cause


async def test_nobody_listening_is_a_sentence() -> None:
    port = free_port()
    async with open_autorecon_ws(f"ws://127.0.0.1:{port}/") as ws:
        down = await state_of(ws, FEED_DOWN)
    assert f"127.0.0.1:{port} cannot be reached" in down.cause


@pytest.mark.parametrize(
    ("raw", "rejected"),
    [
        (b"\x8f\x8f\x8f rubbish", 1),  # an opcode that does not exist
        (b"\x81\x7f" + (1 << 30).to_bytes(8, "big"), 1),  # announces a gigabyte
        (b"\x81\x05ab", 0),  # half a frame, then the end
    ],
)
async def test_rubbish_and_half_frames_end_in_a_new_connection(raw: bytes, rejected: int) -> None:
    visits = 0

    async def serve(ws: WebSocket) -> None:
        nonlocal visits
        visits += 1
        if visits == 1:
            await ws.send_raw(raw)
            if not rejected:
                ws.abort()
                return
        else:
            await ws.send_text("whole")
        await stay(ws)

    async with open_pair(serve) as (ws, _):
        assert await messages_of(ws, 1) == [b"whole"]
        assert ws.statistics().rejected == rejected
        assert ws.statistics().reconnects == 1


async def test_messages_in_fragments_come_out_whole() -> None:
    async def serve(ws: WebSocket) -> None:
        parts = [(Opcode.TEXT, b"ab", False), (Opcode.PING, b"", True), (Opcode.CONT, b"cd", True)]
        for opcode, data, fin in parts:
            await ws.send_raw(Frame(opcode, data, fin).serialize(mask=False))
        await stay(ws)

    async with open_pair(serve) as (ws, _):
        assert await messages_of(ws, 1) == [b"abcd"]


async def test_pings_of_the_peer_are_answered() -> None:
    answered = trio.Event()

    async def serve(ws: WebSocket) -> None:
        heard_at = ws.heard_at
        await ws.ping()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stay, ws)
            while not answered.is_set():
                await trio.sleep(0.001)
                if ws.heard_at != heard_at:
                    answered.set()

    async with open_pair(serve):
        await answered.wait()


async def test_a_peer_that_answers_no_ping_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_web_bs, "PING_EVERY_S", 0.05)
    monkeypatch.setattr(_web_bs, "PONG_WITHIN_S", 0.03)
    monkeypatch.setattr(_web_bs, "SILENCE_LEAST_S", 60.0)

    async def serve(ws: WebSocket) -> None:
        await trio.sleep_forever()  # never reads, so never answers

    async with open_pair(serve) as (ws, _):
        assert "did not answer a ping" in (await state_of(ws, FEED_DOWN)).cause


async def test_a_connection_is_renewed_before_its_time_is_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_web_bs, "ROTATE_AFTER_S", 0.05)
    async with open_pair(stay) as (ws, requests):
        assert "24 h limit" in (await state_of(ws, FEED_DOWN)).cause
        await state_of(ws, FEED_CONNECTING)
        assert requests


async def talk_then_mute(ws: WebSocket) -> None:
    for _ in range(30):
        await ws.send_text("x")
    await stay(ws)


def hurry(ws: NoBsWs) -> None:
    ws.arrivals = ArrivalModel(least_s=0.05, first_s=0.05)


async def test_a_silent_stream_is_stale_and_then_replaced() -> None:
    async with open_pair(talk_then_mute) as (ws, _):
        hurry(ws)
        said: list[LinkState] = []
        while not said or said[-1].state != FEED_DOWN:
            item = await ws.__anext__()
            said += [item] if isinstance(item, LinkState) else []
        # More than one when the server itself is kept waiting before it is mute for good.
        stale = [item for item in said if item.state == FEED_STALE]
        assert "127.0.0.1 sent nothing for" in stale[-1].cause
        assert "sent nothing" in said[-1].cause
        assert ws.statistics().stale == len(stale)


async def test_a_market_that_is_really_quiet_is_not_stale() -> None:
    asked = 0
    asked_twice = trio.Event()

    async def agree() -> bool:
        nonlocal asked
        asked += 1
        if asked == 2:
            asked_twice.set()
        return True

    async with open_pair(talk_then_mute, probe=agree) as (ws, _):
        hurry(ws)
        before = ws.arrivals.expected_gap_s
        await asked_twice.wait()
        assert ws.statistics().stale == 0
        assert ws.statistics().reconnects == 0
        assert ws.arrivals.expected_gap_s > before


async def test_a_stream_that_missed_a_move_is_replaced_at_once() -> None:
    async def disagree() -> bool:
        return False

    async with open_pair(talk_then_mute, probe=disagree) as (ws, _):
        hurry(ws)
        await state_of(ws, FEED_STALE)
        await state_of(ws, FEED_DOWN)


async def test_a_slow_reader_holds_the_venue_back() -> None:
    sent = 0

    async def serve(ws: WebSocket) -> None:
        nonlocal sent
        while True:
            await ws.send_text("x" * 60_000)
            sent += 1

    async with open_pair(serve) as (ws, _):
        before = -1
        while sent != before or not sent:  # until nothing moves any more
            before = sent
            await trio.sleep(0.2)
        assert sent * 60_000 < 64 << 20
        assert ws.statistics().reconnects == 0
        more = sent + 10
        assert len(await messages_of(ws, more)) >= more  # nothing was lost meanwhile


async def test_reset_says_why() -> None:
    async with open_pair(talk_then_mute) as (ws, requests):
        await state_of(ws, FEED_LIVE)
        ws.reset("the book makes no sense")
        assert (await state_of(ws, FEED_DOWN)).cause.startswith("the book makes no sense, waiting")
        await state_of(ws, FEED_LIVE)
        assert len(requests) == 2


async def test_leaving_while_connecting_is_immediate() -> None:
    async with open_mute() as port:
        with trio.fail_after(1):
            async with open_autorecon_ws(f"ws://127.0.0.1:{port}/") as ws:
                await state_of(ws, FEED_CONNECTING)
                await trio.sleep(0.05)


@asynccontextmanager
async def open_mute() -> AsyncIterator[int]:
    """Open a TCP server that accepts and says nothing."""
    async with trio.open_nursery() as nursery:

        async def hold(_: trio.SocketStream) -> None:
            await trio.sleep_forever()

        (listener,) = await nursery.start(partial(trio.serve_tcp, hold, 0, host="127.0.0.1"))
        yield listener.socket.getsockname()[1]
        nursery.cancel_scope.cancel()


def test_backoff_grows_to_its_limit_and_starts_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_web_bs, "BACKOFF_FIRST_S", 0.2)
    backoff = Backoff()
    waits = [backoff.wait_s() for _ in range(20)]
    assert 0.14 <= waits[0] <= 0.26
    assert all(wait <= 39 for wait in waits)
    assert waits[-1] >= 21
    backoff.reset()
    assert backoff.wait_s() <= 0.26


def test_expected_silence_follows_the_market() -> None:
    busy, sleepy = ArrivalModel(), ArrivalModel()
    for _ in range(500):
        busy.seen(0.01)
        sleepy.seen(12.0)
    assert busy.expected_gap_s == 5.0
    assert 200 < sleepy.expected_gap_s <= 300
    for _ in range(100):
        sleepy.relax()
    assert sleepy.expected_gap_s == 300
