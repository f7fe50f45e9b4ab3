"""
`--snapshot FILE.png`: the page as an installed Chromium draws it, without a window.

Chromium is driven over its pipe (messages of its DevTools protocol, each ended by a zero byte),
so that no debugging port is opened.
"""

from __future__ import annotations

import base64
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import msgspec
import trio

from piker.errors import ConfigError, ServiceUnavailable

BROWSERS: Final = (
    "chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome",
    "microsoft-edge", "brave-browser",
)  # fmt: skip
WIDTH, HEIGHT = 1600, 900
WITHIN_S: Final = 60.0
MESSAGE_MAX: Final = 64 << 20
_PAINTED: Final = """(async () => {
  const seen = () => window.piker?.debug?.facts().bars_in_view > 0;
  while (!seen()) await new Promise((done) => setTimeout(done, 50));
  await window.piker.debug.painted();
  return true;
})()"""

# Chromium reads commands from file 3 and answers on file 4: put the pipes there, then become it.
_PLACE_PIPES: Final = """
import fcntl, os, sys
reads, writes = (fcntl.fcntl(int(fd), fcntl.F_DUPFD, 10) for fd in sys.argv[1:3])
os.dup2(reads, 3)
os.dup2(writes, 4)
os.execv(sys.argv[3], sys.argv[3:])
"""


def browser_or_none() -> str | None:
    """Return the path of an installed Chromium, or None."""
    return next(filter(None, map(shutil.which, BROWSERS)), None)


def find_browser() -> str:
    """
    Return the path of an installed Chromium.

    Raises:
      ConfigError: none is installed.
    """
    if path := browser_or_none():
        return path
    raise ConfigError(
        "--snapshot: no Chromium was found (looked for " + ", ".join(BROWSERS) + ");"
        " install one, or open the page and use the browser's own screenshot"
    )


def check_target(path: str) -> None:
    """
    Refuse a file that cannot be written, before anything is started.

    Raises:
      ConfigError: no .png, or a folder that is missing or read-only.
    """
    folder = Path(path).absolute().parent
    if not path.lower().endswith(".png"):
        raise ConfigError(f"--snapshot: file was {path!r}, expected a name that ends in .png")
    if not os.access(folder, os.W_OK):
        raise ConfigError(f"--snapshot: {folder} is missing or cannot be written")


class _Pipe:
    """One DevTools connection: numbered calls, answers by number, events ignored."""

    def __init__(self, reader: trio.lowlevel.FdStream, writer: trio.lowlevel.FdStream) -> None:
        self._reader = reader
        self._writer = writer
        self._pending = b""
        self._id = 0
        self.session: str | None = None

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        """
        Return the result of one call.

        Raises:
          ServiceUnavailable: the browser refused it or has gone.
        """
        self._id += 1
        message = {"id": self._id, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        await self._writer.send_all(msgspec.json.encode(message) + b"\0")
        while True:
            answer = msgspec.json.decode(await self._next())
            if answer.get("id") == self._id:
                if "error" in answer:
                    raise ServiceUnavailable(f"browser: {method}: {answer['error']['message']}")
                result: dict[str, Any] = answer["result"]
                return result

    async def _next(self) -> bytes:
        chunks = [self._pending]
        while b"\0" not in chunks[-1]:
            data = await self._reader.receive_some(1 << 20)
            if not data or sum(map(len, chunks)) > MESSAGE_MAX:
                raise ServiceUnavailable("browser: it ended before the picture was taken")
            chunks.append(data)
        message, _, self._pending = b"".join(chunks).partition(b"\0")
        return message


@asynccontextmanager
async def _open_browser(browser: str, folder: str) -> AsyncIterator[_Pipe]:
    to_read, to_write = os.pipe(), os.pipe()
    args = [
        browser, "--headless=new", "--remote-debugging-pipe", f"--user-data-dir={folder}",
        "--no-first-run", "--no-default-browser-check", "--hide-scrollbars", "--disable-gpu",
        *(["--no-sandbox"] if os.geteuid() == 0 else []),
    ]  # fmt: skip
    process = await trio.lowlevel.open_process(
        [sys.executable, "-S", "-c", _PLACE_PIPES, str(to_write[0]), str(to_read[1]), *args],
        pass_fds=(to_write[0], to_read[1]),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(to_write[0])
    os.close(to_read[1])
    try:
        async with (
            trio.lowlevel.FdStream(to_read[0]) as reader,
            trio.lowlevel.FdStream(to_write[1]) as writer,
        ):
            yield _Pipe(reader, writer)
    finally:
        process.kill()
        with trio.CancelScope(shield=True), trio.move_on_after(5):
            await process.wait()


async def take_snapshot(address: str, path: str) -> None:
    """
    Save the page at `address` as a PNG once its bars are painted.

    Raises:
      ConfigError: no browser.
      ServiceUnavailable: the browser failed, or nothing was painted within `WITHIN_S`.
    """
    browser = find_browser()
    with tempfile.TemporaryDirectory(prefix="piker-snapshot-", ignore_cleanup_errors=True) as tmp:
        with trio.move_on_after(WITHIN_S) as waiting:
            async with _open_browser(browser, tmp) as pipe:
                picture = await _picture(pipe, address)
        if waiting.cancelled_caught:
            raise ServiceUnavailable(f"--snapshot: no bars were painted within {WITHIN_S:.0f} s")
    await trio.Path(path).write_bytes(picture)


async def _picture(pipe: _Pipe, address: str) -> bytes:
    target = await pipe.call("Target.createTarget", url="about:blank")
    attached = await pipe.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
    pipe.session = attached["sessionId"]
    await pipe.call(
        "Emulation.setDeviceMetricsOverride",
        width=WIDTH, height=HEIGHT, deviceScaleFactor=1, mobile=False,
    )  # fmt: skip
    await pipe.call("Page.navigate", url=address)
    await pipe.call("Runtime.evaluate", expression=_PAINTED, awaitPromise=True)
    shot = await pipe.call("Page.captureScreenshot", format="png")
    return base64.b64decode(shot["data"])
