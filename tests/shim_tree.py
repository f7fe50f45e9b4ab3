"""A bare root actor with the shim, for tests that need children but no supervisor."""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import shim_targets
import tractor
import tractor._state
import trio
from helpers import free_port

from piker.service import _lifeline

OpenTree = Callable[..., AbstractAsyncContextManager[Any]]


@asynccontextmanager
async def open_bare_tree(seconds: float = 15) -> AsyncIterator[Any]:
    """Open a root actor and yield its nursery; every child is gone at the end."""
    state = tractor._state._runtime_vars
    saved, handlers = dict(state), logging.getLogger("tractor").handlers
    environment = {
        k: os.environ.get(k) for k in (_lifeline.PARENT_ENV, _lifeline.ROOT_ENV, "PYTHONBREAKPOINT")
    }
    handlers.clear()
    state["piker_vars"] = {"piker_test_dir": os.environ["PIKER_CONFIG_DIR"]}
    _lifeline.publish_root()
    try:
        with trio.fail_after(seconds):
            async with tractor.open_nursery(
                arbiter_addr=("127.0.0.1", free_port()),
                enable_modules=list(shim_targets.MODULES),
                loglevel="critical",
            ) as nursery:
                assert tractor.current_actor().is_arbiter
                yield nursery
                await nursery.cancel()
    finally:
        state.clear()
        state.update(saved)
        handlers.clear()
        for name, value in environment.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


async def start_child(nursery: Any, name: str = "child") -> Any:
    """Start a child and wait until it serves; returns its portal."""
    portal = await nursery.start_actor(name, enable_modules=list(shim_targets.MODULES))
    await portal.run(shim_targets.pid)
    return portal
