"""
When orders were last looked after: a stamp beside the journal, so that the next start can tell.

It is written in place each second while anything is held and never synced: what matters is a
process that was killed, and after a crash of the machine the journal's own times are the best.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import trio

from piker.log import get_logger
from piker.storage.disk import Disk

log = get_logger(__name__)

FILE = "watched"
PERIOD_S = 1.0
_BYTES = 8


class WatchLog:
    """The stamp of one account."""

    def __init__(self, disk: Disk, now_ns: Callable[[], int]) -> None:
        self._disk = disk
        self._now_ns = now_ns

    async def gap(self, last_ns: int, held: int, name: str) -> dict[str, int] | None:
        """Return from when to now nobody looked after what is held; None when nothing is."""
        if not held:
            return None
        from_ns = max(last_ns, await self._disk.in_worker(self._read))
        now_ns = self._now_ns()
        log.warning(
            "%d orders of %s were not watched from %s to %s UTC",
            held, name, _utc(from_ns), _utc(now_ns),
        )  # fmt: skip
        return {"from_ns": from_ns, "to_ns": now_ns, "held": held}

    async def keep(self, is_needed: Callable[[], int]) -> None:
        """Write the stamp each second while it is needed, for ever."""
        while True:
            if is_needed():
                await self.write()
            await trio.sleep(PERIOD_S)

    async def write(self) -> None:
        """Write the time."""
        data = self._now_ns().to_bytes(_BYTES, "little")
        try:
            with trio.CancelScope(shield=True):
                await self._disk.in_worker(lambda: self._write(data))
        except OSError as error:
            log.debug("watch not written place=%s cause=%s", self._disk.place, error)

    def _read(self) -> int:
        if FILE not in self._disk.names():
            return 0
        return int.from_bytes(self._disk.read(FILE)[:_BYTES], "little")

    def _write(self, data: bytes) -> None:
        is_there = FILE in self._disk.names()
        file = self._disk.open(FILE) if is_there else self._disk.create(FILE, len(data))
        try:
            file.write(0, data)
        finally:
            file.close()


def _utc(time_ns: int) -> str:
    """Return a time as a person reads it."""
    return datetime.fromtimestamp(time_ns / 1e9, UTC).strftime("%Y-%m-%d %H:%M:%S")
