"""
How many transactions a second become positions and files.

Beside them: the bare sum of their sizes, and the TOML libraries on the same text.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import tomli_w
from record import Result, best_s, compare

from piker.accounting import Transaction, _tables, _tables_read, fold, fold_lots, order_ledger

TRANSACTIONS = 30_000
MARKETS = 3
TARGET = 300_000.0  # transactions a second of `ledger.fold`


def ledger() -> list[Transaction]:
    """Return fills of three markets that grow, shrink, flip and pay a fee each, in order."""
    begin = datetime(2026, 1, 1, tzinfo=UTC)
    return [
        Transaction(
            broker="binance",
            account="paper",
            fqme=f"coin{number % MARKETS}.spot.binance",
            bs_mktid=f"COIN{number % MARKETS}",
            tid=str(number),
            size=Decimal(number * 7919 % 4001 - 2000 or 1).scaleb(-3),
            price=Decimal(6_100_000 + number * 104_729 % 9_001).scaleb(-2),
            cost=Decimal(number % 97).scaleb(-3),
            dt=begin + timedelta(seconds=number),
        )
        for number in range(TRANSACTIONS)
    ]


def add_up(records: list[Transaction]) -> Decimal:
    """Do the least that reads every record: the floor for a loop in Python."""
    size = Decimal(0)
    for record in records:
        size += record.size
    return size


def measure() -> Iterator[Result]:
    """Yield the rates of folding, of ordering, and of each way to pick lots."""
    records = ledger()
    own = [record for record in records if record.bs_mktid == "COIN0"]
    floor = TRANSACTIONS / best_s(lambda: add_up(records))
    rate = TRANSACTIONS / best_s(lambda: fold(records))
    yield Result(
        "ledger.fold", rate, "transactions/s", "target", TARGET, rate / TARGET, 1.0, rate >= TARGET
    )
    works = {"ledger.order": (TRANSACTIONS, lambda: order_ledger(records))}
    for method in ("fifo", "lifo", "hifo", "average"):
        works[f"ledger.lots {method}"] = len(own), lambda by=method: fold_lots(own, by)
    for name, (count, work) in works.items():
        yield compare(
            name,
            count / best_s(work, 3),
            "transactions/s",
            "sum of the sizes",
            floor,
            target=0.005,
            smaller_is_better=False,
        )
    yield from measure_files(records[: TRANSACTIONS // 10])


def measure_files(records: list[Transaction]) -> Iterator[Result]:
    """Yield the rates of reading and writing a ledger's text."""
    tables = _tables.Tables(records={_tables.table_key(record): record for record in records})
    text = _tables.render(tables)
    content = tomllib.loads(text, parse_float=Decimal)
    works = {
        "ledger.read": (
            lambda: _tables_read.parse(text.encode(), "bench", "binance", "paper"),
            "tomllib",
            lambda: tomllib.loads(text, parse_float=Decimal),
        ),
        "ledger.write": (
            lambda: _tables.render(tables),
            "tomli_w",
            lambda: tomli_w.dumps(content),
        ),
    }
    for name, (work, peer, theirs) in works.items():
        yield compare(
            name,
            len(records) / best_s(work, 3),
            "transactions/s",
            peer,
            len(records) / best_s(theirs, 3),
            target=1.0,
            smaller_is_better=False,
        )
