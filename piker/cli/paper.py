"""`piker paper`: look after the simulated accounts."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from piker.cli.client import Rows, ask, check_brokers
from piker.cli.order_options import AsJson
from piker.cli.order_request import positive
from piker.cli.table import print_rows

app = typer.Typer(help="Look after the paper accounts: no money moves there.", no_args_is_help=True)


@app.callback()
def paper() -> None:
    """Look after the paper accounts: no money moves there."""


@app.command()
def reset(
    ctx: typer.Context,
    broker: Annotated[
        str, typer.Argument(metavar="BROKER", help="Whose paper account, e.g. binance.")
    ],
    balance: Annotated[
        str | None,
        typer.Option(metavar="AMOUNT", help="Start balance of each quote asset (conf.toml)."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """
    Start a broker's paper account over: orders cancelled, no positions, the start balance.

    The ledger of the account so far is kept beside the new one.

    \b
    Examples:
      piker paper reset binance
      piker paper reset binance --balance 25000 --yes
    """
    check_brokers([broker])
    amount = positive("balance", balance)
    if not yes:
        if not sys.stdin.isatty():
            raise typer.BadParameter("--yes: was missing, expected where nobody can be asked")
        typer.confirm(f"Start the paper account of {broker} over?", abort=True)

    async def work() -> Rows:
        from piker.clearing import reset_paper

        row = await reset_paper(broker, str(amount or ""))
        return [{name: row[name] for name in ("broker", "account", "mode", "balances")}]

    print_rows(ask(ctx, work, [broker], f"resetting {broker}.paper"), as_json)
