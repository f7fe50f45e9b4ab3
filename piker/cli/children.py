"""
Child processes that are commands of ours: started with a lifeline, stopped within a bound.

A child's session is its own, so that a Ctrl-C at the terminal reaches only its parent, which then
stops its children in the order that it wants.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from piker.cli.lifeline import VARIABLE


def script(command: list[str]) -> list[str]:
    """Return the command line of a console script, also from a tree that is not installed."""
    name, *args = command
    installed = Path(sys.executable).with_name(name)
    if installed.exists():
        return [str(installed), *args]
    return [sys.executable, "-c", f"from piker._entry import {name}; {name}()", *args]


@asynccontextmanager
async def open_child(
    name: str, command: list[str], folder: Path, *, bound_s: Callable[[], float]
) -> AsyncIterator[trio.Process]:
    """
    Run a command in a session of its own, with a lifeline; stop it on the way out.

    Its stdin and stdout are pipes; what it says on stderr goes to `demo-<name>.log` of `folder`.
    `bound_s` is asked, when it is to stop, for how many seconds it may take.
    """
    lifeline, held = os.pipe()
    try:
        with (folder / f"demo-{name}.log").open("wb") as log:
            process = await trio.lowlevel.open_process(
                script(command),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env={**os.environ, VARIABLE: str(lifeline), "PYTHONUNBUFFERED": "1"},
                pass_fds=(lifeline,),
                start_new_session=True,
            )
        try:
            yield process
        finally:
            with trio.CancelScope(shield=True):
                await stop(process, bound_s())
    finally:
        os.close(lifeline)
        os.close(held)


async def stop(process: trio.Process, bound_s: float) -> None:
    """Ask a process to end; after `bound_s` end everything of its group by force."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        with trio.move_on_after(bound_s):
            await process.wait()
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


async def lines_of(process: trio.Process) -> AsyncGenerator[str, None]:
    """Yield the lines that a process prints, until it closes its output."""
    assert process.stdout is not None
    rest = b""
    async for chunk in process.stdout:
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield line.decode("utf-8", "replace").rstrip()


def ended(name: str, process: trio.Process, folder: Path) -> str:
    """Return one line on a process that ended: its own last words, or where they are."""
    log = folder / f"demo-{name}.log"
    lines = log.read_text("utf-8", "replace").strip().splitlines()
    return f"demo: {name} ended ({process.returncode}): {lines[-1] if lines else f'see {log}'}"
