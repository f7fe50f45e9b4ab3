"""
Trading gear for people who run their own machines: a tree of cooperating processes.

Importing `piker` checks that it can run here at all, and says in one line what to do when not.
"""

import sys
from importlib.util import find_spec

if sys.version_info[:2] not in ((3, 11), (3, 12)):
    sys.exit(
        f"piker: needs Python 3.11 or 3.12, this is {sys.version_info[0]}.{sys.version_info[1]}; "
        "run `make install`, which finds one"
    )
if not find_spec("tractor") or not find_spec("pdbpp"):
    sys.exit(
        "piker: tractor is not installed; run `make install`, or: "
        f"{sys.executable} -m pip install pdbpp==0.12.1 && "
        f"{sys.executable} -m pip install --no-deps tractor==0.1.0a5"
    )

__version__ = "0.1.0"
