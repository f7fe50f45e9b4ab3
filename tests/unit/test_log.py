"""One console, one bounded file per actor."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from piker import log
from piker.errors import ServiceUnavailable


@pytest.fixture(autouse=True)
def _clean() -> Iterator[None]:
    log.remove_handlers()
    yield
    log.remove_handlers()


def test_every_logger_is_below_piker() -> None:
    assert log.get_logger("piker.data.feed").name == "piker.data.feed"
    assert log.get_logger("elsewhere").name == "piker.elsewhere"


def test_a_record_is_printed_once_and_written_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(3):
        log.setup_actor_logging("datad.binance", "info", folder=tmp_path)
    log.get_logger("piker.x").info("said=%s", "once")
    assert capsys.readouterr().err.count("said=once") == 1
    text = (tmp_path / "datad.binance.log").read_text()
    assert text.count("said=once") == 1
    assert f"datad.binance[{os.getpid()}]" in text


def test_a_second_set_up_changes_the_level_only(tmp_path: Path) -> None:
    log.setup_actor_logging("a", "warning", folder=tmp_path, console=False)
    log.setup_actor_logging("a")
    assert logging.getLogger("piker").level == logging.WARNING
    log.setup_actor_logging("a", "debug")
    assert logging.getLogger("piker").level == logging.DEBUG
    assert len(logging.getLogger("piker").handlers) == 1


def test_files_are_bounded(tmp_path: Path) -> None:
    log.setup_actor_logging("a", folder=tmp_path, file_bytes=2000, files=2, console=False)
    for n in range(500):
        log.get_logger("piker.x").info("line %s", n)
    files = sorted(p.name for p in tmp_path.iterdir())
    assert files == ["a.log", "a.log.1", "a.log.2"]
    assert sum(p.stat().st_size for p in tmp_path.iterdir()) <= 6000


@pytest.mark.parametrize("name", ["../../etc/passwd", "a/b", "..", "a\0b"])
def test_no_actor_name_leaves_the_folder(name: str) -> None:
    found = log.file_name(name)
    assert "/" not in found
    assert "\0" not in found
    assert not found.startswith("..")


def test_what_a_process_prints_follows_its_log_file_across_rotations(tmp_path: Path) -> None:
    code = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from piker import log\n"
        f"log.redirect_output(Path({str(tmp_path)!r}), 'a', 2000, 1)\n"
        "log.setup_actor_logging('a')\n"
        "for n in range(100): log.get_logger('x').info('line %s', n)\n"
        "os.write(1, b'printed by C code\\n')\n"
        "raise ValueError('the last words')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == ""
    assert done.stderr.count("line 99") == 1, "log lines still reach the console"
    assert "last words" not in done.stderr
    text = (tmp_path / "a.log").read_text()
    assert "printed by C code" in text
    assert "ValueError: the last words" in text
    assert text.count("line 99") == 1


def test_the_runtimes_normal_control_flow_is_no_line_of_the_file(tmp_path: Path) -> None:
    log.setup_actor_logging("a", folder=tmp_path, console=False)
    log.adopt_runtime_log()
    runtime = logging.getLogger("tractor._streaming")
    runtime.warning("Channel <Channel fd=9> failed to handshake")
    runtime.error("Remote context error:\ntractor._exceptions.ContextCancelled: by its caller")
    runtime.error("Remote context error:\nValueError: this one is news")
    runtime.warning("IPC connection for context is broken?\ntask:1")
    try:
        raise ServiceUnavailable("samplerd is not started: its supervisor ends")
    except ServiceUnavailable:
        runtime.exception("Actor crashed:")
    text = (tmp_path / "a.log").read_text()
    assert "this one is news" in text
    assert "handshake" not in text
    assert "by its caller" not in text
    assert "broken?" not in text
    assert "crashed" not in text


def test_a_log_file_that_cannot_be_written_is_said_once(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "chart.log").mkdir()
    log.setup_actor_logging("chart", "info", folder=tmp_path, console=False)
    for _ in range(3):
        log.get_logger("x").info("lost")
    lines = capfd.readouterr().err.splitlines()
    assert lines == [f"{tmp_path}/chart.log: cannot be written (Is a directory); records are lost"]
