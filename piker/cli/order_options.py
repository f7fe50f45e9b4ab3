"""The options that `piker order`, `amend` and `cancel` share, one alias each."""

from __future__ import annotations

from typing import Annotated

import typer

Amount = str | None
Fqme = Annotated[str, typer.Argument(metavar="FQME", help="The market.")]
Size = Annotated[Amount, typer.Option(metavar="SIZE", help="How much, in units of the market.")]
Notional = Annotated[
    Amount, typer.Option(metavar="AMOUNT", help="How much, in the quote currency.")
]
Limit = Annotated[Amount, typer.Option(metavar="PRICE", help="The worst price to trade at.")]
Market = Annotated[bool, typer.Option("--market", help="Trade now, at what the book offers.")]
Stop = Annotated[
    Amount,
    typer.Option(metavar="PRICE", help="Trade once this is reached; with --limit a stop-limit."),
]
Trail = Annotated[
    str, typer.Option(metavar="DISTANCE", help="A stop behind the best price: 12.5 or 0.5%.")
]
TakeProfit = Annotated[
    Amount, typer.Option(metavar="PRICE", help="Then leave with a gain at this price.")
]
StopLoss = Annotated[
    Amount, typer.Option(metavar="PRICE", help="Then leave with a loss at this price.")
]
Tif = Annotated[str, typer.Option(metavar="TIF", help="gtc, ioc, fok, or gtd with --until.")]
Until = Annotated[
    str, typer.Option(metavar="WHEN", help="End of a gtd order: 15m, 2h, or a time in UTC.")
]
PostOnly = Annotated[bool, typer.Option("--post-only", help="Never take from the book.")]
ReduceOnly = Annotated[bool, typer.Option("--reduce-only", help="Only make a position smaller.")]
Dark = Annotated[bool, typer.Option("--dark", help="piker holds it until the price is there.")]
Account = Annotated[str, typer.Option(metavar="NAME", help="The account; paper unless --live.")]
Live = Annotated[bool, typer.Option("--live", help="Trade real money.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the order and send nothing.")]
Wait = Annotated[
    str,
    typer.Option(metavar="open|fill", help="What to wait for: the order's first word, or its end."),
]
Timeout = Annotated[
    float, typer.Option(metavar="SECONDS", min=0.1, max=86_400, help="How long to wait for that.")
]
AsJson = Annotated[bool, typer.Option("--json", help="A JSON list of objects.")]
Oid = Annotated[str, typer.Argument(metavar="OID", help="The order's id, or how it begins.")]
