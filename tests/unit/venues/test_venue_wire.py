"""The venue over its own wire: streams, REST and faults of a made-up market."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio
from fixtures_socket import Client, connect

from piker.errors import ConfigError
from piker.venues import binance as venue_module
from piker.venues._faults import Fault
from piker.venues.binance import Venue, _streams, open_venue

BASE_NS = 1_795_250_000_000_000_000  # an hour of average activity
SPEED = 200


class Api:
    """The venue's REST API, as a client calls it."""

    def __init__(self, client: httpx.AsyncClient, url: str) -> None:
        self._client = client
        self._url = url

    async def __call__(self, path: str, **params: Any) -> Any:
        return (await self.raw(path, **params)).json()

    async def raw(self, path: str, **params: Any) -> httpx.Response:
        """Return the whole response."""
        return await self._client.get(f"{self._url}/api/v3/{path}", params=params)


@asynccontextmanager
async def running(
    speed: float = SPEED, start_in_s: float = 0.0
) -> AsyncIterator[tuple[Venue, Api]]:
    """Open a venue of seed 7 and a client for it."""
    async with (
        open_venue(seed=7, base_ns=BASE_NS, speed=speed, start_in_s=start_in_s) as venue,
        httpx.AsyncClient(trust_env=False, timeout=30) as client,
    ):
        yield venue, Api(client, venue.url)


async def heard(client: Client, count: int) -> list[Any]:
    """Return the next `count` events."""
    with trio.fail_after(30):
        return [await client.next_json() for _ in range(count)]


async def test_streamed_trades_are_contiguous_and_equal_rest() -> None:
    async with running() as (venue, api), connect(venue.url, "/ws/btcusdt@trade") as client:
        events = await heard(client, 300)
        first = events[0]["t"]
        assert [event["t"] for event in events] == list(range(first, first + 300))
        rows = await api("historicalTrades", symbol="BTCUSDT", fromId=first, limit=300)
        assert [(r["id"], r["price"], r["qty"], r["time"], r["isBuyerMaker"]) for r in rows] == [
            (e["t"], e["p"], e["q"], e["T"], e["m"]) for e in events
        ]
        aggregates = await api("aggTrades", symbol="BTCUSDT", fromId=first, limit=300)
        assert [(a["a"], a["p"], a["T"]) for a in aggregates] == [
            (e["t"], e["p"], e["T"]) for e in events
        ]


async def test_bars_equal_the_streamed_trades() -> None:
    async with running(speed=2000) as (venue, api), connect(venue.url, "/ws/solusdt@trade") as ws:
        events = await heard(ws, 1)
        start = events[0]["T"] // 60_000 * 60_000 + 60_000
        stop = start + 180_000
        while events[-1]["T"] < stop:
            events += await heard(ws, 1)
        bars = await api(
            "klines", symbol="SOLUSDT", interval="1m", startTime=start, endTime=stop - 1
        )
        assert len(bars) == 3
        for bar in bars:
            own = [e for e in events if bar[0] <= e["T"] <= bar[6]]
            prices = [float(e["p"]) for e in own]
            assert [float(x) for x in bar[1:5]] == [
                prices[0],
                max(prices),
                min(prices),
                prices[-1],
            ]
            assert bar[8] == len(own)
            assert float(bar[5]) == pytest.approx(sum(float(e["q"]) for e in own), abs=1e-9)


async def test_book_built_from_snapshot_and_diffs_equals_the_partial_book() -> None:
    path = "/stream?streams=ethusdt@depth@100ms/ethusdt@depth20@100ms"
    async with running() as (venue, api), connect(venue.url, path) as ws:
        events = await heard(ws, 2)
        snapshot = await api("depth", symbol="ETHUSDT", limit=1000)
        bids, asks = dict(snapshot["bids"]), dict(snapshot["asks"])
        done, previous, compared = snapshot["lastUpdateId"], None, 0
        for event in [item["data"] for item in events + await heard(ws, 60)]:
            if "lastUpdateId" in event:
                if event["lastUpdateId"] == done:
                    compared += 1
                    assert top(bids, 20, is_reversed=True) == event["bids"]
                    assert top(asks, 20) == event["asks"]
                continue
            assert previous is None or event["U"] == previous + 1
            previous = event["u"]
            if event["u"] > done:
                assert event["U"] <= done + 1 <= event["u"]
                bids.update(event["b"])
                asks.update(event["a"])
                done = event["u"]
        assert compared > 20


def top(levels: dict[str, str], count: int, *, is_reversed: bool = False) -> list[list[str]]:
    """Return the best levels that hold anything."""
    kept = [[price, size] for price, size in levels.items() if float(size)]
    return sorted(kept, key=lambda level: float(level[0]), reverse=is_reversed)[:count]


async def test_combined_stream_wraps_and_lists_subscriptions() -> None:
    async with running() as (venue, _), connect(venue.url, "/stream") as client:
        assert await client.ask("SUBSCRIBE", "btcusdt@bookTicker", "solusdt@trade") == {
            "result": None,
            "id": 1,
        }
        assert (await client.ask("LIST_SUBSCRIPTIONS", id=2))["result"] == [
            "btcusdt@bookTicker",
            "solusdt@trade",
        ]
        event = await client.next_json()
        assert set(event) == {"stream", "data"}
        await client.ask("UNSUBSCRIBE", "btcusdt@bookTicker", id=3)
        assert (await client.ask("LIST_SUBSCRIPTIONS", id=4))["result"] == ["solusdt@trade"]


async def test_bad_control_messages_get_an_error_and_the_socket_lives() -> None:
    async with running() as (venue, _), connect(venue.url, "/ws") as client:
        await client.send("{rubbish")
        assert (await client.next_json())["error"]["code"] == 3
        assert (await client.ask("DANCE"))["error"]["code"] == 2
        assert (await client.ask("LIST_SUBSCRIPTIONS", id=9))["result"] == []


async def test_kline_stream_closes_each_bar_once() -> None:
    async with running() as (venue, api), connect(venue.url, "/ws/btcusdt@kline_1m") as client:
        events = await heard(client, 6)
        closed = [event["k"]["t"] for event in events if event["k"]["x"]]
        assert closed == sorted(set(closed))
        assert closed
        bar = next(event["k"] for event in events if event["k"]["x"])
        (row,) = await api("klines", symbol="BTCUSDT", interval="1m", startTime=bar["t"], limit=1)
        assert row[1:6] == [bar[name] for name in "ohlcv"]
        assert row[8] == bar["n"]


async def test_best_quote_never_crosses_and_partial_books_have_their_depth() -> None:
    path = "/stream?streams=btcusdt@bookTicker/btcusdt@depth20@100ms"
    async with running() as (venue, _), connect(venue.url, path) as client:
        for event in await heard(client, 40):
            data = event["data"]
            if "bids" in data:
                assert len(data["bids"]) == len(data["asks"]) == 20
            else:
                assert float(data["b"]) < float(data["a"])


@pytest.mark.parametrize(
    ("path", "params", "code"),
    [
        ("klines", {"symbol": "NOPE", "interval": "1m"}, -1121),
        ("klines", {"symbol": "BTCUSDT", "interval": "7m"}, -1120),
        ("klines", {"symbol": "BTCUSDT"}, -1102),
        ("depth", {}, -1102),
        ("depth", {"symbol": "BTCUSDT", "limit": "many"}, -1100),
        ("trades", {"symbol": "BTCUSDT", "limit": "0"}, -1130),
        ("exchangeInfo", {"symbols": '["BTCUSDT"'}, -1100),
        ("aggTrades", {"symbol": "BTCUSDT", "fromId": "1", "startTime": "5"}, -1128),
    ],
)
async def test_bad_request_gets_the_code_of_binance(
    path: str, params: dict[str, str], code: int
) -> None:
    async with running(start_in_s=600) as (_, api):
        response = await api.raw(path, **params)
        assert response.status_code == 400
        assert response.json()["code"] == code
        assert int(response.headers["x-mbx-used-weight-1m"]) > 0


async def test_too_much_weight_is_a_429_that_says_when() -> None:
    async with running(speed=1, start_in_s=600) as (_, api):
        answers = [await api.raw("depth", symbol="BTCUSDT", limit=5000) for _ in range(25)]
        refused = [answer for answer in answers if answer.status_code == 429]
        assert refused
        assert refused[0].json()["code"] == -1003
        assert 1 <= int(refused[0].headers["retry-after"]) <= 60


async def test_kline_ranges_read_start_end_and_limit_as_binance_does() -> None:
    async with running(start_in_s=600) as (_, api):
        now = (await api("time"))["serverTime"]

        async def opens(**params: Any) -> list[int]:
            rows = await api("klines", symbol="BTCUSDT", interval="5m", **params)
            return [row[0] for row in rows]

        slot = now // 300_000 * 300_000
        assert await opens(limit=3) == [slot - 600_000, slot - 300_000, slot]
        old = slot - 86_400_000
        assert await opens(startTime=old + 1, limit=2) == [old + 300_000, old + 600_000]
        assert await opens(endTime=old, limit=2) == [old - 300_000, old]
        assert await opens(startTime=old, endTime=old + 300_000) == [old, old + 300_000]
        assert await opens(startTime=now + 86_400_000) == []
        assert (await opens(startTime=0, limit=1))[0] >= now - 8 * 86_400_000


async def test_seconds_have_no_holes() -> None:
    async with running(start_in_s=600) as (_, api):
        rows = await api("klines", symbol="SOLUSDT", interval="1s", limit=1000)
        assert {b[0] - a[0] for a, b in pairwise(rows)} == {1000}
        flat = [row for row in rows if row[8] == 0]
        assert flat
        assert all(row[1] == row[4] and float(row[5]) == 0 for row in flat)


async def test_restart_with_the_same_seed_and_state_has_the_same_history(tmp_path: Path) -> None:
    seen = []
    for later_ns in (0, 3_600_000_000_000):
        async with (
            open_venue(
                seed=3, base_ns=BASE_NS + later_ns, start_in_s=600, state_dir=tmp_path
            ) as venue,
            httpx.AsyncClient(trust_env=False) as client,
        ):
            api = Api(client, venue.url)
            end = BASE_NS // 1_000_000 - 60_000
            seen.append(
                [
                    await api("klines", symbol="BTCUSDT", interval="1m", endTime=end, limit=300),
                    (await api("klines", symbol="BTCUSDT", interval="1h", startTime=0, limit=1)),
                ]
            )
    assert seen[0] == seen[1]


async def test_client_that_does_not_read_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_streams, "QUEUE_BYTES_MAX", 100_000)
    monkeypatch.setattr(_streams, "DROP_GRACE_S", 0.1)
    async with running(speed=5000) as (venue, _):
        path = "/stream?streams=btcusdt@trade/btcusdt@depth@100ms/btcusdt@depth20"
        async with connect(venue.url, path):
            with trio.fail_after(30):
                while not (stats := venue.stats())["dropped_clients"] or stats["clients"]:
                    assert stats["backlog_bytes"] <= 100_000
                    await trio.sleep(0.05)


async def test_shutdown_is_announced_before_the_close() -> None:
    async with connect_to_closing_venue() as client:
        while (event := await client.next_json()).get("e") != "serverShutdown":
            assert event["e"] == "trade"
        assert await client.end() == 1001


async def test_shutdown_is_announced_to_a_client_that_lags(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(venue_module, "GOODBYE_S", 30.0)
    path = "/stream?streams=btcusdt@trade/btcusdt@depth@100ms/btcusdt@depth20"
    async with connect_to_closing_venue(path, speed=5000, until_backlog=True) as client:
        while frame := await client.next():
            if b"serverShutdown" in frame:
                break
        else:
            raise AssertionError("closed without a word")
        assert await client.end() == 1001


async def test_socket_is_closed_after_its_life_with_an_announcement(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_streams, "PING_S", 0.05)
    monkeypatch.setattr(_streams, "LIFE_S", 0.0)
    async with running(start_in_s=600) as (venue, _), connect(venue.url, "/stream") as client:
        assert (await client.next_json())["stream"] == "!serverShutdown"
        assert await client.end() == 1001


async def test_client_that_answers_no_ping_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_streams, "PING_S", 0.02)
    monkeypatch.setattr(_streams, "PONG_TIMEOUT_S", 0.1)
    async with running(start_in_s=600) as (venue, _), connect(venue.url, "/ws") as client:
        await trio.sleep(0.2)  # pings arrive but the client's protocol is not run
        assert await client.end() == 1008


async def test_web_pages_may_not_touch_the_venues_own_paths() -> None:
    async with running(start_in_s=600) as (venue, _), httpx.AsyncClient(trust_env=False) as http:
        answer = await http.get(f"{venue.url}/venue/stats", headers={"origin": "http://evil"})
        assert answer.status_code == 403


@asynccontextmanager
async def connect_to_closing_venue(
    path: str = "/ws/btcusdt@trade", speed: float = SPEED, *, until_backlog: bool = False
) -> AsyncIterator[Client]:
    """Yield a client whose venue has just ended, in the middle of a write if `until_backlog`."""
    async with trio.open_nursery() as nursery:
        stop = trio.Event()
        venues: list[Venue] = []
        ready = trio.Event()

        async def serve() -> None:
            async with open_venue(seed=7, base_ns=BASE_NS, speed=speed) as venue:
                venues.append(venue)
                ready.set()
                await stop.wait()

        nursery.start_soon(serve)
        await ready.wait()
        (venue,) = venues
        async with connect(venue.url, path) as client:
            await client.next_json()
            with trio.fail_after(30):
                while until_backlog and not venue.stats()["backlog_bytes"]:
                    await trio.sleep(0.01)
            stop.set()
            yield client


@pytest.mark.parametrize("kind", ["refuse", "half_frame", "stall"])
async def test_broken_answers_break_the_request_once(kind: Any) -> None:
    async with running(start_in_s=600) as (venue, api):
        venue.faults.add(Fault(kind=kind, path="/api/v3/klines", seconds=0.05))
        with pytest.raises(httpx.TransportError):
            await api("klines", symbol="BTCUSDT", interval="1m")
        assert await api("klines", symbol="BTCUSDT", interval="1m", limit=1)


async def test_faults_over_http_html_status_and_rubbish() -> None:
    async with running(start_in_s=600) as (venue, api), httpx.AsyncClient(trust_env=False) as http:
        url = f"{venue.url}/venue/faults"
        for fault in (
            {"kind": "html"},
            {"kind": "status", "retry_after_s": 3},
            {"kind": "rubbish"},
        ):
            assert (await http.post(url, json=fault | {"path": "/api"})).status_code == 200
        assert len((await http.get(url)).json()) == 3
        assert (await api.raw("ping")).headers["content-type"] == "text/html"
        limited = await api.raw("ping")
        assert (limited.status_code, limited.headers["retry-after"]) == (429, "3")
        assert (await api.raw("ping")).text.startswith('{"e":"trade"')
        assert await api("ping") == {}
        assert (await http.post(url, json={"kind": "nonsense"})).status_code == 400


async def test_muted_stream_falls_silent_while_others_go_on() -> None:
    path = "/stream?streams=btcusdt@trade/ethusdt@trade"
    async with running() as (venue, _), connect(venue.url, path) as client:
        await heard(client, 5)
        venue.faults.add(Fault(kind="mute", path="btcusdt"))
        muted_ms = venue.exchange.played_ns // 1_000_000
        with trio.fail_after(30):
            while (event := (await client.next_json())["data"])["T"] < muted_ms + 60_000:
                assert event["s"] == "ETHUSDT" or event["T"] <= muted_ms


@pytest.mark.parametrize(("kind", "code"), [("close", 1011), ("reset", 1006), ("half_frame", 1006)])
async def test_socket_faults_end_one_socket(kind: Any, code: int) -> None:
    async with running() as (venue, _), connect(venue.url, "/ws/btcusdt@trade") as client:
        venue.faults.add(Fault(kind=kind, where="socket"))
        assert await client.end() == code


async def test_senseless_choices_are_refused_in_one_line(tmp_path: Path) -> None:
    for arguments in ({}, {"seed": 1, "speed": 0}, {"seed": 1, "speed": -1}):
        with pytest.raises(ConfigError, match="venue: "):
            async with open_venue(**arguments):  # type: ignore[arg-type]
                pass
    (tmp_path / "synthetic-1.json").write_text("{")
    with pytest.raises(ConfigError, match="remove the file"):
        async with open_venue(seed=1, state_dir=tmp_path):
            pass
