"""
The dialog of a client with one broker's feed bus, kept open across restarts of its `datad`.

When it is lost, its task spawns or finds the daemon again with backoff and binds the same flumes
to the new shared memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import trio

from piker import clock, errors
from piker.data._daemon import maybe_spawn_datad
from piker.data._feed_bus import open_feed_bus
from piker.data.flume import Flume
from piker.errors import PikerError
from piker.log import get_logger
from piker.service.rpc import translate_errors

log = get_logger(__name__)

BACKOFF_MIN_S, BACKOFF_MAX_S = 0.1, 2.0


def raise_described(described: dict[str, Any]) -> None:
    """Raise the error that `_feed_bus.describe_error` described."""
    kind, text = described["type"], described["text"]
    match kind:
        case "SymbolNotFound":
            raise errors.SymbolNotFound(
                text, broker=described["broker"], matches=tuple(described["matches"])
            )
        case "DataThrottle":
            raise errors.DataThrottle(
                text, broker=described["broker"], retry_after_s=described["retry_after_s"]
            )
    own = getattr(errors, kind, PikerError)
    raise own(text) if issubclass(own, PikerError) else PikerError(text)


class Dialog:
    """The dialog with one broker's feed bus, kept open across restarts of its daemon."""

    def __init__(self, broker: str, symbols: Sequence[str], loglevel: str | None) -> None:
        self.broker = broker
        self.symbols = sorted(set(symbols))
        self.flumes: dict[str, Flume] = {}  # by the name it was asked by
        self.portal: Any = None
        self.reopened = 0
        self._loglevel = loglevel
        self._stream: Any = None
        self._is_paused = False
        self._is_open = False

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """
        Keep the dialog open, for ever; started when it is open for the first time.

        Raises:
          PikerError: the first attempt failed; later ones are tried again.
        """
        delay_s, attempt = BACKOFF_MIN_S, 0
        while True:
            self._is_open = False
            try:
                with translate_errors(f"datad.{self.broker}"):
                    await self._hold(task_status)
                cause = "the dialog ended"
            except PikerError as error:
                if not self.flumes:
                    raise
                cause = str(error)
            self.portal = self._stream = None
            if self._is_open:
                delay_s, attempt = BACKOFF_MIN_S, 0
            attempt += 1
            wait_s = clock.jitter(delay_s)
            log.warning("feed of %s lost cause=%s retry_in_s=%.2f", self.broker, cause, wait_s)
            for flume in set(self.flumes.values()):
                flume.mark_gone(f"datad.{self.broker} is gone; attaching again", attempt, wait_s)
            await trio.sleep(wait_s)
            delay_s = min(delay_s * 1.6, BACKOFF_MAX_S)

    async def _hold(self, task_status: trio.TaskStatus[None]) -> None:
        async with (
            maybe_spawn_datad(self.broker, self._loglevel) as portal,
            portal.open_context(
                open_feed_bus,
                brokername=self.broker,
                symbols=self.symbols,
                loglevel=self._loglevel,
            ) as (ctx, messages),
        ):
            if "error" in messages:
                raise_described(messages["error"])
            async with ctx.open_stream() as self._stream:
                is_first = not self.flumes
                self._take_flumes(messages)
                self.portal, self._is_open = portal, True
                if is_first:
                    task_status.started()
                else:
                    self.reopened += 1
                if self._is_paused:
                    await self._stream.send("pause")
                async for message in self._stream:
                    for flume in self.flumes.values():
                        if flume.fqme == message["fqme"]:
                            flume.dispatch(message)
                            break

    def _take_flumes(self, messages: dict[str, dict[str, Any]]) -> None:
        by_fqme = {flume.fqme: flume for flume in self.flumes.values()}
        for symbol, message in messages.items():
            known = self.flumes.get(symbol)
            if known is None:
                flume = Flume(message)
                self.flumes[symbol] = by_fqme.setdefault(flume.fqme, flume)
            elif known.generation != int(message["generation"]):
                known.rebind(message)
            else:
                known.dispatch({"event": "state", "fqme": known.fqme, **message["state"]})

    async def pause(self, is_paused: bool) -> None:
        """Have the bus hold back control messages, or send them again."""
        self._is_paused = is_paused
        if self._stream is not None:
            with translate_errors(f"datad.{self.broker}"):
                await self._stream.send("pause" if is_paused else "resume")
