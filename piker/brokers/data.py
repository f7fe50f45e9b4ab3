"""
What `piker record` needs: a market's events on disk, one JSON object a line.

The line's fields are those of the tick ring (`piker.model.ticks`), with the type by name. Losses
are lines too (`gap`), so a recording never hides one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import numpy as np
import trio

from piker.data._feed_bus import get_feed_bus
from piker.data.feed import open_feed
from piker.model.ticks import TICK_NAMES
from piker.service.rpc import endpoint

READ_EVERY_S = 0.1  # a periodic reader: records of that long are written at once

_encode = msgspec.json.Encoder().encode


@endpoint(only=("datad",))
async def feed_statistics(brokername: str) -> dict[str, Any]:
    """Return the counters of this daemon: markets, clients, and each market's own."""
    return get_feed_bus(brokername).statistics()


def tick_lines(fqme: str, records: np.ndarray) -> Iterator[bytes]:
    """Yield each record of a ring batch as a line of JSON; numbers that are nan are left out."""
    names = records.dtype.names or ()
    for values in records.tolist():
        row = dict(zip(names, values, strict=True))
        row["type"] = TICK_NAMES.get(row["type"], "unknown")
        facts = {
            name: value
            for name, value in row.items()
            if not (isinstance(value, float) and math.isnan(value))
        }
        yield _encode({"fqme": fqme} | facts) + b"\n"


async def record(
    fqme: str, path: Path, seconds: float = math.inf, loglevel: str | None = None
) -> int:
    """
    Append what happens in a market to the file at `path`; return how many lines were written.

    Ends after `seconds` of real time, or when cancelled. Files are written in a worker thread.
    """
    written = 0
    async with open_feed([fqme], loglevel, start_stream=False) as feed:
        flume = feed.flumes[fqme.lower()]
        with path.open("ab") as file, trio.move_on_after(seconds):
            async with flume.open_ticks(READ_EVERY_S) as ticks:
                async for records in ticks:
                    lines = list(tick_lines(flume.fqme, records))
                    await trio.to_thread.run_sync(_append, file, lines)
                    written += len(lines)
    return written


def _append(file: BinaryIO, lines: list[bytes]) -> None:
    file.writelines(lines)
    file.flush()
