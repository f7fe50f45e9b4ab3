"""
What a backend must define for each daemon kind, and what its feed must hand over first.

`_eps` is the authoritative table: `datad` hosts the endpoints of kind 'datad', `brokerd` those of
kind 'brokerd', both the middleware.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import msgspec

from piker.errors import PikerError
from piker.log import get_logger
from piker.model.market import Asset, MktPair

log = get_logger(__name__)

_eps: dict[str, list[str]] = {
    "middleware": ["get_client"],
    "datad": ["get_mkt_info", "open_history_client", "open_symbol_search", "stream_quotes"],
    "brokerd": ["open_trade_dialog", "norm_trade"],
}


class FeedInitializationError(PikerError):
    """A backend's feed did not say which one market it serves, or said something else."""


def default_shm_write_opts() -> dict[str, bool]:
    """Return the options of a market whose volume is the sum of its trades."""
    return {"has_vlm": True, "sum_tick_vlm": True}


class FeedInit(msgspec.Struct, frozen=True):
    """
    The first word of a feed: its market, and how its bars are written.

    `has_vlm` False: the market has no volume; `sum_tick_vlm` False: a quote carries its own.
    """

    mkt_info: MktPair
    shm_write_opts: dict[str, bool] = msgspec.field(default_factory=default_shm_write_opts)


def get_eps(mod: ModuleType, kind: str) -> dict[str, Callable[..., Any]]:
    """
    Return the endpoints of `kind` that backend `mod` defines, by name; missing ones are left out.

    Raises:
      KeyError: `kind` is not a key of `_eps`.
    """
    return {name: func for name in _eps[kind] if callable(func := getattr(mod, name, None))}


def missing_eps(mod: ModuleType, kind: str) -> list[str]:
    """Return the names of `kind` that backend `mod` lacks, in the order of `_eps`."""
    defined = get_eps(mod, kind)
    return [name for name in _eps[kind] if name not in defined]


def validate_backend(
    mod: ModuleType, syms: Sequence[str], init_msgs: Sequence[FeedInit]
) -> FeedInit:
    """
    Return the one `FeedInit` that backend `mod` sent for the requested `syms`.

    Missing data endpoints are warned about: such a backend serves what it has.

    Raises:
      FeedInitializationError: none or more than one message, one of another type, or one whose
        market is not the requested one.
    """
    broker = getattr(mod, "name", mod.__name__.rpartition(".")[2])
    for kind in ("middleware", "datad"):
        if missing := missing_eps(mod, kind):
            log.warning("backend %s has no %s endpoints %s", broker, kind, ", ".join(missing))
    if len(init_msgs) != 1:
        raise FeedInitializationError(
            f"{broker}: stream_quotes sent {len(init_msgs)} init messages, expected exactly 1"
        )
    init = init_msgs[0]
    if not isinstance(init, FeedInit):
        raise FeedInitializationError(
            f"{broker}: init message was a {type(init).__name__}, expected a FeedInit"
        )
    _check_market(broker, syms, init.mkt_info)
    return init


def _check_market(broker: str, syms: Sequence[str], mkt: MktPair) -> None:
    if mkt.type_key.lower() in ("", "unknown"):
        raise FeedInitializationError(f"{mkt.fqme}: asset type was unknown, expected a known one")
    if not isinstance(mkt.src, Asset):
        log.warning("%s: src was %r, expected an Asset", mkt.fqme, mkt.src)
    asked = [sym.lower().removesuffix(f".{broker}") for sym in syms]
    names = (mkt.bs_fqme, mkt.key, mkt.bs_mktid.lower())
    if not any(name in names or name in mkt.fqme for name in asked):
        raise FeedInitializationError(
            f"{broker}: feed serves {mkt.fqme}, expected {', '.join(syms)}"
        )
