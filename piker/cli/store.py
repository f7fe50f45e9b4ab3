"""`piker store`: what is on the disk of the state folder."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from piker import config
from piker.cli.table import print_rows, progress
from piker.errors import ConfigError, PikerError
from piker.storage.verify import Finding, verify_state

app = typer.Typer(help="Look after what is stored: order journals and bars.", no_args_is_help=True)


@app.callback()
def store() -> None:
    """Look after what is stored: order journals and bars."""


@app.command()
def verify(
    as_json: Annotated[bool, typer.Option("--json", help="A JSON list of objects.")] = False,
) -> None:
    """
    Read every order journal and every file of bars, and say what is damaged; changes nothing.

    Works beside a running pikerd. Exit code 1 when something that was stored is missing.

    \b
    Examples:
      piker store verify
      piker -c .demo store verify --json
    """
    folder = config.config_dir()
    if not folder.is_dir():
        raise ConfigError(f"state folder {folder}: is not there; choose one with -c")
    with progress(f"reading {folder}"):
        found = list(verify_state(folder))
    print_rows([row(finding, as_json) for finding in found], as_json, title="store")
    if not found and not as_json:
        print(f"{folder}: nothing is stored")
    if bad := [finding for finding in found if finding.is_bad]:
        raise PikerError(
            f"store: {len(bad)} of {len(found)} damaged, first {bad[0].kind} {bad[0].name}:"
            f" {bad[0].text}"
        )


def row(finding: Finding, as_json: bool) -> dict[str, Any]:
    """Return a finding as a row; what belongs to a local venue says so."""
    mark = {"local": finding.venue} if as_json else {"venue": f"LOCAL {finding.venue}"}
    return {
        "kind": finding.kind,
        "name": finding.name,
        **(mark if finding.venue else {}),
        "state": finding.state,
        "records": finding.records,
        "text": finding.text,
        "place": finding.place,
    }
