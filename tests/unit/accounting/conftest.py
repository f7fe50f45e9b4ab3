"""How long the seeded runs against the oracles are."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="session")
def transactions_max(request: pytest.FixtureRequest) -> int:
    """Transactions of a run against an oracle; the long form is under `--soak`."""
    return 1_000_000 if request.config.getoption("--soak") else 5_000


@pytest.fixture(scope="session")
def beancount_max(request: pytest.FixtureRequest) -> int:
    """Transactions of a run against beancount; the long form is under `--soak`."""
    return 100_000 if request.config.getoption("--soak") else 500
