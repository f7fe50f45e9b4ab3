"""
What one client of the feed bus has not been told yet, in bounded memory.

The bus never waits for a client. Of each feed state and each progress only the newest is kept,
ranges of rewritten rows are joined, and of gaps the newest few: a client that was stopped for an
hour gets one message of each when it goes on.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import trio

Message = dict[str, Any]
GAPS_MAX = 64  # gap messages that wait for one client; the oldest is dropped


class Outbox:
    """Control messages for one client; `put` never blocks."""

    def __init__(self) -> None:
        self._newest: dict[tuple[Any, ...], Message] = {}
        self._gaps: deque[Message] = deque(maxlen=GAPS_MAX)
        self._wake = trio.Event()
        self.is_paused = False

    def put(self, message: Message) -> None:
        """Add a message, joined with what waits where that says the same."""
        if message["event"] == "gap":
            self._gaps.append(message)
        else:
            key = (message["event"], message["fqme"], message.get("period_s"))
            waiting = self._newest.pop(key, None)
            if waiting is not None and message["event"] == "dirty":
                message = message | {
                    "t0": min(waiting["t0"], message["t0"]),
                    "t1": max(waiting["t1"], message["t1"]),
                }
            self._newest[key] = message
        if not self.is_paused:
            self._wake.set()

    def take(self) -> list[Message]:
        """Return and forget what waits."""
        self._wake = trio.Event()
        messages = [*self._newest.values(), *self._gaps]
        self._newest.clear()
        self._gaps.clear()
        return messages

    async def wait(self) -> None:
        """Wait until there is something to take."""
        await self._wake.wait()

    def pause(self) -> None:
        """Hold messages back (they go on being joined)."""
        self.is_paused = True
        self._wake = trio.Event()

    def resume(self) -> None:
        """Send on what was held back."""
        self.is_paused = False
        if self._newest or self._gaps:
            self._wake.set()
