"""`piker venue`: what it prints, and what bad input gets."""

from __future__ import annotations

import io
import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import httpx
import pytest

from piker.cli import boundary

RUN = [sys.executable, "-c", "from piker.venues.cli import app; app()"]


def invoke(*arguments: str) -> tuple[int, str]:
    """Return the exit code and all output of `piker venue` with `arguments`."""
    said = io.StringIO()
    with redirect_stdout(said), redirect_stderr(said):
        code = boundary.main("piker", ["venue", *arguments])
    return code, said.getvalue()


@contextmanager
def serving(*arguments: str) -> Iterator[tuple[subprocess.Popen[bytes], dict[str, Any]]]:
    """Run `piker venue serve --json` and yield it with its ready line."""
    process = subprocess.Popen(
        [*RUN, "serve", "--json", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        yield process, json.loads(process.stdout.readline())
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()


def test_ready_line_names_url_and_clock_and_a_signal_ends_it() -> None:
    with serving("--synthetic", "--seed", "3", "--speed", "50", "--start-in", "1") as (
        venue,
        facts,
    ):
        assert facts["venue"] == "binance"
        assert facts["seed"] == 3
        assert facts["pid"] == venue.pid
        assert facts["clock"].endswith(",50")
        assert httpx.get(f"{facts['url']}/api/v3/ping", trust_env=False).json() == {}
        code, text = invoke("stats", facts["url"])
        assert code == 0
        assert "speed_played" in text
        venue.send_signal(signal.SIGTERM)
        assert venue.wait(timeout=3) == 0


def test_real_time_market_needs_no_clock() -> None:
    with serving("--synthetic") as (_, facts):
        assert facts["clock"] is None


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["serve"], "give either --tape FILE or --synthetic"),
        (["serve", "nyse", "--synthetic"], "expected one of: binance"),
        (["serve", "--synthetic", "--speed", "-2"], "speed was -2"),
        (["serve", "--tape", "/no/such/file.gz"], "expected a readable tape file"),
        (["serve", "--synthetic", "--state", "/proc/none"], "choose a folder with --state"),
        (["stats", "--day", "yesterday"], "expected a date"),
        (["stats", "http://127.0.0.1:9"], "no local venue answers"),
    ],
)
def test_bad_input_gets_one_line_and_exit_1(arguments: list[str], text: str) -> None:
    code, output = invoke(*arguments)
    assert code == 1
    assert text in output
    assert output.startswith("piker: ")
    assert len(output.strip().splitlines()) == 1


def test_port_in_use_gets_one_line_and_exit_1(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        code, output = invoke("serve", "--synthetic", "--port", str(taken.getsockname()[1]))
    assert code == 1
    assert "choose another port" in output
