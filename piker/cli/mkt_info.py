"""`piker mkt-info`: what a market is: its assets, increments and the broker's own id."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from piker.cli.client import ask, brokers_of, check_fqmes
from piker.cli.table import print_rows


def mkt_info(
    ctx: typer.Context,
    fqmes: Annotated[
        list[str], typer.Argument(metavar="FQME", help="Markets, e.g. btcusdt.spot.binance.")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="A JSON list of objects.")] = False,
) -> None:
    """
    Print what a market is: assets, price and size ticks, the broker's own id.

    \b
    Example:
      piker mkt-info btcusdt.spot.binance
    """
    wanted = check_fqmes(fqmes)

    async def answer() -> list[dict[str, Any]]:
        from piker.brokers import core

        return [await core.mkt_info(fqme) for fqme in wanted]

    text = f"asking for {', '.join(wanted)}"
    print_rows(ask(ctx, answer, brokers_of(wanted), text), as_json)
