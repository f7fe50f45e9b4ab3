"""tractor's errors become ours at the edge; Cancelled and local errors pass."""

from __future__ import annotations

import pytest
import tractor
import trio
from tractor._exceptions import RemoteActorError, TransportClosed

from piker.errors import ConnectionLost, PikerError, ServiceUnavailable, SymbolNotFound
from piker.service.rpc import translate_errors


def remote(type_str: str, last: str = "x") -> RemoteActorError:
    text = f"Traceback (most recent call last):\n  File ...\n{last}"
    return RemoteActorError(text, type_str=type_str, tb_str=text)


def translated(err: BaseException) -> BaseException:
    with pytest.raises(BaseException) as caught, translate_errors("datad.x"):
        raise err
    return caught.value


@pytest.mark.parametrize(
    "err",
    [
        remote("TransportClosed"),
        remote("ContextCancelled"),
        TransportClosed("gone"),
        trio.BrokenResourceError("gone"),
        trio.EndOfChannel(),
        ConnectionRefusedError("refused"),
        OSError("all attempts to connect failed"),
    ],
)
def test_a_lost_peer_is_connection_lost(err: BaseException) -> None:
    found = translated(err)
    assert isinstance(found, ConnectionLost)
    assert str(found).startswith("datad.x: ")
    assert "\n" not in str(found)


def test_an_error_of_ours_comes_back_as_its_own_type() -> None:
    found = translated(remote("SymbolNotFound", "piker.errors.SymbolNotFound: no such market"))
    assert type(found) is SymbolNotFound
    assert str(found) == "no such market"


def test_a_refused_call_says_so() -> None:
    found = translated(remote("ModuleNotExposed", "tractor._exceptions.ModuleNotExposed: a:b"))
    assert type(found) is ServiceUnavailable
    assert str(found) == "datad.x: refused: a:b"


def test_any_other_remote_error_is_a_piker_error_with_its_text() -> None:
    found = translated(remote("ValueError", "ValueError: no good"))
    assert type(found) is PikerError
    assert str(found) == "datad.x: ValueError: no good"


@pytest.mark.parametrize("err", [KeyError("x"), ServiceUnavailable("x"), FileNotFoundError("x")])
def test_local_errors_pass_unchanged(err: Exception) -> None:
    assert translated(err) is err


def test_a_group_of_equal_errors_is_one_error() -> None:
    group = BaseExceptionGroup("two", [remote("TransportClosed"), remote("TransportClosed")])
    assert isinstance(translated(group), ConnectionLost)


async def test_cancelled_wins_over_a_peer_that_failed_meanwhile() -> None:
    with trio.CancelScope() as scope:
        with translate_errors():
            scope.cancel()
            await trio.sleep_forever()
    assert scope.cancelled_caught
    with trio.CancelScope() as scope, translate_errors():
        scope.cancel()
        try:
            await trio.sleep_forever()
        except trio.Cancelled as cancelled:
            raise BaseExceptionGroup("", [cancelled, remote("TransportClosed")]) from None
    assert scope.cancelled_caught
    assert tractor.current_actor(err_on_no_runtime=False) is None
