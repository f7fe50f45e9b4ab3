"""
Binance spot's market data endpoints: live events and search (history is in `_history`).

Evidence (binance-spot-api-docs, 2026-07-21; recordings of 2021 and 2024):
`@trade` side: `m` says that the buyer was the maker, so the seller was the aggressor. Its time is
`T`, the venue's. The first message of a stream replays nothing. `@bookTicker` carries no time.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import tractor
import trio

from piker import clock
from piker.brokers.binance import _symbols
from piker.brokers.binance._answers import try_again_later
from piker.brokers.binance._kept import find_kept, keep, path_of_kept
from piker.brokers.binance._stream import StreamParser, StreamStats
from piker.brokers.binance.api import Client, get_client
from piker.config import settings
from piker.data._web_bs import Backoff, Batch, LinkState, NoBsWs, WsStats, open_autorecon_ws
from piker.data.validate import FeedInit
from piker.errors import (
    ConnectionLost,
    DataThrottle,
    PikerError,
)
from piker.log import get_logger
from piker.model.feed import Event, FeedState, Quote
from piker.model.ticks import FEED_CONNECTING, FEED_DOWN, FEED_LIVE
from piker.service.rpc import endpoint

log = get_logger(__name__)

REJECTED_MAX = 50  # unreadable messages in a row: the stream itself is broken
PROBE_TIMEOUT_S = 5.0
REFUSAL_WAIT_S = 5.0
ASK_S = 4.0  # for listing and first quote, when there is a kept listing to start from


class FeedStats(msgspec.Struct, frozen=True):
    """Counters of one live market."""

    link: WsStats
    stream: StreamStats


_feeds: trio.lowlevel.RunVar[dict[str, _LiveMarket]] = trio.lowlevel.RunVar("binance feeds")


def statistics() -> dict[str, FeedStats]:
    """Return the counters of this actor's live markets by bs_fqme."""
    return {name: live.statistics() for name, live in _live_markets().items()}


def _live_markets() -> dict[str, _LiveMarket]:
    try:
        return _feeds.get()
    except LookupError:
        _feeds.set({})
        return _feeds.get()


async def stream_quotes(
    send_chan: trio.abc.SendChannel[dict[str, list[Event]]],
    symbols: Sequence[str],
    feed_is_live: trio.Event,
    loglevel: str | None = None,
    task_status: trio.TaskStatus[tuple[list[FeedInit], dict[str, Any]]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """
    Send the events of one market, `{bs_fqme: [event, …]}` per socket read, until cancelled.

    Reconnects by itself and says so with `FeedState` events. `started` gets the market's
    `FeedInit` and a first quote from REST, so that nobody waits for a trade; while REST is out of
    reach, a market that was streamed before gets its kept listing and an empty first quote.

    Raises:
      SymbolNotFound: at the start only. ConnectionLost, DataThrottle: the venue cannot be asked
        at the start.
      ValueError: not exactly one symbol.
    """
    if len(symbols) != 1:
        raise ValueError(f"binance: stream_quotes got {len(symbols)} symbols, expected 1")
    async with get_client() as client:
        pair, first = await find_market(client, symbols[0])
        mkt = _symbols.make_market(pair)
        task_status.started(([FeedInit(mkt)], first))
        if not pair.is_trading:
            feed_is_live.set()
        live = _LiveMarket(client, pair, send_chan, feed_is_live)
        _live_markets()[mkt.bs_fqme] = live
        try:
            await live.run()
        finally:
            _live_markets().pop(mkt.bs_fqme, None)


async def find_market(client: Client, name: str) -> tuple[_symbols.Pair, dict[str, Any]]:
    """
    Return a market's listing and first quote, from the venue or else as they were kept.

    Raises:
      SymbolNotFound: the venue does not know it. ConnectionLost, DataThrottle: the venue cannot be
        asked, and there is no listing of this market from the last day.
    """
    path = path_of_kept()
    kept = await trio.to_thread.run_sync(find_kept, path, _symbols.parse_name(name))
    try:
        with try_again_later(), trio.move_on_after(ASK_S if kept else float("inf")):
            pair = await client.find_pair(name)
            first = await first_quote(client, pair)
            await trio.to_thread.run_sync(keep, path, pair)
            return pair, first
        # out of time: it stalls, or the budget waits because of what it refused before
        why = client.statistics().last_error or f"binance: {client.url} does not answer"
    except (ConnectionLost, DataThrottle) as err:
        if kept is None:
            raise
        why = str(err)
    assert kept is not None
    log.warning("starting from a kept listing fqme=%s cause=%s", kept.bs_fqme, why)
    return kept, empty_quote(kept)


def empty_quote(pair: _symbols.Pair) -> dict[str, Any]:
    """Return the quote of a market of which nothing is known yet."""
    nan = float("nan")
    return {
        "symbol": pair.symbol,
        "last": nan,
        "size": 0.0,
        "bid": nan,
        "bsize": nan,
        "ask": nan,
        "asize": nan,
        "ticks": [],
        "brokerd_ts": clock.now_s(),
        "broker_ts": 0.0,
    }


async def first_quote(client: Client, pair: _symbols.Pair) -> dict[str, Any]:
    """Return the market's present quote as a quote dict; `last` is nan before the first trade."""
    quote: Quote = await client.quote(pair.symbol)
    trade = await client.last_trade(pair.symbol)
    return {
        "symbol": pair.symbol,
        "last": trade.price if trade else float("nan"),
        "size": trade.size if trade else float("nan"),
        "bid": quote.bid,
        "bsize": quote.bid_size,
        "ask": quote.ask,
        "asize": quote.ask_size,
        "ticks": [],
        "brokerd_ts": quote.time_recv_ns / clock.NS,
        "broker_ts": trade.time_venue_ns / clock.NS if trade else 0.0,
    }


class _LiveMarket:
    """One market's socket, parser and book."""

    def __init__(
        self,
        client: Client,
        pair: _symbols.Pair,
        send_chan: trio.abc.SendChannel[dict[str, list[Event]]],
        feed_is_live: trio.Event,
    ) -> None:
        self._client = client
        self._pair = pair
        self._send_chan = send_chan
        self._feed_is_live = feed_is_live
        self._parser = StreamParser(pair.symbol, settings().data.l2_levels)
        self._wants_snapshot = trio.Event()
        self._commands = 0
        self._ws: NoBsWs | None = None

    def statistics(self) -> FeedStats:
        assert self._ws is not None
        return FeedStats(self._ws.statistics(), self._parser.statistics())

    async def run(self) -> None:
        url = f"{self._client.stream_url}/stream"
        async with (
            open_autorecon_ws(url, self._subscribe, probe=self._probe) as ws,
            trio.open_nursery() as nursery,
        ):
            self._ws = ws
            nursery.start_soon(self._keep_book)
            async for item in ws:
                match item:
                    case LinkState():
                        await self._pass_state(ws, item)
                    case Batch():
                        await self._pass_batch(ws, item)

    @asynccontextmanager
    async def _subscribe(self, ws: NoBsWs) -> AsyncIterator[None]:
        self._commands += 1
        await ws.send_msg(
            {"method": "SUBSCRIBE", "params": self._parser.streams, "id": self._commands}
        )
        yield  # closing the socket ends the subscription

    async def _pass_state(self, ws: NoBsWs, item: LinkState) -> None:
        if item.state in (FEED_CONNECTING, FEED_DOWN):
            self._parser.reconnected()
        if item.state in (FEED_LIVE, FEED_DOWN):
            # When the stream is refused, history still comes over REST: nobody waits for it.
            self._feed_is_live.set()
        expected_gap_s = ws.arrivals.expected_gap_s
        await self._send(
            [FeedState(item.state, item.cause, item.attempt, item.retry_in_s, expected_gap_s)]
        )

    async def _pass_batch(self, ws: NoBsWs, batch: Batch) -> None:
        parser = self._parser
        rejected = parser.rejected
        events = parser.read(batch.messages, batch.time_recv_ns)
        if events:
            await self._send(events)
        if parser.needs_snapshot:
            self._wants_snapshot.set()
        if parser.rejected > rejected:
            ws.reject(parser.rejected - rejected)
        if parser.refusal:
            ws.reset(f"binance refused the subscription ({parser.refusal})", REFUSAL_WAIT_S)
        elif parser.is_ending:
            ws.reset("binance announced that it ends this connection")
        elif parser.rejected_in_a_row > REJECTED_MAX:
            ws.reset(f"binance sent {parser.rejected_in_a_row} unreadable messages in a row")

    async def _send(self, events: list[Event]) -> None:
        await self._send_chan.send({self._pair.bs_fqme: events})

    async def _keep_book(self) -> None:
        """Fetch a depth snapshot whenever the book waits for one."""
        backoff = Backoff()
        while True:
            await self._wants_snapshot.wait()
            self._wants_snapshot = trio.Event()
            if not self._parser.needs_snapshot:
                continue
            try:
                snapshot = await self._client.snapshot(self._pair.symbol)
                events = self._parser.load_snapshot(snapshot, clock.now_ns())
            except PikerError as err:
                log.warning("no book yet fqme=%s cause=%s", self._pair.bs_fqme, err)
                await trio.sleep(backoff.wait_s())
                continue
            backoff.reset()
            await self._send(events)

    async def _probe(self) -> bool | None:
        """Return whether REST shows the quote that the stream sent last; None: it cannot say."""
        if not self._pair.is_trading:
            return True
        with trio.move_on_after(PROBE_TIMEOUT_S):
            try:
                now = await self._client.quote(self._pair.symbol)
            except PikerError as err:
                log.debug("probe failed fqme=%s cause=%s", self._pair.bs_fqme, err)
                return None
            had = self._parser.quote
            return had is None or _numbers(had) == _numbers(now)
        return None


def _numbers(quote: Quote) -> str:
    return str((quote.bid, quote.bid_size, quote.ask, quote.ask_size))  # nan equals nan so


# ---- search ----


@endpoint(only=("datad",))
@tractor.context
async def open_symbol_search(ctx: tractor.Context) -> None:
    """
    Answer searches on the context's stream: `{'id', 'text'}` gets `{'id', 'results'}`.

    `results` maps bs_fqme to `{symbol, status, base, quote, price_tick, size_tick, score}`. Every
    request is answered, a blank one with nothing, a failed one with `error` set to a sentence.
    """
    async with get_client() as client:
        await ctx.started({})
        async with ctx.open_stream() as stream:
            async for request in stream:
                await stream.send(await answer_search(client, request))


async def answer_search(client: Client, request: Any) -> dict[str, Any]:
    """Return the answer to one search request; anything that is none finds nothing."""
    asked = request if isinstance(request, dict) else {"text": request}
    answer: dict[str, Any] = {"id": asked.get("id"), "results": {}}
    text = asked.get("text")
    if not isinstance(text, str) or not text.strip():
        return answer
    try:
        hits = await client.search_symbols(text)
    except PikerError as err:
        return answer | {"error": str(err)}
    answer["results"] = {
        pair.bs_fqme: {
            "symbol": pair.symbol,
            "status": pair.status,
            "base": pair.base,
            "quote": pair.quote,
            "price_tick": str(pair.price_tick),
            "size_tick": str(pair.size_tick),
            "score": round(score, 1),
        }
        for pair, score in hits
    }
    return answer
