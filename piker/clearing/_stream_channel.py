"""A stream of the runtime as the order path's channel."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine
from typing import TYPE_CHECKING, Any

import tractor

from piker.service.rpc import hand_over, send_nowait

if TYPE_CHECKING:
    from piker.clearing._world import Take


class StreamChannel:
    """`Channel` over an open stream."""

    def __init__(self, stream: tractor.MsgStream) -> None:
        self._stream = stream
        self.send: Callable[[Any], Coroutine[Any, Any, None]] = stream.send

    def send_nowait(self, *messages: Any) -> bool:
        return send_nowait(self._stream, *messages)

    def on_message(self, take: Take) -> None:
        hand_over(self._stream, take)

    def __aiter__(self) -> AsyncIterator[Any]:
        stream: AsyncIterator[Any] = self._stream
        return stream
