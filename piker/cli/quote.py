"""`piker quote`: the newest price, bid and ask of markets, once."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from piker.cli.client import ask, brokers_of, check_fqmes
from piker.cli.table import print_rows


def quote(
    ctx: typer.Context,
    fqmes: Annotated[
        list[str], typer.Argument(metavar="FQME", help="Markets, e.g. btcusdt.spot.binance.")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="A JSON list of objects.")] = False,
) -> None:
    """
    Print last price, bid and ask, with sizes.

    \b
    Examples:
      piker quote btcusdt.spot.binance
      piker quote --json btcusdt.spot.binance ethusdt.spot.binance
    """
    wanted = check_fqmes(fqmes)

    async def answer() -> list[dict[str, Any]]:
        from piker.brokers import core

        rows: list[dict[str, Any]] = await core.quote(wanted)
        return rows

    text = f"asking for {', '.join(wanted)}"
    print_rows(ask(ctx, answer, brokers_of(wanted), text), as_json)
