"""The tape player against the recordings and what was verified about them."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio
from fixtures_socket import connect

from piker.errors import ConfigError
from piker.venues._tape import Tape, load_tape
from piker.venues.binance import open_venue

ROOT = Path(__file__).resolve().parents[3]
DATA = Path(os.environ.get("PIKER_TEST_DATA", ROOT.parent / "shared" / "data"))
TAPES = [DATA / "hftbacktest/binance-spot" / f"btcusdt_2024080{day}.gz" for day in (8, 9)]
FIRST_NS = 1723161253937085768
END_NS = 1723161904535092233 + 1

needs_tapes = pytest.mark.skipif(not TAPES[0].exists(), reason=f"no recordings at {DATA}")


@pytest.fixture(scope="module")
def tape() -> Tape:
    """The two contiguous recordings."""
    return load_tape(TAPES)


@pytest.fixture(scope="module")
def verified() -> dict[str, Any]:
    """What was measured on the recordings by other means."""
    found: dict[str, Any] = json.loads((DATA / "VERIFIED.json").read_text())
    return found["binance spot btcusdt 2024-08-08/09"]  # type: ignore[no-any-return]


@needs_tapes
async def test_bars_of_the_tape_equal_the_verified_ones(
    tape: Tape, verified: dict[str, Any]
) -> None:
    source = tape.sources["BTCUSDT"]
    rows = await source.klines(60_000, 0, 1 << 60, END_NS)
    own = [
        [
            int(row["time_ms"]),
            *(int(row[name]) / 100 for name in ("open", "high", "low", "close")),
            int(row["volume"]) / 100_000,
            int(row["count"]),
        ]
        for row in rows
    ]
    assert own == verified["ohlcv_1m_from_trades"]


@needs_tapes
def test_tape_holds_all_trades_with_contiguous_ids(tape: Tape, verified: dict[str, Any]) -> None:
    source = tape.sources["BTCUSDT"]
    assert len(source.rows) == verified["trades"]
    assert source.last_tid(END_NS) - source.first_tid() + 1 == verified["trades"]
    assert (str(source.spec.price_tick), str(source.spec.size_tick)) == ("0.01", "0.00001")


@needs_tapes
def test_nothing_is_public_before_it_was_played(tape: Tape) -> None:
    source = tape.sources["BTCUSDT"]
    assert tape.played(FIRST_NS) == 0
    assert source.last_tid(FIRST_NS) == source.first_tid() - 1
    assert source.depth(1, FIRST_NS)[0] == 50093239218


@needs_tapes
async def test_frames_arrive_verbatim_and_in_order(tape: Tape) -> None:
    async with (
        open_venue(tapes=TAPES[:1], speed=0) as venue,
        connect(venue.url, "/stream?streams=btcusdt@trade/btcusdt@bookTicker") as client,
    ):
        expected = [frame for frame in tape.frames[:3000] if "@depth" not in frame.stream]
        for frame in expected:
            assert await client.next() == frame.combined


@needs_tapes
async def test_whole_tape_arrives_without_a_gap(verified: dict[str, Any]) -> None:
    async with (
        open_venue(tapes=TAPES, speed=0) as venue,
        connect(venue.url, "/ws/btcusdt@trade") as client,
    ):
        with trio.fail_after(20):
            ids = [(await client.next_json())["t"] for _ in range(verified["trades"])]
        assert ids == list(range(ids[0], ids[0] + verified["trades"]))
        assert venue.stats()["dropped_clients"] == 0


@needs_tapes
async def test_raw_stream_is_the_inner_frame(tape: Tape) -> None:
    async with (
        open_venue(tapes=TAPES[:1], speed=0) as venue,
        connect(venue.url, "/ws/btcusdt@trade") as client,
    ):
        first = next(frame for frame in tape.frames if frame.stream == "btcusdt@trade")
        assert await client.next() == first.raw
        assert json.loads(first.raw) == json.loads(first.combined)["data"]


@needs_tapes
async def test_clock_stands_until_the_anchor_and_loses_nothing() -> None:
    async with (
        open_venue(tapes=TAPES[:1], speed=50, start_in_s=0.5) as venue,
        httpx.AsyncClient(trust_env=False) as client,
    ):
        assert venue.clock_spec is not None
        assert venue.clock_spec.base_ns == FIRST_NS
        url = f"{venue.url}/api/v3/historicalTrades?symbol=BTCUSDT"
        assert (await client.get(url)).json() == []
        async with connect(venue.url, "/ws/btcusdt@trade") as ws:
            with trio.fail_after(5):
                assert (await ws.next_json())["t"] == 3735683259


@needs_tapes
def test_book_of_the_tape_never_crosses_as_it_is_played(tape: Tape) -> None:
    source = load_tape(TAPES[:1]).sources["BTCUSDT"]
    for second in range(0, 60, 5):
        _, bids, asks = source.depth(20, FIRST_NS + second * 1_000_000_000)
        assert bids[0][0] < asks[0][0]
        assert len(bids) == len(asks) == 20


def small_tape(folder: Path, lines: list[str], name: str = "t.gz") -> Path:
    """Write a tape of `lines`."""
    path = folder / name
    with gzip.open(path, "wt") as file:
        file.write("\n".join(lines) + "\n")
    return path


def trade_line(ns: int, tid: int, price: str = "10.50") -> str:
    """Return a line with one trade."""
    data = {"e": "trade", "E": ns // 10**6, "s": "XUSDT", "t": tid, "p": price, "q": "0.10"}
    data |= {"T": ns // 10**6, "m": True, "M": True}
    return f"{ns} " + json.dumps({"stream": "xusdt@trade", "data": data}, separators=(",", ":"))


async def test_looped_tape_is_one_market_in_time(tmp_path: Path) -> None:
    start = 1_700_000_000_000_000_000
    path = small_tape(tmp_path, [trade_line(start + n * 10**8, 100 + n) for n in range(4)])
    tape = load_tape([path])
    source = tape.sources["XUSDT"]
    assert source.last_tid(start + 10**9) == 103
    tape.start_again()
    frame = tape.frame(0)
    assert frame.local_ns == start + 4 * 10**8
    assert json.loads(frame.raw)["t"] == 104
    assert json.loads(frame.raw)["T"] == (start + 4 * 10**8) // 10**6
    assert source.last_tid(start + 10**10) == 107
    assert tape.played(start + 4 * 10**8 + 1) == 1


@pytest.mark.parametrize(
    ("lines", "text"),
    [
        (["rubbish"], "expected `<local ns> <json>`"),
        (["1 {}"], "no frame of a Binance stream"),
        ([trade_line(5, 1), trade_line(4, 2)], "order of their time"),
        ([trade_line(5, 1, price="x")], "expected frames of Binance spot"),
    ],
)
def test_broken_tape_is_refused_in_one_line(tmp_path: Path, lines: list[str], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        load_tape([small_tape(tmp_path, lines)])


def test_missing_or_cut_tape_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="readable tape"):
        load_tape([tmp_path / "none.gz"])
    cut = tmp_path / "cut.gz"
    cut.write_bytes(gzip.compress(b"1 {}\n" * 1000)[:20])
    with pytest.raises(ConfigError, match="readable tape"):
        load_tape([cut])
