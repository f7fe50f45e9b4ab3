"""A bare root actor with the shim, for tests that need children but no supervisor."""

from __future__ import annotations

from pathlib import Path

import pytest
from shim_tree import OpenTree, open_bare_tree


@pytest.fixture
def open_tree(tmp_conf: Path) -> OpenTree:
    """Open a root actor and yield its nursery; every child is gone at the end."""
    return open_bare_tree
