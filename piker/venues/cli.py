"""`piker venue`: run a local venue, and measure the form of its made-up markets."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Annotated

import httpx
import trio
import typer
from rich.console import Console
from rich.table import Table

from piker.errors import ConfigError, ServiceUnavailable
from piker.venues._measure import Measure, measure
from piker.venues.binance import Venue, open_venue

app = typer.Typer(
    help="Run an exchange of your own on this machine, for free and without an account.",
    no_args_is_help=True,
)

VENUES = ("binance",)


@app.command()
def serve(
    venue: Annotated[str, typer.Argument(help="Whose protocol to speak: binance.")] = "binance",
    tape: Annotated[
        list[Path] | None,
        typer.Option(help="A recorded tape (gzip); again for the next one in time."),
    ] = None,
    synthetic: Annotated[
        bool, typer.Option("--synthetic", help="Make up BTCUSDT, ETHUSDT and SOLUSDT.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Which made-up market; the same seed, the same.")] = 1,
    speed: Annotated[
        float,
        typer.Option(help="Market seconds per second; 0 (tapes): as fast as the clients read."),
    ] = 1.0,
    start_in: Annotated[
        float, typer.Option(help="Real seconds for which the market's clock stands still first.")
    ] = 0.0,
    port: Annotated[int, typer.Option(help="TCP port; 0 takes a free one.")] = 0,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    loop: Annotated[bool, typer.Option("--loop", help="Start a tape again at its end.")] = False,
    state: Annotated[
        Path | None, typer.Option(help="Folder that remembers the first start.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON line when ready, nothing else.")
    ] = False,
) -> None:
    """
    Serve a venue's real protocol on loopback until Ctrl-C.

    The market is recorded (--tape) or made up (--synthetic); no money moves.

    \b
    Examples:
      piker venue serve binance --synthetic --seed 3
      piker venue serve binance --tape recording.jsonl.gz --speed 10 --start-in 20 --json
    """
    if venue not in VENUES:
        raise ConfigError(f"venue: was {venue!r}, expected one of: {', '.join(VENUES)}")
    if bool(tape) == synthetic:
        raise ConfigError("venue: give either --tape FILE or --synthetic (with --seed N)")

    async def run() -> None:
        async with open_venue(
            tapes=tape or (),
            seed=seed if synthetic else None,
            speed=speed,
            start_in_s=start_in,
            host=host,
            port=port,
            state_dir=state,
            is_looping=loop,
        ) as served:
            _announce(served, seed if synthetic else None, as_json)
            with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
                async for _ in signals:
                    break

    trio.run(run)


@app.command()
def stats(
    url: Annotated[
        str, typer.Argument(help="A running venue: its speed and counters instead of the form.")
    ] = "",
    seed: Annotated[int, typer.Option(help="Which made-up market to measure.")] = 1,
    day: Annotated[str, typer.Option(help="The UTC day to measure.")] = "2026-11-21",
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list.")] = False,
) -> None:
    """
    Measure 24 h of the made-up markets, each figure beside what the house aims at.

    With the URL of a running venue: how fast its market is played, and what it has served.

    \b
    Examples:
      piker venue stats --seed 3
      piker venue stats http://127.0.0.1:8123
    """
    if url:
        return _print_counters(url, as_json)
    try:
        rows = measure(seed, day)
    except ValueError:
        raise ConfigError(f"stats: --day was {day!r}, expected a date such as 2026-11-21") from None
    if as_json:
        print(json.dumps([row.to_dict() for row in rows]))
    else:
        _print_table(rows)
    raise typer.Exit(0 if all(row.is_met for row in rows) else 1)


def _print_counters(url: str, as_json: bool) -> None:
    try:
        answer = httpx.get(f"{url.rstrip('/')}/venue/stats", trust_env=False, timeout=3)
        counters = answer.raise_for_status().json()
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        raise ServiceUnavailable(
            f"stats: no local venue answers at {url} ({error}); start one with `piker venue serve`"
        ) from None
    if as_json:
        print(json.dumps([counters]))
        return
    table = Table(box=None)
    table.add_column("figure")
    table.add_column("value", justify="right")
    for name, value in counters.items():
        table.add_row(name, str(value))
    Console().print(table)


def _announce(venue: Venue, seed: int | None, as_json: bool) -> None:
    spec = None if venue.clock_spec is None else str(venue.clock_spec)
    if as_json:
        facts = {
            "venue": "binance",
            "url": venue.url,
            "clock": spec,
            "seed": seed,
            "pid": os.getpid(),
        }
        print(json.dumps(facts), flush=True)
        return
    what = "made-up market" if seed is not None else "recorded tape"
    print(f"binance venue ({what}, no money moves) at {venue.url}")
    if spec:
        print(f"the run's clock: pikerd --clock {spec}")
    print("Ctrl-C ends it", flush=True)


def _print_table(rows: list[Measure]) -> None:
    table = Table(box=None)
    for column in ("market", "figure", "value", "target", "met"):
        table.add_column(column, justify="right" if column == "value" else "left")
    for row in rows:
        table.add_row(
            row.market,
            row.name,
            f"{row.value:.4g} {row.unit}",
            row.target,
            "yes" if row.is_met else "NO",
        )
    Console().print(table)
