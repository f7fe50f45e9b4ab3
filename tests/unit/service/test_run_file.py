"""Who serves a state folder, and the files that a run leaves there while it lasts."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from piker.errors import ConfigError
from piker.service import _run_file as run_file
from piker.service._procfs import boot_id, start_ticks


def info(**changes: object) -> run_file.RunInfo:
    me = os.getpid()
    found = run_file.RunInfo(
        run_id="ab",
        host="127.0.0.1",
        port=1,
        pid=me,
        started=start_ticks(me) or 0,
        boot_id=boot_id(),
    )
    return msgspec.structs.replace(found, **changes)


def test_a_run_is_known_while_it_lasts(tmp_path: Path) -> None:
    folder = tmp_path / "state" / "run"
    with run_file.claim_folder(folder):
        assert run_file.read_run(folder) is None
        run_file.publish(folder, info(venues={"binance": "http://x#y"}))
        assert run_file.read_run(folder) == info(venues={"binance": "http://x#y"})
        assert len((folder / "token").read_bytes()) == 32
        assert (folder / "token").stat().st_mode & 0o777 == 0o600
    assert run_file.read_run(folder) is None
    assert [path.name for path in folder.iterdir()] == ["lock"]


@pytest.mark.parametrize(
    "changes", [{"started": 1}, {"boot_id": "x"}, {"pid": 1 << 22}, {"format": 99}]
)
def test_a_run_whose_process_is_gone_counts_as_absent(
    tmp_path: Path, changes: dict[str, object]
) -> None:
    run_file.publish(tmp_path, info(**changes))
    assert run_file.read_run(tmp_path) is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"run_id": 3}'])
def test_a_broken_run_file_counts_as_absent(tmp_path: Path, text: str) -> None:
    (tmp_path / "run.json").write_text(text)
    assert run_file.read_run(tmp_path) is None


def test_each_start_makes_a_new_token(tmp_path: Path) -> None:
    run_file.publish(tmp_path, info())
    first = (tmp_path / "token").read_bytes()
    run_file.publish(tmp_path, info())
    assert (tmp_path / "token").read_bytes() != first


def test_a_folder_is_held_by_one_process_and_freed_by_its_death(tmp_path: Path) -> None:
    code = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from piker.service._run_file import claim_folder\n"
        "with claim_folder(Path(sys.argv[1])):\n"
        "    print('held', flush=True)\n"
        "    sys.stdin.read()\n"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "run")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        assert run_file.held_by(tmp_path / "run")
        with pytest.raises(ConfigError, match=f"pikerd with pid {holder.pid} already serves it"):
            with run_file.claim_folder(tmp_path / "run"):
                pass
        holder.kill()
        holder.wait()
    assert run_file.held_by(tmp_path / "run") is None
    with run_file.claim_folder(tmp_path / "run"):
        pass


def test_the_run_folder_is_ours_alone(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir(mode=0o755)
    with run_file.claim_folder(tmp_path / "run"):
        assert (tmp_path / "run").stat().st_mode & 0o777 == 0o700


def test_start_ticks_of_a_dead_process_is_none() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""], stdin=subprocess.DEVNULL)
    while start_ticks(child.pid) is not None:
        pass  # a zombie counts as dead; we have not reaped it yet
    child.wait()
    assert start_ticks(child.pid) is None
