"""The front door: a fresh clone on a bare machine, up to a chart, and back to nothing."""

from __future__ import annotations

import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PYTHON = Path(sys.executable)
FQME = "btcusdt.spot.binance"
STARTED_MAX_S, STOPPED_MAX_S = 60.0, 3.0


def write_tool(folder: Path, name: str, body: str) -> None:
    """Put an executable shell script into `folder`."""
    folder.mkdir(exist_ok=True)
    tool = folder / name
    tool.write_text(f"#!/bin/sh\n{body}\n")
    tool.chmod(0o755)


def find_python(*folders: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Run the search for a Python with these folders, and bare necessities, in PATH."""
    tools = folders[0].parent / "bare"
    tools.mkdir(exist_ok=True)
    for name in ("sh", "id", "grep", "sort", "head"):
        if not (tools / name).exists() and (real := shutil.which(name)):
            (tools / name).symlink_to(real)
    path = os.pathsep.join(map(str, [*folders, tools]))
    return subprocess.run(
        [str(tools / "sh"), str(ROOT / "config/find_python.sh")],
        env={"PATH": path, **env},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


REAL = f'exec {PYTHON} "$@"'  # any name: what counts is that it runs and is of a version we take
LACKING = 'case "$2" in pass) exit 0;; esac; exit 1'  # runs, but cannot import ensurepip


def test_a_shim_that_fails_is_skipped(tmp_path: Path) -> None:
    write_tool(tmp_path / "shims", "python3.12", "exit 127")
    write_tool(tmp_path / "real", "python3.12", REAL)
    found = find_python(tmp_path / "shims", tmp_path / "real")
    assert found.stdout == f"{tmp_path}/real/python3.12\n"


def test_the_newer_python_is_taken_first(tmp_path: Path) -> None:
    write_tool(tmp_path / "a", "python3.11", REAL)
    write_tool(tmp_path / "b", "python3.12", REAL)
    assert find_python(tmp_path / "a", tmp_path / "b").stdout == f"{tmp_path}/b/python3.12\n"


def test_a_python_without_ensurepip_gets_the_exact_command(tmp_path: Path) -> None:
    write_tool(tmp_path / "a", "python3.11", LACKING)
    write_tool(tmp_path / "a", "apt-get", "exit 0")
    found = find_python(tmp_path / "a")
    assert found.returncode == 1
    assert re.fullmatch(r"make: .*run: (sudo )?apt-get install -y python3\.11-venv\n", found.stderr)


def test_a_python_that_uv_manages_serves(tmp_path: Path) -> None:
    write_tool(tmp_path / "uv-store", "python", REAL)
    write_tool(
        tmp_path / "a",
        "uv",
        f'[ "$UV_PYTHON_DOWNLOADS" = never ] && echo {tmp_path}/uv-store/python',
    )
    assert find_python(tmp_path / "a").stdout == f"{tmp_path}/uv-store/python\n"


@pytest.mark.parametrize(
    ("manager", "command"),
    [
        ("uv", "uv python install 3.12"),
        ("apt-get", "apt-get install -y python3.12 python3.12-venv"),
    ],
)
def test_without_any_python_the_command_to_get_one_is_said(
    tmp_path: Path, manager: str, command: str
) -> None:
    write_tool(tmp_path / "a", manager, "exit 1")
    found = find_python(tmp_path / "a")
    assert found.returncode == 1
    assert found.stderr.count("\n") == 1
    assert found.stderr.rstrip().endswith(command)


def test_a_python_asked_for_by_name_must_fit(tmp_path: Path) -> None:
    write_tool(tmp_path / "a", "python3.9", LACKING)
    found = find_python(tmp_path / "a", PYTHON="python3.9")
    assert found.returncode == 1
    assert "python3.9 does not run, is not 3.11 or 3.12" in found.stderr


def make(*targets: str) -> str:
    """Return what `make` would run, without running it."""
    # The tests themselves run below `make test`, which tells its children so.
    env = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
    done = subprocess.run(
        ["make", "-n", "-B", *targets],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        env=env,
    )
    return done.stdout


def test_the_demo_says_first_that_no_money_moves() -> None:
    first = make("demo").splitlines()[0]
    assert "made up" in first
    assert "No money moves" in first


def test_install_and_checks_use_the_large_lock() -> None:
    assert "--require-hashes --no-build-isolation -r requirements-dev.lock" in make("install")


def test_the_locks_pin_the_runtime_that_the_metadata_leaves_out() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert not [name for name in project["dependencies"] if re.match(r"tractor|pdbpp", name)]
    for lock in ("requirements.lock", "requirements-dev.lock"):
        text = (ROOT / lock).read_text()
        assert re.search(r"^tractor==0\.1\.0a5", text, re.MULTILINE)
        assert re.search(r"^pdbpp==0\.12\.1", text, re.MULTILINE)
        assert "://" not in text


def test_the_licence_is_the_affero_one() -> None:
    assert "GNU AFFERO GENERAL PUBLIC LICENSE" in (ROOT / "LICENSE").read_text()


def test_ci_counts_a_skipped_browser_test_as_failed(tmp_path: Path) -> None:
    (tmp_path / "test_page.py").write_text(
        "import pytest\n"
        "@pytest.mark.browser\n"
        "def test_page():\n"
        "    pytest.skip('no Chromium here')\n"
        "def test_other():\n"
        "    pytest.skip('may be skipped')\n"
    )
    plugins = ("-p", "browser_required", "-p", "no:cacheprovider")
    where = ("-c", str(ROOT / "pyproject.toml"), "--rootdir", str(tmp_path), str(tmp_path))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *plugins, *where],
        env={**os.environ, "PYTHONPATH": str(ROOT / "tests")},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1, done.stdout
    assert "browser tests must run here" in done.stdout
    assert "1 failed, 1 skipped" in done.stdout


class Demo:
    """A running demo: its process, its output so far and its state folder."""

    def __init__(self, folder: Path) -> None:
        self.state = folder / ".demo"
        self.shm = folder / "shm"
        self.home = folder / "home"
        self.temporary = folder / "temporary"
        for place in (self.shm, self.home, self.temporary):
            place.mkdir()
        env = {**os.environ, "PIKER_SHM_DIR": str(self.shm), "HOME": str(self.home)}
        env["TMPDIR"] = str(self.temporary)
        env = {name: value for name, value in env.items() if "DISPLAY" not in name}
        env.pop("PIKER_REGISTRY", None)
        self.process = subprocess.Popen(
            [*piker(), "-c", str(self.state), "demo"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=folder,
            env=env,
            start_new_session=True,
        )
        self.lines: list[str] = []

    def read_until(self, text: str) -> None:
        """Read lines until one holds `text`; the test's own time limit bounds it."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip())
            if text in line:
                return
        assert self.process.stderr is not None
        pytest.fail(f"the demo ended: {self.lines} {self.process.stderr.read()}")

    def descendants(self) -> list[int]:
        """Return the processes that carry this demo's state folder in their environment."""
        mark = f"PIKER_CONFIG_DIR={self.state}".encode()
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if mark in (folder / "environ").read_bytes():
                    found.append(int(folder.name))
            except OSError:
                continue
        return found

    def left(self) -> list[str]:
        """Return everything that the demo left behind outside its state folder."""
        files = [
            path for place in (self.shm, self.home, self.temporary) for path in place.iterdir()
        ]
        mark = str(self.state.parent)
        unix = [line for line in Path("/proc/net/unix").read_text().splitlines() if mark in line]
        return [*map(str, self.descendants()), *map(str, files), *unix]

    def close(self) -> None:
        """End by force whatever is left."""
        for pid in self.descendants():
            os.kill(pid, signal.SIGKILL)
        self.process.kill()
        self.process.communicate()


def piker() -> list[str]:
    """Return the command line of `piker` in this environment."""
    installed = PYTHON.with_name("piker")
    if installed.exists():
        return [str(installed)]
    return [sys.executable, "-c", "from piker._entry import piker; piker()"]


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Demo]:
    """A demo that has printed its last line; ended by force if a test leaves it running."""
    running = Demo(tmp_path)
    try:
        running.read_until("Ctrl-C ends everything")
        yield running
    finally:
        running.close()


@pytest.mark.tree
@pytest.mark.timeout(180)
def test_the_demo_runs_answers_and_leaves_nothing(demo: Demo) -> None:
    assert "made up" in demo.lines[0]
    assert any("ssh -L " in line for line in demo.lines)
    quoted = next(line for line in demo.lines if line.endswith(f"quote {FQME}"))
    asked = subprocess.run(
        [*piker(), "-c", str(demo.state), "quote", "--json", FQME],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "PIKER_SHM_DIR": str(demo.shm)},
    )
    assert asked.returncode == 0, asked.stderr
    (row,) = json.loads(asked.stdout)
    assert row["fqme"] == FQME
    assert row["bid"] < row["ask"]
    assert "piker" in quoted

    demo.process.send_signal(signal.SIGINT)
    assert demo.process.wait(STOPPED_MAX_S) == 0
    assert demo.left() == []


@pytest.mark.tree
@pytest.mark.timeout(60)
def test_an_interrupt_in_the_middle_of_the_start_leaves_nothing(tmp_path: Path) -> None:
    starting = Demo(tmp_path)
    starting.read_until("made up")
    starting.process.send_signal(signal.SIGINT)
    try:
        assert starting.process.wait(STOPPED_MAX_S) in (0, 130)
        assert starting.left() == []
    finally:
        starting.close()


@pytest.mark.tree
@pytest.mark.timeout(180)
def test_nothing_outlives_a_demo_that_is_killed(demo: Demo) -> None:
    demo.process.kill()
    demo.process.wait()
    for pid in demo.descendants():
        wait_gone(pid)


def wait_gone(pid: int) -> None:
    """Return when a process that is no child of ours has ended."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        poll = select.poll()
        poll.register(handle, select.POLLIN)
        assert poll.poll(5000), f"process {pid} outlived its demo"
    finally:
        os.close(handle)
