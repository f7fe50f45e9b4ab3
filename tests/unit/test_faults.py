"""A fault point is a no-op, except where a run on local venues asks for its fault, once."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from piker import config, faults
from piker.errors import ConfigError

LOCAL = {"binance": "http://127.0.0.1:8123#demo"}


@pytest.fixture
def struck(
    tmp_conf: Path, monkeypatch: pytest.MonkeyPatch, run_vars: dict[str, object]
) -> list[signal.Signals]:
    """What would have been sent to this process."""
    found: list[signal.Signals] = []
    monkeypatch.setattr(os, "kill", lambda pid, how: found.append(how))
    monkeypatch.setattr(faults, "_passes", faults.Counter())
    (tmp_conf / "run").mkdir()
    run_vars["venues"] = LOCAL
    return found


@pytest.fixture
def run_vars(monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    found: dict[str, object] = {}
    monkeypatch.setattr(config, "_vars", lambda: found)
    return found


def test_a_point_does_nothing_by_itself(struck: list[signal.Signals]) -> None:
    faults.point("emsd.intent.journalled")
    assert struck == []


def test_an_armed_point_strikes_at_its_pass_and_once_a_run(
    struck: list[signal.Signals], run_vars: dict[str, object], tmp_conf: Path
) -> None:
    run_vars["faults"] = {"a": 3, "b": "stop:1"}
    for _ in range(2):
        faults.point("a")
    assert struck == []
    faults.point("a")
    assert struck == [signal.SIGKILL]
    assert (tmp_conf / "run" / "fault.a").exists()
    faults._passes.clear()  # the process is started again
    for _ in range(9):
        faults.point("a")
    faults.point("b")
    assert struck == [signal.SIGKILL, signal.SIGSTOP]


@pytest.mark.parametrize(
    "venues", [{}, {"binance": ""}, LOCAL | {"kraken": "https://api.kraken.com"}]
)
def test_no_process_that_may_reach_a_real_venue_is_struck(
    struck: list[signal.Signals], run_vars: dict[str, object], venues: dict[str, str]
) -> None:
    run_vars |= {"faults": {"a": 1}, "venues": venues}
    faults.point("a")
    assert struck == []
    with pytest.raises(ConfigError, match="no local venue"):
        faults.check_faults({"a": 1}, venues)


@pytest.mark.parametrize("text", ["0", "x", "stop", "pause:1", "kill:-1", 1.5])
def test_a_fault_that_says_nothing_clear_is_refused(text: object) -> None:
    with pytest.raises(ConfigError, match="expected N, kill:N or stop:N"):
        faults.check_faults({"a": text}, LOCAL)
