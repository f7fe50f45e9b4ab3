"""
What every boot of the runtime shares: module state, the root actor within a deadline, the logs.

A process has at most one runtime at a time. What the runtime leaves behind in module state and in
the environment is restored, so that many can follow each other in one process.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import tractor
import tractor._state
import trio

from piker import config
from piker.errors import ConfigError, ServiceUnavailable
from piker.log import get_logger, remove_handlers, setup_actor_logging
from piker.service import _lifeline, _tractor_shim  # noqa: F401  # before a root opens
from piker.service._dump import install_dump
from piker.service._errors import GONE
from piker.service._registry import Address

log = get_logger(__name__)

BOOT_S = 3.0


def get_runtime_vars() -> dict[str, Any]:
    """Return the variables that every actor of the tree inherits; `piker_vars` holds ours."""
    found: dict[str, Any] = tractor._state._runtime_vars
    return found


@contextmanager
def runtime_state(piker_vars: dict[str, Any]) -> Iterator[None]:
    """Set the inherited variables for one runtime; restore what tractor never resets."""
    assert tractor.current_actor(err_on_no_runtime=False) is None, "a runtime is already open"
    state = tractor._state._runtime_vars
    saved_state, saved_env = dict(state), dict(os.environ)
    state["piker_vars"] = piker_vars
    _lifeline.publish_root()
    try:
        yield
    finally:
        state.clear()
        state.update(saved_state)
        for name in ("PYTHONBREAKPOINT", _lifeline.PARENT_ENV, _lifeline.ROOT_ENV):
            os.environ.pop(name, None)
            if name in saved_env:
                os.environ[name] = saved_env[name]


@asynccontextmanager
async def open_root(
    name: str, addr: Address, modules: Iterable[str], as_registrar: bool, **kwargs: Any
) -> AsyncIterator[Any]:
    """Open the root actor within `BOOT_S` and check that it got the role it was meant for."""
    where = f"{addr[0]}:{addr[1]}"
    booted = left = False
    try:
        with trio.fail_after(BOOT_S) as boot:
            async with tractor.open_root_actor(
                arbiter_addr=addr, name=name, enable_modules=list(modules), **kwargs
            ) as actor:
                boot.deadline = float("inf")
                booted = True
                # A plain `breakpoint()` in a library must never freeze an actor.
                os.environ["PYTHONBREAKPOINT"] = "0"
                if actor.is_arbiter != as_registrar:
                    raise ServiceUnavailable(
                        f"{where}: another pikerd has just started there; try again"
                        if as_registrar
                        else f"{where}: the pikerd there has just ended; try again"
                    )
                yield actor
                left = True
    except (OSError, trio.TooSlowError, tractor.RemoteActorError, *GONE) as err:
        if left:  # a registrar that is gone cannot take our entry out, and need not
            log.debug("runtime ended without its registrar: %r", err)
            return
        if booted:
            raise
        why = getattr(err, "strerror", None) or str(err) or "no answer"
        if as_registrar:
            raise ConfigError(
                f"{where}: cannot listen there ({why}); free the port or choose one with --port"
            ) from None
        raise ServiceUnavailable(f"{where}: no pikerd answers there ({why})") from None


@contextmanager
def actor_logs(
    name: str, level: str | None, *, to_file: bool = True, console_level: str | None = None
) -> Iterator[None]:
    """
    Attach this process's log handlers for the length of a runtime.

    Raises:
      ConfigError: the folder of log files cannot be written.
    """
    kept = config.settings().log
    setup_actor_logging(
        name,
        level or kept.level,
        folder=_log_folder() if to_file else None,
        file_bytes=kept.file_bytes,
        files=kept.files,
        console_level=console_level,
    )
    install_dump()
    try:
        yield
    finally:
        remove_handlers()


def _log_folder() -> Path:
    folder = config.config_dir() / "logs"
    why = ""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as err:
        why = f" ({err.strerror})"
    if why or not os.access(folder, os.W_OK | os.X_OK):
        raise ConfigError(
            f"log folder {folder}: cannot be written{why}; make it writable"
            " or choose another state folder with -c or PIKER_CONFIG_DIR"
        )
    return folder
