"""
Brings the page before the trader's eyes: a browser when there is a display, else an address.

An address carries a single-use code; Enter in the terminal prints another one.
"""

from __future__ import annotations

import os
import sys
import webbrowser
from collections.abc import Callable

import trio

from piker.log import get_logger
from piker.ui.server import PageServer

log = get_logger(__name__)


async def offer_page(
    edge: PageServer, title: str, opens_browser: bool, announce: Callable[[str], None]
) -> None:
    """Print an address, open the browser if that is wanted, and serve the Enter key."""
    announce(f"{title} is at {edge.address(is_printed=True)}")
    if opens_browser and not has_display():
        port = edge.port
        announce(
            f"no display here; on the machine before you run"
            f" `ssh -L {port}:127.0.0.1:{port} {os.uname().nodename}` and open that address there"
        )
    elif opens_browser:
        address = edge.address(is_printed=False)
        was_opened = await trio.to_thread.run_sync(_open, address, abandon_on_cancel=True)
        if not was_opened:
            announce("no browser could be started; open the address above yourself")
    if sys.stdin is not None and sys.stdin.isatty():
        announce("Enter prints a new address, Ctrl-C ends")
        await _serve_enter(edge, announce)


def has_display() -> bool:
    """Whether a browser started here would be seen."""
    if sys.platform != "linux":
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def _open(address: str) -> bool:
    try:
        return webbrowser.open(address)
    except webbrowser.Error as err:
        log.warning("browser: %s", err)
        return False


async def _serve_enter(edge: PageServer, announce: Callable[[str], None]) -> None:
    fd = sys.stdin.fileno()
    while True:
        await trio.lowlevel.wait_readable(fd)
        if not os.read(fd, 4096):
            return
        announce(edge.address(is_printed=True))
