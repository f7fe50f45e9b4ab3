"""A TCP port that nobody listens on, for a process that is about to."""

from __future__ import annotations

import socket

from piker.errors import ServiceUnavailable


def free_port(host: str = "127.0.0.1", wanted: object = None) -> int:
    """
    Return `wanted` when it is a port and nobody listens there, else any free one.

    Raises:
      ServiceUnavailable: there is none.
    """
    for port in (wanted if isinstance(wanted, int) else 0, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except (OSError, OverflowError):
                continue
            return int(probe.getsockname()[1])
    raise ServiceUnavailable(f"no free port on {host}")
