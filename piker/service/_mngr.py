"""
`Services`: the daemons of one supervisor, and who else is attached to the run.

Lives in `pikerd` (and in a daemon that supervises children of its own). `ensure` is the only way
to a running daemon: find or start, one lock per name. Daemons outlive the client that asked for
them; they stop with their supervisor, the order daemon first, then in reverse order of their start.
"""

from __future__ import annotations

import os
from collections import defaultdict
from typing import Any

import msgspec
import tractor
import trio

from piker import clock, config
from piker.errors import PikerError, ServiceUnavailable
from piker.log import get_logger
from piker.service._rows import DaemonRow, bare_row, daemon_row, row_now, table_row
from piker.service._units import DaemonSpec, Unit, last_line

log = get_logger(__name__)

ENSURE_S = 10.0
ORDER_DAEMON = "emsd"  # the one that may hold orders while no client is attached
HEAR_ORDERS_S = 1.0  # an answer takes milliseconds; an order daemon that hangs gives none
STOP_STEP_S = 0.3  # a daemon that takes longer to stop no longer holds up the next one
STOP_ORDERS_S = 1.5  # the order daemon leaves whole files behind, and uses the others meanwhile


class Attached(msgspec.Struct):
    """A client, or a daemon of another supervisor, with an `attach` dialog held open."""

    name: str
    kind: str
    pid: int
    started_ns: int
    uid: tuple[str, str]
    is_supervised: bool = False
    said: DaemonRow | None = None


class Services:
    """The restart units of this actor by name, and the attached clients."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.nursery = nursery
        self._locks: defaultdict[str, trio.Lock] = defaultdict(trio.Lock)
        self.service_tasks: dict[str, Unit] = {}
        self.attached: dict[int, Attached] = {}
        self.unit_added = trio.Event()
        self.attached_changed = trio.Event()
        self.stop_requested = trio.Event()
        self._held = 0  # what `held_orders` knew last
        self.started_ns = clock.monotonic_ns()

    async def ensure(self, spec: DaemonSpec) -> list[Any]:
        """
        Return `[host, port]` of the daemon `spec` describes, started when it does not run.

        Raises:
          ServiceUnavailable: two attempts in a row never became ready, or 10 s were not enough;
            the text ends with the daemon's own error. Or this supervisor ends.
        """
        if self.stop_requested.is_set():
            raise ServiceUnavailable(f"{spec.name} is not started: its supervisor ends")
        async with self._locks[spec.name]:
            unit = self.service_tasks.get(spec.name)
            if unit is None or unit.done.is_set():
                unit = self.service_tasks[spec.name] = Unit(spec)
                self.nursery.start_soon(unit.run, name=f"unit {spec.name}")
                self.unit_added.set()
                self.unit_added = trio.Event()
            unit.retry_now()
        failed = unit.failed_starts
        with trio.move_on_after(ENSURE_S):
            while not unit.is_up:
                # Twice: a daemon may have been killed while it started.
                if unit.failed_starts > failed + 1 or unit.done.is_set():
                    break
                await _first_of(unit.up, unit.died, unit.done)
                if unit.up.is_set() and not unit.is_up:
                    await trio.sleep(0.01)  # its connection is gone, its death not yet noticed
            else:
                assert unit.address is not None
                return list(unit.address)
        if unit.state == "starting" and unit.last_error is None:
            raise ServiceUnavailable(f"{spec.name} is not ready after {ENSURE_S:g} s; try again")
        why = last_line(unit.last_error) or f"no answer in {ENSURE_S:g} s"
        raise ServiceUnavailable(f"{spec.name} does not start: {why}")

    async def start_service_task(self, spec: DaemonSpec) -> list[Any]:
        """Start a daemon under its own restart unit and wait until it is ready (`ensure`)."""
        return await self.ensure(spec)

    async def cancel_service(self, name: str) -> None:
        """
        Stop a daemon for good.

        Raises:
          KeyError: no such daemon.
        """
        unit = self.service_tasks[name]
        await unit.stop()
        del self.service_tasks[name]

    async def stop_all(self) -> None:
        """
        Stop every daemon, the one started last first; bounded by the slowest one.

        The order daemon goes before all others: it uses daemons that were started after it.
        """
        self.stop_requested.set()
        units = list(reversed(self.service_tasks.values()))
        units.sort(key=lambda unit: unit.name != ORDER_DAEMON)
        async with trio.open_nursery() as stopping:
            for unit in units:
                stopping.start_soon(unit.stop)
                step_s = STOP_ORDERS_S if unit.name == ORDER_DAEMON else STOP_STEP_S
                with trio.move_on_after(step_s):
                    await unit.done.wait()
        self.service_tasks.clear()

    # ---- attached clients ----

    @property
    def clients(self) -> int:
        """Return how many are attached that are no daemons of the run."""
        return sum(not one.is_supervised for one in self.attached.values())

    def attach(self, client: Attached) -> int:
        """
        Add a client; returns the key for `detach`.

        Raises:
          ServiceUnavailable: this run ends; another one may be started.
        """
        if self.stop_requested.is_set():
            raise ServiceUnavailable("the run ends right now; try again")
        key = max(self.attached, default=0) + 1
        self.attached[key] = client
        self._announce()
        return key

    def detach(self, key: int) -> None:
        """Remove a client whose dialog has ended."""
        self.attached.pop(key, None)
        self._announce()

    def _announce(self) -> None:
        self.attached_changed.set()
        self.attached_changed = trio.Event()

    # ---- what must go on without clients ----

    @property
    def held_orders(self) -> int | None:
        """Return how many orders and alerts are held for clients; None while nobody can say."""
        unit = self.service_tasks.get(ORDER_DAEMON)
        if unit is None:
            return 0
        stats = unit.reported.get("stats") or {}
        if not unit.is_up or not stats or not stats.get("recovered", True):
            return self._held if unit.state == "degraded" else None
        self._held = int(stats.get("held", 0))
        return self._held

    async def hear_orders(self) -> int | None:
        """
        Return `held_orders` as the order daemon counts them now; None when it does not say.

        `held_orders` is as old as the last heartbeat. This asks: whatever a client was told to be
        held before the call is counted. It ends with the answer, with the daemon, or after
        `HEAR_ORDERS_S`.
        """
        unit = self.service_tasks.get(ORDER_DAEMON)
        if unit is None or not unit.is_up:
            return self.held_orders
        with trio.move_on_after(HEAR_ORDERS_S):
            try:
                await unit.ask()
            except PikerError:
                return None
            return self.held_orders
        return None

    # ---- what `piker services` shows ----

    def table(self) -> list[dict[str, Any]]:
        """Return one row per process of the run: pikerd, its daemons, the attached clients."""
        registry = {uid: list(at) for uid, at in tractor.current_actor()._registry.items()}
        venues = config.run_vars().get("venues") or {}
        me = tractor.current_actor()
        rows = [
            bare_row(
                me.name,
                "pikerd",
                registry.get(me.uid),
                os.getpid(),
                self.started_ns,
                venue=" ".join(f"{broker}={url}" for broker, url in venues.items()),
            )
        ]
        rows += [
            table_row(unit.name, unit.spec.kind, daemon_row(unit), venues)
            for unit in self.service_tasks.values()
        ]
        for one in sorted(self.attached.values(), key=lambda one: not one.is_supervised):
            if one.said is not None:
                rows.append(table_row(one.name, one.kind, row_now(one.name, one.said), venues))
            elif not one.is_supervised:
                at = registry.get(one.uid)
                rows.append(bare_row(one.name, one.kind, at, one.pid, one.started_ns))
        return rows


async def _first_of(*events: trio.Event) -> None:
    async with trio.open_nursery() as nursery:

        async def wait(event: trio.Event) -> None:
            await event.wait()
            nursery.cancel_scope.cancel()

        for event in events:
            nursery.start_soon(wait, event)


_services: Services | None = None


def get_services() -> Services:
    """Return this actor's `Services`; only a supervisor has one."""
    assert _services is not None, "this actor supervises no daemons"
    return _services


def has_services() -> bool:
    """Whether this actor supervises daemons."""
    return _services is not None


def set_services(services: Services | None) -> None:
    """Make `services` this actor's one (None: it ended)."""
    global _services
    _services = services
