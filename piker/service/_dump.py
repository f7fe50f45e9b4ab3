"""
Shows what an actor is doing: SIGUSR1 writes its tree of trio tasks, SIGUSR2 its threads' stacks.

Both go to stderr. SIGUSR1 needs the interpreter to reach the next bytecode; SIGUSR2 works inside
a blocked C call too.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

import trio

FRAMES_MAX = 3


def _frames(coro: Any) -> Iterator[FrameType]:
    while coro is not None:
        for attribute in ("cr_frame", "gi_frame", "ag_frame"):
            frame = getattr(coro, attribute, None)
            if frame is not None and "/trio/_core/" not in frame.f_code.co_filename:
                yield frame
        waits = ("cr_await", "gi_yieldfrom", "ag_await")
        coro = next((found for name in waits if (found := getattr(coro, name, None))), None)


def _walk(task: trio.lowlevel.Task, depth: int, lines: list[str]) -> None:
    pad = "  " * depth
    lines.append(f"{pad}- {task.name}")
    for frame in list(_frames(task.coro))[-FRAMES_MAX:]:
        code = frame.f_code
        lines.append(f"{pad}    {code.co_filename}:{frame.f_lineno} {code.co_name}")
    for nursery in task.child_nurseries:
        for child in nursery.child_tasks:
            _walk(child, depth + 1, lines)


def task_tree() -> str:
    """Return this process's trio tasks, indented by nursery, with their innermost frames."""
    lines = [f"=== pid {os.getpid()} trio tasks"]
    if (root := trio.lowlevel.current_root_task()) is not None:
        _walk(root, 0, lines)
    return "\n".join(lines) + "\n"


def _dump(*_: object) -> None:
    os.write(2, task_tree().encode())


def install_dump() -> None:
    """Handle both signals in this process (main thread only; a no-op elsewhere)."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGUSR1, _dump)
        faulthandler.register(signal.SIGUSR2, file=2, all_threads=True)
