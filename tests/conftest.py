"""
The environment of all tests, their options, and the fixtures they share.

What tests call by name (`open_test_pikerd`, …) is in `helpers.py`: there is more than one conftest.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

# Children do not see pytest's filters: theirs come from the environment, as in production.
os.environ["PYTHONWARNINGS"] = (
    "ignore:trio.MultiError is deprecated:FutureWarning,"
    "ignore:MultiError.:FutureWarning,"
    "ignore:using trio.Process as an async context manager is deprecated:FutureWarning,"
    "ignore:trio.Process.aclose is deprecated:FutureWarning"
)
os.environ["PDBPP_HIJACK_PDB"] = "0"
# Theirs are the tightest bounds of time: they run when the other lanes are mostly through.
LAST = {"test_order_kills.py", "test_restarts.py", "test_shared_order.py"}
# A job started in the background ignores ^C, and so would every process that the tests interrupt.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
for _name in ("PIKER_CONFIG_DIR", "PIKER_REGISTRY", "PIKER_SHM_DIR"):
    os.environ.pop(_name, None)
# Children import test modules by name, and piker from this checkout.
_ROOT = Path(__file__).parent.parent
os.environ["PYTHONPATH"] = os.pathsep.join(
    [str(_ROOT), str(_ROOT / "tests"), *filter(None, [os.environ.get("PYTHONPATH")])]
)

# after the environment is set: these import the runtime
from helpers import ensure_service, free_port, open_test_pikerd  # noqa: E402

__all__ = ["ensure_service", "free_port", "open_test_pikerd"]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--soak", action="store_true", help="run the long forms too")
    parser.addoption("--live", action="store_true", help="run the tests against real venues")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.name in LAST)
    if config.getoption("--soak"):
        return
    skip = pytest.mark.skip(reason="long form: run with --soak (`make soak`)")
    for item in items:
        if "soak" in item.keywords:
            item.add_marker(skip)


@pytest.fixture
def tmp_conf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state folder of the test's own, in force for this process and its children."""
    folder = tmp_path / "conf"
    folder.mkdir()
    monkeypatch.setenv("PIKER_CONFIG_DIR", str(folder))
    return folder
