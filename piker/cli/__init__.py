"""
The terminal: one table of commands, each imported only when it is run.

`piker --help` must stay quick and must work when a backend or an optional library is broken, so
this module imports typer and the standard library alone. A command's module exports a function
with typer annotations, or a `typer.Typer` for a group; `COMMANDS` says which. Errors leave
through `piker.cli.boundary` only.
"""

import os
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup

import piker as package

LEVELS = ("debug", "info", "warning", "error", "critical")


class Entry(NamedTuple):
    """Where a command lives, `module:attribute`, and what `piker --help` says about it."""

    home: str
    text: str
    is_hidden: bool = False


COMMANDS = {
    "chart": Entry("piker.ui.cli:chart", "Open the live chart of one or more markets."),
    "search": Entry("piker.cli.search:search", "Find markets by name."),
    "quote": Entry("piker.cli.quote:quote", "Print last price, bid and ask."),
    "bars": Entry("piker.cli.bars:bars", "Print the newest closed bars of a market."),
    "mkt-info": Entry("piker.cli.mkt_info:mkt_info", "Print what a market is: assets, ticks, id."),
    "symbol-info": Entry("piker.cli.mkt_info:mkt_info", "The same as mkt-info.", True),
    "order": Entry("piker.cli.order:order", "Place an order; on paper unless --live is given."),
    "orders": Entry("piker.cli.orders:orders", "Print open orders."),
    "amend": Entry("piker.cli.amend:amend", "Change an open order."),
    "cancel": Entry("piker.cli.cancel:cancel", "Cancel orders and alerts."),
    "positions": Entry("piker.cli.orders:positions", "Print what is held, and its gain or loss."),
    "alerts": Entry("piker.cli.orders:alerts", "Print the price alerts, or set one."),
    "kill": Entry("piker.cli.switch:kill", "Cancel everything and stop trading."),
    "arm": Entry("piker.cli.switch:arm", "Allow trading again."),
    "paper": Entry("piker.cli.paper:app", "Look after the paper accounts."),
    "ledger": Entry(
        "piker.accounting.cli:ledger", "Show what accounts hold, have made and have paid."
    ),
    "services": Entry("piker.cli.services:services", "Print the live tree of processes."),
    "venue": Entry("piker.venues.cli:app", "Run a local venue: an exchange on this machine."),
    "store": Entry("piker.cli.store:app", "Look after what is stored: journals and bars."),
    "demo": Entry("piker.cli.demo:demo", "Run venue, supervisor and chart at once.", True),
}
PIKERD = Entry("piker.cli.pikerd:pikerd", "Run the supervisor in the foreground.")


def load_command(name: str, entry: Entry) -> Any:
    """Import a command's module and return it as a command that can be run."""
    module, _, attribute = entry.home.partition(":")
    found = getattr(import_module(module), attribute)
    return as_command(name, found)


def as_command(name: str, found: typer.Typer | Callable[..., Any]) -> Any:
    """Return a typer application, or a function with typer annotations, as a command."""
    if not isinstance(found, typer.Typer):
        single = typer.Typer(
            add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False
        )
        single.command(name, context_settings={"help_option_names": ["-h", "--help"]})(found)
        found = single
    found.rich_markup_mode = None  # plain help: quick, and the same in a pipe
    command = typer.main.get_command(found)
    command.name = name
    return command


class LazyGroup(TyperGroup):
    """A group that lists its commands from `COMMANDS` and imports the one that is run."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        for name, entry in COMMANDS.items():
            self.commands[name] = TyperCommand(name, help=entry.text, hidden=entry.is_hidden)

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """Return the real command where typer found the listed one."""
        name, listed, rest = super().resolve_command(ctx, args)
        if name is None or listed is None:
            return name, listed, rest
        return name, load_command(name, COMMANDS[name]), rest


app = typer.Typer(
    cls=LazyGroup,
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def show_version(wanted: bool) -> None:
    """Print the version and stop."""
    if wanted:
        typer.echo(f"piker {package.__version__}")
        raise typer.Exit()


def check_level(level: str | None) -> str | None:
    """Return a log level in lower case; any other word is misuse."""
    if level is not None and level.lower() not in LEVELS:
        raise typer.BadParameter(f"was {level!r}, expected one of {', '.join(LEVELS)}")
    return level.lower() if level else None


def use_folder(folder: Path | None) -> Path | None:
    """Make `folder` the run's, for this process and its children, before a command is imported."""
    if folder is not None:
        if folder.exists() and not folder.is_dir():
            raise typer.BadParameter(f"{folder} is a file, expected a folder")
        os.environ["PIKER_CONFIG_DIR"] = str(folder.expanduser().absolute())
    return folder


@app.callback()
def group(
    ctx: typer.Context,
    configdir: Annotated[
        Path | None,
        typer.Option(
            "-c",
            "--configdir",
            callback=use_folder,
            help="Folder of configuration and state (PIKER_CONFIG_DIR).",
        ),
    ] = None,
    loglevel: Annotated[
        str | None,
        typer.Option("-l", "--loglevel", callback=check_level, help=f"One of {', '.join(LEVELS)}."),
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", callback=show_version, is_eager=True, help="Print it.")
    ] = False,
) -> None:
    """
    Trading gear for people who run their own machines.

    \b
    Examples:
      piker chart btcusdt.spot.binance
      piker quote --json btcusdt.spot.binance
    """
    ctx.obj = {"loglevel": loglevel}
