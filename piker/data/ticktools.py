"""
Helpers over the tick dicts of a quote: filter by type, drop doubled dark prints, group by type.

Pure functions: they never change the quote they are given, which other consumers may share.
A tick is `{'type', 'price', 'size'?, 'time'?}`; the list `quote['ticks']` is chronological.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

Tick = dict[str, Any]

CLEARS = frozenset({"trade", "dark_trade", "last"})  # types that report a price that cleared
SAMPLED = frozenset({"trade", "utrade"})  # types that are summed into bars
GROUPS = {"bid": "bids", "bsize": "bids", "ask": "asks", "asize": "asks"} | dict.fromkeys(
    CLEARS, "clears"
)


def iterticks(
    quote: dict[str, Any],
    types: Iterable[str] = ("trade", "dark_trade"),
    deduplicate_darks: bool = False,
    reverse: bool = False,
) -> Iterator[Tick]:
    """
    Yield the ticks of `quote` whose type is in `types`, in order (or newest first).

    With `deduplicate_darks` a dark print that equals a reported trade of the same quote in time,
    price and size is left out, since it is the same execution told twice; each tick is yielded
    once and the quote is not changed.
    """
    wanted = frozenset(types)
    ticks = [tick for tick in quote.get("ticks", ()) if tick.get("type") in wanted]
    if deduplicate_darks:
        reported = {_signature(tick) for tick in ticks if tick["type"] == "trade"}
        ticks = [
            tick
            for tick in ticks
            if tick["type"] != "dark_trade" or _signature(tick) not in reported
        ]
    yield from reversed(ticks) if reverse else ticks


def _signature(tick: Tick) -> tuple[Any, Any, Any]:
    return tick.get("time"), tick.get("price"), tick.get("size")


def frame_ticks(
    quote: dict[str, Any],
    ticks_by_type: dict[str, list[Tick]] | None = None,
    ticks_in_order: list[Tick] | None = None,
) -> dict[str, list[Tick]]:
    """
    Group the ticks of `quote` by type, appending to `ticks_by_type` when it is given.

    Ticks are also appended to `ticks_in_order` when that is given. Both belong to the caller;
    the quote is not changed.

    Raises:
      ValueError: `ticks_in_order` is the quote's own list.
    """
    grouped = {} if ticks_by_type is None else ticks_by_type
    ticks = quote.get("ticks", ())
    if ticks_in_order is not None:
        if ticks_in_order is ticks:
            raise ValueError(
                "frame_ticks: ticks_in_order was the quote's own list, expected another"
            )
        ticks_in_order.extend(ticks)
    for tick in ticks:
        grouped.setdefault(tick["type"], []).append(tick)
    return grouped
