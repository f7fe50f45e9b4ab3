"""Small journals for the tests beside this file, and what they should hold."""

from __future__ import annotations

from collections.abc import Sequence

from piker.storage._journal_format import Frame, decode_frame
from piker.storage._journal_scan import Record, Scanner
from piker.storage._journal_tail import read_mark, segment_name, segment_numbers
from piker.storage.disk import Disk
from piker.storage.journal import Journal, Report, open_journal

ACCOUNT = "binance.paper"
START_NS = 1_723_161_240_000_000_000


def payload(number: int) -> bytes:
    return b'{"oid":"%08d"}' % number + b"\0" * (number % 3)


async def fill(journal: Journal, count: int, start: int = 0) -> None:
    for number in range(start, start + count):
        await journal.append(payload(number))


async def write(disk: Disk, count: int, *, segment_bytes: int = 1 << 12) -> None:
    """Write `count` records and stop cleanly."""
    async with open_journal(
        disk, ACCOUNT, now_ns=lambda: START_NS, segment_bytes=segment_bytes
    ) as journal:
        await fill(journal, count)


async def reopen(disk: Disk) -> tuple[Report, list[Record]]:
    """Open for writing, append nothing, and return what was found."""
    found: list[Record] = []
    async with open_journal(disk, ACCOUNT, fold=found.append, segment_bytes=1 << 12) as journal:
        return journal.report, found


def read(disk: Disk) -> tuple[Report, list[Record]]:
    """Return report and records without changing anything."""
    scanner, records = Scanner(read_mark(disk)), []
    for number in segment_numbers(disk, scanner.first_segment):
        records += scanner.feed(number, disk.read(segment_name(number)))
    return scanner.finish(), records


def frames(data: bytes) -> list[Frame]:
    """Return the whole frames from the start of a segment."""
    out: list[Frame] = []
    while (frame := decode_frame(data, out[-1].stop if out else 0)) is not None:
        out.append(frame)
    return out


def payloads(records: Sequence[Record]) -> list[bytes]:
    return [record.payload for record in records]
