"""
Boots the runtime: `pikerd` as supervisor and registrar, or a client that joins its run.

Both probe the address first and boot within a deadline, because the runtime itself waits for
ever on a silent port. Reading order: `open_pikerd`, then `_client`, `_boot`.
"""

from __future__ import annotations

import errno
import os
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from importlib import import_module
from typing import Any

import tractor
import trio

from piker import clock as run_clock
from piker import config
from piker.clock import ClockSpec
from piker.errors import ConfigError
from piker.faults import VAR as FAULTS
from piker.faults import check_faults
from piker.log import adopt_runtime_log, get_logger, take_output
from piker.model.bars import BAR_DTYPE
from piker.model.ticks import TICK_DTYPE
from piker.service._boot import actor_logs, get_runtime_vars, open_root, runtime_state
from piker.service._client import QUERY_NAME, find_run, open_piker_runtime, probe_pikerd
from piker.service._mngr import Services, set_services
from piker.service._procfs import boot_id, start_ticks
from piker.service._registry import (
    Address,
    connect,
    maybe_spawn_daemon,
    probe,
    registry_addr,
    sweep_registry,
)
from piker.service._run_file import RunInfo, claim_folder, publish, unpublish

__all__ = [
    "find_run",
    "get_runtime_vars",
    "maybe_open_pikerd",
    "maybe_spawn_daemon",
    "open_piker_runtime",
    "open_pikerd",
    "probe_pikerd",
]

log = get_logger(__name__)

PRIVATE_IDLE_S = 2.0  # a private pikerd ends so long after its last client left
PRIVATE_FIRST_S = 20.0  # and when nobody came at all

# Modules others may call in `pikerd`: those with its `spawn_<kind>` endpoints and its own.
_root_modules = [
    "piker.service._tractor_shim",
    "piker.service._lifeline",
    "piker.service._attach",
    "piker.service._actor_runtime",
    "piker.data._daemon",
    "piker.data._sampling",
    "piker.brokers._daemon",
    "piker.clearing._ems",
]


def _run_vars(
    overrides: dict[str, Any] | None, venues: dict[str, str] | None, spec: ClockSpec | None
) -> dict[str, Any]:
    """Return what all processes of the new run share; the URL set is decided here, once."""
    found = dict(overrides or {})
    get_runtime_vars()["piker_vars"] = found  # `config` reads the state folder there
    urls = config.configured_venues()
    for broker, url in (venues or {}).items():
        urls[broker] = str(config.parse_venue(broker, url))
    check_faults(found.get(FAULTS) or {}, urls)
    return found | {
        "venues": urls,
        "clock": str(spec) if spec else None,
        "run_id": f"{run_clock.rng().getrandbits(32):08x}",
    }


def _check_shm() -> None:
    """Refuse to start without room for one market's shared memory."""
    sizes, folder = config.settings().data, config.shm_dir()
    need = (sizes.ring_1s + sizes.ring_1m) * BAR_DTYPE.itemsize
    need += sizes.ring_ticks * TICK_DTYPE.itemsize
    try:
        found = os.statvfs(folder)
    except OSError as err:
        raise ConfigError(
            f"shared memory {folder}: {err.strerror}; set PIKER_SHM_DIR to a tmpfs folder"
        ) from None
    free = found.f_bavail * found.f_frsize
    if not os.access(folder, os.W_OK):
        raise ConfigError(
            f"shared memory {folder}: cannot be written; set PIKER_SHM_DIR to another folder"
        )
    if free < need:
        raise ConfigError(
            f"shared memory {folder}: {free >> 20} MiB are free, one market needs"
            f" {(need >> 20) + 1} MiB; free some, or set PIKER_SHM_DIR to another tmpfs"
        )


@contextmanager
def _segments_of(run_id: str) -> Iterator[None]:
    """Sweep dead runs' segments, mark ours as alive, and remove all of ours at the end."""
    # Here, not at the top: the package's own `__init__` stands above this layer.
    from piker.data._ring import require_ordered_memory
    from piker.data._sharedmem import mark_run, sweep

    folder = config.shm_dir()
    require_ordered_memory(folder)
    mark = mark_run(folder, run_id)
    sweep(folder)
    try:
        yield
    finally:
        mark.close()
        for path in folder.glob(f"piker.{run_id}.*"):
            path.unlink(missing_ok=True)


async def _claim_address(addr: Address) -> None:
    """Refuse an address that is not ours to listen on, or where something answers already."""
    where = f"{addr[0]}:{addr[1]}"
    try:
        listeners = await trio.open_tcp_listeners(addr[1], host=addr[0])
    except OSError as err:
        if err.errno != errno.EADDRINUSE:
            raise ConfigError(
                f"{where}: cannot listen there ({err.strerror or err});"
                " choose an address of this machine with --host, a port you may use with --port"
            ) from None
    else:
        for listener in listeners:
            await listener.aclose()
        return
    who = await probe(*addr)
    if who:
        raise ConfigError(
            f"{where}: actor {who[0]!r} of another run already answers there;"
            " stop it or choose another port with --port"
        )
    raise ConfigError(
        f"{where}: another program listens there; stop it or choose another port with --port"
    )


@asynccontextmanager
async def open_pikerd(
    registry_addrs: list[Address] | None = None,
    loglevel: str | None = None,
    *,
    tractor_runtime_overrides: dict[str, Any] | None = None,
    venues: dict[str, str] | None = None,
    clock: ClockSpec | None = None,
    private: bool = False,
    root_modules: Iterable[str] = (),
) -> AsyncIterator[Services]:
    """
    Be `pikerd`: supervisor and registrar of a new run on this state folder; yields its `Services`.

    `venues` maps brokers to URLs and wins over `brokers.toml`. A private one ends (sets
    `Services.stop_requested`) when its last client has left. At the end every daemon is gone,
    and so are the run's segments and files.

    Raises:
      ConfigError: the port or the folder is taken, the configuration is broken, or there is no
        room for shared memory.
    """
    with runtime_state(dict(tractor_runtime_overrides or {})):
        found = _run_vars(tractor_runtime_overrides, venues, clock)
        found |= {"loglevel": loglevel, "console": not private}
        get_runtime_vars()["piker_vars"] = found
        settings, folder = config.settings(), config.run_dir()
        network = settings.network
        addr = registry_addrs[0] if registry_addrs else (network.host, network.port)
        with claim_folder(folder), actor_logs("pikerd", loglevel):
            _check_shm()
            await _claim_address(addr)
            with _segments_of(found["run_id"]):
                modules = [*_root_modules, *root_modules]
                for name in modules:  # here, where it does not count against the boot's deadline
                    import_module(name)
                async with open_root("pikerd", addr, modules, True) as actor:
                    adopt_runtime_log()
                    async with _open_services() as services:
                        publish(folder, _run_info(actor, found, private))
                        if private:
                            take_output()
                            services.nursery.start_soon(_end_when_unused, services)
                        log.info("pikerd serves %s at %s:%s", folder.parent, *actor.accept_addr)
                        try:
                            yield services
                        finally:
                            unpublish(folder)


def _run_info(actor: Any, found: dict[str, Any], private: bool) -> RunInfo:
    host, port = actor.accept_addr
    return RunInfo(
        run_id=found["run_id"],
        host=host,
        port=port,
        pid=os.getpid(),
        started=start_ticks(os.getpid()) or 0,
        boot_id=boot_id(),
        venues=found["venues"],
        clock=found["clock"],
        private=private,
    )


@asynccontextmanager
async def _open_services() -> AsyncIterator[Services]:
    """Supervise daemons for the length of the block; all are gone after it."""
    async with trio.open_nursery() as nursery:
        services = Services(nursery)
        set_services(services)
        nursery.start_soon(sweep_registry)
        try:
            yield services
        finally:
            with trio.CancelScope(shield=True):
                await services.stop_all()
            set_services(None)
            nursery.cancel_scope.cancel()


async def _end_when_unused(services: Services) -> None:
    """
    Ask a private `pikerd` to stop once its last client has left, or none ever came.

    It stays while orders or alerts are held: nobody else would look after them.
    """
    said = False
    with trio.move_on_after(PRIVATE_FIRST_S):
        while not services.clients:
            await services.attached_changed.wait()
    while True:
        while services.clients:
            await services.attached_changed.wait()
        changed = services.attached_changed
        with trio.move_on_after(PRIVATE_IDLE_S):
            await changed.wait()
            continue
        if services.held_orders == 0:
            services.stop_requested.set()
            return
        if not said:
            log.info("no client is left; this run stays for what it holds")
            said = True


@asynccontextmanager
async def maybe_open_pikerd(
    registry_addrs: list[Address] | None = None,
    loglevel: str | None = None,
    *,
    name: str | None = None,
    **kwargs: Any,
) -> AsyncIterator[Any]:
    """
    Yield None when this actor is `pikerd`, a portal to a running one, or else a new `Services`.

    A client boots as `piker_query_<pid>` unless `name` says otherwise.
    """
    actor = tractor.current_actor(err_on_no_runtime=False)
    if actor is not None and actor.is_arbiter:
        yield None
        return
    addr = registry_addrs[0] if registry_addrs else find_run()
    if actor is None and (addr is None or await probe(*addr) is None):
        async with open_pikerd(registry_addrs, loglevel, **kwargs) as services:
            yield services
        return
    async with open_piker_runtime(
        name or f"{QUERY_NAME}_{os.getpid()}", registry_addrs, loglevel=loglevel
    ):
        async with connect(registry_addr()) as pikerd:
            yield pikerd
