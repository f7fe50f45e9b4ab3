"""
Boots the runtime: `pikerd` as supervisor and registrar, or a client that joins its run.

Both probe the address first and boot within a deadline, because the runtime itself waits for
ever on a silent port. A process has at most one runtime at a time; what the runtime leaves behind
in module state is restored, so that many can follow each other.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import tractor
import tractor._state
import trio

from piker import clock as run_clock
from piker import config
from piker.clock import ClockSpec
from piker.errors import ConfigError, ServiceUnavailable
from piker.log import (
    adopt_runtime_log,
    get_logger,
    remove_handlers,
    setup_actor_logging,
    take_output,
)
from piker.model.bars import BAR_DTYPE
from piker.model.ticks import TICK_DTYPE
from piker.service import _lifeline
from piker.service._attach import describe_run, open_attachment
from piker.service._dump import install_dump
from piker.service._errors import GONE
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
from piker.service._run_file import RunInfo, claim_folder, publish, read_run

__all__ = [
    "get_runtime_vars",
    "maybe_open_pikerd",
    "maybe_spawn_daemon",
    "open_piker_runtime",
    "open_pikerd",
]

log = get_logger(__name__)

BOOT_S = 3.0
REATTACH_MIN_S, REATTACH_MAX_S = 0.1, 2.0
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
]


def get_runtime_vars() -> dict[str, Any]:
    """Return the variables that every actor of the tree inherits; `piker_vars` holds ours."""
    found: dict[str, Any] = tractor._state._runtime_vars
    return found


@contextmanager
def _runtime_state(piker_vars: dict[str, Any]) -> Iterator[None]:
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
async def _open_root(
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


# ---- pikerd ----


def _run_vars(
    overrides: dict[str, Any] | None, venues: dict[str, str] | None, spec: ClockSpec | None
) -> dict[str, Any]:
    """Return what all processes of the new run share; the URL set is decided here, once."""
    found = dict(overrides or {})
    tractor._state._runtime_vars["piker_vars"] = found  # `config` reads the state folder there
    urls = config.configured_venues()
    for broker, url in (venues or {}).items():
        urls[broker] = str(config.parse_venue(broker, url))
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
    """Refuse an address where something answers already."""
    who = await probe(*addr)
    where = f"{addr[0]}:{addr[1]}"
    if who:
        raise ConfigError(
            f"{where}: actor {who[0]!r} of another run already answers there;"
            " stop it or choose another port with --port"
        )
    if who is False:
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
    with _runtime_state(dict(tractor_runtime_overrides or {})):
        found = _run_vars(tractor_runtime_overrides, venues, clock)
        found |= {"loglevel": loglevel, "console": not private}
        tractor._state._runtime_vars["piker_vars"] = found
        settings, folder = config.settings(), config.run_dir()
        network = settings.network
        addr = registry_addrs[0] if registry_addrs else (network.host, network.port)
        with claim_folder(folder), _actor_logs("pikerd", loglevel):
            _check_shm()
            await _claim_address(addr)
            with _segments_of(found["run_id"]):
                modules = [*_root_modules, *root_modules]
                async with _open_root("pikerd", addr, modules, True) as actor:
                    adopt_runtime_log()
                    async with _open_services() as services:
                        publish(folder, _run_info(actor, found, private))
                        if private:
                            take_output()
                            services.nursery.start_soon(_end_when_unused, services)
                        log.info("pikerd serves %s at %s:%s", folder.parent, *actor.accept_addr)
                        yield services


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


@contextmanager
def _actor_logs(name: str, level: str | None, *, to_file: bool = True) -> Iterator[None]:
    """Attach this process's log handlers for the length of a runtime."""
    kept = config.settings().log
    setup_actor_logging(
        name,
        level or kept.level,
        folder=config.config_dir() / "logs" if to_file else None,
        file_bytes=kept.file_bytes,
        files=kept.files,
    )
    install_dump()
    try:
        yield
    finally:
        remove_handlers()


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
    """Ask a private `pikerd` to stop once its last client has left, or none ever came."""
    with trio.move_on_after(PRIVATE_FIRST_S):
        while not services.attached:
            await services.attached_changed.wait()
    while True:
        while services.attached:
            await services.attached_changed.wait()
        changed = services.attached_changed
        with trio.move_on_after(PRIVATE_IDLE_S):
            await changed.wait()
            continue
        services.stop_requested.set()
        return


# ---- clients ----


def find_run() -> Address:
    """Return where the run's `pikerd` should be: PIKER_REGISTRY, `run.json`, then `conf.toml`."""
    if text := os.environ.get("PIKER_REGISTRY"):
        host, _, port = text.rpartition(":")
        if not host or not port.isdigit():
            raise ConfigError(f"PIKER_REGISTRY: was {text!r}, expected HOST:PORT")
        return host, int(port)
    if run := read_run(config.run_dir()):
        return run.address
    network = config.settings().network
    return network.host, network.port


async def probe_pikerd(addr: Address) -> None:
    """
    Return when a `pikerd` answers at `addr`.

    Raises:
      ServiceUnavailable: nobody does, or something else does; one line that says what to do.
    """
    who = await probe(*addr)
    where = f"{addr[0]}:{addr[1]}"
    if who is None:
        raise ServiceUnavailable(f"no pikerd runs at {where}; start one with `pikerd`")
    if who is False or who[0] != "pikerd":
        raise ServiceUnavailable(f"{where} is some other program, not a pikerd; check the address")


def check_venues(running: dict[str, str], wanted: dict[str, str]) -> None:
    """
    Refuse venue URLs that differ from those of the run, which were fixed at its start.

    Raises:
      ConfigError: names both URLs.
    """
    for broker, text in wanted.items():
        asked = config.parse_venue(broker, text)
        have = config.parse_venue(broker, running.get(broker))
        if asked.url != have.url:
            raise ConfigError(
                f"venue of {broker}: was {asked.url or 'the official one'}, but this pikerd runs"
                f" {broker} on {have.url or 'the official one'}; stop it to change the venue"
            )


@asynccontextmanager
async def open_piker_runtime(
    name: str,
    registry_addrs: list[Address] | None = None,
    enable_modules: Iterable[str] = (),
    loglevel: str | None = None,
    *,
    tractor_runtime_overrides: dict[str, Any] | None = None,
    venues: dict[str, str] | None = None,
    attach: bool = True,
    **kwargs: Any,
) -> AsyncIterator[tuple[Any, list[Address]]]:
    """
    Join a running `pikerd` as a client; yields `(actor, registry addresses)`.

    In a process that has a runtime it changes nothing. The client takes over the run's URL set
    and clock, is listed in the service table (`attach`), and is listed again by itself after
    `pikerd` was restarted. `venues`: what the caller insists on.

    Raises:
      ServiceUnavailable: no `pikerd` answers.
      ConfigError: `venues` differs from what the run uses.
    """
    if (actor := tractor.current_actor(err_on_no_runtime=False)) is not None:
        yield actor, [registry_addr()]
        return
    with (
        _runtime_state(dict(tractor_runtime_overrides or {})),
        _actor_logs(name, loglevel, to_file=False),
    ):
        addr = registry_addrs[0] if registry_addrs else find_run()
        await probe_pikerd(addr)
        modules = ["piker.service._tractor_shim", "piker.service._lifeline", *enable_modules]
        async with _open_root(name, addr, modules, False, **kwargs) as actor:
            adopt_runtime_log()
            async with connect(addr) as pikerd:
                _adopt_run(await pikerd.run(describe_run))
            check_venues(config.run_vars()["venues"], venues or {})
            async with trio.open_nursery() as nursery:
                if attach:
                    await nursery.start(_stay_attached, actor, registry_addrs is None)
                yield actor, [addr]
                nursery.cancel_scope.cancel()


def _adopt_run(facts: dict[str, Any]) -> None:
    get_runtime_vars()["piker_vars"] = config.run_vars() | facts


async def _stay_attached(
    actor: Any,
    may_move: bool,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Hold the `attach` dialog open, again and again, for as long as the client lives."""
    delay_s, is_first = REATTACH_MIN_S, True
    kind = actor.name.partition(".")[0]
    while True:
        try:
            async with open_attachment(actor.name, kind) as facts:
                _adopt_run(facts)
                if is_first:
                    task_status.started()
                else:
                    log.info("attached again to pikerd at %s:%s", *registry_addr())
                    await _register_again(actor)
                is_first, delay_s = False, REATTACH_MIN_S
                await trio.sleep_forever()
        except* (OSError, *GONE, tractor.RemoteActorError, trio.TooSlowError, trio.EndOfChannel):
            if is_first:
                raise
            log.warning("pikerd at %s:%s is gone; attaching again", *registry_addr())
        await trio.sleep(run_clock.jitter(delay_s))
        delay_s = min(delay_s * 1.6, REATTACH_MAX_S)
        if may_move:
            actor._arb_addr = find_run()


async def _register_again(actor: Any) -> None:
    """Enter this client into the registry of a `pikerd` that was started anew."""
    async with tractor.get_arbiter(*registry_addr()) as registrar:
        await registrar.run_from_ns(
            "self", "register_actor", uid=actor.uid, sockaddr=actor.accept_addr
        )


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
    if actor is None and await probe(*addr) is None:
        async with open_pikerd(registry_addrs, loglevel, **kwargs) as services:
            yield services
        return
    async with open_piker_runtime(
        name or f"piker_query_{os.getpid()}", registry_addrs, loglevel=loglevel
    ):
        async with connect(registry_addr()) as pikerd:
            yield pikerd
