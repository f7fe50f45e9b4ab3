"""A command ends when the process that started it is gone, however it went."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

from piker.cli import lifeline

CODE = "from piker.cli import lifeline; import threading; print(lifeline.watch(), flush=True); {}"


def start(body: str) -> tuple[subprocess.Popen[str], int]:
    """Start a Python with a lifeline to a pipe of ours; return it and our end."""
    read_end, write_end = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-c", CODE.format(body)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, lifeline.VARIABLE: str(read_end)},
        pass_fds=(read_end,),
    )
    os.close(read_end)
    assert process.stdout is not None
    assert process.stdout.readline() == "True\n"
    return process, write_end


def test_closing_the_pipe_asks_the_process_to_stop() -> None:
    process, write_end = start("threading.Event().wait()")
    with process:
        assert process.poll() is None
        os.close(write_end)
        assert process.wait(5) == -signal.SIGTERM


def test_a_process_that_will_not_stop_is_ended() -> None:
    body = (
        "import signal; lifeline.GRACE_S = 0.05; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        "print(flush=True); threading.Event().wait()"
    )
    process, write_end = start(body)
    with process:
        assert process.stdout is not None
        process.stdout.readline()
        os.close(write_end)
        assert process.wait(5) == -signal.SIGKILL


def test_without_a_pipe_nothing_is_watched() -> None:
    assert not lifeline.watch()
