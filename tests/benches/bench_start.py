"""How long a person waits for the terminal: `piker --help` beside `pip --help`."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

from record import Result, best_s, compare

HELP = "from piker.cli import boundary; boundary.main('piker', ['--help'])"


def run(code: str) -> None:
    """Run `code` in a fresh interpreter and wait for it."""
    subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL, check=True)


def measure() -> Iterator[Result]:
    """Yield the start-up time of the terminal and of the runtime's import."""
    peer = best_s(lambda: run("from pip._internal.cli.main import main; main(['--help'])"))
    shown = best_s(lambda: run(f"import piker._entry; {HELP}"))
    yield compare("piker --help", shown * 1e3, "ms", "pip --help", peer * 1e3, target=1.0)
    runtime = best_s(lambda: run("import piker._entry, tractor"))
    joined = best_s(lambda: run("import piker._entry, piker.service, piker.cli.quote"))
    yield compare(
        "import of a command", joined * 1e3, "ms", "import tractor", runtime * 1e3, target=0.8
    )
