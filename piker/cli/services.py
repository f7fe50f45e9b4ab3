"""`piker services`: the live tree of processes, as the supervisor sees it."""

from __future__ import annotations

import os
from typing import Annotated, Any

import typer

from piker import config
from piker.cli.boundary import run_async
from piker.cli.table import print_rows
from piker.service import open_piker_runtime
from piker.service.rpc import service_rows


def services(
    as_json: Annotated[bool, typer.Option("--json", help="Print a list of objects.")] = False,
) -> None:
    """
    Print every process of the run: name, kind, address, pid, uptime, restarts, state.

    \b
    Examples:
      piker services
      piker services --json
    """
    rows, marks = run_async(query)
    if not as_json:
        for mark in marks:
            print(mark)
        rows = [{name: row[name] for name in row if name != "stats"} for row in rows]
    print_rows(rows, as_json, title="services")


async def query() -> tuple[list[dict[str, Any]], list[str]]:
    """
    Return the rows of the run's service table, and a line for each local venue.

    Raises:
      ServiceUnavailable: no `pikerd` runs.
    """
    async with open_piker_runtime(f"piker_query_{os.getpid()}", attach=False):
        rows = await service_rows()
        venues = config.run_vars()["venues"]
    marks = []
    for broker, text in venues.items():
        venue = config.parse_venue(broker, text)
        if venue.is_local:
            marks.append(f"LOCAL venue of {broker}: {venue.url} ({venue.name})")
    return rows, marks
