"""
Search results for the page, section by section, in whatever order the providers answer.

The first section is what this chart has loaded; then one per provider. A provider that fails or
takes too long says so in its own section and holds no other one up.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from typing import Any, Final

import trio

from piker import clock
from piker.errors import ConnectionLost, PikerError, leaves
from piker.log import get_logger
from piker.service.rpc import translate_errors
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
    """Return a provider's record as a hit; the name is what is bought, with what, and where."""
    base, quote = str(row.get("base") or ""), str(row.get("quote") or "")
    fqme = str(row["fqme"])
    venue = ".".join(fqme.split(".")[1:-1])
    name = f"{base} / {quote}".upper() if base and quote else str(row.get("symbol") or "")
    return Hit(fqme, ", ".join(part for part in (name, venue) if part))


async def search_providers(
    request: Search,
    send: Send,
    providers: Mapping[str, Provider],
    listed: Collection[str] = (),
) -> None:
    """Ask every provider at once and `send` each section as it comes, without `listed` markets."""
    text = request.text.strip()[:TEXT_MAX]
    if not text:
        return
    async with trio.open_nursery() as nursery:
        for name, provider in providers.items():
            send(Hits(request.id, name, "searching", []))
            nursery.start_soon(_search_one, request.id, text, name, provider, send, listed)


async def _search_one(
    id: int, text: str, name: str, provider: Provider, send: Send, listed: Collection[str]
) -> None:
    began = clock.monotonic_ns()
    failure = f"no answer within {WITHIN_S:.0f} s"
    with trio.move_on_after(WITHIN_S):
        try:
            found = await provider(text)
        except* PikerError as group:
            failure = str(next(leaves(group)))
        else:
            took_ms = (clock.monotonic_ns() - began) / 1e6
            rows = [hit_of(row) for row in found[:ROWS_MAX]]
            rows = [hit for hit in rows if hit.fqme not in listed]
            send(Hits(id, name, "done", rows, took_ms, len(found)))
            return
    log.warning("search failed provider=%s cause=%s", name, failure)
    send(Hits(id, name, "failed", [], text=f"{name}: {failure}"))


class BrokerSearch:
    """One broker's search dialog: opened with the first search, opened again when it was lost."""

    def __init__(self, broker: str, nursery: trio.Nursery) -> None:
        self._broker = broker
        self._nursery = nursery
        self._lock = trio.Lock()
        self._ask: Provider | None = None

    async def __call__(self, text: str) -> list[dict[str, Any]]:
        """
        Return the broker's hits, best first.

        Raises:
          PikerError: the broker's daemon does not answer, or says why it cannot.
        """
        async with self._lock:
            if self._ask is None:
                await self._nursery.start(self._hold)
            ask = self._ask
        if ask is None:
            raise ConnectionLost(f"datad.{self._broker}: the search dialog was lost")
        return await ask(text)

    async def _hold(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        from piker.data.feed import install_datad_search

        try:
            with translate_errors(f"datad.{self._broker}"):
                async with install_datad_search(self._broker) as self._ask:
                    task_status.started()
                    await trio.sleep_forever()
        except* PikerError as group:
            if self._ask is None:
                raise
            log.info("search dialog lost broker=%s cause=%s", self._broker, group.exceptions[0])
        finally:
            self._ask = None
