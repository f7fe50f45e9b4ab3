"""The demo keeps its ports, runs once per folder, and never leaves a child behind."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from contextlib import aclosing
from pathlib import Path

import pytest
import trio

from piker.cli import children, demo
from piker.errors import ConfigError

STUBBORN = "import signal, threading; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
WAIT = "print('up', flush=True); threading.Event().wait()"


def python(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """Let every console script be a Python that runs `code`."""
    monkeypatch.setattr(children, "script", lambda command: [sys.executable, "-c", code])


async def first_line(child: trio.Process) -> str:
    """Return the first line that a child prints."""
    async with aclosing(children.lines_of(child)) as lines:
        return await anext(lines)


def is_alive(pid: int) -> bool:
    """Whether a process runs: it is there, and no zombie."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


def test_ports_are_kept_while_they_are_free(tmp_path: Path) -> None:
    with demo.only_one(tmp_path) as first:
        pass
    with demo.only_one(tmp_path) as second:
        assert second == first
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", first["venue"]))
        taken.listen()
        with demo.only_one(tmp_path) as third:
            assert third["venue"] != first["venue"]
            assert third["pikerd"] == first["pikerd"]


def test_rubbish_in_the_demos_file_is_forgotten(tmp_path: Path) -> None:
    (tmp_path / "demo.json").write_text('{"venue": "x", "pikerd": 7000000')
    with demo.only_one(tmp_path) as ports:
        assert sorted(ports) == ["pikerd", "venue"]
    assert json.loads((tmp_path / "demo.json").read_text()) == ports


@pytest.mark.parametrize("text", ["[]", "3", '{"venue": "x", "pikerd": 7000000}', ""])
def test_wrong_types_in_the_demos_file_are_forgotten(tmp_path: Path, text: str) -> None:
    (tmp_path / "demo.json").write_text(text)
    with demo.only_one(tmp_path) as ports:
        assert all(0 < port < 65536 for port in ports.values())


def test_a_second_demo_in_the_same_folder_is_refused_in_one_line(tmp_path: Path) -> None:
    with demo.only_one(tmp_path):
        with pytest.raises(ConfigError, match="already runs from"), demo.only_one(tmp_path):
            pass


def test_a_folder_that_cannot_be_made_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be used"), demo.only_one(tmp_path / "file"):
        pass


def test_what_to_try_next_can_be_pasted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "executable", str(tmp_path / ".venv/bin/python"))
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    demo.say_what_next("4711", tmp_path / ".demo")
    lines = capsys.readouterr().out.splitlines()
    assert "ssh -L 4711:127.0.0.1:4711" in lines[0]
    assert "  .venv/bin/piker -c .demo quote btcusdt.spot.binance" in lines


async def test_a_child_ends_with_its_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python(monkeypatch, f"import threading; {WAIT}")
    with trio.fail_after(10):
        async with children.open_child("x", ["piker"], tmp_path, bound_s=lambda: 5) as child:
            assert await first_line(child) == "up"
    assert child.returncode == -signal.SIGTERM


async def test_a_child_that_will_not_end_is_ended_with_its_whole_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grandchild = "import subprocess, sys; p = subprocess.Popen([sys.executable, '-c', 'input()']);"
    python(monkeypatch, f"{STUBBORN} {grandchild} print(p.pid, flush=True); {WAIT}")
    with trio.fail_after(10):
        async with children.open_child("x", ["piker"], tmp_path, bound_s=lambda: 0.05) as child:
            pid = int(await first_line(child))
        assert child.returncode == -signal.SIGKILL
        while is_alive(pid):  # a signal is delivered a moment after it was sent
            await trio.sleep(0.01)


async def test_the_last_words_of_a_child_are_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python(monkeypatch, "import sys; sys.exit('port 1 is in use')")
    with trio.fail_after(10):
        async with children.open_child("venue", ["piker"], tmp_path, bound_s=lambda: 1) as child:
            await child.wait()
            text = children.ended("venue", child, tmp_path)
    assert text == "demo: venue ended (1): port 1 is in use"


async def test_a_child_sees_its_lifeline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python(monkeypatch, "from piker.cli import lifeline; print(lifeline.watch())")
    with trio.fail_after(10):
        async with children.open_child("x", ["piker"], tmp_path, bound_s=lambda: 1) as child:
            lines = [line async for line in children.lines_of(child)]
    assert lines == ["True"]
    assert children.VARIABLE not in os.environ
