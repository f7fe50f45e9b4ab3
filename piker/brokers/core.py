"""
Questions about markets, answered through `datad`: search, market facts, quotes, bars.

The functions without `@endpoint` are for clients (terminal, page, scripts). They run inside
`open_piker_runtime`, start the broker's `datad` when it does not run, never hold credentials, and
return plain records with the field names of the glossary; an unknown number is None.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import trio

from piker.brokers import get_brokermod
from piker.data._daemon import maybe_spawn_datad
from piker.data._feed_bus import describe_error
from piker.data.feed import Flume, install_datad_search, open_feed, raise_described
from piker.errors import PikerError, SymbolNotFound
from piker.model.bars import FILLED, PARTIAL, PRICE_FIELDS, empty_bars
from piker.model.market import MktPair, unpack_fqme
from piker.model.ticks import FEED_NAMES
from piker.service.rpc import endpoint, translate_errors

BARS_WAIT_S = 10.0  # for history that is still loading, before what is there is returned
QUOTE_WAIT_S = 3.0  # for the first book quote of a market that was just opened

Record = dict[str, Any]


async def symbol_search(
    brokers: Sequence[str], pattern: str, loglevel: str | None = None
) -> list[Record]:
    """
    Return the markets that match `pattern`, of every broker, best first.

    A record has `fqme`, `broker` and what the backend adds (`symbol`, `status`, `price_tick` …).
    The brokers are asked at once; the answer of one that fails is left out unless all fail.

    Raises:
      PikerError: the first failure, when no broker answered.
    """
    found: list[Record] = []
    failures: list[PikerError] = []

    async def ask(broker: str) -> None:
        try:
            async with install_datad_search(broker, loglevel) as search:
                found.extend(await search(pattern))
        except PikerError as error:
            failures.append(error)

    async with trio.open_nursery() as nursery:
        for broker in dict.fromkeys(brokers):
            get_brokermod(broker)
            nursery.start_soon(ask, broker)
    if failures and len(failures) == len(set(brokers)):
        raise failures[0]
    return sorted(found, key=lambda hit: -float(hit.get("score", 0)))


@endpoint(only=("datad",))
async def get_market(brokername: str, fqme: str) -> dict[str, Any]:
    """Return `{'mkt': …}` of a market as its backend knows it, or `{'error': …}`."""
    try:
        found = await get_brokermod(brokername).get_mkt_info(fqme)
    except PikerError as error:
        return {"error": describe_error(error)}
    if found is None:
        unknown = SymbolNotFound(f"{brokername}: has no market {fqme!r}", broker=brokername)
        return {"error": describe_error(unknown)}
    return {"mkt": found[0].to_dict()}


async def mkt_info(fqme: str, loglevel: str | None = None) -> Record:
    """
    Return the facts of one market: `fqme`, `bs_mktid`, assets, `price_tick`, `size_tick`, venue.

    Raises:
      SymbolNotFound: it is unknown; `.matches` has the closest names.
    """
    broker = _broker_of(fqme)
    with translate_errors(f"datad.{broker}"):
        async with maybe_spawn_datad(broker, loglevel) as portal:
            answer = await portal.run(get_market, brokername=broker, fqme=fqme)
    if "error" in answer:
        raise_described(answer["error"])
    mkt = answer["mkt"]
    dst, src = mkt["dst"], mkt.get("src", "")
    return {
        "fqme": MktPair.from_msg(mkt).fqme,
        "broker": broker,
        "venue": mkt.get("venue", ""),
        "bs_mktid": mkt["bs_mktid"],
        "dst": dst["name"] if isinstance(dst, dict) else dst,
        "src": src["name"] if isinstance(src, dict) else src,
        "type": mkt.get("_atype") or (dst.get("atype", "") if isinstance(dst, dict) else ""),
        "price_tick": mkt["price_tick"],
        "size_tick": mkt["size_tick"],
        "expiry": mkt.get("expiry", ""),
    }


async def quote(fqmes: Sequence[str], loglevel: str | None = None) -> list[Record]:
    """
    Return the newest quote and trade of each market, in the order asked.

    Fields: `fqme last last_size bid bid_size ask ask_size time_ns time_recv_ns state venue
    price_tick`. `time_ns` is the venue's time of the last trade.
    """
    async with open_feed(fqmes, loglevel, start_stream=False) as feed:
        return [await _quote(feed.flumes[fqme.lower()]) for fqme in fqmes]


async def _quote(flume: Flume) -> Record:
    with trio.move_on_after(QUOTE_WAIT_S):
        async with flume.open_ticks() as ticks:
            while math.isnan(flume.l1.read().bid):
                await anext(ticks)
    newest = flume.l1.read()
    return {
        "fqme": flume.fqme,
        "last": _number(newest.last),
        "last_size": _number(newest.last_size),
        "bid": _number(newest.bid),
        "bid_size": _number(newest.bid_size),
        "ask": _number(newest.ask),
        "ask_size": _number(newest.ask_size),
        "time_ns": newest.time_venue_ns or None,
        "time_recv_ns": newest.time_recv_ns or None,
        "state": FEED_NAMES.get(newest.feed_state, "down"),
        "venue": flume.venue,
        "price_tick": str(flume.mkt.price_tick),
    }


async def bars(
    fqme: str, period_s: int = 60, count: int = 100, loglevel: str | None = None
) -> list[Record]:
    """
    Return the newest `count` closed bars, oldest first; waits up to 10 s for their history.

    `period_s` is 1, 60 or a multiple, which is put together from these.
    Fields: `fqme period_s time open high low close volume count is_filled is_partial price_tick`.

    Raises:
      ValueError: `period_s` or `count` is not positive.
    """
    if period_s < 1 or count < 1:
        raise ValueError(f"bars: period_s was {period_s} and count {count}, expected at least 1")
    base_s = 60 if period_s % 60 == 0 else 1
    async with open_feed([fqme], loglevel, start_stream=False) as feed:
        flume = feed.flumes[fqme.lower()]
        rows = empty_bars()
        with trio.move_on_after(BARS_WAIT_S):
            async with flume.open_events() as events:
                async for _ in events:
                    rows = await _newest_rows(flume, base_s, period_s, count)
                    is_loaded = flume.load.get(base_s, {}).get("done", False)
                    if _is_whole(rows, count, period_s) or (is_loaded and not _partial(rows)):
                        break
    return [_bar(flume, period_s, row) for row in rows[-count:]]


async def _newest_rows(flume: Flume, base_s: int, period_s: int, count: int) -> np.ndarray:
    newest = flume.shm(base_s).last_row()
    if newest is None:
        return empty_bars()
    stop_s = int(newest["time"]) // period_s * period_s  # the newest row is still forming
    rows = await flume.load_bars(base_s, stop_s - period_s * count, stop_s)
    return aggregate(rows, period_s, base_s)


def aggregate(rows: np.ndarray, period_s: int, base_s: int) -> np.ndarray:
    """Return bars of `period_s` put together from adjacent rows of `base_s`, both ascending."""
    if period_s == base_s or not len(rows):
        return rows
    slots = rows["time"] // period_s
    starts = np.flatnonzero(np.diff(slots, prepend=slots[0] - 1))
    out = rows[starts].copy()
    ends = np.append(starts[1:], len(rows)) - 1
    out["time"] = slots[starts] * period_s
    out["close"] = rows["close"][ends]
    out["high"] = np.maximum.reduceat(rows["high"], starts)
    out["low"] = np.minimum.reduceat(rows["low"], starts)
    for name in ("volume", "count"):
        out[name] = np.add.reduceat(rows[name], starts)
    filled = np.minimum.reduceat(rows["flags"] & FILLED, starts)
    partial = np.maximum.reduceat(rows["flags"] & PARTIAL, starts)
    out["flags"] = filled | partial
    return out


def _is_whole(rows: np.ndarray, count: int, period_s: int) -> bool:
    if len(rows) < count or _partial(rows):
        return False
    return bool(np.all(np.diff(rows["time"]) == period_s))


def _partial(rows: np.ndarray) -> bool:
    return bool(np.any(rows["flags"] & PARTIAL))


def _bar(flume: Flume, period_s: int, row: np.void) -> Record:
    return {
        "fqme": flume.fqme,
        "period_s": period_s,
        "time": int(row["time"]),
        **{name: float(row[name]) for name in PRICE_FIELDS},
        "volume": float(row["volume"]),
        "count": int(row["count"]),
        "is_filled": bool(row["flags"] & FILLED),
        "is_partial": bool(row["flags"] & PARTIAL),
        "price_tick": str(flume.mkt.price_tick),
    }


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _broker_of(fqme: str) -> str:
    try:
        broker = unpack_fqme(fqme)[0]
    except ValueError as error:
        raise SymbolNotFound(str(error)) from None
    get_brokermod(broker)
    return broker
