"""
A private `pikerd`: started for a client when none runs, gone 2 s after its last client.

It is a process and a session of its own, with no lifeline to the client: a ^C at the client's
terminal does not reach it. What it prints goes to its log file. It stays while it holds orders;
`leave_private_run` is how a client says so to whoever pressed ^C.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import trio

from piker import config
from piker.clock import ClockSpec
from piker.errors import ConfigError, ConnectionLost, PikerError, ServiceUnavailable
from piker.log import file_name
from piker.service._attach import describe_use
from piker.service._client import QUERY_NAME, check_venues, find_run, open_piker_runtime
from piker.service._errors import translate_errors
from piker.service._lifeline import PARENT_ENV, ROOT_ENV
from piker.service._registry import Address, connect, probe
from piker.service._run_file import held_by, is_alive, read_run

START_S = 15.0
POLL_S = 0.01
STARTS_MAX = 3  # the first may be refused by a run that is ending, the next by one that starts
JOIN_TRIES = 3
ASK_S = 2.0  # for the table of a run that is being left
SECOND_S = 3.0
_COMMAND = "from piker._entry import pikerd; pikerd()"


def start_private_pikerd(
    venues: dict[str, str] | None = None,
    clock: ClockSpec | None = None,
    loglevel: str | None = None,
) -> subprocess.Popen[bytes]:
    """Start a private `pikerd` on this process's state folder; returns before it answers."""
    folder = config.config_dir()
    logs = folder / "logs"
    try:
        logs.mkdir(parents=True, exist_ok=True)
        output = (logs / file_name("pikerd.out")).open("wb")
    except OSError as err:
        raise ConfigError(
            f"state folder {folder}: cannot be written ({err.strerror}); make it writable"
            " or choose another one with -c or PIKER_CONFIG_DIR"
        ) from None
    args = ["--private"]
    for broker, url in (venues or {}).items():
        args += ["--venue", f"{broker}={url}"]
    if clock is not None:
        args += ["--clock", str(clock)]
    if loglevel:
        args += ["--loglevel", loglevel]
    env = {k: v for k, v in os.environ.items() if k not in (PARENT_ENV, ROOT_ENV)}
    env |= {"PIKER_CONFIG_DIR": str(folder), "PYTHONSAFEPATH": "1"}
    with output:
        process = subprocess.Popen(
            [sys.executable, "-c", _COMMAND, *args],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=env,
            start_new_session=True,
        )
    # Reaps it when it ends before we do, so that no zombie is left.
    threading.Thread(target=process.wait, daemon=True, name="reap pikerd").start()
    return process


async def ensure_pikerd(
    venues: dict[str, str] | None = None,
    clock: ClockSpec | None = None,
    loglevel: str | None = None,
) -> Address:
    """
    Return the address of the `pikerd` of this state folder, starting a private one if none runs.

    Raises:
      ServiceUnavailable: it does not start; with its own last line.
      ConfigError: a running one uses other venues, or the folder cannot be written.
    """
    process: subprocess.Popen[bytes] | None = None
    starts, others = 0, False
    with trio.move_on_after(START_S):
        while True:
            addr = find_run()
            if addr and (who := await probe(*addr)) and who[0] == "pikerd":
                _check(venues)
                return addr
            if addr and os.environ.get("PIKER_REGISTRY"):
                raise ServiceUnavailable(f"no pikerd runs at {addr[0]}:{addr[1]} (PIKER_REGISTRY)")
            holder = held_by(config.run_dir())
            others = others or holder not in (None, 0, process and process.pid)
            if holder is None and (process is None or process.poll() is not None):
                # Ours may have been refused by one that another client started, or that ended.
                if process is not None and (not others or starts == STARTS_MAX):
                    break
                others = False
                process = start_private_pikerd(venues, clock, loglevel)
                starts += 1
            await trio.sleep(POLL_S)
    if process is not None and process.poll() is None:
        process.terminate()
    why = _last_line(config.config_dir() / "logs" / file_name("pikerd.out"))
    if process is None:
        why = f"the one with pid {held_by(config.run_dir())} holds the folder and does not answer"
    raise ServiceUnavailable(f"pikerd does not start: {why or f'no answer in {START_S:g} s'}")


@asynccontextmanager
async def open_run(
    name: str, *, venues: dict[str, str] | None = None, loglevel: str | None = None
) -> AsyncIterator[tuple[Any, list[Address]]]:
    """
    Join the run of this state folder as `name`, after a private one was started if none runs.

    A run that ends just then is waited out. Yields what `open_piker_runtime` yields.

    Raises:
      ServiceUnavailable: none runs and none starts; says why.
      ConfigError: see `ensure_pikerd`.
    """
    async with AsyncExitStack() as stack:
        for left in reversed(range(JOIN_TRIES)):
            await ensure_pikerd(venues, None, loglevel)
            try:
                joined = await stack.enter_async_context(
                    open_piker_runtime(name, venues=venues, loglevel=loglevel)
                )
                break
            except (ServiceUnavailable, ConnectionLost):
                if not left:
                    raise
        yield joined


async def leave_private_run(announce: Callable[[str], None]) -> None:
    """
    Say what a private run goes on holding; a ^C within `SECOND_S` ends that run too.

    For a client that was told to end, outside of its runtime. Says nothing, within a heartbeat,
    when nothing is held, another client is there, or the run is no private one.
    """
    run = read_run(config.run_dir())
    if run is None or not run.private:
        return
    with trio.open_signal_receiver(signal.SIGINT) as signals:
        use = await _ask_use(run.address)
        if use["clients"] or use["held"] == 0:
            return
        announce(
            f"{_stays(use['held'])} armed: pikerd (pid {run.pid}) watches on."
            f" Ctrl-C within {SECOND_S:g} s ends it too."
        )
        with trio.move_on_after(SECOND_S):
            async for _ in signals:
                if is_alive(run):
                    os.kill(run.pid, signal.SIGTERM)
                announce(
                    "Stopped: nothing is watched until the next start, which says for how long."
                )
                return


async def _ask_use(addr: Address) -> dict[str, int | None]:
    """Return how many clients a run has and how many orders it holds; none when it is gone."""
    try:
        with trio.fail_after(ASK_S), translate_errors("pikerd"):
            async with open_piker_runtime(f"{QUERY_NAME}_{os.getpid()}", attach=False):
                async with connect(addr) as pikerd:
                    return dict(await pikerd.run(describe_use))
    except (PikerError, trio.TooSlowError):
        return {"clients": 0, "held": 0}


def _stays(held: int | None) -> str:
    if held is None:
        return "what is held stays"
    return f"{counted(held)} {'stays' if held == 1 else 'stay'}"


def counted(held: int) -> str:
    """Return `2 orders and alerts`."""
    return "1 order or alert" if held == 1 else f"{held} orders and alerts"


def _check(venues: dict[str, str] | None) -> None:
    if venues and (run := read_run(config.run_dir())):
        check_venues(run.venues, venues)


def _last_line(path: Path) -> str:
    try:
        lines = path.read_text("utf-8", "replace").strip().splitlines()
    except OSError:
        return ""
    return lines[-1].removeprefix("piker: ").removeprefix("pikerd: ") if lines else ""
