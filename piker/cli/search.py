"""`piker search`: which markets match a few letters, best first."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from piker.brokers import __brokers__
from piker.cli.client import ask, check_brokers
from piker.cli.table import print_rows
from piker.errors import SymbolNotFound


def search(
    ctx: typer.Context,
    pattern: Annotated[str, typer.Argument(help="Letters of the market's name, e.g. btc.")],
    brokers: Annotated[
        list[str] | None,
        typer.Option("-b", "--brokers", help="Search this broker only; may be repeated."),
    ] = None,
    limit: Annotated[int, typer.Option("-n", "--limit", min=1, help="Rows at most.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="A JSON list of objects.")] = False,
) -> None:
    """
    Find markets by name.

    \b
    Examples:
      piker search btc
      piker search --json -b binance eth
    """
    chosen = check_brokers(brokers or list(__brokers__))

    async def answer() -> list[dict[str, Any]]:
        from piker.brokers.core import symbol_search

        return await symbol_search(chosen, pattern)

    found = ask(ctx, answer, chosen, f"searching {', '.join(chosen)}")[:limit]
    if not found:
        raise SymbolNotFound(f"no market of {', '.join(chosen)} matches {pattern!r}")
    print_rows(found, as_json)
