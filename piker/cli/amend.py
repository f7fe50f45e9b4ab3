"""`piker amend`: change an open order, based on the revision that is known."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any

import trio
import typer

from piker.cli.client import Rows
from piker.cli.order_options import AsJson, Limit, Oid, Size, Stop, StopLoss, TakeProfit, Timeout
from piker.cli.order_request import check_tick, positive
from piker.cli.order_rows import Heard, find_oid
from piker.cli.order_watch import judge, listen, run_order


def amend(
    ctx: typer.Context,
    oid: Oid,
    size: Size = None,
    limit: Limit = None,
    stop: Stop = None,
    take_profit: TakeProfit = None,
    stop_loss: StopLoss = None,
    revision: Annotated[
        int | None, typer.Option(min=1, help="Refuse unless this is the newest revision.")
    ] = None,
    timeout: Timeout = 10.0,
    as_json: AsJson = False,
) -> None:
    """
    Change an open order; --size is its whole size, what is filled included.

    \b
    Examples:
      piker amend 8f3a --limit 64500
      piker amend 8f3a --size 0.02 --revision 3
    """
    given = {
        "size": positive("size", size),
        "price": positive("limit", limit),
        "trigger_price": positive("stop", stop),
        "take_profit": positive("take_profit", take_profit),
        "stop_loss": positive("stop_loss", stop_loss),
    }
    changes = {name: value for name, value in given.items() if value is not None}
    if not changes:
        raise typer.BadParameter("nothing to change: expected --size, --limit or --stop")
    heard = Heard()

    async def work() -> Rows:
        return [await change(oid, changes, revision, heard, timeout)]

    run_order(ctx, work, heard, f"amending {oid}", timeout, as_json)
    judge(heard, waits_for_end=False, timeout=timeout)


async def change(
    prefix: str, changes: dict[str, Decimal], revision: int | None, heard: Heard, timeout: float
) -> dict[str, Any]:
    """Send an amend, listen until it is in force or refused, return the order's row."""
    from piker.clearing import open_ems, order_book

    known = find_oid(prefix, (await order_book()).dialogs)
    assert known.req is not None
    heard.order = known.req
    async with open_ems(known.req.symbol, known.mode) as (client, trades, _, _, _):
        assert client.mkt is not None
        for field, amount in changes.items():
            check_tick(
                field, amount, client.mkt.size_tick if field == "size" else client.mkt.price_tick
            )
        base = revision or known.revision
        await client.update(known.oid, revision=base, **changes)

        def is_in_force() -> bool:
            now = heard.status
            return heard.has_ended or (
                now is not None and now.revision > base and now.state != "amend_in_flight"
            )

        with trio.move_on_after(timeout):
            await listen(trades, heard, is_in_force)
    return heard.row()
