"""
Search results for the page, section by section, in whatever order the providers answer.

The first section is what this chart has loaded; then one per provider. A provider that fails or
takes too long says so in its own section and holds no other one up.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Final

import trio

from piker import clock
from piker.errors import PikerError
from piker.log import get_logger
from piker.ui.messages import Hit, Hits, Search

log = get_logger(__name__)

ROWS_MAX: Final = 50
TEXT_MAX: Final = 64
WITHIN_S: Final = 10.0

Provider = Callable[[str], Awaitable[list[dict[str, Any]]]]
Send = Callable[[Hits], None]


def loaded_hits(id: int, text: str, loaded: Iterable[tuple[str, Hit]]) -> Hits:
    """Return the section of loaded markets whose address or name holds every word of `text`."""
    words = text.lower().split()
    rows = [
        hit for fqme, hit in loaded if all(word in f"{fqme} {hit.name}".lower() for word in words)
    ]
    return Hits(id, "loaded", "done", rows[:ROWS_MAX], 0.0, len(rows))


def hit_of(row: Mapping[str, Any]) -> Hit:
    """Return a provider's record as a hit; the name is what is bought and with what."""
    src, dst = row.get("src") or "", row.get("dst") or ""
    name = f"{dst} / {src}".upper() if src and dst else str(row.get("name") or dst).upper()
    venue = str(row.get("venue") or "")
    return Hit(str(row["fqme"]), ", ".join(part for part in (name, venue) if part))


async def search_providers(request: Search, send: Send, providers: Mapping[str, Provider]) -> None:
    """Ask every provider at once and `send` each section as it comes."""
    text = request.text.strip()[:TEXT_MAX]
    if not text:
        return
    async with trio.open_nursery() as nursery:
        for name, provider in providers.items():
            send(Hits(request.id, name, "searching", []))
            nursery.start_soon(_search_one, request.id, text, name, provider, send)


async def _search_one(id: int, text: str, name: str, provider: Provider, send: Send) -> None:
    began = clock.monotonic_ns()
    failure = f"no answer within {WITHIN_S:.0f} s"
    with trio.move_on_after(WITHIN_S):
        try:
            found = await provider(text)
        except PikerError as err:
            failure = str(err)
        else:
            took_ms = (clock.monotonic_ns() - began) / 1e6
            rows = [hit_of(row) for row in found[:ROWS_MAX]]
            send(Hits(id, name, "done", rows, took_ms, len(found)))
            return
    log.warning("search failed provider=%s cause=%s", name, failure)
    send(Hits(id, name, "failed", [], text=f"{name}: {failure}"))
