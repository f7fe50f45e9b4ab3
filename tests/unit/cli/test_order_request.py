"""What the options of `piker order` mean, and what is refused before anything is asked."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
import typer

from piker.clearing import Order
from piker.cli.order_request import Wish, build_order, choose_account, parse_until, parse_wish
from piker.errors import OrderRejected
from piker.model.market import Asset, MktPair

NOW_NS = 1_795_000_000 * 10**9
FQME = "btcusdt.spot.binance"
MKT = MktPair(
    dst=Asset("btc", "crypto", Decimal("0.00001")),
    src=Asset("usdt", "crypto", Decimal("0.01")),
    price_tick=Decimal("0.01"),
    size_tick=Decimal("0.00001"),
    bs_mktid="BTCUSDT",
    broker="binance",
    venue="spot",
)


def wish(**options: Any) -> Wish:
    """Return a wish with the given options; a buy of a size unless they say otherwise."""
    if not {"size", "notional"} & options.keys():
        options["size"] = "0.01"
    return parse_wish(NOW_NS, **{"action": "buy", "fqme": FQME, **options})


def order(last: str | None = None, **options: Any) -> Order:
    """Return the order of such a wish."""
    return build_order(wish(**options), MKT, Decimal(last) if last else None, "0" * 32, "paper")


def test_a_limit_order_is_sent_as_it_was_asked_for() -> None:
    made = order(limit="65000", time_in_force="ioc")
    assert (made.order_type, made.price, made.size) == ("limit", Decimal(65000), Decimal("0.01"))
    assert (made.exec_mode, made.time_in_force, made.account) == ("live", "ioc", "paper")
    assert (made.symbol, made.brokers, made.client_ref) == (FQME, ("binance",), "terminal")


def test_a_notional_buys_the_largest_size_that_it_is_worth() -> None:
    assert order(last="65000", notional="500", is_market=True).size == Decimal("0.00769")
    assert order(notional="500", limit="50000").size == Decimal("0.01")
    assert order(notional="500", stop="50000").size == Decimal("0.01")
    with pytest.raises(OrderRejected, match=r"notional: was 0\.1 usdt, expected at least 0\.65"):
        order(last="65000", notional="0.1", is_market=True)
    with pytest.raises(OrderRejected, match="has no price yet"):
        order(notional="500", is_market=True)


def test_a_stop_with_a_limit_is_a_stop_limit_order() -> None:
    made = order(stop="66000", limit="66100")
    assert (made.order_type, made.trigger_price, made.price) == (
        "stop",
        Decimal(66000),
        Decimal(66100),
    )
    assert order(stop="66000").price == 0


def test_piker_holds_what_is_dark_or_trails() -> None:
    assert order(limit="64000", is_dark=True).exec_mode == "dark"
    trailing = order(action="sell", trail="0.5%")
    assert (trailing.exec_mode, trailing.order_type, trailing.trail) == ("dark", "stop", "0.5%")
    assert wish(limit="64000", stop_loss="63000").is_held
    assert not wish(limit="64000").is_held


def test_an_end_is_a_duration_or_a_time_in_utc() -> None:
    assert parse_until("90s", NOW_NS) == NOW_NS + 90 * 10**9
    assert parse_until("2h", NOW_NS) == NOW_NS + 7200 * 10**9
    assert parse_until("2026-11-30T16:00", NOW_NS) == 1_796_054_400 * 10**9
    assert parse_until("2026-11-30T16:00+01:00", NOW_NS) == 1_796_050_800 * 10**9
    assert order(limit="1", time_in_force="gtd", until="1d").expire_time_ns > NOW_NS


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"limit": "0"}, "--limit: was 0, expected above 0"),
        ({"limit": "-5"}, "--limit: was -5, expected above 0"),
        ({"limit": "nan"}, "--limit: was nan, expected a finite number"),
        ({"limit": "inf"}, "--limit: was inf, expected a finite"),
        ({"limit": "cheap"}, "--limit: was 'cheap', expected a decimal number"),
        ({"size": "0", "limit": "1"}, "--size: was 0, expected above 0"),
        ({"size": "1e30", "limit": "1"}, "--size: was 1e30, expected at most 28 digits"),
        ({"notional": "-1", "limit": "1"}, "--notional: was -1, expected above 0"),
        ({"size": "1", "notional": "1", "limit": "1"}, "--size: was given with --notional"),
        ({"action": "hold", "limit": "1"}, "action was 'hold', expected buy or sell"),
        ({}, "--limit: was missing, expected --limit, --market, --stop or --trail"),
        ({"is_market": True, "limit": "1"}, "--market: expected without --limit"),
        ({"stop": "1", "trail": "1"}, "--stop: expected without --trail"),
        ({"trail": "1", "limit": "1"}, "--trail: expected without --limit"),
        ({"trail": "100%"}, "--trail: was 100%, expected above 0, and below 100 %"),
        ({"limit": "1", "time_in_force": "day"}, "--tif: was 'day', expected gtc, ioc"),
        ({"limit": "1", "time_in_force": "gtd"}, "--until: expected with --tif gtd"),
        ({"limit": "1", "until": "5m"}, "--until: expected with --tif gtd"),
        (
            {"limit": "1", "time_in_force": "gtd", "until": "2020-01-01"},
            "--until: was 2020-01-01, expected a time to come",
        ),
        ({"limit": "1", "time_in_force": "gtd", "until": "soon"}, "--until: was 'soon'"),
        ({"is_market": True, "post_only": True}, "post_only: was true"),
        ({"limit": "10", "stop_loss": "11"}, "stop_loss: was 11, expected below the price 10"),
        ({"limit": "10", "take_profit": "9"}, "take_profit: was 9, expected above the price 10"),
        ({"limit": "1", "account": "binance.main"}, "--account: was binance.main, a live account"),
        (
            {"limit": "1", "account": "paper", "is_live": True},
            "--account: was paper, expected a live",
        ),
    ],
)
def test_misuse_names_the_option(options: dict[str, Any], words: str) -> None:
    with pytest.raises(typer.BadParameter) as refused:
        wish(**options)
    assert refused.value.message.startswith(words)


def test_no_size_at_all_is_misuse() -> None:
    with pytest.raises(typer.BadParameter, match="--size: was missing"):
        parse_wish(NOW_NS, action="buy", fqme=FQME, limit="1")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"limit": "65000.001"}, "limit: was 65000.001, expected a multiple of 0.01"),
        ({"size": "0.000001", "limit": "1"}, "size: was 0.000001, expected a multiple of 0.00001"),
        ({"size": "1E-7", "limit": "1"}, "size: was 0.0000001, expected a multiple of 0.00001"),
        ({"limit": "10", "stop_loss": "9.999"}, "stop-loss: was 9.999, expected a multiple"),
    ],
)
def test_what_lies_between_two_increments_is_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(OrderRejected, match=words):
        order(**options)


def test_paper_is_never_taken_for_live_and_live_is_named() -> None:
    assert choose_account(wish(limit="1"), ["paper"]) == "paper"
    live = wish(limit="1", is_live=True)
    assert choose_account(live, ["binance.main"]) == "binance.main"
    with pytest.raises(OrderRejected, match=r"--account with one of binance\.a, binance\.b"):
        choose_account(live, ["binance.a", "binance.b"])
    with pytest.raises(OrderRejected, match=r"account: was binance\.x, expected one of binance\.a"):
        choose_account(wish(limit="1", is_live=True, account="binance.x"), ["binance.a"])
