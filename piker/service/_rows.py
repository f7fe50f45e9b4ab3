"""The rows of the service table: what `piker services` shows of each process of the run."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec.structs import replace

from piker import clock
from piker.service._procfs import actor_start
from piker.service._units import Unit


class DaemonRow(msgspec.Struct, frozen=True):
    """What a supervisor says of one of its daemons; `ready_ns` is monotonic, 0 when not ready."""

    address: str
    pid: int
    ready_ns: int
    restarts: int
    state: str
    cause: str
    stats: dict[str, Any] = {}


def daemon_row(unit: Unit) -> DaemonRow:
    """Return what there is to say of a unit's daemon now; without its process it does not serve."""
    pid, state = unit.pid or 0, str(unit.state)
    if state == "ready" and (unit.is_late or unit.reported.get("state") == "degraded"):
        state = "degraded"
    return DaemonRow(
        address=f"{unit.address[0]}:{unit.address[1]}" if pid and unit.address else "",
        pid=pid,
        ready_ns=unit.ready_ns if pid else 0,
        restarts=max(unit.lives - 1, 0) + unit.failed_starts,
        state=state,
        cause=unit.cause,
        stats=unit.reported.get("stats") or {},
    )


def row_now(name: str, said: DaemonRow) -> DaemonRow:
    """Return what a supervisor has said of its daemon; what it said may be older than its end."""
    if not said.pid or actor_start(said.pid, name) is not None:
        return said
    return replace(
        said, address="", pid=0, ready_ns=0, state="restarting", cause=f"{name}: it has ended"
    )


def table_row(name: str, kind: str, said: DaemonRow, venues: dict[str, str]) -> dict[str, Any]:
    """Return a daemon's row of the table; `venues` are the run's, by broker."""
    venue = venues.get(name.partition(".")[2], "")
    return bare_row(name, kind, None, said.pid, said.ready_ns, venue) | {
        "address": said.address,
        "restarts": said.restarts,
        "state": said.state,
        "cause": said.cause,
        "stats": said.stats,
    }


def bare_row(
    name: str, kind: str, address: list[Any] | None, pid: int, since_ns: int, venue: str = ""
) -> dict[str, Any]:
    """Return the row of a process that nobody restarts; `since_ns` 0: it does not serve."""
    uptime_s = (clock.monotonic_ns() - since_ns) / clock.NS if since_ns else 0.0
    return {
        "name": name,
        "kind": kind,
        "address": f"{address[0]}:{address[1]}" if address else "",
        "pid": pid,
        "uptime_s": round(max(uptime_s, 0.0), 1),
        "restarts": 0,
        "state": "ready",
        "cause": "",
        "venue": venue,
        "stats": {},
    }
