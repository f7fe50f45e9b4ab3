"""
Ties a child process to its parent and to the run: second enabled module of every actor.

A child whose parent or `pikerd` dies ends by itself (a pidfd thread, so also when its event loop
is blocked; never PR_SET_PDEATHSIG, which follows the spawning thread). ^C reaches the whole
process group, so children ignore it: the root decides. The run's variables (state folder, venues,
clock) come with the runtime; `piker.config` and `piker.clock` read them through here.
"""

from __future__ import annotations

import atexit
import ctypes
import gc
import os
import select
import signal
import sys
import threading
from typing import Any

import tractor._state

from piker import clock, config
from piker.log import adopt_runtime_log, redirect_output, setup_actor_logging
from piker.service._dump import install_dump

IS_CHILD = "tractor._child" in sys.orig_argv
PARENT_ENV, ROOT_ENV = "PIKER_PARENT_PID", "PIKER_ROOT_PID"
GRACE_S = 1.0  # for whoever handles SIGTERM, before the process ends anyway
PR_SET_NAME = 15


def run_vars() -> dict[str, Any]:
    """Return the variables that `pikerd` hands down its tree."""
    found: dict[str, Any] = tractor._state._runtime_vars.get("piker_vars") or {}
    return found


_parsed_clock: tuple[str, clock.ClockSpec] | None = None


def run_clock() -> clock.ClockSpec | None:
    """Return the run's virtual clock, parsed once per text."""
    global _parsed_clock
    text = run_vars().get("clock")
    if not text:
        return None
    if _parsed_clock is None or _parsed_clock[0] != text:
        _parsed_clock = text, clock.parse_spec(text)
    return _parsed_clock[1]


def set_process_name(name: str) -> None:
    """Show `name` (15 bytes of it) as the process's command in `ps`."""
    ctypes.CDLL(None).prctl(PR_SET_NAME, name.encode()[:15], 0, 0, 0)


def _watch(pids: list[int]) -> None:
    """End this process when one of `pids` is gone."""
    try:
        fds = [os.pidfd_open(pid) for pid in pids]
    except ProcessLookupError:
        os._exit(1)
    if os.getppid() != pids[0]:  # it died before we looked
        os._exit(1)

    def watch() -> None:
        select.select(fds, [], [])
        os.kill(os.getpid(), signal.SIGTERM)  # default action: ends at once
        threading.Event().wait(GRACE_S)
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="lifeline").start()


def publish_root() -> None:
    """Make this process the one whose death ends all of its descendants."""
    os.environ[PARENT_ENV] = os.environ[ROOT_ENV] = str(os.getpid())


def _start_child() -> None:
    atexit.register(gc.freeze)  # looking for garbage at the end takes a tenth of a second
    parent, root = os.environ.get(PARENT_ENV), os.environ.get(ROOT_ENV)
    os.environ[PARENT_ENV] = str(os.getpid())  # for children of our own
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if parent:
        _watch(list(dict.fromkeys(int(pid) for pid in (parent, root or parent))))
    actor = tractor.current_actor(err_on_no_runtime=False)
    if actor is None:
        return
    set_process_name(actor.name)
    kept, given = config.settings().log, run_vars()
    redirect_output(config.config_dir() / "logs", actor.name, kept.file_bytes, kept.files)
    level, console = given.get("loglevel") or kept.level, bool(given.get("console", True))
    setup_actor_logging(actor.name, level, console=console)
    adopt_runtime_log()
    install_dump()


config.use_vars(run_vars)
clock.use_source(run_clock)
if IS_CHILD:
    _start_child()
