"""
How a terminal command asks the tree one question: join the run, ask, print, leave.

When no `pikerd` runs a private one is started; it ends by itself once its last client has left.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import trio
import typer

from piker import config
from piker.brokers import __brokers__
from piker.cli.boundary import run_async
from piker.cli.table import progress
from piker.errors import PikerError, ServiceUnavailable, SymbolNotFound
from piker.model.market import unpack_fqme

Rows = list[dict[str, Any]]
ANSWER_MAX_S = 60.0  # a cold start, a symbology download and one answer fit well inside


def ask(
    ctx: typer.Context,
    question: Callable[[], Awaitable[Rows]],
    brokers: Sequence[str],
    text: str,
    answer_max_s: float = ANSWER_MAX_S,
) -> Rows:
    """
    Run `question` inside the run's runtime and return its rows; `text` shows as progress.

    Rows that come from a local venue carry its name as `local`. Without `brokers` each row says
    by its `fqme` which broker it is of.

    Raises:
      ServiceUnavailable: no answer came within `answer_max_s`, or no `pikerd` can be started.
    """
    level = (ctx.obj or {}).get("loglevel")

    async def body() -> Rows:
        from piker.service.private import open_run

        with trio.move_on_after(answer_max_s):
            async with open_run(f"piker_query_{os.getpid()}", loglevel=level):
                return mark_local(await question(), brokers)
        raise ServiceUnavailable(
            f"{ctx.command_path}: no answer within {answer_max_s:.0f} s; see `piker services`"
        )

    with progress(text):
        rows: Rows = run_async(body)
    return rows


def mark_local(rows: Rows, brokers: Sequence[str]) -> Rows:
    """Return `rows`, each from a broker that runs on a local venue marked with its name."""
    venues: dict[str, config.Venue] = {}
    for row in rows:
        named = str(row.get("fqme", "")).rpartition(".")[2] or str(row.get("broker", ""))
        if broker := named or (brokers[0] if brokers else ""):
            venue = venues.setdefault(broker, config.venue_for(broker))
            if venue.is_local:
                row["local"] = venue.name
    return rows


def brokers_of(fqmes: Sequence[str]) -> list[str]:
    """Return the brokers of checked addresses, each once."""
    return list(dict.fromkeys(fqme.rpartition(".")[2] for fqme in fqmes))


def check_fqmes(fqmes: Sequence[str]) -> list[str]:
    """
    Return the addresses in lower case, each once.

    Raises:
      typer.BadParameter: one has no broker, or is no address at all.
      SymbolNotFound: no backend has the broker's name.
    """
    wanted = list(dict.fromkeys(fqme.lower() for fqme in fqmes))
    for fqme in wanted:
        try:
            broker = unpack_fqme(fqme)[0]
        except ValueError:
            raise typer.BadParameter(
                f"market was {fqme!r}, expected <pair>.<venue>.<broker> like btcusdt.spot.binance"
            ) from None
        if broker not in __brokers__:
            raise SymbolNotFound(
                f"{fqme}: no broker is named {broker!r}, expected one of {', '.join(__brokers__)}"
            )
    return wanted


def check_brokers(brokers: Sequence[str]) -> list[str]:
    """
    Return the broker names as given.

    Raises:
      PikerError: one is no backend's name.
    """
    for broker in brokers:
        if broker not in __brokers__:
            raise PikerError(
                f"no broker is named {broker!r}, expected one of {', '.join(__brokers__)}"
            )
    return list(brokers)
