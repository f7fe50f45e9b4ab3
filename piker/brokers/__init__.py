"""
Backends: one package or module per broker, reached by name only.

A name, also one from the wire, is looked up in `__brokers__`; nothing is imported as given.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from types import ModuleType

__brokers__ = ("binance",)


def get_brokermod(brokername: str) -> ModuleType:
    """
    Return the backend module of `brokername`, with its `name` set.

    Raises:
      ModuleNotFoundError: no backend has this name.
    """
    if brokername not in __brokers__:
        raise ModuleNotFoundError(
            f"brokers: no backend is named {brokername!r}, expected {' or '.join(__brokers__)}",
            name=f"{__name__}.{brokername}",
        )
    mod = import_module(f"{__name__}.{brokername}")
    mod.name = brokername  # type: ignore[attr-defined]
    return mod


def iter_brokermods() -> Iterator[ModuleType]:
    """Yield every backend module."""
    for brokername in __brokers__:
        yield get_brokermod(brokername)
