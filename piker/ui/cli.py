"""`piker chart`: the live chart of one or more markets, as a page in a browser."""

from __future__ import annotations

from typing import Annotated

import typer

from piker.cli.boundary import run_async
from piker.cli.client import check_fqmes


def chart(
    ctx: typer.Context,
    fqmes: Annotated[
        list[str] | None,
        typer.Argument(metavar="FQME...", help="Markets; the second and later ones are overlaid."),
    ] = None,
    venue: Annotated[
        str,
        typer.Option("--venue", metavar="URL", help="A local venue instead of the real one."),
    ] = "",
    no_browser: Annotated[
        bool, typer.Option("--no-browser", help="Print the address only.")
    ] = False,
    snapshot: Annotated[
        str, typer.Option("--snapshot", metavar="FILE.png", help="Save a picture and end.")
    ] = "",
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="Port of the page; 0: a free one.")
    ] = 0,
    debug_page: Annotated[
        bool, typer.Option("--debug-page", help="Let scripts read the page (window.piker.debug).")
    ] = False,
) -> None:
    """
    Open the live chart of one or more markets.

    A private pikerd is started when none runs; it ends 2 s after its last client.

    \b
    Examples:
      piker chart btcusdt.spot.binance
      piker chart --no-browser --venue http://127.0.0.1:8123 btcusdt.spot.binance
      piker chart --snapshot btc.png btcusdt.spot.binance
    """
    wanted = check_fqmes(fqmes or [])
    if snapshot and not wanted:
        raise typer.BadParameter("--snapshot: expected a market to take a picture of")
    from piker.ui.snapshot import check_target, find_browser

    if snapshot:
        check_target(snapshot)
        find_browser()
    from piker.ui._app import run_chart
    from piker.ui.desk import Options

    broker = wanted[0].rpartition(".")[2] if wanted else "binance"
    options = Options(
        fqmes=tuple(wanted),
        venues={broker: venue} if venue else {},
        opens_browser=not no_browser,
        snapshot=snapshot or None,
        port=port,
        is_debug=debug_page or bool(snapshot),
        loglevel=(ctx.obj or {}).get("loglevel"),
    )

    def announce(text: str) -> None:
        typer.echo(text)

    run_async(run_chart, options, announce)
