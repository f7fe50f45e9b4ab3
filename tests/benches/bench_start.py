"""How long a person waits for the terminal: `piker --help` beside a bare interpreter."""

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
    bare = best_s(lambda: run("pass"))
    shown = best_s(lambda: run(f"import piker._entry; {HELP}"))
    yield compare("piker --help", shown * 1e3, "ms", "python -c pass", bare * 1e3, target=0.2)
    runtime = best_s(lambda: run("import piker._entry, tractor"))
    joined = best_s(lambda: run("import piker._entry, piker.service, piker.cli.quote"))
    yield compare(
        "import of a command", joined * 1e3, "ms", "import tractor", runtime * 1e3, target=0.8
    )
