"""The console scripts start light, quiet, and only where they can run."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest


def python(code: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run `code` in a fresh interpreter."""
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=30,
        env={**os.environ, **env},
        check=False,
    )


def test_the_entry_imports_nothing_heavy() -> None:
    heavy = "{'trio', 'tractor', 'numpy', 'typer', 'polars', 'httpx'}"
    done = python(f"import sys, piker._entry; print({heavy} & set(sys.modules))")
    assert done.stdout.strip() == "set()", done.stderr


def test_help_imports_no_command() -> None:
    done = python(
        "import sys; from piker.cli import boundary; boundary.main('piker', ['--help']);"
        "print({'trio', 'numpy', 'rich', 'piker.cli.quote'} & set(sys.modules))"
    )
    assert done.stdout.rstrip().endswith("set()"), done.stderr


def test_children_inherit_the_silence() -> None:
    done = python(
        "import piker._entry, os;"
        "print(os.environ['PYTHONWARNINGS'], os.environ['PDBPP_HIJACK_PDB'])",
        PYTHONWARNINGS="default::ImportWarning",
    )
    assert done.stdout.startswith("default::ImportWarning,ignore:trio.MultiError is deprecated")
    assert done.stdout.rstrip().endswith(" 0")


def test_importing_tractor_after_the_entry_warns_of_nothing() -> None:
    done = python("import piker._entry, tractor", PYTHONWARNINGS="")
    assert (done.returncode, done.stderr) == (0, "")


def test_any_other_python_is_refused_in_one_line() -> None:
    done = python("import sys; sys.version_info = (3, 13, 0); import piker")
    assert done.returncode == 1
    assert done.stderr == (
        "piker: needs Python 3.11 or 3.12, this is 3.13; run `make install`, which finds one\n"
    )


@pytest.mark.parametrize("missing", ["tractor", "pdbpp"])
def test_a_missing_runtime_is_one_line_with_the_install_command(missing: str) -> None:
    done = python(
        "import importlib.util as util; real = util.find_spec;"
        f"util.find_spec = lambda name, *a: None if name == {missing!r} else real(name, *a);"
        "import piker"
    )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "pip install --no-deps tractor==0.1.0a5" in done.stderr
