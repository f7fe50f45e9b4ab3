"""
Who is where: probe an address, find a daemon, start it when it does not run.

`pikerd` owns the table of daemons, so two clients can never start one twice: they call the kind's
`spawn_<kind>` endpoint there (`maybe_spawn_daemon`). The registry's entries are only hints; a
stale one is never an error.
"""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Literal

import msgspec
import tractor
import trio

from piker.errors import ConnectionLost
from piker.log import get_logger
from piker.service._errors import GONE, translate_errors
from piker.service._mngr import get_services
from piker.service._units import DaemonSpec

log = get_logger(__name__)

Address = tuple[str, int]
PROBE_S = 1.0
HELLO_MAX = 4096
SPAWN_CALL_S = 15.0  # above what `Services.ensure` may take
SPAWN_TRIES = 6
SWEEP_S = 3.0


async def probe(
    host: str, port: int, timeout_s: float = PROBE_S
) -> tuple[str, str] | Literal[False] | None:
    """
    Return who listens there, without a runtime of our own and without disturbing it.

    None: nobody. `(name, uuid)`: an actor. False: some other program, or one too busy to answer.
    """
    try:
        with trio.fail_after(timeout_s):
            stream = await trio.open_tcp_stream(host, port)
    except (OSError, trio.TooSlowError):
        return None
    hello = b""
    async with stream:
        with trio.move_on_after(timeout_s):
            try:
                while len(hello) < 4 or len(hello) < 4 + struct.unpack("<I", hello[:4])[0]:
                    chunk = await stream.receive_some(4096)
                    if not chunk or len(hello) > HELLO_MAX:
                        return False
                    hello += chunk
                return msgspec.msgpack.decode(hello[4:], type=tuple[str, str])
            except (trio.BrokenResourceError, msgspec.DecodeError):
                return False
    return False


def registry_addr() -> Address:
    """Return the address of this run's registrar, which is `pikerd`."""
    host, port = tractor.current_actor()._arb_addr
    return str(host), int(port)


async def ensure(spec: DaemonSpec) -> list[Any]:
    """
    Find or start a daemon of this supervisor; returns `[host, port]`.

    Only for the body of a `spawn_<kind>` endpoint, which runs in `pikerd`.

    Raises:
      ServiceUnavailable: it does not start; says why.
    """
    return await get_services().ensure(spec)


@asynccontextmanager
async def connect(addr: tuple[str, int] | list[Any]) -> AsyncIterator[Any]:
    """
    Open a private connection to the actor at `addr` and yield its portal.

    High-volume and control dialogs do not share one. Raises OSError when nobody listens; wrap it
    in `translate_errors()` to get piker's own errors.
    """
    channel = tractor.Channel((str(addr[0]), int(addr[1])))
    await channel.connect()
    try:
        async with tractor._portal.open_portal(channel) as portal:
            yield portal
    finally:
        with trio.CancelScope(shield=True):
            await channel.aclose()


async def spawn_through_pikerd(
    spawn_endpoint: Callable[..., Any], spawn_args: dict[str, Any]
) -> Address:
    """Call a `spawn_<kind>` endpoint where it runs, in `pikerd`; returns the daemon's address."""
    me = tractor.current_actor()
    if me.is_arbiter:
        addr = await spawn_endpoint(**spawn_args)
    else:
        with translate_errors("pikerd"):
            with trio.move_on_after(SPAWN_CALL_S) as waiting:
                async with connect(registry_addr()) as pikerd:
                    addr = await pikerd.run(spawn_endpoint, **spawn_args)
        if waiting.cancelled_caught:
            raise ConnectionLost(f"pikerd: no answer within {SPAWN_CALL_S:g} s")
    return str(addr[0]), int(addr[1])


@asynccontextmanager
async def maybe_spawn_daemon(
    service_name: str, spawn_endpoint: Callable[..., Any], spawn_args: dict[str, Any]
) -> AsyncIterator[Any]:
    """
    Yield a portal, over a connection of its own, to a daemon that is started when it must be.

    The daemon lives on after the block. A block whose daemon dies gets `RemoteActorError` or
    `TransportClosed` from tractor; `translate_errors` makes `ConnectionLost` of it.

    Raises:
      ServiceUnavailable: it does not start; says why.
      ConnectionLost: no `pikerd` answers, or the daemon died again and again.
    """

    async def find() -> Address:
        return await spawn_through_pikerd(spawn_endpoint, spawn_args)

    async with _connect_to(service_name, find) as portal:
        yield portal


@asynccontextmanager
async def open_own_daemon(spec: DaemonSpec) -> AsyncIterator[Any]:
    """
    Do what `maybe_spawn_daemon` does for a daemon of this very supervisor.

    Raises:
      ServiceUnavailable: it does not start; says why.
      ConnectionLost: it died again and again.
    """

    async def find() -> Address:
        host, port = await ensure(spec)
        return str(host), int(port)

    async with _connect_to(spec.name, find) as portal:
        yield portal


@asynccontextmanager
async def _connect_to(
    service_name: str, find: Callable[[], Awaitable[Address]]
) -> AsyncIterator[Any]:
    async with AsyncExitStack() as stack:
        for attempt in range(SPAWN_TRIES):
            addr = await find()
            try:
                portal = await stack.enter_async_context(connect(addr))
                break
            except (OSError, *GONE):  # died in between: ask again
                await trio.sleep(0.05 * 2**attempt)
        else:
            raise ConnectionLost(f"{service_name}: died {SPAWN_TRIES} times before it could answer")
        yield portal


async def registry_entries(
    registry_addrs: list[Address] | None = None,
) -> list[tuple[tuple[str, str], Address]]:
    """Return `((name, uuid), (host, port))` of every entry, oldest first; entries may be stale."""
    addr = registry_addrs[0] if registry_addrs else registry_addr()
    async with tractor.get_arbiter(*addr) as registrar:
        found = await registrar.run_from_ns("self", "get_registry")
    entries = []
    for key, (host, port) in found.items():
        name, _, uuid = key.rpartition(".")
        entries.append(((name, uuid), (host, port)))
    return entries


@asynccontextmanager
async def find_service(
    service_name: str,
    registry_addrs: list[Address] | None = None,
    first_only: bool = True,
) -> AsyncIterator[Any]:
    """
    Yield a portal to a running service, or None; a list of portals when not `first_only`.

    Never starts anything and never raises for a stale entry.
    """
    log.debug("Scanning for service `%s`", service_name)
    try:
        entries = await registry_entries(registry_addrs)
    except (OSError, tractor.RemoteActorError, *GONE):
        entries = []
    async with AsyncExitStack() as stack:
        portals: list[Any] = []
        for (name, _), addr in reversed(entries):
            if name != service_name or (first_only and portals):
                continue
            try:
                portals.append(await stack.enter_async_context(connect(addr)))
            except (OSError, *GONE):
                log.debug("stale registry entry %s at %s:%s", name, *addr)
        yield (portals[0] if portals else None) if first_only else (portals or None)


async def check_for_service(service_name: str) -> Address | None:
    """Return the address of a service that answers now, or None."""
    try:
        entries = await registry_entries()
    except (OSError, tractor.RemoteActorError, *GONE):
        return None
    for uid, addr in reversed(entries):
        if uid[0] == service_name and await probe(*addr) == uid:
            return addr
    return None


async def sweep_registry() -> None:
    """Take out entries whose process is gone, for ever; runs in the registrar."""
    me = tractor.current_actor()
    while True:
        await trio.sleep(SWEEP_S)
        for uid, addr in list(me._registry.items()):
            if uid == me.uid:
                continue
            who = await probe(*addr)
            if who is None or (who and who != uid):  # False is busy, not dead
                me._registry.pop(uid, None)
