"""`piker bars`: the newest closed bars of a market."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from piker.cli.client import ask, brokers_of, check_fqmes
from piker.cli.table import print_rows
from piker.model.bars import PERIOD_NAMES

PERIODS = {name: seconds for seconds, name in PERIOD_NAMES.items()}
BARS_MAX = 100_000  # more belongs into a file, not a terminal


def parse_period(text: str) -> int:
    """Return the seconds of a period's name: 1s, 1m, 5m, 1h …"""
    if text not in PERIODS:
        raise typer.BadParameter(f"period was {text!r}, expected one of {', '.join(PERIODS)}")
    return PERIODS[text]


def bars(
    ctx: typer.Context,
    fqme: Annotated[str, typer.Argument(metavar="FQME", help="A market.")],
    period: Annotated[
        str, typer.Option("-p", "--period", help=f"One of {', '.join(PERIODS)}.")
    ] = "1m",
    count: Annotated[
        int, typer.Option("-n", "-c", "--count", min=1, max=BARS_MAX, help="How many bars.")
    ] = 100,
    as_json: Annotated[bool, typer.Option("--json", help="A JSON list of objects.")] = False,
) -> None:
    """
    Print the newest closed bars of a market, oldest first.

    `time` is the bar's open in UTC. A bar is filled when nothing traded, and partial when it was
    not seen from its first trade and has not been rebuilt yet.

    \b
    Examples:
      piker bars btcusdt.spot.binance
      piker bars --json -p 1h -n 24 btcusdt.spot.binance
    """
    period_s = parse_period(period)
    (wanted,) = check_fqmes([fqme])

    async def answer() -> list[dict[str, Any]]:
        from piker.brokers import core

        rows: list[dict[str, Any]] = await core.bars(wanted, period_s=period_s, count=count)
        return rows

    text = f"loading {count} bars of {wanted}"
    print_rows(ask(ctx, answer, brokers_of([wanted]), text), as_json)
