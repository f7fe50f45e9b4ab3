"""Every example and tutorial runs as a user would run it; the pages show no other code."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = sorted(
    path for folder in ("examples", "tutorials") for path in (ROOT / "docs" / folder).glob("*.py")
)
PIKER = "from piker._entry import piker; piker()"
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def venue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A local venue in a process of its own; yields its URL."""
    state = tmp_path_factory.mktemp("venue")
    serve = ["venue", "serve", "binance", "--synthetic", "--seed", "7", "--json"]
    with subprocess.Popen(
        [sys.executable, "-c", PIKER, *serve, "--state", str(state)],
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            yield json.loads(process.stdout.readline())["url"]
        finally:
            process.terminate()


@pytest.mark.tree
@pytest.mark.timeout(120)
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_every_example_runs(example: Path, venue: str, tmp_path: Path) -> None:
    (tmp_path / "brokers.toml").write_text(f'[binance]\nvenue_url = "{venue}#examples"\n')
    shm = tmp_path / "shm"
    shm.mkdir()
    env = {**os.environ, "PIKER_CONFIG_DIR": str(tmp_path), "PIKER_SHM_DIR": str(shm)}
    env.pop("PIKER_REGISTRY", None)
    done = subprocess.run(
        [sys.executable, str(example), *([venue] if "ccxt" in example.stem else [])],
        capture_output=True,
        text=True,
        timeout=60,
        env=env,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    assert "Traceback" not in done.stderr


def pages() -> list[Path]:
    """Return every page of the documentation, the README too."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("page", pages(), ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    dead = [
        target
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8"))
        if "://" not in target and not (page.parent / target).exists()
    ]
    assert not dead


@pytest.mark.parametrize("page", pages(), ids=lambda path: str(path.relative_to(ROOT)))
def test_pages_show_no_python_that_is_not_an_example(page: Path) -> None:
    shown = [kind for kind, _ in FENCE.findall(page.read_text(encoding="utf-8"))]
    assert "python" not in shown


def test_every_setting_is_in_the_reference() -> None:
    from piker.config import Settings

    page = (ROOT / "docs" / "reference" / "config.md").read_text(encoding="utf-8")
    sections = {field.name: field.type for field in msgspec.structs.fields(Settings)}
    missing = [
        f"[{section}] {field.name}"
        for section, kind in sections.items()
        for field in msgspec.structs.fields(kind)
        if f"`{field.name}`" not in page and f"`[{section}.{field.name}]`" not in page
    ]
    assert not missing


def test_every_command_of_the_reference_exists() -> None:
    from piker.cli import COMMANDS

    page = (ROOT / "docs" / "reference" / "commands.md").read_text(encoding="utf-8")
    rows = set(
        re.findall(r"^\| `([a-z-]+) ?[^`]*` ", page.partition("## `piker`")[2], re.MULTILINE)
    )
    visible = {name for name, entry in COMMANDS.items() if not entry.is_hidden}
    assert visible <= rows
