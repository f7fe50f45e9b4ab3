"""
What tests drive: a free port, and a real `pikerd` in this process.

`open_test_pikerd` boots the tree that production boots, on a port and a state folder of its own.
"""

from __future__ import annotations

import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import trio
from system.harness import free_port

with warnings.catch_warnings():
    warnings.simplefilter("ignore", FutureWarning)
    from piker.clock import ClockSpec
    from piker.service import open_pikerd
    from piker.service._mngr import Services
    from piker.service._registry import check_for_service, connect

# Small rings: a test tree must not need much shared memory.
TEST_CONF = """
[data]
ring_1s = 7200
ring_1m = 1440
ring_ticks = 16384
backfill_1s_days = 0.05
backfill_1m_days = 0.5
[log]
level = "info"
"""


@asynccontextmanager
async def open_test_pikerd(
    reg_addr: tuple[str, int] | None = None,
    *,
    venues: dict[str, str] | None = None,
    clock: ClockSpec | None = None,
    conf: str = TEST_CONF,
    conf_dir: Path | None = None,
    seconds: float = 60,
    root_modules: tuple[str, ...] = (),
    backends: dict[str, str] | None = None,
    faults: dict[str, Any] | None = None,
) -> AsyncIterator[tuple[str, int, Any, Services]]:
    """
    Boot a `pikerd` in this process; yields `(host, port, pikerd_portal, services)`.

    Its state folder is temporary unless `conf_dir` is given, and reaches its daemons through the
    run's variables. `backends` has a test's module stand for a broker; `faults` arms fault points.
    The whole block must be over within `seconds`.
    """
    host, port = reg_addr or ("127.0.0.1", free_port())
    with TemporaryDirectory(prefix="piker_test_") as temporary, trio.fail_after(seconds):
        folder = conf_dir or Path(temporary)
        if conf and not (folder / "conf.toml").exists():
            (folder / "conf.toml").write_text(conf)
        async with open_pikerd(
            [(host, port)],
            tractor_runtime_overrides={
                "piker_test_dir": str(folder),
                "backends": backends or {},
                "faults": faults or {},
            },
            venues=venues,
            clock=clock,
            root_modules=root_modules,
        ) as services:
            async with connect((host, port)) as pikerd:
                yield host, port, pikerd, services


async def ensure_service(name: str, seconds: float = 10) -> tuple[str, int]:
    """Wait until the registry lists a live `name`; returns its address."""
    with trio.fail_after(seconds):
        while (addr := await check_for_service(name)) is None:
            await trio.sleep(0.02)
    return addr
