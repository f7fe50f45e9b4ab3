"""
Where the console scripts `piker` and `pikerd` begin.

tractor runs this file again in every child process, so it imports nothing heavy: it silences the
deprecation warnings of the pinned trio, for this process and (through the environment) for every
process below it, and only then loads the terminal.
"""

import atexit
import gc
import os
import sys
import warnings

QUIET = (
    "trio.MultiError is deprecated",
    "MultiError.",
    "using trio.Process as an async context manager is deprecated",
    "trio.Process.aclose is deprecated",
)


def prepare_environment() -> None:
    """Silence known warnings here and in children, and keep `pdb` the standard one."""
    ours = ",".join(f"ignore:{message}:FutureWarning" for message in QUIET)
    inherited = os.environ.get("PYTHONWARNINGS", "")
    if ours not in inherited:
        os.environ["PYTHONWARNINGS"] = f"{inherited},{ours}" if inherited else ours
    os.environ.setdefault("PDBPP_HIJACK_PDB", "0")
    for message in QUIET:
        warnings.filterwarnings("ignore", message.replace(".", r"\."), FutureWarning)


prepare_environment()


def piker() -> None:
    """Run the `piker` command line and exit with its code."""
    _run("piker")


def pikerd() -> None:
    """Run the supervisor in the foreground and exit with its code."""
    _run("pikerd")


def _run(program: str) -> None:
    from piker.cli import boundary

    atexit.register(gc.freeze)  # looking for garbage at the end takes a tenth of a second
    sys.exit(boundary.main(program))
