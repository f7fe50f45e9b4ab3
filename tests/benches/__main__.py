"""
`make bench`: run every `bench_*.py` of this folder, print a table, write build/bench.json.

A bench is a module with `measure()`, which yields `Result`s. Ratios are shown and kept, never
asserted: a slow machine is no failed test. Names on the command line pick benches.
"""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

import msgspec
from record import Result

from piker import _entry as _entry  # silences the pinned trio's warnings
from piker.cli.table import print_rows

HERE = Path(__file__).resolve().parent
OUTPUT = HERE.parent.parent / "build" / "bench.json"


def run(names: list[str]) -> list[Result]:
    """Return the results of the benches named, of all without a name."""
    results: list[Result] = []
    for path in sorted(HERE.glob("bench_*.py")):
        if names and path.stem.removeprefix("bench_") not in names:
            continue
        print(f"running {path.stem}", file=sys.stderr)
        results += import_module(path.stem).measure()
    return results


def main() -> None:
    """Run, print and write."""
    rows = [msgspec.structs.asdict(result) for result in run(sys.argv[1:])]
    OUTPUT.parent.mkdir(exist_ok=True)
    OUTPUT.write_bytes(msgspec.json.format(msgspec.json.encode(rows), indent=2) + b"\n")
    short = [
        {
            name: round(value, 3) if isinstance(value, float) else value
            for name, value in row.items()
        }
        for row in rows
    ]
    print_rows(short, as_json=False)


if __name__ == "__main__":
    main()
