"""
The edge between tractor's errors and ours; nothing above this package sees tractor's.

A remote error carries no object, only the name of its type and a traceback as text. A name of
our own error tree comes back as that type, with the last line as its text.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import tractor
import trio

from piker.errors import ConnectionLost, PikerError, ServiceUnavailable

GONE = (trio.BrokenResourceError, trio.ClosedResourceError)  # TransportClosed is one of these


def _own_types(base: type[PikerError] = PikerError) -> dict[str, type[PikerError]]:
    found = {base.__name__: base}
    for kind in base.__subclasses__():
        found |= _own_types(kind)
    return found


def _text(err: BaseException) -> str:
    """Return the last line of a remote traceback without the type's dotted name."""
    lines = [line.strip() for line in str(err).splitlines() if line.strip()]
    last = lines[-1] if lines else type(err).__name__
    head, colon, rest = last.partition(": ")
    return rest if colon and " " not in head else last


def _translated(err: BaseException, where: str) -> BaseException | None:
    """Return our error for one of tractor's or the transport's; None for any other."""
    prefix = f"{where}: " if where else ""
    if isinstance(err, tractor.RemoteActorError):
        name = (err.msgdata or {}).get("type_str", "")
        if name == "TransportClosed":
            return ConnectionLost(f"{prefix}{_text(err)}")
        if name == "ContextCancelled" or err.type is trio.Cancelled:
            return ConnectionLost(f"{prefix}the other side ended the dialog")
        if name == "ModuleNotExposed":
            return ServiceUnavailable(f"{prefix}refused: {_text(err)}")
        if own := _own_types().get(name):
            return own(_text(err))
        return PikerError(f"{prefix}{name}: {_text(err)}")
    if isinstance(err, (FileNotFoundError, PermissionError)):
        return None  # files of our own
    if isinstance(err, (OSError, *GONE, trio.EndOfChannel)):
        return ConnectionLost(f"{prefix}connection lost: {str(err) or type(err).__name__}")
    return err if isinstance(err, PikerError) else None


def _leaves(err: BaseException) -> Iterator[BaseException]:
    if isinstance(err, BaseExceptionGroup):
        for inner in err.exceptions:
            yield from _leaves(inner)
    else:
        yield err


@contextmanager
def translate_errors(where: str = "") -> Iterator[None]:
    """
    Turn what tractor and the transport raise inside the block into piker's errors.

    A lost peer is `ConnectionLost`; a refused call `ServiceUnavailable`; an error of ours on the
    other side comes back as its own type; any other remote error is a `PikerError` with its
    text. `where` names the peer in the text. Local errors pass unchanged, and `Cancelled` wins.
    """
    try:
        yield
    except BaseException as err:
        leaves = list(_leaves(err))
        others = [leaf for leaf in leaves if not isinstance(leaf, trio.Cancelled)]
        ours = [_translated(leaf, where) for leaf in others]
        first = next((own for own in ours if own is not None), None)
        if first is None or first is err or None in ours:
            raise
        if len(others) < len(leaves) and isinstance(err, BaseExceptionGroup):
            # We are cancelled: that a peer failed too matters no more.
            cancelled, _ = err.split(trio.Cancelled)
            if cancelled is not None:
                raise cancelled from None
        raise first from err
