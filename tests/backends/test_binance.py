"""Binance's endpoints against the contract and against a venue that misbehaves."""

from __future__ import annotations

import gzip
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from contract import BackendContract
from scripted_binance import TRADES, ScriptedBinance, open_scripted_binance

from piker import clock
from piker.brokers import binance
from piker.brokers.binance import api, feed
from piker.brokers.binance.api import get_client
from piker.data import _web_bs
from piker.errors import (
    BadPayload,
    BrokerError,
    ConnectionLost,
    DataThrottle,
    DataUnavailable,
    PikerError,
    SymbolNotFound,
)
from piker.model.feed import Book, Event, FeedState, Quote, Trade
from piker.model.ticks import FEED_DOWN, FEED_LIVE, RECOVERED
from piker.web.server import Response, WebSocket

HTML = Response(b"<html>busy</html>", 200, "text/html")


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shrink the real waits, so that a test takes milliseconds."""
    monkeypatch.setattr(_web_bs, "BACKOFF_FIRST_S", 0.01)


@pytest.fixture
async def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ScriptedBinance]:
    async with open_scripted_binance(tmp_path, monkeypatch) as (script, _):
        yield script


def stream_frame(kind: str, **data: Any) -> bytes:
    return json.dumps({"stream": f"btcusdt@{kind}", "data": data | {"s": "BTCUSDT"}}).encode()


def trade_frame(tid: int) -> bytes:
    now = clock.now_ns() // 1_000_000
    return stream_frame("trade", e="trade", E=now, t=tid, p="100.5", q="0.25", T=now, m=False)


def quote_frame(update: int) -> bytes:
    return stream_frame("bookTicker", u=update, b="100", B="1", a="101", A="2")


def depth_frame(first: int, last: int, bid: str = "100") -> bytes:
    now = clock.now_ns() // 1_000_000
    ids = {"U": first, "u": last}
    return stream_frame("depth@100ms", e="depthUpdate", E=now, b=[[bid, "3"]], a=[], **ids)


async def play_a_little(ws: WebSocket) -> None:
    """Send one of each, and a book that joins the snapshot's update 100."""
    await ws.send_text(depth_frame(95, 101))
    await ws.send_text(trade_frame(TRADES))
    await ws.send_text(quote_frame(101))
    while True:
        await ws.recv()


class TestContract(BackendContract):
    broker = "binance"
    fqme = "btcusdt.spot.binance"
    other_names = ("btcusdt.binance", "BTCUSDT", "btcusdt.spot", "BTCUSDT.SPOT.BINANCE", "btc/usdt")
    unknown = ("doggycoin.spot.binance", "btcusdt.margin.binance", "btcusdt.usdtm.perp.binance")

    @asynccontextmanager
    async def open_venue(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> AsyncIterator[ScriptedBinance]:
        async with open_scripted_binance(folder, monkeypatch) as (script, _):
            script.play = play_a_little
            yield script


@asynccontextmanager
async def open_stream() -> AsyncIterator[trio.MemoryReceiveChannel[dict[str, list[Event]]]]:
    send, recv = trio.open_memory_channel[dict[str, list[Event]]](616)
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            await nursery.start(binance.stream_quotes, send, ["btcusdt"], trio.Event())
            yield recv
            nursery.cancel_scope.cancel()


async def next_event(
    recv: trio.MemoryReceiveChannel[dict[str, list[Event]]], kind: type[Any], state: int = -1
) -> Any:
    """Read until an event of `kind` (and feed state) comes; later ones of the batch are lost."""
    async for message in recv:
        for event in message["btcusdt.spot"]:
            if isinstance(event, kind) and (state < 0 or getattr(event, "state", -1) == state):
                return event
    raise AssertionError("unreachable")


# ---- names ----


@pytest.mark.parametrize(
    "name", ["btcusdt.usdtm.perp.binance", "btcusdt_240628", "btcusdt.usdtm.260925"]
)
async def test_a_futures_name_is_refused_with_what_to_use(
    script: ScriptedBinance, name: str
) -> None:
    with pytest.raises(SymbolNotFound, match="USDⓈ-M future and only spot") as caught:
        await binance.get_mkt_info(name)
    assert caught.value.matches == ("btcusdt.spot.binance",)


@pytest.mark.parametrize(
    "name", ["", ".", "binance", "..binance", "a b;c&d=e", "x" * 300, "☃.binance"]
)
async def test_a_name_that_is_none_is_not_found(script: ScriptedBinance, name: str) -> None:
    with pytest.raises(SymbolNotFound):
        await binance.get_mkt_info(name)


async def test_one_market_is_asked_for_alone_and_once(script: ScriptedBinance) -> None:
    async with get_client():
        for _ in range(3):
            await binance.get_mkt_info("btcusdt.binance")
    (request,) = script.asked("/api/v3/exchangeInfo")
    assert request.query == {"symbol": "BTCUSDT"}


# ---- stream ----


async def test_book_starts_from_a_snapshot_and_follows(script: ScriptedBinance) -> None:
    script.play = play_a_little
    async with open_stream() as recv:
        book = await next_event(recv, Book)
    assert book.update_id == 101
    assert book.bids == [(100.0, 3.0), (99.5, 1.0)]
    assert book.asks == [(100.5, 2.0)]


async def test_a_gap_in_the_book_is_healed_by_a_new_snapshot(script: ScriptedBinance) -> None:
    async def skip_an_update(ws: WebSocket) -> None:
        await ws.send_text(depth_frame(95, 101))
        while len(script.asked("/api/v3/depth")) < 1:
            await trio.sleep(0.001)
        await trio.sleep(0.05)
        script.answers["/api/v3/depth"] = Response(
            b'{"lastUpdateId":200,"bids":[["90","1"]],"asks":[["110","1"]]}'
        )
        await ws.send_text(depth_frame(150, 160))
        await script.stay(ws)

    script.play = skip_an_update
    async with open_stream() as recv:
        assert (await next_event(recv, Book)).update_id == 101
        assert (await next_event(recv, Book)).update_id == 200
        assert feed.statistics()["btcusdt.spot"].stream.book_gaps == 1


async def test_events_of_one_packet_are_one_message(script: ScriptedBinance) -> None:
    from piker.web.server import text_frame

    async def burst(ws: WebSocket) -> None:
        frames = [trade_frame(i) for i in range(20)] + [quote_frame(1)]
        await ws.send_frames(b"".join(text_frame(raw) for raw in frames))
        await script.stay(ws)

    script.play = burst
    async with open_stream() as recv:
        async for message in recv:
            events = message["btcusdt.spot"]
            if isinstance(events[0], Trade):
                break
    assert [event.tid for event in events[:20]] == list(range(20))
    assert isinstance(events[20], Quote)


async def test_a_reconnect_passes_no_trade_twice(script: ScriptedBinance) -> None:
    visits = 0

    async def drop_once(ws: WebSocket) -> None:
        nonlocal visits
        visits += 1
        frames = [trade_frame(5), trade_frame(6)] if visits == 1 else []
        if visits == 1:
            script.kept = frames  # type: ignore[attr-defined]
        for raw in script.kept:  # type: ignore[attr-defined]
            await ws.send_text(raw)
        if visits == 1:
            await trio.sleep(0.05)
            ws.abort()
            return
        await ws.send_text(trade_frame(7))
        await script.stay(ws)

    script.play = drop_once
    tids = []
    async with open_stream() as recv:
        async for message in recv:
            tids += [e.tid for e in message["btcusdt.spot"] if isinstance(e, Trade)]
            if tids and tids[-1] == 7:
                break
    assert tids == [5, 6, 7]
    assert len(script.subscribed) == 2


async def test_a_refused_stream_is_said_and_ends_no_wait(script: ScriptedBinance) -> None:
    script.upgrade = Response(status=429, headers=(("Retry-After", "38"),))
    send, recv = trio.open_memory_channel[dict[str, list[Event]]](616)
    is_live = trio.Event()
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            await nursery.start(binance.stream_quotes, send, ["btcusdt"], is_live)
            down = await next_event(recv, FeedState, FEED_DOWN)
            await is_live.wait()  # history over REST goes on
            nursery.cancel_scope.cancel()
    assert down.cause == "127.0.0.1 says: too many requests (HTTP 429), waiting 38 s"
    assert down.retry_in_s == 38


async def test_a_market_that_was_streamed_starts_while_the_venue_refuses(
    script: ScriptedBinance,
) -> None:
    send, recv = trio.open_memory_channel[dict[str, list[Event]]](616)

    async def start() -> tuple[Any, FeedState | None]:
        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                (init,), first = await nursery.start(
                    binance.stream_quotes, send, ["btcusdt"], trio.Event()
                )
                down = None
                if script.upgrade:
                    down = await next_event(recv, FeedState, FEED_DOWN)
                nursery.cancel_scope.cancel()
        return (init.mkt_info, first["last"]), down

    (listed, last), _ = await start()
    assert last == last
    refusal = Response(status=429, headers=(("Retry-After", "38"),))
    script.answers = dict.fromkeys(("/api/v3/exchangeInfo", "/api/v3/trades"), refusal)
    script.upgrade = refusal
    (kept, last), down = await start()
    assert kept == listed
    assert last != last  # nan: nobody knows
    assert down is not None
    assert "too many requests" in down.cause


async def test_a_market_that_nobody_knows_waits_for_the_venue(script: ScriptedBinance) -> None:
    script.answers = {"/api/v3/exchangeInfo": Response(status=429)}
    send, _ = trio.open_memory_channel[dict[str, list[Event]]](616)
    with pytest.raises(DataThrottle):
        await binance.stream_quotes(send, ["btcusdt"], trio.Event())


async def test_unreadable_frames_are_counted_and_the_stream_goes_on(
    script: ScriptedBinance,
) -> None:
    async def babble(ws: WebSocket) -> None:
        for raw in (b"rubbish", b"{}", b'{"stream":"btcusdt@trade","data":{}}', trade_frame(1)):
            await ws.send_text(raw)
        await script.stay(ws)

    script.play = babble
    async with open_stream() as recv:
        assert (await next_event(recv, Trade)).tid == 1
        stats = feed.statistics()["btcusdt.spot"]
        assert stats.stream.rejected == 3
        assert stats.link.reconnects == 0


async def test_a_stream_of_rubbish_only_is_left(script: ScriptedBinance) -> None:
    async def babble(ws: WebSocket) -> None:
        for _ in range(200):
            await ws.send_text("rubbish")
        await script.stay(ws)

    script.play = babble
    async with open_stream() as recv:
        down = await next_event(recv, FeedState, FEED_DOWN)
        assert "unreadable messages in a row" in down.cause


async def test_a_refused_subscription_is_said(script: ScriptedBinance) -> None:
    async def refuse(ws: WebSocket) -> None:
        await ws.send_text('{"error":{"code":2,"msg":"Invalid request"},"id":1}')
        await script.stay(ws)

    script.play = refuse
    async with open_stream() as recv:
        down = await next_event(recv, FeedState, FEED_DOWN)
    assert "binance refused the subscription (Invalid request)" in down.cause


async def test_an_announced_shutdown_is_followed_by_a_new_connection(
    script: ScriptedBinance,
) -> None:
    async def announce(ws: WebSocket) -> None:
        await ws.send_text('{"stream":"!serverShutdown","data":{"e":"serverShutdown","E":1}}')
        await script.stay(ws)

    script.play = announce
    async with open_stream() as recv:
        assert "ends this connection" in (await next_event(recv, FeedState, FEED_DOWN)).cause
        await next_event(recv, FeedState, FEED_LIVE)
        assert len(script.subscribed) == 2


@pytest.mark.parametrize("path", ["/api/v3/exchangeInfo", "/api/v3/ticker/bookTicker"])
async def test_a_venue_that_sends_pages_at_the_start_is_tried_again(
    script: ScriptedBinance, path: str
) -> None:
    script.answers[path] = HTML
    send, _ = trio.open_memory_channel[Any](1)
    with pytest.raises(ConnectionLost, match="a web page instead of JSON") as caught:
        await binance.stream_quotes(send, ["btcusdt"], trio.Event())
    assert caught.value.is_transient


async def test_two_symbols_are_refused(script: ScriptedBinance) -> None:
    send, _ = trio.open_memory_channel[Any](1)
    with pytest.raises(ValueError, match="expected 1"):
        await binance.stream_quotes(send, ["a", "b"], trio.Event())


# ---- REST ----


@pytest.mark.parametrize(
    ("response", "error", "word"),
    [
        (HTML, BadPayload, "a web page instead of JSON"),
        (Response(b"<html>", 403, "text/html"), BrokerError, "firewall"),
        (Response(b"", 503), ConnectionLost, "failing"),
        (Response(b'{"symbols":[', 200, cut_at=5), ConnectionLost, "broke off"),
        (Response(b"{}", 200, headers=(("Content-Encoding", "gzip"),)), BadPayload, "garbled"),
    ],
)
async def test_a_bad_answer_is_a_sentence_after_bounded_tries(
    script: ScriptedBinance, response: Response, error: type[Exception], word: str
) -> None:
    script.answers["/api/v3/exchangeInfo"] = response
    with pytest.raises(error, match=word):
        async with get_client() as client:
            await client.get_mkt_pairs()
    assert len(script.requests) <= api.TRIES_MAX


async def test_too_many_requests_closes_the_class_for_every_client(script: ScriptedBinance) -> None:
    script.answers["/api/v3/klines"] = Response(
        b'{"code":-1003,"msg":"Too many"}', 429, headers=(("Retry-After", "77"),)
    )
    async with get_client() as client:
        await client.venue_now_ns()
        for _ in range(2):
            with pytest.raises(DataThrottle) as caught:
                await client.bars("BTCUSDT", 60, 0, 60)
            assert 70 < caught.value.retry_after_s <= 77
        assert len(script.asked("/api/v3/klines")) == 1
        assert (await client.quote("BTCUSDT")).bid == 99.5  # a higher class goes on
        with pytest.raises(DataThrottle):
            await client.get_mkt_pairs()  # a lower one does not


@pytest.mark.parametrize("encoding", ["", "gzip"])
async def test_an_answer_that_is_too_long_is_cut_off(
    script: ScriptedBinance, encoding: str
) -> None:
    body = b"[" + b" " * 900_000
    headers = (("Content-Encoding", encoding),) if encoding else ()
    body = gzip.compress(body) if encoding else body
    script.answers["/api/v3/depth"] = Response(body, headers=headers)
    async with get_client() as client:
        with pytest.raises(BadPayload, match="over"):
            await client.get("/api/v3/depth", {}, kind="history", weight=1, size_max=1000)


async def test_a_mute_server_is_given_up(
    script: ScriptedBinance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "ANSWER_TIMEOUT_S", 0.1)

    async def hang(_: object) -> None:
        await trio.sleep_forever()

    monkeypatch.setattr(script, "_depth", hang)
    async with get_client() as client:
        with pytest.raises(ConnectionLost, match=r"did not answer|stopped"):
            await client.snapshot("BTCUSDT")


async def test_nobody_listening_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "brokers.toml").write_text('[binance]\nvenue_url = "http://127.0.0.1:9"\n')
    monkeypatch.setenv("PIKER_CONFIG_DIR", str(tmp_path))
    with pytest.raises(ConnectionLost, match=r"http://127\.0\.0\.1:9 cannot be reached"):
        await binance.get_mkt_info("btcusdt")


# ---- history ----


async def test_trades_come_exactly_by_id_over_pages(script: ScriptedBinance) -> None:
    mkt, _ = await binance.get_mkt_info("btcusdt")
    async with binance.open_history_client(mkt) as (_, config):
        trades = await config["get_trades"](17, 2516, None)
        assert [trade.tid for trade in trades] == list(range(17, 2517))
        assert all(trade.flags == RECOVERED for trade in trades)
        assert len(script.asked("/api/v3/historicalTrades")) == 3
        start_ns = (script.begin_s + 9000) * clock.NS - 5
        since = await config["get_trades"](None, 9004, start_ns)
        assert [trade.tid for trade in since] == [9000, 9001, 9002, 9003, 9004]
        with pytest.raises(ConnectionLost, match="are not served yet"):
            await config["get_trades"](TRADES - 1, TRADES, None)
        with pytest.raises(DataUnavailable, match="use bars"):
            await config["get_trades"](0, 10**9, None)


async def test_trades_with_a_hole_are_refused(script: ScriptedBinance) -> None:
    rows = [script.trade(i) for i in (5, 7)]
    script.answers["/api/v3/historicalTrades"] = Response(json.dumps(rows).encode())
    async with get_client() as client:
        with pytest.raises(BadPayload, match="holes"):
            await client.trades("BTCUSDT", 5, 7)


async def test_a_forming_bar_is_left_out_even_when_our_clock_is_ahead(
    script: ScriptedBinance,
) -> None:
    behind_ms = clock.now_ns() // 1_000_000 - 600_000
    script.answers["/api/v3/time"] = Response(json.dumps({"serverTime": behind_ms}).encode())
    mkt, _ = await binance.get_mkt_info("btcusdt")
    async with binance.open_history_client(mkt) as (get_hist, _):
        bars, _, _ = await get_hist(60)
    assert bars["time"][-1] + 60 <= behind_ms / 1000 + 1


async def test_before_the_first_bar_there_is_no_more_history(script: ScriptedBinance) -> None:
    script.first_kline_s = clock.now_ns() // clock.NS - 3600
    mkt, _ = await binance.get_mkt_info("btcusdt")
    async with binance.open_history_client(mkt) as (get_hist, _):
        bars, start_dt, _ = await get_hist(60)
        assert 58 <= len(bars) <= 60
        with pytest.raises(DataUnavailable, match="no earlier bars"):
            await get_hist(60, end_dt=start_dt)


# ---- search ----


async def test_search_answers_each_request_with_its_id(script: ScriptedBinance) -> None:
    async with get_client() as client:
        answer = await feed.answer_search(client, {"id": 7, "text": "eth"})
        assert answer["id"] == 7
        assert set(answer["results"]) == {"ethusdt.spot", "ethbtc.spot"}
        assert answer["results"]["ethusdt.spot"]["price_tick"] == "0.01"
        for blank in ("", "   ", "...", None, 5, "\x00"):
            assert await feed.answer_search(client, {"id": 8, "text": blank}) == {
                "id": 8,
                "results": {},
            }
        assert (await feed.answer_search(client, [1]))["results"] == {}


async def test_a_failed_search_is_a_sentence(script: ScriptedBinance) -> None:
    script.answers["/api/v3/exchangeInfo"] = HTML
    async with get_client() as client:
        answer = await feed.answer_search(client, {"id": 1, "text": "btc"})
    assert "a web page instead of JSON" in answer["error"]


HOSTILE = [
    b"",
    b"\x00" * 100,
    b"rubbish\r\n\r\n",
    b"HTTP/1.1 999999 X\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999999\r\n\r\n{}",
    b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n{}",
    b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{}",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nX: " + b"a" * 200_000 + b"\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n\xff\xfe: \xff\r\nContent-Length: 2\r\n\r\n{}",
    b"HTTP/1.1 200 OK\r\nX: \xff\xfe\r\nContent-Length: 2\r\n\r\n{}",
    b"HTTP/1.1 301 Moved\r\nLocation: http://[::bad\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 301 Moved\r\nLocation: ftp://a/b\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Encoding: br\r\nContent-Length: 2\r\n\r\n{}",
    b"HTTP/1.1 200 OK\r\nSet-Cookie: \x01=;;;\r\nContent-Length: 2\r\n\r\n{}",
    b"HTTP/1.1 200 OK\r\nX-MBX-USED-WEIGHT-1M: \xb2\r\nContent-Length: 2\r\n\r\n{}",
    b"HTTP/1.1 100 Continue\r\n\r\n" * 50,
    b"HTTP/1.1 204 No Content\r\n\r\n",
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
    b"HTTP/1.1 429 Slow\r\nRetry-After: nan\r\nContent-Length: 0\r\n\r\n",
]


@pytest.mark.parametrize("raw", HOSTILE)
async def test_a_server_that_speaks_no_http_ends_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, raw: bytes
) -> None:
    async def answer(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(raw)

    async with trio.open_nursery() as nursery:
        serve = partial(trio.serve_tcp, answer, 0, host="127.0.0.1")
        (listener,) = await nursery.start(serve)
        url = f"http://127.0.0.1:{listener.socket.getsockname()[1]}"
        (tmp_path / "brokers.toml").write_text(f'[binance]\nvenue_url = "{url}"\n')
        monkeypatch.setenv("PIKER_CONFIG_DIR", str(tmp_path))
        with trio.fail_after(5), pytest.raises(PikerError) as caught:
            await binance.get_mkt_info("btcusdt")
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 400
        nursery.cancel_scope.cancel()
