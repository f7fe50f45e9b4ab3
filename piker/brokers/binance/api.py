"""
Binance spot over REST: one client per actor, within the venue's request budget.

Every request has a time limit, a size limit and a bounded number of tries; what goes wrong comes
out as a `PikerError` with a sentence. The base URL is the run's: the venue's own hosts, or a
local venue, whose WebSocket then stands on the same port.

Source: binance-spot-api-docs, rest-api.md (2026-07-21).
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from functools import cache
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any

import httpx
import msgspec
import numpy as np
import trio

from piker import clock
from piker.brokers.binance import _answers, _symbols, _wire
from piker.brokers.binance._symbols import BROKER, Pair
from piker.config import Venue, venue_for
from piker.data._web_bs import Backoff
from piker.errors import BadPayload, BrokerError, ConnectionLost, DataThrottle, DataUnavailable
from piker.log import get_logger
from piker.model.feed import Quote, Trade
from piker.model.market import Asset, MktPair
from piker.web.budget import BudgetStats, open_budget

log = get_logger(__name__)

REST_URL = "https://api.binance.com"
STREAM_URL = "wss://stream.binance.com:9443"

TRIES_MAX = 3
CONNECT_TIMEOUT_S = 5.0
ANSWER_TIMEOUT_S = 15.0  # the whole answer, however slowly it drips
ANSWER_MAX = 4 << 20
LISTING_MAX = 64 << 20  # exchangeInfo of all markets is about 12 MB
LISTING_AGE_MAX_S = 3600.0  # then a search reads it again
WEIGHT_PER_MINUTE = 6000  # until exchangeInfo says it
ROWS_MAX = 1000  # klines or trades in one answer
TRADES_MAX = 200_000  # in one call of `trades`: a busy hour
SNAPSHOT_LEVELS = 1000
CLOCK_AGE_MAX_S = 60.0  # a measured clock offset is good for so long
INTERVALS = {1: "1s", 60: "1m"}


class ClientStats(msgspec.Struct, frozen=True):
    """Counters of a client since it was opened."""

    requests: int
    retries: int
    refused: int
    rejected: int
    last_error: str
    budget: BudgetStats


@cache
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()


class Client:
    """The REST calls; made by `get_client`, shared by all tasks of an actor."""

    def __init__(self, venue: Venue) -> None:
        self.url, self.stream_url = REST_URL, STREAM_URL
        if venue.is_local and venue.url:
            self.url, self.stream_url = venue.url, "ws" + venue.url.removeprefix("http")
        self._stack = ExitStack()
        place = venue.name if venue.is_local else "official"
        self._budget = self._stack.enter_context(
            open_budget(f"{BROKER}.{place}", WEIGHT_PER_MINUTE)
        )
        self._http = httpx.AsyncClient(
            base_url=self.url,
            trust_env=False,
            verify=_tls() if self.url.startswith("https:") else False,
            timeout=httpx.Timeout(ANSWER_TIMEOUT_S, connect=CONNECT_TIMEOUT_S),
            limits=httpx.Limits(max_connections=8),
            headers={"User-Agent": "piker", "Accept-Encoding": "gzip"},
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),  # none is kept
        )
        self._pairs: dict[str, Pair] = {}
        self._listed_at = -LISTING_AGE_MAX_S
        self._listing = trio.Lock()
        self._first_bars: dict[tuple[str, int], int] = {}
        self._offset_ns = 0
        self._offset_at = -CLOCK_AGE_MAX_S
        self._requests = self._retries = self._refused = self._rejected = 0
        self._last_error = ""

    async def aclose(self) -> None:
        """Close every connection."""
        self._stack.close()
        await self._http.aclose()

    def statistics(self) -> ClientStats:
        """Return the counters."""
        return ClientStats(
            self._requests,
            self._retries,
            self._refused,
            self._rejected,
            self._last_error,
            self._budget.statistics(),
        )

    # ---- requests ----

    async def get(
        self,
        path: str,
        params: dict[str, Any],
        *,
        kind: str,
        weight: int,
        size_max: int = ANSWER_MAX,
    ) -> bytes:
        """
        Return the JSON body of GET `path`, tried up to `TRIES_MAX` times.

        `kind` is the class of the request in the budget, `weight` what the venue charges.

        Raises:
          ConnectionLost: no (whole) answer. BadPayload: no JSON. DataThrottle: too many requests.
          BrokerError: refused.
        """
        backoff = Backoff()
        for tries_left in reversed(range(TRIES_MAX)):
            await self._budget.take(kind, weight)
            try:
                return await self._get_once(path, params, size_max)
            except DataThrottle as err:
                self._refused += 1
                self._last_error = str(err)
                await self._budget.close_class(kind, err.retry_after_s, everything=err.code == 418)
                raise
            except (ConnectionLost, BadPayload) as err:
                self._rejected += isinstance(err, BadPayload)
                self._last_error = str(err)
                if not tries_left:
                    raise
            self._retries += 1
            await trio.sleep(backoff.wait_s())
        raise AssertionError("unreachable")

    async def _get_once(self, path: str, params: dict[str, Any], size_max: int) -> bytes:
        self._requests += 1
        body = bytearray()
        with trio.move_on_after(ANSWER_TIMEOUT_S) as scope:
            try:
                async with self._http.stream("GET", path, params=params) as answer:
                    async for chunk in answer.aiter_raw():
                        body += chunk
                        if len(body) > size_max:
                            # Leaving by cancellation unwinds httpx's nested generators; `break`
                            # would leave them to the garbage collector.
                            scope.cancel()
            except httpx.TransportError as err:
                raise ConnectionLost(self._explain(err)) from err
        if len(body) > size_max:
            raise BadPayload(f"{BROKER}: {path}: the answer is over {size_max} bytes", bytes(body))
        if scope.cancelled_caught:
            raise ConnectionLost(
                f"{BROKER}: {self.url} did not answer within {ANSWER_TIMEOUT_S:.0f} s"
            )
        headers = {name.lower(): value for name, value in answer.headers.items()}
        if (used := headers.get("x-mbx-used-weight-1m", "")).isascii() and used.isdigit():
            await self._budget.correct(int(used[:12]))
        plain = _answers.unpack(bytes(body), headers.get("content-encoding", ""), size_max)
        return _answers.check_answer(answer.status_code, headers, plain, path)

    def _explain(self, err: httpx.TransportError) -> str:
        if isinstance(err, httpx.ConnectError | httpx.ConnectTimeout):
            return f"{BROKER}: {self.url} cannot be reached ({err or type(err).__name__})"
        if isinstance(err, httpx.TimeoutException):
            return f"{BROKER}: {self.url} stopped answering"
        return f"{BROKER}: {self.url} broke off or garbled its answer ({err or type(err).__name__})"

    # ---- markets ----

    async def find_pair(self, name: str) -> Pair:
        """
        Return the listing of the market that `name` means, in any accepted form.

        Raises:
          SymbolNotFound: unknown; with the closest names.
        """
        symbol = _symbols.parse_name(name)
        if symbol not in self._pairs:
            await self._list(symbol)
        if symbol not in self._pairs:
            raise _symbols.not_found(await self.get_mkt_pairs(), name)
        return self._pairs[symbol]

    async def get_mkt_pairs(self) -> dict[str, Pair]:
        """Return every listed spot market by symbol; the listing is read once an hour."""
        async with self._listing:
            if trio.current_time() - self._listed_at > LISTING_AGE_MAX_S:
                await self._list(None)
                self._listed_at = trio.current_time()
        return self._pairs

    async def get_assets(self) -> dict[str, Asset]:
        """Return every coin that is traded against another, by its lower-case name."""
        assets = {}
        for pair in (await self.get_mkt_pairs()).values():
            for name, precision in (
                (pair.base, pair.base_precision),
                (pair.quote, pair.quote_precision),
            ):
                assets[name.lower()] = _symbols.make_asset(name, precision)
        return assets

    async def search_symbols(self, pattern: str, limit: int = 30) -> list[tuple[Pair, float]]:
        """Return the markets most like `pattern` with scores up to 100; blank finds nothing."""
        pairs = await self.get_mkt_pairs()
        return await trio.to_thread.run_sync(_symbols.search_pairs, dict(pairs), pattern, limit)

    async def _list(self, symbol: str | None) -> None:
        params = {} if symbol is None else {"symbol": symbol}
        try:
            body = await self.get(
                "/api/v3/exchangeInfo",
                params,
                kind="reconcile" if symbol else "search",
                weight=20,
                size_max=LISTING_MAX,
            )
        except BrokerError as err:
            if symbol is None or err.is_transient:
                raise
            return  # an unknown symbol, or one that the venue does not even read as one
        info = _wire.parse_exchange_info(body)
        self._pairs.update(_symbols.make_pairs(info))
        for rate in info.rateLimits:
            if (rate.rateLimitType, rate.interval, rate.intervalNum) == (
                "REQUEST_WEIGHT",
                "MINUTE",
                1,
            ):
                await self._budget.set_limit(rate.limit)

    # ---- market data ----

    async def last_trade(self, symbol: str) -> Trade | None:
        """Return the newest trade, None when there never was one."""
        params = {"symbol": symbol, "limit": 1}
        body = await self.get("/api/v3/trades", params, kind="reconcile", weight=25)
        trades = _wire.parse_trades(body, clock.now_ns())
        return trades[-1] if trades else None

    async def quote(self, symbol: str) -> Quote:
        """Return the best bid and ask."""
        path = "/api/v3/ticker/bookTicker"
        body = await self.get(path, {"symbol": symbol}, kind="reconcile", weight=2)
        return _wire.parse_rest_quote(body, symbol, clock.now_ns())

    async def snapshot(self, symbol: str) -> _wire.DepthSnapshot:
        """Return the book down to `SNAPSHOT_LEVELS` levels a side."""
        params = {"symbol": symbol, "limit": SNAPSHOT_LEVELS}
        body = await self.get("/api/v3/depth", params, kind="reconcile", weight=50)
        return _wire.parse_snapshot(body)

    async def venue_now_ns(self) -> int:
        """
        Return the venue's time at the earliest: our clock, the measured offset, its uncertainty.

        So a bar that ends before it has ended at the venue, however wrong our clock is.
        """
        if trio.current_time() - self._offset_at > CLOCK_AGE_MAX_S:
            body = await self.get("/api/v3/time", {}, kind="reconcile", weight=1)
            # The stamp was made after we asked: against our time of arrival it can only be early.
            self._offset_ns = _wire.parse_time_ms(body) * _wire.NS_PER_MS - clock.now_ns()
            self._offset_at = trio.current_time()
        return clock.now_ns() + self._offset_ns

    async def bars(self, symbol: str, period_s: int, start_s: int, end_s: int) -> np.ndarray:
        """
        Return the closed bars that opened in [start_s, end_s), at most `ROWS_MAX`, ascending.

        Raises:
          DataUnavailable: `period_s` is not kept by the venue in this form.
        """
        if period_s not in INTERVALS:
            raise DataUnavailable(
                f"{BROKER}: no bars of {period_s} s, expected 1 or 60", broker=BROKER
            )
        now_ms = await self.venue_now_ns() // _wire.NS_PER_MS
        params = {
            "symbol": symbol,
            "interval": INTERVALS[period_s],
            "startTime": max(start_s, 0) * 1000,
            "endTime": max(end_s * 1000 - 1, 0),
            "limit": ROWS_MAX,
        }
        body = await self.get("/api/v3/klines", params, kind="history", weight=2)
        rows = _wire.parse_klines(body, period_s, now_ms)
        return rows[(rows["time"] >= start_s) & (rows["time"] < end_s)]

    async def first_bar_s(self, symbol: str, period_s: int) -> int | None:
        """Return when the venue's history of a market begins, None when it has none."""
        key = (symbol, period_s)
        if key not in self._first_bars:
            params = {"symbol": symbol, "interval": INTERVALS[period_s], "startTime": 0, "limit": 1}
            body = await self.get("/api/v3/klines", params, kind="history", weight=2)
            rows = _wire.parse_klines(body, period_s, 1 << 62)
            if not len(rows):
                return None
            self._first_bars[key] = int(rows["time"][0])
        return self._first_bars[key]

    async def first_trade_id(self, symbol: str, start_ns: int) -> int | None:
        """Return the id of the first trade at or after `start_ns`, None when there is none yet."""
        params = {"symbol": symbol, "startTime": -(-start_ns // _wire.NS_PER_MS), "limit": 1}
        body = await self.get("/api/v3/aggTrades", params, kind="history", weight=4)
        return _wire.parse_first_trade_id(body)

    async def trades(self, symbol: str, first_id: int, last_id: int) -> list[Trade]:
        """
        Return exactly the trades with ids `first_id`..`last_id`, ascending, flagged RECOVERED.

        Raises:
          DataUnavailable: more than `TRADES_MAX`.
          ConnectionLost: the venue does not serve the newest of them yet.
          BadPayload: the venue leaves some out.
        """
        if last_id - first_id >= TRADES_MAX:
            raise DataUnavailable(
                f"{BROKER}: {last_id - first_id + 1} trades are more than {TRADES_MAX}; use bars",
                broker=BROKER,
            )
        found: list[Trade] = []
        backoff, tries_left = Backoff(), TRIES_MAX
        while (next_id := first_id + len(found)) <= last_id:
            page = await self._trade_page(symbol, next_id, last_id)
            if page:
                found += page
                continue
            tries_left -= 1
            if not tries_left:
                raise ConnectionLost(f"{BROKER}: trades {next_id}..{last_id} are not served yet")
            await trio.sleep(backoff.wait_s())
        return found

    async def _trade_page(self, symbol: str, next_id: int, last_id: int) -> list[Trade]:
        limit = min(ROWS_MAX, last_id - next_id + 1)
        params = {"symbol": symbol, "fromId": next_id, "limit": limit}
        body = await self.get("/api/v3/historicalTrades", params, kind="history", weight=25)
        page = [t for t in _wire.parse_trades(body, clock.now_ns()) if next_id <= t.tid <= last_id]
        if any(trade.tid != tid for tid, trade in enumerate(page, next_id)):
            raise BadPayload(f"{BROKER}: trades from {next_id} have holes or repeats", body)
        return page


# ---- endpoints ----


class _Hold:
    """A client and how many use it."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.users = 0


# Per trio run, that is per actor; each run's clients end with it.
_holds: trio.lowlevel.RunVar[dict[str, _Hold]] = trio.lowlevel.RunVar("binance clients")


@asynccontextmanager
async def get_client(**_: Any) -> AsyncIterator[Client]:
    """Yield the actor's client for the run's venue; the first user opens it, the last closes it."""
    venue = venue_for(BROKER)
    try:
        holds = _holds.get()
    except LookupError:
        holds = {}
        _holds.set(holds)
    key = venue.url or ""
    hold = holds.get(key)
    if hold is None:
        hold = holds[key] = _Hold(Client(venue))
    hold.users += 1
    try:
        yield hold.client
    finally:
        hold.users -= 1
        if not hold.users:
            del holds[key]
            with trio.CancelScope(shield=True), trio.move_on_after(1.0):
                await hold.client.aclose()


async def get_mkt_info(fqme: str) -> tuple[MktPair, Pair]:
    """
    Return the market that `fqme` means, and the venue's own listing of it.

    Accepts `btcusdt.spot.binance`, `btcusdt.binance`, `btcusdt.spot` and `BTCUSDT`.

    Raises:
      SymbolNotFound: unknown, or not spot; `.matches` has the closest names.
    """
    async with get_client() as client:
        pair = await client.find_pair(fqme)
    return _symbols.make_market(pair), pair
