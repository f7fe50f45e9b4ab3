"""A Chromium for all page tests, a fresh tab for each."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from stage import FQME, Stage, picture_of
from system.browser import chromium_or_none


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """A running browser; the tests that need it are skipped where there is none."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = chromium_or_none()
    if path is None:
        pytest.skip("no Chromium is installed; `make test` installs it as root")
    with sync_api.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def make_stage(chromium: Any) -> Iterator[Callable[..., Stage]]:
    """Builds a tab of a size, pixel ratio and colour scheme; errors of the page fail the test."""
    contexts, errors = [], []

    def make(
        width: int = 1280, height: int = 720, dpr: float = 1, scheme: str = "dark",
        markets: dict[str, Any] | None = None, charts: list[str] | None = None, **options: Any,
    ) -> Stage:  # fmt: skip
        context = chromium.new_context(
            viewport={"width": width, "height": height}, device_scale_factor=dpr,
            color_scheme=scheme, **options,
        )  # fmt: skip
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda said: errors.extend([said.text] * (said.type == "error")))
        chosen = {FQME: picture_of()} if markets is None else markets
        return Stage(page, chosen, [FQME] if charts is None else charts)

    yield make
    for context in contexts:
        context.close()
    assert not errors


@pytest.fixture
def stage(make_stage: Callable[..., Stage]) -> Stage:
    """An open page at 1280x720, dark, with one live market."""
    made = make_stage()
    made.open()
    return made


@pytest.fixture(scope="session")
def module(chromium: Any) -> Iterator[Callable[..., Any]]:
    """`call(file, script, argument)`: runs `script` in the page with the module's names as `m`."""
    context = chromium.new_context()
    page = context.new_page()
    Stage(page, {}, []).open()

    def call(file: str, script: str, argument: Any = None) -> Any:
        source = f"async (x) => {{ const m = await import('/{file}'); return ({script})(x); }}"
        return page.evaluate(source, argument)

    yield call
    context.close()
