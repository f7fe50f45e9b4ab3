"""
Imports point one way: six tests hold the layers of the house where they are.

Low to high: 0 words and records · 1 pure kernels · 2 bytes · 3 service · 4 brokers/<venue> ·
5 data, tsp · 6 brokers/_daemon, core, data · 7 clearing · 9 ui, cli. `venues` stands beside
`brokers` and shares only layers 0-2. The table is per module, the longest matching prefix
decides. Every import statement counts, those inside functions too.
"""

from __future__ import annotations

import ast
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "piker"

LAYERS = {
    "piker.model": 0,
    "piker.errors": 0,
    "piker.log": 0,
    "piker.config": 0,
    "piker.settings": 0,
    "piker.faults": 0,
    "piker.clock": 0,
    "piker.accounting._account": 2,
    "piker.accounting._account_text": 1,
    "piker.accounting._alloc": 1,
    "piker.accounting._audit": 1,
    "piker.accounting._books": 9,
    "piker.accounting._exports": 1,
    "piker.accounting._ledger": 1,
    "piker.accounting._lots": 1,
    "piker.accounting._pnl": 1,
    "piker.accounting._position": 1,
    "piker.accounting._report": 9,
    "piker.accounting._places": 2,
    "piker.accounting._sync": 9,
    "piker.accounting._tables": 1,
    "piker.accounting._tables_read": 1,
    "piker.accounting._venue": 9,
    "piker.accounting._views": 1,
    "piker.accounting._writer": 2,
    "piker.accounting.cli": 9,
    "piker.accounting.files": 2,
    "piker.tsp._bar_rows": 1,
    "piker.tsp._bar_table": 1,
    "piker.tsp._bars": 1,
    "piker.tsp._losses": 1,
    "piker.tsp._trade_ids": 1,
    "piker.tsp._gaps": 1,
    "piker.clearing._book": 1,
    "piker.clearing._book_diagram": 1,
    "piker.clearing._book_events": 1,
    "piker.clearing._dialog": 1,
    "piker.clearing._dialogs": 1,
    "piker.clearing._ids": 1,
    "piker.clearing._fill_events": 1,
    "piker.clearing._matching": 1,
    "piker.clearing._brackets": 1,
    "piker.clearing._messages": 1,
    "piker.clearing._risk": 1,
    "piker.clearing._triggers": 1,
    "piker.clearing._own_side": 1,
    "piker.clearing._fill_models": 1,
    "piker.clearing._paper_funds": 1,
    "piker.clearing._paper_grid": 1,
    "piker.clearing._paper_market": 2,
    "piker.clearing._queue": 1,
    "piker.clearing._records": 1,
    "piker.clearing._account_book": 1,
    "piker.clearing._journal_view": 2,
    "piker.clearing": 7,
    "piker.web": 2,
    "piker.storage": 2,
    "piker.storage._journal_format": 1,
    "piker.storage._journal_scan": 1,
    "piker.data._sharedmem": 2,
    "piker.data._ring": 2,
    "piker.data._segment": 2,
    "piker.data._ws_link": 2,
    "piker.data._doorbell": 2,
    "piker.data._blocks": 2,
    "piker.data._web_bs": 2,
    "piker.data.validate": 2,
    "piker.service": 3,
    "piker.venues": 3,  # beside service and brokers: see `BESIDE`
    "piker.brokers": 4,
    "piker.data": 5,
    "piker.tsp": 5,
    "piker.brokers._daemon": 6,
    "piker.brokers.core": 6,
    "piker.brokers.data": 6,
    "piker.ui": 9,
    "piker.cli": 9,
    "piker.venues.cli": 9,
    "piker._entry": 9,
}
BESIDE = "piker.venues"  # imports layers 0-2 and itself only; only its own command imports it

# Private modules that other packages import: `system.md` fixes their names.
SHARED = {
    "piker.service._actor_runtime",
    "piker.service._tractor_shim",
    "piker.brokers._daemon",
    "piker.data._daemon",
    "piker.data._feed_bus",
    "piker.data._sampling",
    "piker.data._web_bs",
    "piker.data._sharedmem",
    "piker.data._ring",
    "piker.data._doorbell",
    "piker.data._blocks",
    "piker.tsp._bar_rows",
    "piker.tsp._bars",
    "piker.tsp._gaps",
    "piker.tsp._trade_ids",
}

# What a kernel, or a record, may never import: it cannot do I/O or read a clock.
IO_LIBRARIES = {
    "asyncio", "h11", "http", "httpx", "io", "mmap", "multiprocessing", "os", "pathlib", "polars",
    "random", "selectors", "shutil", "signal", "socket", "ssl", "subprocess", "tempfile",
    "threading", "time", "tractor", "trio", "urllib", "websockets",
}  # fmt: skip
MAY_TOUCH_THE_OUTSIDE = {
    "piker.log",
    "piker.config",
    "piker.clock",
    "piker.faults",
}  # of layer 0; never tractor

# `piker.data` is an enabled module of datad: it may have no module `__getattr__`, so its
# re-exports are eager. `piker.cli` is the command table itself. A venue's folder is loaded by name
# and only to be run.
EAGER = {"piker.data", "piker.cli", "piker.venues.binance"}


def module_name(path: Path) -> str:
    """Return the dotted name of a source file; a package is its folder's name."""
    parts = list(path.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def modules() -> dict[str, Path]:
    """Return every module and package of piker by its dotted name."""
    return {module_name(path): path for path in sorted(SOURCE.rglob("*.py"))}


@cache
def tree(name: str) -> ast.Module:
    """Return the syntax tree of a module."""
    return ast.parse(modules()[name].read_text(encoding="utf-8"))


def is_package(name: str) -> bool:
    """Whether `name` is a folder with an `__init__`."""
    return modules()[name].name == "__init__.py"


def layer(name: str) -> int | None:
    """Return the layer of the longest prefix of `name` in the table; None when it has none."""
    while name:
        if name in LAYERS:
            return LAYERS[name]
        name = name.rpartition(".")[0]
    return None


def targets(node: ast.stmt, importer: str) -> list[str]:
    """Return the dotted names that one import statement loads; `from p import m` names p.m."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if not isinstance(node, ast.ImportFrom):
        return []
    base = node.module or ""
    if node.level:
        package = importer if is_package(importer) else importer.rpartition(".")[0]
        for _ in range(node.level - 1):
            package = package.rpartition(".")[0]
        base = f"{package}.{base}" if base else package
    found = [f"{base}.{alias.name}" for alias in node.names]
    return [name if name in modules() else base for name in found]


def imports(name: str, *, at_import: bool = False) -> list[tuple[str, int]]:
    """Return `(target, line)` of a module's imports; only those run at import, when asked so."""
    nodes = ast.walk(tree(name)) if not at_import else outside_functions(tree(name))
    found = []
    for node in nodes:
        if isinstance(node, ast.stmt):
            found += [(target, node.lineno) for target in dict.fromkeys(targets(node, name))]
    return found


def outside_functions(node: ast.AST) -> list[ast.AST]:
    """Return the nodes that run when a module is imported, type-checking blocks left out."""
    found: list[ast.AST] = []
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        found += [child, *outside_functions(child)]
    return found


def where(name: str, line: int) -> str:
    """Return `file:line` for a message."""
    return f"{modules()[name].relative_to(ROOT)}:{line}"


def test_every_module_has_a_layer() -> None:
    homeless = [name for name in modules() if not is_package(name) and layer(name) is None]
    assert not homeless, f"give these a layer in tests/test_layers.py: {homeless}"


def test_nothing_imports_upward() -> None:
    wrong = []
    for name in modules():
        if is_package(name) and name in {"piker", "piker.cli"}:
            continue
        own = layer(name)
        for target, line in imports(name):
            if not target.startswith("piker.") or own is None:
                continue
            theirs = layer(target)
            if theirs is not None and not may_import(name, own, target, theirs):
                wrong.append(f"{where(name, line)}: layer {own} imports {target} of layer {theirs}")
    assert not wrong, "\n".join(wrong)


def may_import(name: str, own: int, target: str, theirs: int) -> bool:
    """Whether `name` of layer `own` may import `target` of layer `theirs`."""
    inside = [f"{module}.".startswith(f"{BESIDE}.") for module in (name, target)]
    match inside:
        case [True, True]:
            return theirs <= own
        case [True, False]:
            return theirs <= 2 or own == 9
        case [False, True]:
            return own == 9
    if is_package(name) and target.startswith(f"{name}."):
        return True  # a package's own re-exports; that it stays light is another test
    return theirs <= own


def test_kernels_do_no_io() -> None:
    wrong = []
    for name in modules():
        own = layer(name)
        if own is None or own > 1 or (is_package(name) and name not in LAYERS):
            continue
        banned = {"tractor"} if name in MAY_TOUCH_THE_OUTSIDE else IO_LIBRARIES
        wrong += [
            f"{where(name, line)}: {name} imports {target}"
            for target, line in imports(name)
            if target.split(".")[0] in banned
        ]
    assert not wrong, "\n".join(wrong)


def test_package_inits_are_light() -> None:
    wrong = []
    for name in modules():
        if not is_package(name) or name in EAGER:
            continue
        for target, line in imports(name, at_import=True):
            if target.split(".")[0] in sys.stdlib_module_names or layer(target) == 0:
                continue
            own_module = target.startswith(f"{name}.") and layer(target) == layer(name)
            if not (own_module and name not in {"piker", "piker.service", "piker.brokers"}):
                wrong.append(f"{where(name, line)}: imports {target} when {name} is imported")
    assert not wrong, "\n".join(wrong)


def test_private_modules_stay_private() -> None:
    wrong = []
    for name in modules():
        for target, line in imports(name):
            *package, last = target.split(".")
            hidden = target in modules() and last.startswith("_")
            home = ".".join(package)
            if hidden and target not in SHARED and not f"{name}.".startswith(f"{home}."):
                wrong.append(f"{where(name, line)}: {name} imports private {target}")
    assert not wrong, "\n".join(wrong)


def test_imports_have_no_cycles() -> None:
    graph = {
        name: {
            target
            for target, _ in imports(name, at_import=True)
            if target in modules() and target != name and not name.startswith(f"{target}.")
        }
        for name in modules()
    }
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        if name in path:
            pytest.fail("import cycle: " + " → ".join([*path[path.index(name) :], name]))
        if name not in done:
            for target in sorted(graph[name]):
                visit(target, (*path, name))
            done.add(name)

    for name in graph:
        visit(name, ())
