"""
Proof of the run's token, for endpoints that may move money or end a daemon.

Any process that reaches a port of the run may call its endpoints; those marked `proven` also want
to see that the caller can read `<state>/run/token`. What travels is a keyed hash over endpoint,
callee and caller, never the token, so it is of no use for another call or another actor. The
files are read anew for each proof: a restarted `pikerd` has a new token.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path
from typing import Any

import tractor

from piker import config
from piker.errors import PikerError, ServiceUnavailable
from piker.log import get_logger
from piker.service._run_file import read_run
from piker.service._tractor_shim import PROVEN, same_user

log = get_logger(__name__)

TOKEN_BYTES = 32


def proof(portal: Any, endpoint: Callable[..., Any]) -> str:
    """
    Return the `proof` argument for one call of `endpoint` through `portal`.

    Ask for it right before each call, also after each new connection.

    Raises:
      ServiceUnavailable: this state folder has no run, or the run we are in is another one.
      PikerError: the peer is no process of this user on this machine.
    """
    folder = config.run_dir()
    _check_run(folder)
    if not _is_ours(portal.channel):
        raise PikerError(f"{_where(portal.channel)}: not a process of this user; it gets no proof")
    caller, callee = tractor.current_actor().uid, portal.channel.uid
    return _digest(_token(folder), endpoint, callee[1], caller[1])


def supervisor_proof(portal: Any, target: Callable[..., Any]) -> dict[str, str]:
    """Return what a supervisor adds to the arguments of a daemon's lifetime context."""
    return {"proof": proof(portal, target)} if is_proven(target) else {}


def is_proven(endpoint: Callable[..., Any]) -> bool:
    """Whether callers of `endpoint` must show a proof."""
    return (endpoint.__module__, endpoint.__name__) in PROVEN


def guard(
    actor: Any, channel: Any, endpoint: Callable[..., Any], kwargs: dict[str, Any]
) -> tuple[Callable[..., Any], dict[str, Any]]:
    """Return what is run for a call of `endpoint`: itself without the proof, or a refusal."""
    given = kwargs.pop("proof", "")
    try:
        expected = _digest(_token(config.run_dir()), endpoint, actor.uid[1], channel.uid[1])
    except ServiceUnavailable as err:
        expected, why = "", str(err)
    else:
        why = f"{endpoint.__name__} of {actor.name} needs the run's token"
    if expected and hmac.compare_digest(str(given).encode(), expected.encode()):
        return endpoint, kwargs
    log.warning("refused %s to %s: no proof", endpoint.__name__, channel.uid[0])

    async def refuse(ctx: Any = None) -> None:
        raise PikerError(why)

    is_context = getattr(endpoint, "_tractor_context_function", False)
    refuse._tractor_context_function = is_context  # type: ignore[attr-defined]
    return refuse, {}


def _digest(token: bytes, endpoint: Callable[..., Any], callee: str, caller: str) -> str:
    name = f"{endpoint.__module__}:{endpoint.__name__}"
    return blake2b("\0".join((name, callee, caller)).encode(), key=token).hexdigest()


def _token(folder: Path) -> bytes:
    try:
        token = (folder / "token").read_bytes()
    except OSError as err:
        raise ServiceUnavailable(f"{folder}/token: cannot be read ({err.strerror})") from None
    if len(token) != TOKEN_BYTES:
        raise ServiceUnavailable(f"{folder}/token: is no token; restart pikerd")
    return token


def _check_run(folder: Path) -> None:
    """Refuse when the run of this process is not the one whose token we could read."""
    run = read_run(folder)
    if run is None:
        raise ServiceUnavailable(f"no pikerd runs on the state folder {folder.parent}")
    host, port = tractor.current_actor()._arb_addr
    if (str(host), int(port)) != run.address:
        raise ServiceUnavailable(
            f"{host}:{port} is not the pikerd of the state folder {folder.parent}"
            f" ({run.host}:{run.port}); unset PIKER_REGISTRY, or set PIKER_CONFIG_DIR to its folder"
        )


def _is_ours(channel: Any) -> bool:
    """Whether the other end of a connection is a process of this user on this machine."""
    address = str((channel.raddr or ("", 0))[0])
    return address.startswith("127.") and same_user(channel.msgstream.stream.socket)


def _where(channel: Any) -> str:
    host, port = (channel.raddr or ("?", 0))[:2]
    return f"{host}:{port}"
