"""The paper engine as `emsd` sees it: what it answers, when, and what it refuses."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
import trio
from msgspec.structs import replace
from paper_helpers import BASE_NS, FQME, Dialog, HandMarket, open_dialog

from piker.clearing._dialogs import OrderDialogs
from piker.clearing._fill_events import fill_tid
from piker.clearing._fill_models import PaperTerms, paper_terms
from piker.clearing._messages import (
    BrokerdCancel,
    BrokerdError,
    BrokerdFill,
    BrokerdOrderAck,
    BrokerdStatus,
    Order,
    PaperAccount,
    PaperOrder,
    PaperReady,
    client_order_id,
)
from piker.model.ticks import FEED_DOWN, FEED_LIVE, GAP, RECOVERED, STATE
from piker.settings import Paper

REQID = client_order_id("paper", "a", 1)


def words(messages: list[Any]) -> list[str]:
    """Return the kind of each message, or the state that it tells."""
    return [
        each.status if isinstance(each, BrokerdStatus) else type(each).__name__ for each in messages
    ]


def cancel(oid: str = "a", **fields: Any) -> BrokerdCancel:
    """Return a cancel by oid."""
    return BrokerdCancel(oid=oid, time_ns=0, account="paper", symbol="btcusdt.spot", **fields)


# ---- one order


async def test_order_is_acked_opened_filled_and_closed_in_that_order(autojump_clock: Any) -> None:
    async with open_dialog(taker_fee=Decimal("0.001")) as dialog:
        dialog.say(dialog.order(price="102", client_ref="bot"))
        ack, opened, fill, closed = await dialog.heard()
    assert (ack.reqid, ack.oid, ack.number) == (REQID, "a", 1)
    assert (opened.status, opened.remaining, opened.number) == ("open", Decimal("0.5"), 1)
    assert (fill.price, fill.size, fill.action) == (Decimal(102), Decimal("0.5"), "buy")
    assert (fill.fee, fill.fee_asset, fill.is_maker) == (Decimal("0.051"), "usdt", False)
    assert fill.tid == fill_tid(REQID, BASE_NS, 1)
    assert (fill.client_ref, fill.oid, fill.symbol) == ("bot", "a", "btcusdt.spot")
    assert fill.broker_details["paper_info"] == {"oid": "a"}
    assert (closed.status, closed.filled, closed.remaining) == ("closed", Decimal("0.5"), 0)


async def open_idle_market(dialog: Dialog) -> HandMarket:
    """Have the engine open its market, and leave it without orders."""
    dialog.say(dialog.order("z", price="97"))
    dialog.say(cancel("z"))
    assert words(await dialog.heard())[-1] == "canceled"
    return dialog.market


async def test_the_first_order_of_an_idle_market_queues_behind_what_is_shown_now(
    autojump_clock: Any,
) -> None:
    async with open_dialog() as dialog:
        market = await open_idle_market(dialog)
        market.bids, market.update_id = [(100.0, 1.0), (99.0, 20.0)], 2
        await trio.sleep(5)
        dialog.say(dialog.order(price="99"))
        assert words(await dialog.heard()) == ["BrokerdOrderAck", "open"]
        market.trade(99, 19)
        assert await dialog.heard() == []
        market.trade(99, 2)
        assert words(await dialog.heard()) == ["BrokerdFill", "closed"]


async def test_the_first_order_of_an_idle_market_takes_what_is_shown_now(
    autojump_clock: Any,
) -> None:
    async with open_dialog() as dialog:
        market = await open_idle_market(dialog)
        market.asks, market.update_id = [(102.0, 1.0), (110.0, 5.0)], 2
        await trio.sleep(5)
        dialog.say(dialog.order(price="0", size="2", order_type="market"))
        fills = [each for each in await dialog.heard() if isinstance(each, BrokerdFill)]
    assert [(each.price, each.size) for each in fills] == [(102, 1), (110, 1)]


async def test_resting_order_fills_in_parts_by_what_trades(autojump_clock: Any) -> None:
    async with open_dialog(maker_fee=Decimal("0.0002")) as dialog:
        dialog.say(dialog.order(price="100"))
        assert words(await dialog.heard()) == ["BrokerdOrderAck", "open"]
        dialog.market.trade(100, 1.2)
        dialog.market.trade(100, 5)
        first, second, closed = await dialog.heard()
    assert (first.size, second.size) == (Decimal("0.2"), Decimal("0.3"))
    assert first.is_maker
    assert first.fee == Decimal("0.004")
    assert (first.tid, second.tid) == tuple(fill_tid(REQID, BASE_NS, n) for n in (1, 2))
    assert closed.status == "closed"


@pytest.mark.parametrize(
    ("cause_ms", "effective_ms", "by"),
    [(0, 50, "latency"), (-30, 20, "latency"), (-80, 1, "arrival"), (5000, 51, "latency")],
)
async def test_order_takes_effect_a_latency_after_its_cause_or_on_arrival(
    autojump_clock: Any, cause_ms: int, effective_ms: int, by: str
) -> None:
    async with open_dialog(latency_ns=50_000_000) as dialog:
        cause_ns = BASE_NS + cause_ms * 1_000_000
        dialog.say(dialog.order(cause_ns=cause_ns))
        ack, opened = await dialog.heard()
    assert isinstance(ack, BrokerdOrderAck)
    # the market takes 1 ms to open
    assert opened.time_ns == BASE_NS + effective_ms * 1_000_000
    assert opened.broker_details["by"] == by


async def test_amend_answers_with_its_number_and_cancel_ends_the_order(autojump_clock: Any) -> None:
    async with open_dialog() as dialog:
        dialog.say(dialog.order())
        dialog.say(dialog.order(number=2, price="98.5", size="0.7"))
        dialog.say(cancel(reqid=REQID))
        heard = await dialog.heard()
    assert words(heard) == ["BrokerdOrderAck", "open", "BrokerdOrderAck", "open", "canceled"]
    assert (heard[2].number, heard[3].number) == (2, 2)
    assert heard[2].reqid == REQID
    assert (heard[4].remaining, heard[4].filled) == (Decimal("0.7"), 0)


@pytest.mark.parametrize("ids", [{"reqid": REQID}, {"client_id": REQID}, {}])
async def test_cancel_finds_its_order_by_any_id(autojump_clock: Any, ids: dict[str, str]) -> None:
    async with open_dialog(latency_ns=50_000_000) as dialog:
        dialog.say(dialog.order())
        dialog.say(cancel(**ids))
        assert words(await dialog.heard()) == ["BrokerdOrderAck", "open", "canceled"]


async def test_unknown_id_is_an_error_message_and_the_dialog_goes_on(autojump_clock: Any) -> None:
    async with open_dialog() as dialog:
        dialog.say(cancel("nobody", reqid="17"))
        dialog.say(dialog.order("b", number=2))
        unknown, amend = await dialog.heard()
        assert (unknown.request, unknown.oid) == ("cancel", "nobody")
        assert unknown.reason == "oid: was nobody, expected an order that rests here"
        assert (amend.request, amend.number) == ("amend", 2)
        dialog.say(dialog.order())
        assert words(await dialog.heard()) == ["BrokerdOrderAck", "open"]


async def test_same_entry_twice_is_one_order_answered_twice(autojump_clock: Any) -> None:
    async with open_dialog() as dialog:
        order = dialog.order(price="102")
        dialog.say(order)
        assert words(await dialog.heard())[-1] == "closed"
        dialog.say(order)
        assert words(await dialog.heard()) == ["BrokerdOrderAck", "closed"]
        rests = dialog.order("b")
        dialog.say(rests)
        dialog.say(rests)
        assert words(await dialog.heard()) == ["BrokerdOrderAck", "open"] * 2


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"account": "binance.main"}, "No account found:`binance.main` (paper only)?"),
        ({"size": "0"}, "Invalid size: 0"),
        ({"price": "99.3"}, "price: was 99.3, expected a multiple of 0.5"),
        ({"size": "0.0005"}, "size: was 0.0005, expected a multiple of 0.001"),
        ({"price": "0"}, "price: was 0, expected above 0"),
        ({"action": "hold"}, "action: was 'hold', expected buy or sell"),
        ({"trail": "1%"}, "trail: was 1%, expected none; hold the order dark"),
        ({"order_type": "stop"}, "trigger_price: was 0, expected above 0"),
        ({"deadline_ns": BASE_NS - 300_000_000}, "deadline: came 0.3 s after it"),
        ({"reduce_only": True}, "reduce_only: the position is 0.000"),
        ({"price": "102", "post_only": True},
         "post_only: 102.0 would trade at once, the market is at 102.0"),
        ({"symbol": "nosuch.coin"}, "binance: no market nosuch.coin.binance"),
        ({"price": "90", "size": "1200"},
         "balance: was 100000.00 USDT free, expected 108000.00 (equity 100000.00 x leverage 1)"),
    ],
)  # fmt: skip
async def test_bad_order_is_refused_with_its_reason(
    autojump_clock: Any, fields: dict[str, Any], reason: str
) -> None:
    async with open_dialog() as dialog:
        dialog.say(dialog.order(**fields))
        errors = [one for one in await dialog.heard() if isinstance(one, BrokerdError)]
    assert [(one.reason, one.request, one.oid, one.number) for one in errors] == [
        (reason, "entry", "a", 1)
    ]


async def test_rubbish_is_answered_and_the_dialog_lives(autojump_clock: Any) -> None:
    async with open_dialog() as dialog:
        for rubbish in ("hello", {"msg": "no such"}, {"oid": "x", "price": "ten"}):
            dialog.say(rubbish)
        assert words(await dialog.heard()) == ["BrokerdError"] * 3
        dialog.say(dialog.order())
        assert words(await dialog.heard()) == ["BrokerdOrderAck", "open"]


# ---- money


async def test_open_orders_fills_and_fees_count_against_what_is_free(autojump_clock: Any) -> None:
    async with open_dialog(start_balance=Decimal(100), taker_fee=Decimal("0.01")) as dialog:
        dialog.say(dialog.order("a", price="99", size="0.5"))
        dialog.say(dialog.order("b", price="102", size="0.4"))
        await dialog.heard()
        dialog.say(dialog.order("c", price="99", size="0.2"))
        refused = (await dialog.heard())[0]
        # 100 - 40.8 bought at 102 - 0.408 fee + 40.4 worth now; 40.4 and 49.5 are exposed
        assert refused.reason.startswith("balance: was 9.29 USDT free, expected 19.80")
        dialog.say(cancel("a"))
        dialog.say(dialog.order("d", price="99", size="0.2"))
        assert words(await dialog.heard()) == ["canceled", "BrokerdOrderAck", "open"]


async def test_order_that_lowers_the_exposure_passes_without_money(autojump_clock: Any) -> None:
    poor = PaperAccount(balances={"usdt": Decimal(-500)}, positions={FQME: Decimal(2)})
    async with open_dialog(account=poor) as dialog:
        assert await dialog.heard() == []  # what is held is valued before anybody asks
        dialog.say(dialog.order("a", "buy", size="0.5"))
        dialog.say(dialog.order("b", "sell", price="0", order_type="market", size="2"))
        heard = await dialog.heard()
    assert isinstance(heard[0], BrokerdError)
    assert heard[0].reason.startswith("balance: was 0.00 USDT free")
    assert words(heard[1:])[-1] == "closed"


async def test_leverage_widens_what_is_free(autojump_clock: Any) -> None:
    async with open_dialog(start_balance=Decimal(100), leverage=Decimal(3)) as dialog:
        dialog.say(dialog.order("a", price="99", size="3"))
        assert words(await dialog.heard()) == ["BrokerdOrderAck", "open"]
        dialog.say(dialog.order("b", price="99", size="0.1"))
        assert words(await dialog.heard()) == ["BrokerdError"]


async def test_reset_forgets_orders_positions_and_money(autojump_clock: Any) -> None:
    async with open_dialog(start_balance=Decimal(60)) as dialog:
        dialog.say(dialog.order("a", price="102"))
        dialog.say(dialog.order("b", price="99", size="0.05"))
        await dialog.heard()
        dialog.say(PaperAccount(balances={"usdt": Decimal(70)}))
        dialog.say(dialog.order("c", "sell", price="100", reduce_only=True))
        dialog.say(dialog.order("d", price="99", size="0.7"))
        dialog.say(cancel("b"))
        assert words(await dialog.heard()) == [
            "BrokerdOrderAck", "BrokerdError", "BrokerdOrderAck", "open", "BrokerdError",
        ]  # fmt: skip


# ---- lives


async def test_nothing_is_matched_or_answered_before_ready(autojump_clock: Any) -> None:
    async with open_dialog(is_ready=False) as dialog:
        dialog.say(dialog.order(price="102", time_ns=BASE_NS))
        assert await dialog.heard() == []
        dialog.say(PaperReady(time_ns=0))
        assert words(await dialog.heard()) == ["BrokerdOrderAck", "open", "BrokerdFill", "closed"]


async def test_restored_order_goes_on_where_its_journal_stands(autojump_clock: Any) -> None:
    async with open_dialog() as prelude:
        order = prelude.order(number=2, price="100", time_ns=5)
    before = PaperOrder(order=order, entered_ns=BASE_NS, filled=Decimal("0.2"), fills=1)
    async with open_dialog(before) as dialog:
        dialog.say(dialog.order("b", price="90"))
        assert words(await dialog.heard()) == ["BrokerdOrderAck", "open"]
        dialog.market.trade(100, 1.1)
        dialog.market.trade(100, 9)
        first, second, closed = await dialog.heard()
    assert (first.size, second.size) == (Decimal("0.1"), Decimal("0.2"))
    assert (first.tid, second.tid) == tuple(fill_tid(REQID, BASE_NS, n) for n in (2, 3))
    assert (closed.filled, closed.number) == (Decimal("0.5"), 2)


async def test_restored_limit_the_market_went_through_fills_at_its_price_gapped(
    autojump_clock: Any,
) -> None:
    async with open_dialog() as prelude:
        order = prelude.order(number=2, price="104", time_ns=5)
    before = PaperOrder(order=order, entered_ns=BASE_NS)
    async with open_dialog(before) as dialog:
        fill, closed = await dialog.heard()
    assert (fill.price, fill.size, fill.is_maker) == (Decimal(104), Decimal("0.5"), True)
    assert fill.broker_details["gapped"] is True
    assert closed.status == "closed"


async def test_restored_order_waits_for_its_market_and_can_be_canceled(
    autojump_clock: Any,
) -> None:
    async with open_dialog() as prelude:
        order = prelude.order(number=2, time_ns=5)
    async with open_dialog(PaperOrder(order=order, entered_ns=BASE_NS), is_ready=False) as dialog:
        dialog.world.refused.add(FQME)
        dialog.say(PaperReady(time_ns=0))
        dialog.say(dialog.order("b"))
        ack, refused = await dialog.heard()
        assert (ack.oid, refused.oid, refused.request) == ("b", "b", "entry")
        dialog.say(cancel(reqid=REQID))
        assert words(await dialog.heard(5.0)) == ["canceled"]


async def test_order_that_came_in_time_may_wait_for_its_market_to_open(
    autojump_clock: Any,
) -> None:
    async with open_dialog(is_ready=False) as dialog:
        dialog.world.open_s = 8.0
        dialog.say(PaperReady(time_ns=0))
        dialog.say(dialog.order(price="102", deadline_ns=BASE_NS + 3_000_000_000))
        assert words(await dialog.heard(2.0)) == ["BrokerdOrderAck"]
        assert words(await dialog.heard(8.0)) == ["open", "BrokerdFill", "closed"]


async def test_no_limit_ends_an_order_that_rested_before(
    autojump_clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("piker.clearing._paper_core.WAITING_MAX", 2)
    monkeypatch.setattr("piker.clearing._paper_core.MARKETS_MAX", 1)
    async with open_dialog() as prelude:
        names = [("btcusdt.spot", oid) for oid in "abcd"] + [("ethusdt.spot", "e")]
        orders = [prelude.order(oid, number=2, symbol=name, price="90") for name, oid in names]
    told = [PaperOrder(order=order, entered_ns=BASE_NS) for order in orders]
    async with open_dialog(*told) as dialog:
        assert await dialog.heard() == []
        assert dialog.engine.statistics()["orders"] == 5
        dialog.say(dialog.order("f", symbol="xrpusdt.spot"))
        (refused,) = await dialog.heard()
        assert refused.reason == "markets: 1 are open, expected fewer"


async def test_engine_forgets_all_and_ends_when_emsd_leaves(autojump_clock: Any) -> None:
    async with open_dialog() as dialog:
        dialog.say(dialog.order())
        await dialog.heard()
        assert dialog.engine.statistics()["orders"] == 1


# ---- the feed


async def test_what_trades_unseen_fills_nothing(autojump_clock: Any) -> None:
    async with open_dialog() as dialog:
        dialog.say(dialog.order(price="100"))
        await dialog.heard()
        market = dialog.market
        market.trade(100, 50, flags=RECOVERED)
        market.feed_state = FEED_DOWN
        market.tell(STATE, flags=FEED_DOWN)
        market.trade(100, 50)
        assert await dialog.heard() == []
        market.feed_state = FEED_LIVE
        market.tell(STATE, flags=FEED_LIVE)
        market.trade(100, 1)  # the queue began again at the 1.0 displayed
        assert await dialog.heard() == []
        market.trade(100, 0.5)
        assert words(await dialog.heard()) == ["BrokerdFill", "closed"]


async def test_after_a_gap_the_queue_starts_again(autojump_clock: Any) -> None:
    async with open_dialog() as dialog:
        dialog.say(dialog.order(price="100"))
        await dialog.heard()
        dialog.market.trade(100, 0.9)
        await dialog.heard()
        dialog.market.tell(GAP)
        await dialog.heard()
        dialog.market.trade(100, 0.9)
        assert await dialog.heard() == []


async def test_market_whose_feed_ended_is_opened_again_and_cancels_work(
    autojump_clock: Any,
) -> None:
    async with open_dialog() as dialog:
        dialog.say(dialog.order())
        dialog.say(dialog.order("b", price="98"))
        await dialog.heard()
        dialog.world.refused.add(FQME)
        dialog.market.end()
        await dialog.heard()
        dialog.say(cancel("b"))
        assert words(await dialog.heard()) == ["canceled"]
        dialog.world.refused.clear()
        await dialog.heard(5.0)
        dialog.market.trade(98, 9)
        assert words(await dialog.heard()) == ["BrokerdFill", "closed"]


async def test_stop_waits_for_its_trigger_and_tells_when_it_fired(autojump_clock: Any) -> None:
    async with open_dialog() as dialog:
        dialog.say(dialog.order(price="0", order_type="stop", trigger_price=Decimal(104)))
        assert words(await dialog.heard()) == ["BrokerdOrderAck", "open"]
        dialog.market.trade(104, 1)
        fired, fill, closed = await dialog.heard()
    assert fired.broker_details["fired"] is True
    assert (fill.price, closed.status) == (Decimal(102), "closed")


async def test_gtd_order_ends_at_its_time_without_any_event(
    autojump_clock: Any,
) -> None:
    async with open_dialog() as dialog:
        until_ns = BASE_NS + 2_000_000_000
        dialog.say(dialog.order(time_in_force="gtd", expire_time_ns=until_ns))
        assert words(await dialog.heard(1.0)) == ["BrokerdOrderAck", "open"]
        (end,) = await dialog.heard(2.0)
    assert (end.status, end.time_ns) == ("canceled", until_ns)


async def test_several_markets_are_served_each_with_its_own_quote(autojump_clock: Any) -> None:
    async with open_dialog() as dialog:
        dialog.say(dialog.order("a", price="102"))
        dialog.say(dialog.order("b", price="101", symbol="ethusdt.spot"))
        await dialog.heard()
        dialog.world.markets["ethusdt.spot.binance"].trade(100, 0.5)
        fills = [one for one in await dialog.heard() if isinstance(one, BrokerdFill)]
    assert [(one.oid, one.symbol) for one in fills] == [("b", "ethusdt.spot")]


def test_named_fill_models_have_defaults_that_conf_overrides() -> None:
    terms = paper_terms(Paper(), ("0.0002", "0.0004"))
    assert (terms.latency_ns, terms.slippage_ticks) == (50_000_000, 0)
    assert (terms.maker_fee, terms.taker_fee) == (Decimal("0.0002"), Decimal("0.0004"))
    assert paper_terms(Paper(fill_model="instant")).latency_ns == 0
    slow = paper_terms(Paper(fill_model="slow", latency_ms=10, taker_fee=Decimal(0)))
    assert (slow.latency_ns, slow.slippage_ticks, slow.taker_fee) == (10_000_000, 2, 0)


def test_fees_are_rounded_up_to_eight_places() -> None:
    terms = PaperTerms(maker_fee=Decimal("0.001"))
    assert terms.fee(Decimal("0.0000123"), is_maker=True) == Decimal("0.00000002")
    assert terms.fee(Decimal("12.3"), is_maker=True) == Decimal("0.0123")


async def test_slow_reader_is_left_when_its_messages_are_too_many(
    autojump_clock: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("piker.clearing._paper_core.OUTBOX_MAX", 5)
    async with open_dialog() as dialog:
        send, _ = trio.open_memory_channel[Any](0)
        dialog.channel.send, dialog.channel.send_nowait = send.send, lambda *_: False
        await dialog.heard(0.1)
        for number in range(10):
            dialog.say(cancel(str(number)))
        await trio.sleep(1)
        assert dialog.engine.statistics()["outbox"] == 5


async def test_client_hears_that_a_fill_was_gapped(autojump_clock: Any) -> None:
    dialogs = OrderDialogs()
    entry = Order(action="buy", exec_mode="live", oid="a", symbol=FQME, account="paper",
                  price=Decimal(104), size=Decimal("0.5"))  # fmt: skip
    dialogs.request(entry, "binance", "paper", 1)
    async with open_dialog() as prelude:
        order = replace(prelude.order(number=2, price="104", time_ns=5), number=1)
    async with open_dialog(PaperOrder(order=order, entered_ns=BASE_NS)) as dialog:
        for message in await dialog.heard():
            dialogs.relay("binance", "paper", message.to_dict(), 2)
    assert (dialogs["a"].state, dialogs["a"].gapped) == ("closed", True)
