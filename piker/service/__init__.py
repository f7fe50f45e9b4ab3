"""
The runtime: the tree of processes, who may call what, restarts.

Names load on first use (PEP 562), so that importing this package costs nothing and pulls no
package above it in.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from piker.service._actor_runtime import (
        get_runtime_vars,
        maybe_open_pikerd,
        open_piker_runtime,
        open_pikerd,
    )
    from piker.service._client import find_run
    from piker.service._mngr import Services
    from piker.service._registry import check_for_service, find_service, maybe_spawn_daemon

__all__ = [
    "Services",
    "check_for_service",
    "find_run",
    "find_service",
    "get_runtime_vars",
    "maybe_open_pikerd",
    "maybe_spawn_daemon",
    "open_piker_runtime",
    "open_pikerd",
]

_HOMES = {
    "open_piker_runtime": "piker.service._actor_runtime",
    "open_pikerd": "piker.service._actor_runtime",
    "maybe_open_pikerd": "piker.service._actor_runtime",
    "get_runtime_vars": "piker.service._actor_runtime",
    "find_run": "piker.service._client",
    "Services": "piker.service._mngr",
    "find_service": "piker.service._registry",
    "check_for_service": "piker.service._registry",
    "maybe_spawn_daemon": "piker.service._registry",
    "spawn_datad": "piker.data._daemon",
    "maybe_spawn_datad": "piker.data._daemon",
    "spawn_brokerd": "piker.brokers._daemon",
    "maybe_spawn_brokerd": "piker.brokers._daemon",
    "open_adhoc_brokerd": "piker.brokers._daemon",
    "spawn_emsd": "piker.clearing._ems",
    "maybe_open_emsd": "piker.clearing._ems",
    "spawn_samplerd": "piker.data._sampling",
    "maybe_open_samplerd": "piker.data._sampling",
    "open_samplerd": "piker.data._sampling",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
