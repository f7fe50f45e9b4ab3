"""
Hostile input: mutated frames and answers never crash, never stall and are counted.

100,000 frames and 10,000 answers from a fixed seed; `PIKER_FUZZ_SEED` tries another one.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from random import Random

import numpy as np
import pytest

from piker.brokers.binance import _answers, _symbols, _wire
from piker.brokers.binance._stream import StreamParser
from piker.errors import BadPayload, PikerError, SequenceGap
from piker.model.feed import Book, Quote, Trade

SEED = int(os.environ.get("PIKER_FUZZ_SEED", "6116"))
FRAMES = 100_000
ANSWERS = 10_000
STALL_S = 0.1
T0 = 1_723_161_255_000

RUBBISH = [
    b"", b" ", b"null", b"0", b"[]", b"{}", b'"x"', b"\x00" * 50, b"\xff\xfe{}", b"NaN",
    b"[" * 5000, b'{"a":' * 3000, b'{"stream":', b"<html>busy</html>", b"9" * 5000,
    b'{"stream":"btcusdt@trade","data":' + b"[" * 3000, b'{"id":1,"error":7}',
    b'{"stream":"other@trade","data":{}}', b'{"e":"unknown"}', b'"' + b"\\u0000" * 9000 + b'"',
]  # fmt: skip
VALUES = [
    "nan", "inf", "-inf", "-1", "0", "1e400", "1e-400", "1e15", "99999999999999999999999", "",
    "null", "true", "[]", "{}", '"NaN"', '"Infinity"', '"-1"', '"0"', '"1e308"', '"abc"', '"1,5"',
    "[[]]", '[["1"]]', '[["1","nan"]]', "-9223372036854775808", "9223372036854775808", '"\\ud800"',
]  # fmt: skip


def frame(stream: str, **data: object) -> bytes:
    return json.dumps({"stream": f"btcusdt@{stream}", "data": data}).encode()


def good_frames(n: int, rng: Random) -> list[bytes]:
    """Return `n` frames of a believable stream: contiguous trades, quotes and book updates."""
    frames, tid, update = [], 1000, 5000
    for i in range(n):
        now = T0 + i * 10
        price = 61000 + rng.random() * 10
        match rng.randrange(3):
            case 0:
                tid += 1
                data = dict(e="trade", E=now, s="BTCUSDT", t=tid, p=f"{price:.2f}", q="0.01", T=now)
                frames.append(frame("trade", **data, m=True, M=True))
            case 1:
                data = dict(u=update, s="BTCUSDT", b=f"{price:.2f}", B="1.0", a=f"{price + 1:.2f}")
                frames.append(frame("bookTicker", **data, A="2.0"))
            case _:
                levels = [[f"{price - k:.2f}", f"{rng.random():.5f}"] for k in range(1, 9)]
                data = dict(e="depthUpdate", E=now, s="BTCUSDT", U=update + 1, u=update + 3)
                update += 3
                frames.append(frame("depth@100ms", **data, b=levels, a=[["61999.0", "1.0"]]))
    return frames


def mutate(raw: bytes, rng: Random, others: list[bytes]) -> bytes:
    match rng.randrange(7):
        case 0:
            flipped = bytearray(raw)
            for _ in range(rng.randrange(1, 5)):
                flipped[rng.randrange(len(flipped))] = rng.randrange(256)
            return bytes(flipped)
        case 1:
            return raw[: rng.randrange(len(raw))]
        case 2:
            return raw + raw
        case 3:
            return rng.choice(others)  # another time's frame: a repeat, or out of order
        case 4:
            return swap_value(raw, rng)
        case 5:
            return rng.choice(RUBBISH)
        case _:
            return raw


def swap_value(raw: bytes, rng: Random) -> bytes:
    """Put a value of another type, or out of range, in place of one of the payload's."""
    doc = json.loads(raw)
    inner = doc["data"] if isinstance(doc, dict) and "data" in doc else doc
    marks = inner if isinstance(inner, dict) else {0: inner}
    key = rng.choice(list(marks))
    marks[key] = "@@"
    return (
        json.dumps(doc if isinstance(inner, dict) else marks[0])
        .replace('"@@"', rng.choice(VALUES))
        .encode()
    )


def is_json(raw: bytes) -> bool:
    try:
        json.loads(raw)
    except (ValueError, RecursionError):
        return False
    return True


def timed(call: Callable[[], object]) -> float:
    """Return the CPU seconds of `call`: what the actor's loop would have stood still."""
    begun = time.thread_time()
    call()
    return time.thread_time() - begun


def test_mutated_frames_neither_crash_nor_stall_and_each_reject_is_counted() -> None:
    rng = Random(SEED)
    good = good_frames(2000, rng)
    parser = StreamParser("BTCUSDT", levels=20)
    snapshot = _wire.parse_snapshot(
        b'{"lastUpdateId":5000,"bids":[["60000","1"]],"asks":[["62000","1"]]}'
    )
    worst = 0.0
    events: list[object] = []
    for number in range(FRAMES):
        raw = mutate(good[number % len(good)], rng, good)
        before = parser.rejected
        worst = max(worst, timed(lambda: events.extend(parser.read([raw], T0))))
        if not is_json(raw):
            assert parser.rejected == before + 1, raw
        if parser.needs_snapshot and number % 50 == 0:
            try:
                parser.load_snapshot(snapshot, T0)
            except SequenceGap:
                parser.reconnected()
    assert worst < STALL_S
    stats = parser.statistics()
    assert stats.frames == FRAMES
    assert stats.rejected > FRAMES // 4
    for event in events:
        match event:
            case Trade():
                assert 0 < event.price < 1e15
                assert 0 < event.size < 1e15
                assert 0 <= event.tid < 1 << 62
                assert 0 < event.time_venue_ns < 1 << 63
            case Quote():
                assert not event.bid >= event.ask
            case Book() if event.bids and event.asks:
                assert event.bids[0][0] < event.asks[0][0]


def test_a_stream_is_whole_again_after_rubbish() -> None:
    rng = Random(1)
    good = good_frames(300, rng)
    parser = StreamParser("BTCUSDT", levels=5)
    parser.read([mutate(raw, rng, good) for raw in good], T0)
    parser.reconnected()
    parser.read(
        [frame("depth@100ms", e="depthUpdate", E=T0, s="BTCUSDT", U=9001, u=9002, b=[], a=[])], T0
    )
    book = parser.load_snapshot(
        _wire.parse_snapshot(b'{"lastUpdateId":9000,"bids":[["9","1"]],"asks":[["11","1"]]}'), T0
    )
    assert isinstance(book[0], Book)
    assert book[0].update_id == 9002
    late = T0 + 10_000_000
    trades = [
        frame(
            "trade",
            e="trade",
            E=late + i,
            s="BTCUSDT",
            t=70_000 + i,
            p="1",
            q="1",
            T=late + i,
            m=False,
        )
        for i in range(3)
    ]
    passed = parser.read(trades, T0)
    assert [event.tid for event in passed if isinstance(event, Trade)] == [
        70_000, 70_001, 70_002,
    ]  # fmt: skip


KLINES = json.dumps(
    [
        [T0 // 60_000 * 60_000 + i * 60_000, "2", "4", "1", "3", "5", T0, "1", 7, "1", "1", "0"]
        for i in range(9)
    ]
).encode()
TRADE_ROWS = json.dumps(
    [dict(id=i, price="1.5", qty="2", quoteQty="3", time=T0, isBuyerMaker=True) for i in range(9)]
).encode()
LISTING = json.dumps(
    dict(
        timezone="UTC",
        symbols=[
            dict(
                symbol="BTCUSDT",
                status="TRADING",
                baseAsset="BTC",
                quoteAsset="USDT",
                filters=[
                    dict(filterType="PRICE_FILTER", tickSize="0.01000000"),
                    dict(filterType="LOT_SIZE", stepSize="0.00001000"),
                ],
            )
        ],
    )
).encode()
CALLS: list[tuple[bytes, Callable[[bytes], object]]] = [
    (KLINES, lambda body: _wire.parse_klines(body, 60, 1 << 60)),
    (TRADE_ROWS, lambda body: _wire.parse_trades(body, 0)),
    (b'[{"a":1,"p":"1","q":"1","f":5,"l":9,"T":1723161255000}]', _wire.parse_first_trade_id),
    (LISTING, lambda body: _symbols.make_pairs(_wire.parse_exchange_info(body))),
    (b'{"serverTime":1723161255000}', _wire.parse_time_ms),
    (b'{"lastUpdateId":5,"bids":[["1","2"]],"asks":[["3","4"]]}', _wire.parse_snapshot),
    (
        b'{"symbol":"BTCUSDT","bidPrice":"1","bidQty":"1","askPrice":"2","askQty":"1"}',
        lambda body: _wire.parse_rest_quote(body, "BTCUSDT", 0),
    ),
]
STATUSES = [200, 200, 200, 200, 301, 400, 401, 403, 404, 418, 429, 500, 502, 503]
RETRY_AFTERS = ["", "5", "-1", "nan", "1e9", "9" * 400, "Wed, 21 Oct 2026 07:28:00 GMT", "\u0663"]
ERRORS = [
    b'{"code":-1121,"msg":"Invalid symbol."}', b'{"code":-1003,"msg":"Too many"}',
    b'{"code":"x"}', b'{"code":-1,"msg":5}', b"<html><h1>403</h1></html>",
]  # fmt: skip


def test_hostile_answers_neither_crash_nor_stall() -> None:
    rng = Random(SEED)
    worst, passed, refused = 0.0, 0, 0
    for _ in range(ANSWERS):
        body, parse = rng.choice(CALLS)
        body = (
            rng.choice(ERRORS)
            if rng.randrange(6) == 0
            else mutate(body, rng, [b for b, _ in CALLS])
        )
        status = rng.choice(STATUSES)
        headers = {"retry-after": rng.choice(RETRY_AFTERS)}
        begun = time.thread_time()
        try:
            with np.errstate(all="raise"):
                parse(_answers.check_answer(status, headers, body, "/api/v3/x"))
            passed += 1
        except PikerError as err:
            refused += len(str(err)) < 600
        worst = max(worst, time.thread_time() - begun)
    assert worst < STALL_S
    assert passed > ANSWERS // 50
    assert refused == ANSWERS - passed


@pytest.mark.parametrize(
    ("status", "body", "word"),
    [
        (200, b"<!doctype html><html>", "a web page instead of JSON"),
        (200, b"", "something else instead of JSON"),
        (429, b"", "too many requests, waiting 38 s"),
        (418, b"{}", "this address is banned for a while, waiting 38 s"),
        (403, b"<html>", "firewall"),
        (503, b"<html>", "the venue is failing (HTTP 503)"),
        (400, b'{"code":-1100,"msg":"Illegal characters"}', "Illegal characters (-1100)"),
    ],
)
def test_a_refusal_is_a_sentence(status: int, body: bytes, word: str) -> None:
    with pytest.raises(PikerError) as caught:
        _answers.check_answer(status, {"retry-after": "38"}, body, "/api/v3/klines")
    assert word in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "row",
    [
        [T0, "2", "4", "1", "3", "5", T0, "1", 7, "1", "1", "0"],  # off the grid
        [0, "2", "4", "1", "3", "5", T0, "1", 7, "1", "1", "0"],  # time 0
        [T0 // 60_000 * 60_000, "2", "1", "4", "3", "5", T0, "1", 7, "1", "1", "0"],  # low > high
        [T0 // 60_000 * 60_000, "nan", "4", "1", "3", "5", T0, "1", 7, "1", "1", "0"],
        [T0 // 60_000 * 60_000, "2", "4", "1", "3", "-5", T0, "1", 7, "1", "1", "0"],
    ],
)
def test_a_kline_that_is_no_bar_is_refused(row: list[object]) -> None:
    with pytest.raises(BadPayload):
        _wire.parse_klines(json.dumps([row]).encode(), 60, 1 << 60)
