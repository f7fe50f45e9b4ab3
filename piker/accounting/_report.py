"""What `piker ledger` prints: which rows answer which question, and how they leave."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from typing import Literal

import msgspec
import typer

from piker.accounting import _exports, _views
from piker.accounting._books import Account, Books, audit_account_file, quotes_of
from piker.accounting._lots import Method
from piker.accounting._sync import Tell
from piker.accounting._views import Row
from piker.cli.table import print_rows

TIME_DIGITS = len("2026-01-31T12:00:00.000")
Form = Literal["table", "json", "csv", "beancount"]
View = Literal["positions", "fills", "orders", "lots", "gains"]


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked for."""

    view: View = "positions"
    form: Form = "table"
    method: Method = "fifo"
    since: datetime | None = None


def rows_of(books: Books, wanted: Wanted, prices: Mapping[str, Decimal]) -> list[Row]:
    """Return the rows of one account that a view shows; those of a local venue say so."""
    holdings = books.holdings
    match wanted.view:
        case "positions":
            rows = _views.position_rows(holdings, prices, wanted.since)
        case "fills":
            rows = _views.fill_rows(holdings, wanted.since)
        case "lots":
            rows = _views.lot_rows(holdings, wanted.method)
        case "gains":
            rows = _views.gain_rows(holdings, wanted.method, wanted.since)
        case "orders":
            rows = order_rows(books, wanted.since)
    return [row | {"local": books.account.local} if books.account.local else row for row in rows]


def order_rows(books: Books, since: datetime | None) -> list[Row]:
    """Return the orders that the journal still knows, by when they last changed."""
    rows = []
    for dialog in sorted(books.orders, key=lambda each: (each.told_ns, each.oid)):
        changed = datetime.fromtimestamp(dialog.told_ns // 1000 / 1e6, UTC)
        if since and changed < since:
            continue
        order = dialog.order
        paid = sum((fill.size * fill.price for fill in dialog.fills), Decimal(0))
        rows.append(
            {
                "time": _views.stamp(changed),
                "account": books.account.name,
                "fqme": order.symbol,
                "action": order.action,
                "type": order.order_type if order.exec_mode != "dark" else "dark",
                "size": _views.plain(order.size),
                "price": _views.plain(order.price) if order.price else None,
                "filled": _views.plain(dialog.filled),
                "average_price": _views.price(paid / dialog.filled) if dialog.filled else None,
                "state": dialog.state,
                "client_ref": order.client_ref,
                "oid": dialog.oid,
            }
        )
    return rows


def audit_rows(books: Books) -> list[Row]:
    """Return everything about an account's files that does not agree, one sentence a row."""
    found = [("journal", text) for text in books.warnings]
    found += [("ledger", str(each)) for each in books.found.differences]
    if books.found.written:
        text = f"the journal has {books.found.written} fills more than the file; `sync` writes them"
        found.append(("ledger", text))
    if books.found.imports:
        text = f"{len(books.found.imports)} fills of an older file are not in the journal yet"
        found.append(("ledger", f"{text}; `sync` imports them"))
    new = {str(each).partition(": ")[2] for each in books.found.differences}
    found += [
        ("unexplained", f"{each.text}; remove [{each.key}] from the file once it is explained")
        for each in books.holdings.unexplained
        if each.text not in new
    ]
    found += [("account file", text) for text in audit_account_file(books.account, books)]
    return [{"account": books.account.name, "where": where, "text": text} for where, text in found]


def venue_rows(books: Books, at_venue: Mapping[Account, Sequence[str]]) -> list[Row]:
    """Return where an account's venue says something else, one sentence a row."""
    name = books.account.name
    return [
        {"account": name, "where": "venue", "text": text}
        for text in at_venue.get(books.account, ())
    ]


def print_report(
    every: Sequence[Books], wanted: Wanted, prices: Mapping[str, Decimal], title: str = ""
) -> None:
    """Print a view of accounts in the form that was asked for."""
    if wanted.form == "beancount":
        accounts = [books.holdings for books in every]
        text = _exports.to_beancount(accounts, quotes_of(every), wanted.method)
        sys.stdout.write(text)
        return
    rows = [row for books in every for row in rows_of(books, wanted, prices)]
    if wanted.form == "csv":
        sys.stdout.write(_exports.to_csv(rows))
    elif wanted.form == "json":
        sys.stdout.write(json.dumps(rows, indent=2) + "\n")
    else:
        # The summary above positions has said of which venue they are.
        hidden = {"local"} if wanted.view == "positions" else set()
        hidden |= {name for name in ("transferred",) if all(row.get(name) == "0" for row in rows)}
        print_rows([_for_people(row, rows, hidden) for row in rows], False, title)


def _for_people(row: Row, rows: Sequence[Row], hidden: set[str]) -> Row:
    """Return a row of a table: times to be read, no columns that say nothing in any row."""
    shown = {}
    for name, value in row.items():
        if name not in hidden and any(each.get(name) for each in rows):
            is_time = name in ("time", "opened") and isinstance(value, str)
            shown[name] = value[:TIME_DIGITS].replace("T", " ").rstrip("Z") if is_time else value
    return shown


def print_summary(every: Sequence[Books]) -> None:
    """Print head and positions of each account: green what is long, red what is short."""
    for books in every:
        if books.account.local:
            typer.echo(f"LOCAL venue {books.account.local}")
        if not books.account.exists:
            notice = (
                f"No pps found for `{books.account.name}` account!"
                f" None of the following ledger files exist: {books.account.ledger.as_uri()}"
            )
            typer.secho(notice, fg="yellow")
            continue
        for line in _views.summary(books.holdings):
            colour = {1: "green", -1: "red"}.get(line.side)
            head, found, figures = line.text.partition(": ") if line.side else (line.text, "", "")
            typer.echo(head + found + (typer.style(figures, fg=colour) if figures else ""))


def print_warnings(every: Sequence[Books], at_venue: Mapping[Account, Sequence[str]]) -> None:
    """Say on stderr what is not as it should be."""
    for books in every:
        for text in at_venue.get(books.account, ()):
            _warn(f"{books.account.name}: {text}")
        for text in books.warnings:
            _warn(f"{books.account.name}: {text}")
        count = len(books.holdings.unexplained)
        if count:
            _warn(f"{books.account.name}: {count} unexplained; see `piker ledger … audit`")


def _warn(text: str) -> None:
    typer.secho(text, fg="yellow", err=True)


@contextmanager
def steps(total: int) -> Iterator[Tell]:
    """Show on stderr, when that is a terminal, how far the work is; yields how to say so."""
    if not sys.stderr.isatty():
        yield lambda text: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (BarColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=total)

        def tell(text: str) -> None:
            bar.update(task, advance=1, description=text)

        yield tell
