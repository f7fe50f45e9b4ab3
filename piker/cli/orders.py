"""`piker orders`, `positions` and `alerts`: what stands, in every market and account."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any

import trio
import typer

from piker import clock
from piker.clearing import Status
from piker.cli.client import Rows, ask, check_fqmes
from piker.cli.order_options import AsJson
from piker.cli.order_request import CLIENT_REF, check_tick, misuse, positive
from piker.cli.order_rows import Heard, is_of, order_row, position_row
from piker.cli.order_watch import judge, listen, print_orders, run_order
from piker.cli.table import cell
from piker.errors import PikerError

if TYPE_CHECKING:
    from piker.clearing import OrdersView

ALERT_WAIT_S = 10.0
NEWS_NS = 3600 * 10**9  # for how long a gap in watching is worth a line
Markets = Annotated[list[str] | None, typer.Argument(metavar="FQME", help="Only these markets.")]


def orders(
    ctx: typer.Context,
    fqmes: Markets = None,
    as_json: AsJson = False,
) -> None:
    """
    Print the open orders of every account: at the broker, held by piker, alerts too.

    \b
    Examples:
      piker orders
      piker orders --json btcusdt.spot.binance
    """
    wanted = check_fqmes(fqmes or [])
    print_open(ctx, wanted, lambda status: True, "no open orders", as_json)


def print_open(
    ctx: typer.Context,
    fqmes: list[str],
    is_wanted: Callable[[Status], bool],
    none: str,
    as_json: bool,
) -> None:
    """Print the open dialogs that are wanted, and what is wrong with an account's journal."""
    said: list[str] = []

    async def work() -> Rows:
        from piker.clearing import order_book

        view = await order_book()
        said.extend(remarks(view))
        return [
            order_row(status)
            for status in view.dialogs
            if status.req is not None and is_wanted(status) and is_of(fqmes, status.req.symbol)
        ]

    rows = ask(ctx, work, [], "asking emsd")
    if not as_json:
        for line in said:
            print(line)
        if not rows:
            print(none)
    print_orders(rows, as_json)


def remarks(view: OrdersView) -> list[str]:
    """Return a sentence for each account that is stopped, takes no new risk, or was not watched."""
    out = []
    for row in view.journals:
        if row["stopped"]:
            out.append(f"{row['name']}: stopped; `piker arm` to trade again")
        elif row["state"] != "ready":
            out.append(f"{row['name']}: no new risk: {row['cause']}")
        if row["unwatched"] and clock.now_ns() - row["unwatched"][1] < NEWS_NS:
            begin, end = (cell("time_ns", ns)[:-4] for ns in row["unwatched"])
            held = row["unwatched_held"]
            out.append(f"{row['name']}: {held} orders were not watched from {begin} to {end} UTC")
    out += [f"{row['broker']}.{row['account']}: {row['cause']}" for row in view.failed]
    return out


def positions(
    ctx: typer.Context,
    fqmes: Markets = None,
    with_flat: Annotated[bool, typer.Option("--all", help="Closed positions too.")] = False,
    as_json: AsJson = False,
) -> None:
    """
    Print what every account holds, with the gain or loss at the last trade.

    \b
    Examples:
      piker positions
      piker positions --json
    """
    wanted = check_fqmes(fqmes or [])

    async def work() -> Rows:
        from piker.clearing import order_book

        view = await order_book()
        held = [
            (account, position)
            for (_, account), table in view.positions.items()
            for fqme, position in table.items()
            if (with_flat or Decimal(position["size"])) and is_of(wanted, fqme)
        ]
        quotes = await last_quotes([position["symbol"] for _, position in held])
        return [
            position_row(
                position, "paper" if account == "paper" else "live", quotes.get(position["symbol"])
            )
            for account, position in held
        ]

    rows = ask(ctx, work, [], "asking emsd")
    if not rows and not as_json:
        print("no open positions")
    print_orders(rows, as_json)


async def last_quotes(fqmes: list[str]) -> dict[str, Any]:
    """Return a quote for each market; a market whose feed does not answer is left out."""
    from piker.brokers import core

    found: dict[str, Any] = {}

    async def ask_one(fqme: str) -> None:
        try:
            (found[fqme],) = await core.quote([fqme])
        except PikerError:
            pass  # what is held is told all the same

    async with trio.open_nursery() as nursery:
        for fqme in dict.fromkeys(fqmes):
            nursery.start_soon(ask_one, fqme)
    return found


def alerts(
    ctx: typer.Context,
    fqme: Annotated[str, typer.Argument(metavar="FQME", help="Set an alert here …")] = "",
    price: Annotated[str, typer.Argument(metavar="PRICE", help="… at this price.")] = "",
    as_json: AsJson = False,
) -> None:
    """
    Print the alerts that wait, or set one; `piker cancel` takes one away.

    \b
    Examples:
      piker alerts
      piker alerts btcusdt.spot.binance 65000
    """
    if not fqme:
        print_open(ctx, [], is_alert, "no alerts", as_json)
        return
    (address,) = check_fqmes([fqme])
    level = positive("price", price or None)
    if level is None:
        raise misuse("was missing, expected a price behind the market", "price")
    heard = Heard()

    async def work() -> Rows:
        from piker.clearing import open_ems

        async with open_ems(address) as (client, trades, _, _, _):
            assert client.mkt is not None
            check_tick("price", level, client.mkt.price_tick)
            heard.order = client.order("alert", level, 0, exec_mode="dark", client_ref=CLIENT_REF)
            await client.send(heard.order)
            with trio.move_on_after(ALERT_WAIT_S):
                await listen(trades, heard, lambda: heard.has_word)
        return [heard.row()]

    run_order(ctx, work, heard, f"alert {address}", ALERT_WAIT_S, as_json)
    if not as_json:
        print("held by piker: it tells only while piker runs")
    judge(heard, waits_for_end=False, timeout=ALERT_WAIT_S)


def is_alert(status: Status) -> bool:
    """Whether a dialog is an alert."""
    return status.req is not None and status.req.is_alert
