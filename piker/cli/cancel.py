"""`piker cancel`: take orders and alerts back, and say how each ended."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Annotated, Any

import trio
import typer

from piker.clearing import Status
from piker.cli.client import ANSWER_MAX_S, Rows, ask, check_fqmes
from piker.cli.order_options import AsJson, Timeout
from piker.cli.order_rows import OID_SHOWN, find_oid, is_of, order_row
from piker.cli.order_watch import print_orders
from piker.errors import ServiceUnavailable


def cancel(
    ctx: typer.Context,
    oids: Annotated[
        list[str] | None,
        typer.Argument(metavar="OID", help="The orders' ids, or how they begin."),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="All orders and alerts.")] = False,
    market: Annotated[str, typer.Option(metavar="FQME", help="With --all: of this market.")] = "",
    timeout: Timeout = 10.0,
    as_json: AsJson = False,
) -> None:
    """
    Cancel orders and alerts, and wait until the broker says so.

    \b
    Examples:
      piker cancel 8f3a91c2
      piker cancel --all --market btcusdt.spot.binance
    """
    if bool(oids) == everything:
        raise typer.BadParameter("expected either OIDs or --all")
    if market and not everything:
        raise typer.BadParameter("--market: expected with --all")
    fqmes = check_fqmes([market]) if market else []

    async def work() -> Rows:
        from piker.clearing import order_book

        dialogs = (await order_book()).dialogs
        wanted = (
            [find_oid(oid, dialogs) for oid in dict.fromkeys(oids)]
            if oids
            else [one for one in dialogs if one.req and is_of(fqmes, one.req.symbol)]
        )
        return [order_row(status) for status in await cancel_each(wanted, timeout)]

    rows = ask(ctx, work, [], "cancelling", ANSWER_MAX_S + timeout)
    if not rows and not as_json:
        print("no open orders")
    print_orders(rows, as_json)
    if left := [row["oid"][:OID_SHOWN] for row in rows if not has_ended(row)]:
        raise ServiceUnavailable(
            f"cancel: {len(left)} of {len(rows)} not confirmed within {timeout:g} s:"
            f" {', '.join(left[:8])}; see `piker orders`"
        )


def has_ended(row: dict[str, Any]) -> bool:
    """Whether a row's order is over."""
    return row["resp"] in ("canceled", "closed", "error")


async def cancel_each(dialogs: Sequence[Status], timeout: float) -> list[Status]:
    """Cancel orders, market by market at once, and return the newest status of each."""
    from piker.clearing import open_ems

    newest = {status.oid: status for status in dialogs}

    async def cancel_market(symbol: str, mode: Any, group: list[Status]) -> None:
        waiting = {status.oid for status in group}
        async with open_ems(symbol, mode) as (client, trades, _, _, _):

            async def ask_all() -> None:
                for status in group:
                    await client.cancel(status.oid, symbol)

            with trio.move_on_after(timeout):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(ask_all)
                    async for told in trades:
                        if isinstance(told, Status) and told.oid in waiting:
                            newest[told.oid] = told
                            if told.is_terminal or told.refused:
                                waiting.discard(told.oid)
                        if not waiting:
                            nursery.cancel_scope.cancel()
                            break
            for oid in waiting:
                newest[oid] = client.statuses.get(oid, newest[oid])

    async with trio.open_nursery() as nursery:
        for (symbol, mode), group in by_market(dialogs):
            nursery.start_soon(cancel_market, symbol, mode, group)
    return list(newest.values())


def by_market(dialogs: Iterable[Status]) -> list[tuple[tuple[str, str], list[Status]]]:
    """Return orders grouped by market and mode."""

    def key(status: Status) -> tuple[str, str]:
        return status.req.symbol if status.req else "", status.mode

    return [(name, list(group)) for name, group in groupby(sorted(dialogs, key=key), key)]
