"""
What one page is owed: of each market it follows, and among the messages that wait for it.

Pure records of `session`, which alone changes them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import msgspec
import numpy as np

from piker.ui import messages
from piker.ui.messages import Answer
from piker.ui.order_messages import OrderAnswer, Orders, OrderState, merged_order
from piker.ui.picture import Change, Picture


class Wanted(msgspec.Struct):
    """What is left of one `want`."""

    id: int
    rung: int
    keys: deque[int]
    sent: int = 0
    missing: list[int] = []


class Channel:
    """One followed market of one page."""

    def __init__(self, chan: int, fqme: str) -> None:
        self.chan = chan
        self.fqme = fqme
        self.picture: Picture | None = None
        self.listener: Callable[[Change], None] | None = None
        self.rungs: list[int] = []
        self.wants: dict[int, Wanted] = {}  # by rung
        self.since = np.inf  # rows from here on may differ from what the page has
        self.unacked: dict[int, float] = {}  # seq of a sent TAIL -> its `since`
        self.is_dirty = False
        self.has_ticks = False
        self.ticks_sent = 0
        self.owes_ticks = False


def merged_answer(waiting: Answer, answer: Answer) -> Answer | None:
    """Return the one message that says both, None when both must be sent."""
    match waiting, answer:
        case messages.Status(), messages.Status() if waiting.chan == answer.chan:
            return answer
        case messages.Load(), messages.Load():
            same = (waiting.chan, waiting.period) == (answer.chan, answer.period)
            return answer if same else None
        case messages.Dirty(), messages.Dirty() if waiting.chan == answer.chan:
            t0, t1 = min(waiting.t0, answer.t0), max(waiting.t1, answer.t1)
            return msgspec.structs.replace(answer, t0=t0, t1=t1)
    if isinstance(waiting, OrderAnswer) and isinstance(answer, OrderAnswer):
        return merged_order(waiting, answer)
    return None


def must_follow(waiting: Answer, answer: Answer) -> bool:
    """Whether `answer` would say nothing, or something old, if it went out before `waiting`."""
    return isinstance(waiting, Orders) and isinstance(answer, OrderState)
