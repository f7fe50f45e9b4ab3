"""`piker kill` and `piker arm`: the switch that ends all trading at once, and back."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from piker.cli.client import Rows, ask
from piker.cli.order_options import AsJson
from piker.cli.table import print_rows

Account = Annotated[
    str, typer.Argument(metavar="ACCOUNT", help="binance.paper, binance.main; all without it.")
]


def kill(
    ctx: typer.Context,
    account: Account = "",
    reason: Annotated[str, typer.Option(help="Why; shown wherever an order is refused.")] = "",
    as_json: AsJson = False,
) -> None:
    """
    Cancel every order and refuse new risk until `piker arm`; it holds over a restart.

    \b
    Examples:
      piker kill
      piker kill binance.paper --reason "leaving the desk"
    """

    async def work() -> Rows:
        from piker.clearing import stop_all

        rows: Rows = await stop_all(account, reason)
        return rows

    rows = ask(ctx, work, [], "stopping")
    print_rows([switch_row(row) for row in rows], as_json)
    if not as_json:
        print("stopped: `piker arm` to trade again")


def arm(ctx: typer.Context, account: Account = "", as_json: AsJson = False) -> None:
    """
    Allow trading again after `piker kill`; what was cancelled stays so.

    \b
    Examples:
      piker arm
      piker arm binance.paper
    """

    async def work() -> Rows:
        from piker.clearing import arm as arm_accounts

        rows: Rows = await arm_accounts(account)
        return rows

    print_rows([switch_row(row) for row in ask(ctx, work, [], "arming")], as_json)


def switch_row(row: dict[str, Any]) -> dict[str, Any]:
    """Return an account's row; a moment that never was is none."""
    return {**row, "since_ns": row["since_ns"] or None}
