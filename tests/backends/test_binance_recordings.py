"""Binance's parser against what the venue really sent."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from recordings import binance_spot_lines, cryptofeed_lines, recordings

from piker.brokers.binance import _symbols, _wire
from piker.brokers.binance._book import DepthBook
from piker.brokers.binance._stream import StreamParser, StreamStats
from piker.errors import SequenceGap
from piker.model.feed import Book, Quote, Trade

SNAPSHOT = b'{"lastUpdateId"'


def replay() -> tuple[list[Trade], list[Quote], list[Book], StreamStats]:
    parser = StreamParser("BTCUSDT", levels=20)
    events = []
    for stamp, frame in binance_spot_lines():
        if frame.startswith(SNAPSHOT):
            events += parser.load_snapshot(_wire.parse_snapshot(frame), stamp)
        else:
            events += parser.read([frame], stamp)
    trades = [event for event in events if isinstance(event, Trade)]
    quotes = [event for event in events if isinstance(event, Quote)]
    books = [event for event in events if isinstance(event, Book)]
    return trades, quotes, books, parser.statistics()


def test_recording_yields_every_trade_quote_and_bar() -> None:
    facts = json.loads((recordings() / "VERIFIED.json").read_text())[
        "binance spot btcusdt 2024-08-08/09"
    ]
    trades, quotes, _, stats = replay()
    assert len(trades) == facts["trades"] == 19_904
    assert [trade.tid for trade in trades] == list(
        range(trades[0].tid, trades[0].tid + len(trades))
    )
    assert len(quotes) == facts["messages"]["btcusdt@bookTicker"]
    assert stats.rejected == stats.repeated == stats.trade_gaps == stats.book_gaps == 0
    assert stats.depth_updates == facts["depth_updates"]
    minutes = np.array([trade.time_venue_ns for trade in trades]) // 60_000_000_000 * 60_000
    prices = np.array([trade.price for trade in trades])
    for minute, open_, high, low, close, _, count in facts["ohlcv_1m_from_trades"]:
        mine = prices[minutes == minute]
        assert (mine[0], mine.max(), mine.min(), mine[-1], len(mine)) == (
            open_,
            high,
            low,
            close,
            count,
        )


def test_book_top_equals_book_ticker_where_update_ids_meet() -> None:
    tickers = {}
    for _, frame in binance_spot_lines():
        if b"@bookTicker" in frame:
            quote, update_id = _wire.parse_book_ticker(
                _wire.parse_envelope(frame).data, "BTCUSDT", 0
            )
            tickers[update_id] = (quote.bid, quote.bid_size, quote.ask, quote.ask_size)
    _, _, books, _ = replay()
    met = [(book, tickers[book.update_id]) for book in books if book.update_id in tickers]
    assert len(met) > 1000
    for book, ticker in met:
        assert (*book.bids[0], *book.asks[0]) == ticker


def test_books_are_sorted_uncrossed_and_deep() -> None:
    _, _, books, _ = replay()
    assert len(books) > 6000
    for book in books[::97]:
        assert len(book.bids) == len(book.asks) == 20
        assert [level[0] for level in book.bids] == sorted((p for p, _ in book.bids), reverse=True)
        assert [level[0] for level in book.asks] == sorted(p for p, _ in book.asks)
        assert book.bids[0][0] < book.asks[0][0]


@pytest.mark.parametrize("symbol", ["NKNUSDT", "BLZETH", "LRCBTC", "RUNEEUR"])
def test_snapshots_of_2021_bridge_their_streams(symbol: str) -> None:
    book = DepthBook()
    name = f"{symbol.lower()}@depth@100ms"
    applied = 0
    snapshots = [
        _wire.parse_snapshot(frame)
        for head, frame in cryptofeed_lines("binance-spot/BINANCE.http.0.0")
        if f"symbol={symbol}&" in head
    ]
    assert snapshots
    frames = [
        _wire.parse_depth(envelope.data, symbol)
        for _, raw in cryptofeed_lines("binance-spot/BINANCE.ws.1.0")
        if (envelope := _wire.parse_envelope(raw)).stream == name
    ]
    for frame in frames:
        if frame.first_id > snapshots[0].lastUpdateId and not book.is_synced:
            book.load(snapshots[0])
        try:
            applied += book.apply(frame)
        except SequenceGap:
            pytest.fail(f"gap at {frame.first_id}")
    assert applied


def test_listing_of_2021_gives_resolved_markets() -> None:
    (body,) = [
        frame
        for head, frame in cryptofeed_lines("binance-spot/BINANCE.0")
        if "exchangeInfo" in head
    ]
    pairs = _symbols.make_pairs(_wire.parse_exchange_info(body))
    assert len(pairs) > 1000
    for pair in pairs.values():
        mkt = _symbols.make_market(pair)
        assert mkt.resolved
        assert mkt.price_tick > 0
        assert mkt.size_tick > 0
        assert _symbols.parse_name(mkt.fqme) == pair.symbol
    btc = _symbols.make_market(pairs["BTCUSDT"])
    assert (btc.fqme, btc.bs_mktid) == ("btcusdt.spot.binance", "BTCUSDT")
    assert (str(btc.price_tick), str(btc.size_tick)) == ("0.01", "0.00001")
    hits = _symbols.search_pairs(pairs, "btc/usdt")
    assert hits[0][0].symbol == "BTCUSDT"
    assert _symbols.closest(pairs, "btcusd")[0].startswith("btcusd")


def test_golden_rest_messages_parse() -> None:
    folder = recordings() / "nautilus/binance-spot/http_json"
    klines = _wire.parse_klines((folder / "klines_response.json").read_bytes(), 60, 1 << 60)
    assert re.fullmatch(r"\d{10}", str(klines["time"][0]))
    trades = _wire.parse_trades((folder / "trades_response.json").read_bytes(), 0)
    assert trades
    assert _wire.parse_snapshot((folder / "depth_response.json").read_bytes()).bids
    _wire.parse_exchange_info((folder / "exchange_info_response.json").read_bytes())
    _wire.parse_time_ms((folder / "server_time_response.json").read_bytes())
