"""
Faults that a local venue plays on request, so that clients can be seen to survive them.

A fault is armed for a number of times and used up by the requests, or sockets, that it matches.
REST: `refuse` (reset), `stall`, `html`, `status`, `half_frame` (half an answer), `rubbish`.
Sockets: `mute` (a stream falls silent), `close`, `reset`, `half_frame`, `rubbish`; `refuse` and
`status` also meet a socket's handshake, by its path.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec
import trio

Kind = Literal[
    "refuse", "stall", "html", "status", "half_frame", "rubbish", "mute", "close", "reset"
]

FAULTS_MAX = 100


class Fault(msgspec.Struct, forbid_unknown_fields=True):
    """
    One armed fault.

    `path` is a prefix of the request's path (REST, handshake) or, for `mute`, of the stream's
    name; `where` is "rest" or "socket" (open sockets). `count` uses are left (-1: until
    cleared).
    """

    kind: Kind
    where: Literal["rest", "socket"] = "rest"
    path: str = ""
    count: int = 1
    status: int = 429
    retry_after_s: int = 1
    seconds: float = 30.0
    code: int = 1011
    text: str = '{"e":"trade","E":"rubbish'


class Faults:
    """What is armed now."""

    def __init__(self) -> None:
        self._rest: list[Fault] = []
        self._muted: list[Fault] = []
        self._sockets: list[Fault] = []
        self._armed = trio.Event()

    def add(self, fault: Fault) -> None:
        """
        Arm a fault.

        Raises:
          ValueError: a hundred are armed already, or a socket fault without a count.
        """
        if fault.where == "socket" and fault.count < 1:
            raise ValueError("faults: a socket fault needs a count of at least 1")
        if len(self._rest) + len(self._muted) + len(self._sockets) >= FAULTS_MAX:
            raise ValueError(f"faults: {FAULTS_MAX} are armed; clear them first")
        if fault.kind == "mute":
            self._muted.append(fault)
        elif fault.where == "rest":
            self._rest.append(fault)
        else:
            self._sockets.append(fault)
            self._armed.set()
            self._armed = trio.Event()

    def clear(self) -> None:
        """Disarm all."""
        self._rest.clear()
        self._muted.clear()
        self._sockets.clear()

    def armed(self) -> list[Any]:
        """Return what is armed, as plain values."""
        return [msgspec.to_builtins(fault) for fault in self._rest + self._muted + self._sockets]

    def take(self, path: str) -> Fault | None:
        """Use up and return the first fault that meets a request of `path`."""
        for fault in self._rest:
            if path.startswith(fault.path):
                if fault.count > 0:
                    fault.count -= 1
                if not fault.count:
                    self._rest.remove(fault)
                return fault
        return None

    def is_muted(self, stream: str) -> bool:
        """Whether a stream is silent now."""
        return any(stream.startswith(fault.path) for fault in self._muted)

    async def wait_socket(self) -> Fault:
        """Wait for the next fault that a socket shall play; each use is one socket's."""
        while True:
            if self._sockets:
                fault = self._sockets[0]
                fault.count -= 1
                if not fault.count:
                    self._sockets.pop(0)
                await trio.lowlevel.checkpoint()
                return fault
            await self._armed.wait()
