"""`piker order`: place one order, on paper unless asked for live, and print what came of it."""

from __future__ import annotations

from decimal import Decimal
from functools import partial
from typing import Annotated, Any

import trio
import typer

from piker import clock
from piker.cli.client import Rows, check_fqmes
from piker.cli.order_options import (
    Account,
    AsJson,
    Dark,
    DryRun,
    Fqme,
    Limit,
    Live,
    Market,
    Notional,
    PostOnly,
    ReduceOnly,
    Size,
    Stop,
    StopLoss,
    TakeProfit,
    Tif,
    Timeout,
    Trail,
    Until,
    Wait,
)
from piker.cli.order_request import Wish, build_order, choose_account, parse_wish
from piker.cli.order_rows import Heard, order_terms, text
from piker.cli.order_watch import judge, listen, run_order
from piker.model.market import MktPair


def order(
    ctx: typer.Context,
    action: Annotated[str, typer.Argument(metavar="buy|sell", help="buy or sell.")],
    fqme: Fqme,
    size: Size = None,
    notional: Notional = None,
    limit: Limit = None,
    market: Market = False,
    stop: Stop = None,
    trail: Trail = "",
    take_profit: TakeProfit = None,
    stop_loss: StopLoss = None,
    tif: Tif = "gtc",
    until: Until = "",
    post_only: PostOnly = False,
    reduce_only: ReduceOnly = False,
    dark: Dark = False,
    account: Account = "",
    live: Live = False,
    dry_run: DryRun = False,
    wait: Wait = "",
    timeout: Timeout = 10.0,
    as_json: AsJson = False,
) -> None:
    """
    Place an order, on paper unless --live is given, and print what became of it.

    \b
    Examples:
      piker order buy btcusdt.spot.binance --notional 500 --market
      piker order sell btcusdt.spot.binance --size 0.01 --limit 65000 --post-only
      piker order buy btcusdt.spot.binance --size 0.01 --limit 60000 --stop-loss 59000
      piker order sell btcusdt.spot.binance --size 0.01 --trail 0.5% --dry-run
    """
    (address,) = check_fqmes([fqme])
    parse = partial(
        parse_wish, action=action, fqme=address, size=size, notional=notional, limit=limit,
        is_market=market, stop=stop, trail=trail, take_profit=take_profit, stop_loss=stop_loss,
        time_in_force=tif, until=until, post_only=post_only, reduce_only=reduce_only,
        is_dark=dark, account=account, is_live=live,
    )  # fmt: skip
    wish = parse(clock.now_ns())  # misuse is said before anything is asked
    waits_for_end = waits_for_end_of(wait, wish)
    heard = Heard()

    async def work() -> Rows:
        # the run's own clock says when a gtd order ends
        asked = parse(clock.now_ns())
        if dry_run:
            return [await rehearse(asked)]
        await place(asked, heard, waits_for_end, timeout)
        return heard.rows()

    run_order(ctx, work, heard, f"{wish.action} {address}", timeout, as_json)
    if dry_run:
        return
    if wish.is_held and not as_json:
        print("held by piker: it acts only while piker runs")
    judge(heard, waits_for_end, timeout)


def waits_for_end_of(wait: str, wish: Wish) -> bool:
    """
    Return whether to wait until the order has ended; by default if it cannot rest.

    Raises:
      typer.BadParameter: no such word.
    """
    if wait not in ("", "open", "fill"):
        raise typer.BadParameter(f"--wait: was {wait!r}, expected open or fill")
    return wait == "fill" or (not wait and not wish.may_rest)


async def last_price(fqme: str) -> Decimal | None:
    """Return a market's last trade price; None before its first trade."""
    from piker.brokers import core

    (row,) = await core.quote([fqme])
    return None if row["last"] is None else Decimal(str(row["last"]))


async def rehearse(wish: Wish) -> dict[str, Any]:
    """Return the order that a wish would send, and what it is worth."""
    from piker.brokers import core

    facts = await core.mkt_info(wish.fqme)
    mkt = MktPair(
        dst=facts["dst"],
        src=facts["src"],
        price_tick=Decimal(facts["price_tick"]),
        size_tick=Decimal(facts["size_tick"]),
        bs_mktid=facts["bs_mktid"],
        broker=facts["broker"],
        venue=facts["venue"],
        expiry=facts["expiry"],
    )
    last = await last_price(mkt.fqme)
    account = "paper" if not wish.is_live else wish.account or "?"
    order = build_order(wish, mkt, last, clock.new_id(), account)
    price = order.price or order.trigger_price or last
    worth = f"{text(order.size * price)} {mkt.src}" if price else None
    return {**order_terms(order), "mode": wish.mode, "state": "not sent", "worth": worth}


async def place(wish: Wish, heard: Heard, waits_for_end: bool, timeout: float) -> None:
    """Send the order of a wish and listen until enough is known."""
    from piker.clearing import open_ems

    needs_last = wish.size is None and wish.limit is None and wish.stop is None
    last = await last_price(wish.fqme) if needs_last else None
    async with open_ems(wish.fqme, wish.mode) as (client, trades, _, accounts, _):
        assert client.mkt is not None
        account = choose_account(wish, accounts)
        order = build_order(wish, client.mkt, last, client.new_oid(), account)
        heard.order = order
        await client.send(order)
        with trio.move_on_after(timeout):
            await listen(
                trades, heard, lambda: heard.has_ended if waits_for_end else heard.has_word
            )
