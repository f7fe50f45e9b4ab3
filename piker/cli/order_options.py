"""The options that `piker order`, `amend` and `cancel` share, one alias each."""

from __future__ import annotations

from typing import Annotated

import typer

Amount = str | None
Fqme = Annotated[str, typer.Argument(metavar="FQME", help="The market.")]
Size = Annotated[Amount, typer.Option(help="How much, in units of the market.")]
Notional = Annotated[Amount, typer.Option(help="How much, in the quote currency.")]
Limit = Annotated[Amount, typer.Option(help="Worst price to trade at.")]
Market = Annotated[bool, typer.Option("--market", help="Trade now, at what the book offers.")]
Stop = Annotated[
    Amount, typer.Option(help="Trade once the price is there; with --limit a stop-limit order.")
]
Trail = Annotated[
    str, typer.Option(help="A stop that follows the best price: a distance, 12.5 or 0.5%.")
]
TakeProfit = Annotated[Amount, typer.Option(help="Then leave with a gain at this price.")]
StopLoss = Annotated[Amount, typer.Option(help="Then leave with a loss at this price.")]
Tif = Annotated[str, typer.Option(help="gtc, ioc, fok, or gtd with --until.")]
Until = Annotated[str, typer.Option(help="End of a gtd order: 15m, 2h, or a time in UTC.")]
PostOnly = Annotated[bool, typer.Option("--post-only", help="Never take from the book.")]
ReduceOnly = Annotated[bool, typer.Option("--reduce-only", help="Only make a position smaller.")]
Dark = Annotated[bool, typer.Option("--dark", help="piker holds it until the price is there.")]
Account = Annotated[str, typer.Option(help="The account; paper unless --live.")]
Live = Annotated[bool, typer.Option("--live", help="Trade real money.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the order and send nothing.")]
Wait = Annotated[
    str, typer.Option(help="What to wait for: open (the first word), or fill (its end).")
]
Timeout = Annotated[float, typer.Option(min=0.1, max=86_400, help="Seconds to wait for that.")]
AsJson = Annotated[bool, typer.Option("--json", help="A JSON list with one object.")]
Oid = Annotated[str, typer.Argument(metavar="OID", help="The order's id, or how it begins.")]
