"""The bus's parts without a tree: one market's writer, a client's outbox, errors as replies."""

from __future__ import annotations

import math
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest

from piker.data._blocks import L1Block, L2Block
from piker.data._feed_bus import describe_error
from piker.data._feed_dialog import raise_described
from piker.data._feed_tasks import _is_whole
from piker.data._market_feed import Loss, MarketFeed
from piker.data._outbox import GAPS_MAX, Outbox
from piker.data._ring import TickRing
from piker.data._sharedmem import open_shm_array
from piker.errors import ConnectionLost, DataThrottle, SymbolNotFound
from piker.model.bars import PARTIAL, PERIODS_S
from piker.model.feed import Book, FeedState, Quote, Trade
from piker.model.market import Asset, MktPair
from piker.model.ticks import (
    BAR,
    FEED_DOWN,
    FEED_LIVE,
    QUOTE,
    RECOVERED,
    STATE,
    TAKER_SELL,
    TRADE,
)
from piker.tsp._bars import BarBuilder
from piker.tsp.series import BarSeries

NS = 1_000_000_000
T0 = 1_700_000_000 // 60 * 60
MKT = MktPair(
    dst=Asset("btc", "crypto", Decimal("1e-8")),
    src=Asset("usdt", "crypto", Decimal("1e-8")),
    price_tick=Decimal("0.01"),
    size_tick=Decimal("0.00001"),
    bs_mktid="BTCUSDT",
    broker="binance",
    venue="spot",
)
LIVE = FeedState(FEED_LIVE, "", 0, 0.0, 5.0)
DOWN = FeedState(FEED_DOWN, "reset by peer", 1, 0.5, 5.0)


class Market:
    """A market feed over real shared memory in a temporary folder."""

    def __init__(self, folder: Path) -> None:
        where = (folder, "test", "datad.binance")
        self.now_ns = T0 * NS
        self.events: list[dict] = []
        self.rung = 0
        self.series = {}
        for period_s in PERIODS_S:
            array = open_shm_array(
                f"{MKT.fqme}.p{period_s}", 600, shm_dir=folder, run_id="test", actor="datad"
            )
            self.series[period_s] = BarSeries(
                MKT.fqme,
                period_s,
                array,
                BarBuilder(period_s, MKT.size_tick),
                self.events.append,
                lambda: self.now_ns / NS,
            )
        self.ring = TickRing.create(*where, MKT.fqme, 1024)
        self.l1 = L1Block.create(*where, MKT.fqme)
        self.l2 = L2Block.create(*where, MKT.fqme, 5)
        self.feed = MarketFeed(
            MKT, self.ring, self.series, self.l1, self.l2, self._ring_bell,
            self.events.append, lambda: self.now_ns,
        )  # fmt: skip
        self.reader = self.ring.reader()

    def _ring_bell(self) -> None:
        self.rung += 1

    def apply(self, *events) -> np.ndarray:
        self.feed.apply(events)
        return self.reader.read()

    def rows(self, period_s: int) -> dict[int, np.void]:
        return {int(row["time"]) - T0: row for row in self.series[period_s].array.array}


@pytest.fixture
def market(tmp_path: Path):
    made = Market(tmp_path)
    yield made
    for part in (made.ring, made.l1, made.l2, *(s.array for s in made.series.values())):
        part.unlink()
        part.close()


def trade(tid: int, at_s: float, price: float = 100.0, size: float = 1.0, sell: bool = False):
    return Trade(tid, price, size, sell, int((T0 + at_s) * NS), int((T0 + at_s) * NS))


def test_one_read_of_the_socket_is_one_ring_of_the_bell(market):
    records = market.apply(
        LIVE, trade(1, 0.1), Quote(99.0, 1.0, 101.0, 2.0, 0, T0 * NS), trade(2, 0.2, sell=True)
    )
    assert records["type"].tolist() == [STATE, TRADE, QUOTE, TRADE]
    assert records["flags"].tolist() == [FEED_LIVE, 0, 0, TAKER_SELL]
    assert market.rung == 1
    assert market.l1.read().last_tid == 2
    assert market.l1.read().ask == 101.0


def test_a_bar_closes_before_the_trade_that_opened_the_next(market):
    market.apply(LIVE, trade(1, 58.5, 100.0))
    records = market.apply(trade(2, 58.9, 101.0), trade(3, 60.1, 102.0, 2.0))
    kinds = [(int(r["type"]), int(r["flags"]), int(r["time_venue_ns"]) // NS - T0) for r in records]
    assert kinds == [(TRADE, 0, 58), (BAR, 1, 58), (BAR, 1, 59), (BAR, 60, 0), (TRADE, 0, 60)]
    bar = records[3]
    assert (bar["price2"], bar["price"], bar["size"], bar["size2"]) == (100.0, 101.0, 2.0, 2.0)
    array = market.series[60].array
    assert array.rows(int(bar["tid"]), int(bar["tid"]) + 1)["time"][0] == T0


def test_an_announcement_closes_the_bar_and_a_late_trade_still_corrects_it(market):
    market.apply(LIVE, trade(1, 0.5, 100.0))
    market.feed.announce(1, T0 + 1)
    assert market.reader.read()["type"].tolist() == [BAR]
    market.apply(trade(2, 0.9, 105.0))
    assert market.rows(1)[0]["close"] == 105.0
    assert market.rows(1)[1]["close"] == 105.0


def test_a_trade_seen_twice_counts_once(market):
    market.apply(LIVE, trade(1, 0.1), trade(2, 0.2))
    records = market.apply(trade(2, 0.2), trade(1, 0.1))
    assert len(records) == 0
    assert market.feed.counters["duplicates"] == 2
    assert market.rows(60)[0]["volume"] == 2.0


def test_start_in_the_middle_of_a_minute_is_partial_until_its_trades_are_fetched(market):
    market.apply(LIVE, trade(10, 30.0, 100.0))
    assert market.rows(60)[0]["flags"] & PARTIAL
    [loss] = market.feed.losses
    assert (loss.first_tid, loss.last_tid, loss.start_s) == (None, 9, T0)
    assert market.feed.recover(loss, [trade(8, 1.0, 90.0), trade(9, 2.0, 95.0)]) == 2
    row = market.rows(60)[0]
    assert (row["open"], row["close"], row["low"], row["count"]) == (90.0, 100.0, 90.0, 3)
    assert not row["flags"] & PARTIAL
    assert market.feed.losses == []
    assert not np.any(market.reader.read()["flags"] & RECOVERED)


def test_a_jump_of_the_ids_is_a_loss_and_the_trades_come_back_marked(market):
    market.apply(LIVE, trade(1, 0.1, 100.0))
    market.feed.recover(market.feed.losses[0], [])
    market.apply(trade(5, 3.0, 104.0))
    market.reader.read()
    [loss] = market.feed.losses
    assert (loss.first_tid, loss.last_tid) == (2, 4)
    lost = [trade(2, 0.5, 101.0), trade(3, 1.0, 102.0), trade(4, 2.0, 103.0)]
    market.feed.recover(loss, lost)
    records = market.reader.read()
    assert records["tid"][records["type"] == TRADE].tolist() == [2, 3, 4]
    assert np.all(records["flags"][records["type"] == TRADE] & RECOVERED)
    rows = market.rows(1)
    assert [rows[s]["close"] for s in range(4)] == [101.0, 102.0, 103.0, 104.0]
    assert not any(rows[s]["flags"] & PARTIAL for s in range(4))
    [gap] = [e for e in market.events if e["event"] == "gap"]
    assert (gap["n"], gap["filled"]) == (3, True)


def test_a_connection_lost_without_a_missing_id_loses_nothing(market):
    market.apply(LIVE, trade(1, 0.1))
    market.feed.recover(market.feed.losses[0], [])
    market.apply(DOWN)
    market.feed.announce(1, T0 + 2)
    assert market.rows(1)[1]["flags"] & PARTIAL
    market.apply(LIVE, trade(2, 4.0))
    assert market.feed.losses == []
    assert not any(row["flags"] & PARTIAL for row in market.rows(1).values())
    assert market.feed.counters["disconnects"] == 1


def test_a_loss_too_long_is_left_to_bars(market):
    market.apply(LIVE, trade(1, 0.1))
    market.feed.recover(market.feed.losses[0], [])
    market.apply(trade(50_000, 120.0))
    [loss] = market.feed.losses
    market.feed.give_up(loss)
    assert market.feed.losses == []
    assert market.series[60].unknown_ranges(T0 + 120, 100) == [(T0, T0 + 120)]


def test_the_feed_state_is_in_ring_block_and_events(market):
    records = market.apply(LIVE, DOWN)
    assert records["flags"].tolist() == [FEED_LIVE, FEED_DOWN]
    assert market.l1.read().feed_state == FEED_DOWN
    assert [e["cause"] for e in market.events if e["event"] == "state"] == ["", "reset by peer"]


def test_the_book_goes_into_its_block_without_a_record(market):
    records = market.apply(Book([(99.0, 1.0)], [(101.0, 2.0), (102.0, 3.0)], 7, 5, 6))
    assert len(records) == 0
    book = market.l2.read()
    assert book.update_id == 7
    assert book.asks.tolist() == [[101.0, 2.0], [102.0, 3.0]]


def test_statistics_are_plain_values(market):
    market.apply(LIVE, trade(1, 0.1))
    assert all(isinstance(v, (int, float, str)) for v in market.feed.statistics().values())


# ---- recovered trades ---------------------------------------------------------------------


def test_recovered_trades_must_reach_the_live_ones_without_a_hole():
    loss = Loss(3, 5, T0, T0 * NS)
    assert _is_whole([trade(3, 0), trade(4, 0), trade(5, 0)], loss)
    assert not _is_whole([trade(3, 0), trade(5, 0)], loss)
    assert not _is_whole([trade(3, 0), trade(4, 0)], loss)
    from_start = Loss(None, 5, T0, T0 * NS)
    assert _is_whole([], from_start)
    assert _is_whole([trade(5, 0)], from_start)
    assert not _is_whole([trade(4, 0)], from_start)


# ---- outbox -------------------------------------------------------------------------------


def dirty(t0, t1, rev):
    return {"fqme": "a", "event": "dirty", "period_s": 1, "t0": t0, "t1": t1, "rev": rev}


def test_a_client_that_does_not_read_holds_a_bounded_number_of_messages():
    outbox = Outbox()
    for n in range(1000):
        outbox.put(dirty(1000 - n, 2000 + n, n))
        outbox.put({"fqme": "a", "event": "state", "state": n})
        outbox.put({"fqme": "a", "event": "gap", "n": n})
    messages = outbox.take()
    assert messages[:2] == [dirty(1, 2999, 999), {"fqme": "a", "event": "state", "state": 999}]
    assert len(messages) == 2 + GAPS_MAX


async def test_a_paused_client_is_told_the_newest_when_it_goes_on():
    outbox = Outbox()
    outbox.pause()
    outbox.put(dirty(1, 2, 1))
    outbox.put(dirty(5, 6, 2))
    outbox.resume()
    await outbox.wait()
    assert outbox.take() == [dirty(1, 6, 2)]


# ---- errors as replies --------------------------------------------------------------------


def test_an_unknown_market_arrives_with_its_closest_names():
    error = SymbolNotFound("binance: no market", broker="binance", matches=("btcusdt",))
    with pytest.raises(SymbolNotFound, match="no market") as caught:
        raise_described(describe_error(error))
    assert caught.value.matches == ("btcusdt",)
    assert caught.value.broker == "binance"


def test_a_refusal_arrives_with_its_waiting_time():
    with pytest.raises(DataThrottle) as caught:
        raise_described(describe_error(DataThrottle("slow down", broker="b", retry_after_s=38.0)))
    assert caught.value.retry_after_s == 38.0


def test_other_errors_arrive_as_their_own_type():
    with pytest.raises(ConnectionLost, match="gone"):
        raise_described(describe_error(ConnectionLost("gone")))


def test_first_quotes_fill_the_block_before_the_stream_begins(market):
    market.feed.take_first_quote(
        {
            "last": 5.0,
            "size": 0.25,
            "bid": 4.0,
            "bsize": 1,
            "ask": math.nan,
            "broker_ts": T0 + 0.123,
        }
    )
    newest = market.l1.read()
    assert (newest.last, newest.last_size, newest.bid, newest.bid_size) == (5.0, 0.25, 4.0, 1.0)
    assert newest.time_venue_ns == T0 * NS + 123_000_000
    assert math.isnan(newest.ask)


def test_a_first_quote_without_a_time_has_none(market):
    market.feed.take_first_quote({"last": 5.0})
    newest = market.l1.read()
    assert newest.time_venue_ns == 0
    assert math.isnan(newest.last_size)
