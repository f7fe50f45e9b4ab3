"""
`piker ledger`: what an account holds, has made and has paid, from its journal and ledger.

Looking takes no lock and changes nothing; `sync` writes. A live account is also asked of its venue,
through an actor of the command's own (`adhoc.<broker>.<pid>`), read-only.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, TypeVar, get_args

import trio
import typer

from piker import clock
from piker.accounting._books import Account, Books, choose, read_books
from piker.accounting._lots import Method
from piker.accounting._report import (
    Form,
    View,
    Wanted,
    audit_rows,
    print_report,
    print_summary,
    print_warnings,
    rows_of,
    steps,
    venue_rows,
)
from piker.accounting._sync import Synced, sync_books
from piker.accounting._venue import can_trade, compare_with_venue
from piker.accounting._views import parse_since, totals
from piker.cli.boundary import run_async
from piker.cli.client import check_brokers
from piker.cli.table import print_rows
from piker.errors import PikerError

T = TypeVar("T")

VERBS = ("show", "sync", "audit", "export")
PRICES_MAX_S = 8.0  # to know what a position is worth now
SETTLE_TRIES_MAX, SETTLE_S = 5, 0.5  # `emsd` writes an account file a second after a fill
SYNC_STEPS = 2  # that an account's sync tells


def parse_name(name: str) -> tuple[str, str]:
    """
    Return broker and label of `<broker>` or `<broker>.<account>`.

    Raises:
      typer.BadParameter: it is neither.
      PikerError: no such broker.
    """
    broker, dot, label = name.lower().partition(".")
    if not broker or (dot and not label) or "." in label:
        raise typer.BadParameter(
            f"account was {name!r}, expected <broker> or <broker>.<account> like binance.paper"
        )
    check_brokers([broker])
    return broker, label


def check_method(text: str) -> Method:
    """Return the name of a way to pick lots."""
    for method in get_args(Method):
        if method == text.lower():
            found: Method = method
            return found
    raise typer.BadParameter(f"was {text!r}, expected one of {', '.join(get_args(Method))}")


def check_since(text: str | None) -> datetime | None:
    """Return the moment that an option names."""
    try:
        return parse_since(text, datetime.fromtimestamp(clock.now_s(), UTC)) if text else None
    except ValueError as err:
        raise typer.BadParameter(str(err)) from None


def check_verb(text: str) -> str:
    """Return what is to be done."""
    if text not in VERBS:
        raise typer.BadParameter(f"was {text!r}, expected one of {', '.join(VERBS)}")
    return text


def one_of(flags: dict[T, bool], default: T) -> T:
    """Return the one name whose flag is set."""
    found = [name for name, is_set in flags.items() if is_set]
    if len(found) > 1:
        named = " and ".join(f"--{name}" for name in found)
        raise typer.BadParameter(f"{named} exclude each other")
    return found[0] if found else default


def ledger(
    ctx: typer.Context,
    name: Annotated[
        str, typer.Argument(metavar="BROKER[.ACCOUNT]", help="One account, or all of a broker.")
    ],
    verb: Annotated[
        str,
        typer.Argument(metavar="[show|sync|audit|export]", callback=check_verb, help="What to do."),
    ] = "show",
    orders: Annotated[bool, typer.Option("--orders", help="The orders of the last days.")] = False,
    fills: Annotated[bool, typer.Option("--fills", help="Every fill and transfer.")] = False,
    lots: Annotated[bool, typer.Option("--lots", help="The lots that are open.")] = False,
    gains: Annotated[bool, typer.Option("--gains", help="What closed lots made.")] = False,
    method: Annotated[
        str, typer.Option("--method", help="Lots: fifo, lifo, hifo or average.")
    ] = "fifo",
    since: Annotated[
        str | None, typer.Option("--since", help="From then on: 2026-01-31 or 7d.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="A JSON list of objects.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Comma-separated values.")] = False,
    as_beancount: Annotated[bool, typer.Option("--beancount", help="Beancount's text.")] = False,
    offline: Annotated[
        bool, typer.Option("--offline", help="Ask neither venue nor feed: files only.")
    ] = False,
) -> None:
    """
    Show what accounts hold, have made and have paid.

    `show` reads; `sync` brings the ledger and account files to what the order journal says;
    `audit` compares journal, files and, for a live account, the venue, and fails when they differ;
    `export` prints the fills for other programs.

    \b
    Examples:
      piker ledger binance
      piker ledger binance.paper --fills --since 7d
      piker ledger binance.paper sync
      piker ledger binance.paper export --beancount > trades.beancount
    """
    broker, label = parse_name(name)
    views: dict[View, bool] = {"orders": orders, "fills": fills, "lots": lots, "gains": gains}
    forms: dict[Form, bool] = {"json": as_json, "csv": as_csv, "beancount": as_beancount}
    wanted = Wanted(
        view=one_of(views, "fills" if verb == "export" else "positions"),
        form=one_of(forms, "csv" if verb == "export" else "table"),
        method=check_method(method),
        since=check_since(since),
    )
    if wanted.form == "beancount" and wanted.method == "average":
        raise typer.BadParameter("--method was average, expected fifo, lifo or hifo for beancount")
    level = (ctx.obj or {}).get("loglevel")
    match verb:
        case "sync":
            do_sync(broker, label, wanted, level)
        case "audit":
            do_audit(broker, label, wanted, level)
        case _:
            do_show(broker, label, wanted, level, wanted.view == "positions" and not offline)


# ---- what each verb does


def do_show(broker: str, label: str, wanted: Wanted, level: str | None, asks: bool) -> None:
    """Print a view of the accounts; `asks` what positions are worth, and what a venue holds."""

    async def body() -> tuple[list[Books], dict[str, Decimal], dict[Account, list[str]]]:
        every = [read_books(account) for account in choose(broker, label)]
        if not asks:
            return every, {}, {}
        return every, await prices_of(every), await compare_with_venue(every, level)

    needs_run = asks and any(can_trade(account) for account in choose(broker, label))
    every, prices, at_venue = run_beside(body, level, needs_run=needs_run)
    if wanted.form == "table" and wanted.view == "positions":
        print_summary(every)
    print_report(every, wanted, prices)
    if wanted.form == "table" and wanted.view == "positions":
        print_totals(every, wanted, prices)
    print_warnings(every, at_venue)


def print_totals(every: Sequence[Books], wanted: Wanted, prices: dict[str, Decimal]) -> None:
    """Print what all positions of one quote currency made together."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for books in every:
        for row in rows_of(books, wanted, prices):
            groups.setdefault(books.quotes.get(row["fqme"], "quote currency"), []).append(row)
    for quote, rows in groups.items():
        sums = totals(rows)
        known = all(row["unrealised"] is not None for row in rows)
        worth = sums["unrealised"] if known else "not known (no last price)"
        print(f"in {quote}: realised {sums['realised']}, unrealised {worth}, fees {sums['fees']}")


def do_sync(broker: str, label: str, wanted: Wanted, level: str | None) -> None:
    """
    Bring files up to date and print what that came to.

    Raises:
      PikerError: something is unexplained; the files are up to date all the same.
    """

    async def body() -> list[Synced]:
        accounts = choose(broker, label)
        with steps(SYNC_STEPS * len(accounts)) as tell:
            return [await sync_books(account, tell) for account in accounts]

    done = run_beside(body, level)
    rows = [
        {
            "account": each.account,
            "written": each.written,
            "imported": each.imported,
            "unexplained": len(each.differences),
            "is_changed": each.is_changed,
            "by": each.by,
        }
        for each in done
    ]
    print_rows(rows, wanted.form == "json")
    for each in done:
        for text in each.differences:
            typer.secho(f"{each.account}: {text}", fg="red", err=True)
    if any(each.differences for each in done):
        raise PikerError("journal and ledger differed: it is booked as unexplained in the file")


def do_audit(broker: str, label: str, wanted: Wanted, level: str | None) -> None:
    """
    Print where journal, files and venue differ.

    Raises:
      PikerError: they do.
    """

    async def body() -> tuple[list[Books], list[dict[str, Any]]]:
        every, found = await settled(broker, label)
        at_venue = await compare_with_venue(every, level)
        return every, found + [row for books in every for row in venue_rows(books, at_venue)]

    needs_run = any(can_trade(account) for account in choose(broker, label))
    every, rows = run_beside(body, level, needs_run=needs_run)
    print_rows(rows, wanted.form == "json")
    if rows:
        raise PikerError(f"{len(rows)} found that does not agree; see the rows above")
    if wanted.form != "json":
        names = ", ".join(books.account.name for books in every)
        print(f"{names}: journal, ledger and account file agree")


async def settled(broker: str, label: str) -> tuple[list[Books], list[dict[str, Any]]]:
    """
    Return the accounts and what in their files does not agree.

    Beside a run a file may be a moment behind its journal: that is given time to pass.
    """
    from piker.service import find_run

    for left in reversed(range(SETTLE_TRIES_MAX)):
        every = [read_books(account) for account in choose(broker, label)]
        found = [row for books in every for row in audit_rows(books)]
        if not found or not left or find_run() is None:
            break
        await trio.sleep(SETTLE_S)
    return every, found


# ---- beside the run


def run_beside(
    body: Callable[[], Awaitable[T]], level: str | None, *, needs_run: bool = False
) -> T:
    """Run `body`, as a client of the run when there is one, or when it `needs_run`."""

    async def joined() -> T:
        from piker.service import find_run, open_piker_runtime
        from piker.service.private import open_run

        name = f"piker_query_{os.getpid()}"
        if needs_run:
            async with open_run(name, loglevel=level):
                return await body()
        if find_run() is None:
            return await body()
        async with open_piker_runtime(name, loglevel=level):
            return await body()

    result: T = run_async(joined)
    return result


async def prices_of(every: Sequence[Books]) -> dict[str, Decimal]:
    """Return the last price of each market with an open position; none without a run."""
    from piker.brokers import core
    from piker.service import find_run

    fqmes = {
        position.fqme for books in every for position in books.holdings.positions() if position.size
    }
    if not fqmes or find_run() is None:
        return {}
    prices: dict[str, Decimal] = {}
    with trio.move_on_after(PRICES_MAX_S):
        try:
            for row in await core.quote(sorted(fqmes)):
                if row["last"] is not None:
                    prices[row["fqme"]] = Decimal(str(row["last"]))
        except PikerError as err:
            typer.secho(f"no prices: {err}", fg="yellow", err=True)
    return prices
