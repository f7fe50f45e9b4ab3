"""
How rows of data leave a command: a table for people, one JSON list for programs.

A row is a dict with the field names of the glossary. JSON carries values as they are (times as
epoch numbers, decimals as strings); a table shows times in UTC, prices with the digits of their
market, and other numbers without noise.
"""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Context, Decimal
from typing import Any

from piker.model.bars import FILLED, PARTIAL, PRICE_FIELDS, REPAIRED
from piker.model.market import dec_digits, plain_text

FLAG_NAMES = {FILLED: "filled", PARTIAL: "partial", REPAIRED: "repaired"}
PRICES = {"last", "bid", "ask", *PRICE_FIELDS}
AVERAGES = {"average_price", "ppu", "break_even"}
NUMBER_WIDTH = 12  # significant digits; float64 prices and sizes carry no more that is real
AVERAGE_WIDTH = 9  # significant digits of a quotient of prices


def print_rows(rows: Sequence[Mapping[str, Any]], as_json: bool, title: str = "") -> None:
    """
    Print `rows` on stdout: a JSON list when asked for, else a table.

    Rows of a local venue carry its name as `local`; a table says it once, above. Rows with prices
    carry their `price_tick`, which a table shows only as the digits of those prices.
    """
    if as_json:
        print(json.dumps([dict(row) for row in rows], indent=2, default=str))
        return
    for name in sorted({row["local"] for row in rows if "local" in row}):
        print(f"LOCAL venue {name}")
    shown = [{key: value for key, value in row.items() if key != "local"} for row in rows]
    if shown and sys.stdout.isatty():
        print_rich(shown, title)
    elif shown:
        print_plain(shown)


def cells(rows: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Return the header and every row as text."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    if not PRICES.isdisjoint(names):
        names = [name for name in names if name != "price_tick"]
    return [
        names,
        *(
            [cell(name, row.get(name), row.get("price_tick", "0")) for name in names]
            for row in rows
        ),
    ]


def cell(name: str, value: Any, price_tick: str = "0") -> str:
    """Return one value as people read it; the field's name tells its unit."""
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case int() if name == "flags":
            return "+".join(text for bit, text in FLAG_NAMES.items() if value & bit)
        case int() | float() if name == "time" and value:
            return utc(value).strftime("%Y-%m-%d %H:%M:%S")
        case int() if name.endswith("_ns") and value:
            return utc(value / 1e9).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
        case float() if name in PRICES:
            return padded(significant(value, NUMBER_WIDTH), dec_digits(price_tick))
        case float():
            return significant(value, NUMBER_WIDTH)
        case str() if name in AVERAGES and is_number(value):
            return significant(value, AVERAGE_WIDTH)
        case list() | tuple():
            return ", ".join(str(item) for item in value)
        case dict():
            return " ".join(f"{key}={item}" for key, item in value.items())
    return str(value)


def significant(value: float | str, width: int) -> str:
    """Return a number with `width` significant digits, without an exponent or needless zeros."""
    rounded = Context(prec=width).plus(Decimal(value))
    return plain_text(rounded) if rounded.is_finite() else str(value)


def padded(text: str, digits: int) -> str:
    """Return a number with zeros up to `digits` decimals; never with fewer than it has."""
    if not is_number(text) or not digits:
        return text
    whole, _, decimals = text.partition(".")
    return f"{whole}.{decimals.ljust(digits, '0')}"


def utc(epoch_s: float) -> datetime:
    """Return a moment as UTC."""
    return datetime.fromtimestamp(epoch_s, UTC)


def is_number(text: str) -> bool:
    """Whether a cell holds a number."""
    return text.removeprefix("-").replace(".", "", 1).isdigit()


def print_plain(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print aligned columns without colour, for pipes and files."""
    header, *body = cells(rows)
    widths = [max(map(len, column)) for column in zip(header, *body, strict=True)]
    rights = [is_numeric(column) for column in zip(*body, strict=True)]
    for line in (header, *body):
        aligned = [
            text.rjust(width) if right else text.ljust(width)
            for text, width, right in zip(line, widths, rights, strict=True)
        ]
        print("  ".join(aligned).rstrip())


def is_numeric(column: Sequence[str]) -> bool:
    """Whether a column of cells holds numbers only, which then stand at its right."""
    return all(is_number(text) for text in column if text)


def print_rich(rows: Sequence[Mapping[str, Any]], title: str) -> None:
    """Print a table with rules, as wide as the terminal allows."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    header, *body = cells(rows)
    table = Table(title=title or None, box=box.SIMPLE_HEAD, title_justify="left")
    for i, name in enumerate(header):
        right = is_numeric([line[i] for line in body])
        table.add_column(name, justify="right" if right else "left", overflow="fold")
    for line in body:
        table.add_row(*line)
    Console().print(table)


@contextmanager
def progress(text: str) -> Iterator[None]:
    """Show on stderr, when that is a terminal, that `text` is under way."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console

    with Console(stderr=True).status(text):
        yield
