"""The rows of the service table: what `piker services` shows of each process of the run."""

from __future__ import annotations

from typing import Any

import msgspec

from piker import clock
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
    """Return what there is to say of a unit's daemon now."""
    state: str = unit.state
    if state == "ready" and (unit.is_late or unit.reported.get("state") == "degraded"):
        state = "degraded"
    return DaemonRow(
        address=f"{unit.address[0]}:{unit.address[1]}" if unit.address else "",
        pid=unit.pid or 0,
        ready_ns=unit.ready_ns,
        restarts=max(unit.lives - 1, 0) + unit.failed_starts,
        state=state,
        cause=unit.cause,
        stats=unit.reported.get("stats") or {},
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
