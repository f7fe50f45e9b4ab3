"""
Backends: one package or module per broker, reached by name only.

A name, also one from the wire, is looked up in `__brokers__` and among the run's own backends
(its variable `backends`, `{name: module}`); nothing is imported as given.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from importlib import import_module
from types import ModuleType
from typing import Any

from piker import config
from piker.errors import BrokerError, DataThrottle, DataUnavailable, NoData, SymbolNotFound

__all__ = [
    "BrokerError",
    "DataThrottle",
    "DataUnavailable",
    "NoData",
    "SymbolNotFound",
    "__brokers__",
    "get_brokermod",
    "iter_brokermods",
    "open_cached_client",
]

__brokers__ = ("binance",)


def get_brokermod(brokername: str) -> ModuleType:
    """
    Return the backend module of `brokername`, with its `name` set.

    Raises:
      ModuleNotFoundError: no backend has this name.
    """
    own: dict[str, str] = config.run_vars().get("backends") or {}
    if brokername not in __brokers__ and brokername not in own:
        raise ModuleNotFoundError(
            f"brokers: no backend is named {brokername!r}, expected {' or '.join(__brokers__)}",
            name=f"{__name__}.{brokername}",
        )
    mod = import_module(own.get(brokername, f"{__name__}.{brokername}"))
    mod.name = brokername  # type: ignore[attr-defined]
    return mod


def iter_brokermods() -> Iterator[ModuleType]:
    """Yield every backend module that piker comes with."""
    for brokername in __brokers__:
        yield get_brokermod(brokername)


@asynccontextmanager
async def open_cached_client(brokername: str, **kwargs: Any) -> AsyncIterator[Any]:
    """
    Yield the backend's client, the same one for all users in this actor while one holds it.

    Raises:
      ModuleNotFoundError: no backend has this name.
    """
    async with get_brokermod(brokername).get_client(**kwargs) as client:
        yield client
