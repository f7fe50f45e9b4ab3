# What piker needs mypy to know of tractor: its decorator keeps the function's type, the rest is
# untyped.
from collections.abc import Callable
from typing import Any, TypeVar

_F = TypeVar("_F", bound=Callable[..., Any])

def context(func: _F) -> _F: ...
def __getattr__(name: str) -> Any: ...

Context = Any
Portal = Any

class RemoteActorError(Exception):
    type: type | None
    msgdata: dict[str, Any]
