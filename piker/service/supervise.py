"""What a daemon kind needs to describe itself to its supervisor."""

from piker.service._registry import ensure, maybe_spawn_daemon
from piker.service._units import DaemonSpec

__all__ = ["DaemonSpec", "ensure", "maybe_spawn_daemon"]
