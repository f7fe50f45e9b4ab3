"""
One logger tree (`piker`), handlers attached once per actor.

An actor writes to its console and to `logs/<actor>.log`, which rotates and is bounded. In a child
of `pikerd` the process's own stdout and stderr are the log file too, so that a traceback of the
runtime or of C code is not lost. Counters come from `.statistics()`, never from these lines.
"""

from __future__ import annotations

import logging
import os
import re
import sys
from contextlib import suppress
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import TextIO

FORMAT = "%(asctime)s.%(msecs)03d %(levelname)-7s {actor}[{pid}] %(name)s: %(message)s"
DATE_FORMAT = "%Y-%m-%dT%H:%M:%S"
COLORS = {
    "DEBUG": "\x1b[2m",
    "WARNING": "\x1b[33m",
    "ERROR": "\x1b[31m",
    "CRITICAL": "\x1b[1;31m",
}


def get_logger(name: str) -> logging.Logger:
    """Return the logger `name`, put below `piker` when it is not there already."""
    return logging.getLogger(name if name.split(".")[0] == "piker" else f"piker.{name}")


class _Console(logging.Formatter):
    """Colour by level on a terminal, plain otherwise."""

    def __init__(self, fmt: str, colored: bool) -> None:
        super().__init__(fmt, DATE_FORMAT)
        self.colored = colored

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        color = COLORS.get(record.levelname) if self.colored else None
        return f"{color}{text}\x1b[0m" if color else text


class ActorFile(RotatingFileHandler):
    """A rotating log file that, when asked, is also the process's stdout and stderr."""

    def __init__(self, path: Path, file_bytes: int, files: int) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        super().__init__(path, maxBytes=file_bytes, backupCount=files, encoding="utf-8", delay=True)
        self.takes_output = False
        self._is_failing = False

    def handleError(self, record: logging.LogRecord) -> None:
        """Say once, not with a traceback per record, that the file cannot be written."""
        err = sys.exc_info()[1]
        if not isinstance(err, OSError):
            super().handleError(record)
        elif not self._is_failing:
            self._is_failing = True
            line = f"{self.baseFilename}: cannot be written ({err.strerror}); records are lost\n"
            with suppress(OSError):
                os.write((_console or sys.stderr).fileno(), line.encode())

    def shouldRollover(self, record: logging.LogRecord) -> bool:
        """
        Whether the file has reached its length; the record that comes then begins the next one.

        The library's own way formats every record twice and asks the file system each time.
        """
        if self.stream is None:
            self.stream = self._open()
        return 0 < self.maxBytes <= self.stream.tell()

    def take_output(self) -> None:
        """From now on file descriptors 1 and 2 are this file, across rotations."""
        self.takes_output = True
        self._point()

    def doRollover(self) -> None:
        super().doRollover()
        if self.takes_output:
            self._point()

    def _point(self) -> None:
        if self.stream is None:
            self.stream = self._open()
        for fd in (1, 2):
            os.dup2(self.stream.fileno(), fd)


def file_name(actor_name: str) -> str:
    """Return the log file's name for an actor; nothing of the name can leave the folder."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", actor_name).lstrip(".") + ".log"


_console: TextIO | None = None
_is_set_up = False


def redirect_output(folder: Path, actor_name: str, file_bytes: int, files: int) -> None:
    """Make the actor's log file its stdout and stderr; its log lines still reach the console."""
    global _console
    _console = os.fdopen(os.dup(2), "w", encoding="utf-8", errors="replace", buffering=1)
    handler = ActorFile(folder / file_name(actor_name), file_bytes, files)
    handler.take_output()
    _attach(handler, actor_name)


def setup_actor_logging(
    actor_name: str,
    level: str | None = None,
    *,
    folder: Path | None = None,
    file_bytes: int = 5_000_000,
    files: int = 3,
    console: bool = True,
    console_level: str | None = None,
) -> None:
    """
    Give this process its handlers; a second call changes the level only.

    `level` None keeps the level that is set (`info` at first). `folder` None: no file.
    `console_level`: what the console shows at least, when that is less than what is logged.
    """
    global _is_set_up
    root = logging.getLogger("piker")
    if level or root.level == logging.NOTSET:
        root.setLevel((level or "info").upper())
    if _is_set_up:
        return
    _is_set_up = True
    root.propagate = False
    if console:
        stream = _console or sys.stderr
        handler = logging.StreamHandler(stream)
        fmt = FORMAT.format(actor=actor_name, pid=os.getpid())
        handler.setFormatter(_Console(fmt, stream.isatty()))
        handler.setLevel((console_level or "debug").upper())
        root.addHandler(handler)
    if folder is not None:
        _attach(ActorFile(folder / file_name(actor_name), file_bytes, files), actor_name)


def take_output() -> None:
    """From now on this process's stdout and stderr are its log file, and it has no console."""
    root = logging.getLogger("piker")
    for handler in root.handlers[:]:
        if isinstance(handler, ActorFile):
            handler.take_output()
        else:
            root.removeHandler(handler)


def _attach(handler: ActorFile, actor_name: str) -> None:
    fmt = FORMAT.format(actor=actor_name, pid=os.getpid())
    handler.setFormatter(logging.Formatter(fmt, DATE_FORMAT))
    logging.getLogger("piker").addHandler(handler)


# What the runtime reports as a warning or an error although it is normal here: a liveness probe
# that hangs up, a client that ends its dialog, an answer to a call that was given up, a peer that
# is gone (who talked to it says so), a daemon that is asked for while the run ends.
_CONTROL_FLOW = (
    "failed to handshake",
    "Stream was already destroyed?",
    "Ignoring msg from [no-longer/un]known context",
    "tractor._exceptions.ContextCancelled",
    "IPC connection for context is broken?",
    "is not started: its supervisor ends",
)


def is_worth_a_line(record: logging.LogRecord) -> bool:
    """Whether a record says more than the runtime's normal control flow."""
    if not record.name.startswith("tractor"):
        return True
    text = f"{record.getMessage()} {record.exc_info[1] if record.exc_info else ''}"
    return not any(words in text for words in _CONTROL_FLOW)


def adopt_runtime_log(level: str = "warning") -> None:
    """Send the runtime's own records to the actor's file only, never to the console."""
    runtime = logging.getLogger("tractor")
    ours = logging.getLogger("piker").handlers
    files: list[logging.Handler] = [h for h in ours if isinstance(h, ActorFile)]
    for handler in files:
        handler.addFilter(is_worth_a_line)
    runtime.handlers[:] = files or [logging.NullHandler()]
    runtime.setLevel(level.upper())
    runtime.propagate = False


def remove_handlers() -> None:
    """Close and remove what `setup_actor_logging` attached (a runtime in this process ended)."""
    global _is_set_up
    _is_set_up = False
    root = logging.getLogger("piker")
    for handler in root.handlers[:]:
        root.removeHandler(handler)
        if isinstance(handler, ActorFile):
            handler.close()
    root.setLevel(logging.NOTSET)
    root.propagate = True
    runtime = logging.getLogger("tractor")
    runtime.handlers.clear()
    runtime.setLevel(logging.ERROR)
