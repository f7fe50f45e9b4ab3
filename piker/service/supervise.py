"""What a daemon kind needs to describe itself to its supervisor, and to be one."""

from piker.service._registry import ensure, maybe_spawn_daemon, open_own_daemon
from piker.service._supervisor import open_supervisor
from piker.service._units import DaemonSpec

__all__ = ["DaemonSpec", "ensure", "maybe_spawn_daemon", "open_own_daemon", "open_supervisor"]
