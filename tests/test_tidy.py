"""Habits of the house, held by reading its files: each test names what it forbids and where."""

from __future__ import annotations

import ast
import re
import subprocess
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "piker"
PAGE = SOURCE / "ui" / "page"

FUNCTION_LINES = range(61, 67)  # the ratchet: functions of one screen may not grow past it
PAGE_LINES_MAX = 300

CLOCK_HOME = {"piker/clock.py"}
CLOCK_BANNED = re.compile(r"^(time\.(?!struct_time)\w+|random\.\w+|uuid\.uuid[14]|uuid[14])$")
# It patches private names of the installed tractor and goes with the release that fixes them.
EXEMPT = {"piker/service/_tractor_shim.py"}

# The single homes of calls whose second home would break an invariant of the tree.
CALL_SITES = {
    "maybe_spawn_brokerd": {
        "piker/clearing/_ems.py",
        "piker/service/__init__.py",
        "piker/brokers/_daemon.py",
    },
}

MACHINE_PATHS = re.compile(r"/(?:home|root|Users|work|workspace|tmp/[a-z]+)/[\w.-]+")


@cache
def sources() -> dict[str, str]:
    """Return the text of every Python file of piker by its path from the root."""
    return {
        str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
        for path in sorted(SOURCE.rglob("*.py"))
    }


@cache
def trees() -> dict[str, ast.Module]:
    """Return the syntax tree of every Python file of piker."""
    return {path: ast.parse(text) for path, text in sources().items()}


def tracked(*patterns: str) -> list[Path]:
    """Return the files under version control, or those on disk in a tree without it."""
    try:
        listed = subprocess.run(
            ["git", "ls-files", "-z", *patterns], cwd=ROOT, capture_output=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return [
            path for folder in ("piker", "docs", "tests") for path in (ROOT / folder).rglob("*")
        ]
    found = [ROOT / name for name in listed.stdout.decode().split("\0") if name]
    return [path for path in found if path.is_file()]


def test_every_module_says_what_it_is_for() -> None:
    silent = [path for path, tree in trees().items() if not ast.get_docstring(tree)]
    assert not silent, f"no docstring: {silent}"


def test_functions_do_not_grow_past_one_screen() -> None:
    grown = [
        f"{path}:{node.lineno}: {node.name} has {lines} lines"
        for path, tree in trees().items()
        if path not in EXEMPT
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (lines := (node.end_lineno or 0) - node.lineno + 1) in FUNCTION_LINES
    ]
    assert not grown, "\n".join(grown)


def is_broad(handler: ast.ExceptHandler) -> bool:
    """Whether a handler catches everything, by name or by naming nothing."""
    if handler.type is None:
        return True
    kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return any(ast.unparse(kind) in {"Exception", "BaseException"} for kind in kinds)


def test_broad_excepts_raise_again_or_are_marked_relays() -> None:
    wrong = []
    for path, tree in trees().items():
        lines = sources()[path].splitlines()
        for node in ast.walk(tree):
            if path in EXEMPT or not isinstance(node, ast.ExceptHandler) or not is_broad(node):
                continue
            raises = any(isinstance(step, ast.Raise) for step in ast.walk(node))
            near = "\n".join(lines[node.lineno - 1 : node.body[0].lineno])
            if not raises and "# relay: " not in near:
                wrong.append(f"{path}:{node.lineno}: say `# relay: <to whom>` or raise again")
    assert not wrong, "\n".join(wrong)


def test_time_and_randomness_come_from_the_clock_alone() -> None:
    wrong = []
    for path, tree in trees().items():
        if path in CLOCK_HOME | EXEMPT:
            continue
        for node in ast.walk(tree):
            wrong += clock_misuse(path, node)
    assert not wrong, "\n".join(wrong)


def clock_misuse(path: str, node: ast.AST) -> list[str]:
    """Return how a node reads time or randomness behind the clock's back."""
    if isinstance(node, ast.Call) and CLOCK_BANNED.match(ast.unparse(node.func)):
        return [f"{path}:{node.lineno}: {ast.unparse(node.func)}(): take it from piker.clock"]
    if isinstance(node, ast.ImportFrom) and node.module in {"time", "random"}:
        return [f"{path}:{node.lineno}: from {node.module} import …: take it from piker.clock"]
    if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(
        ("datetime.now", "datetime.utcnow", "datetime.today", "date.today")
    ):
        return [f"{path}:{node.lineno}: {ast.unparse(node.func)}(): take it from piker.clock"]
    return []


def test_calls_with_one_home_stay_there() -> None:
    """Invariant 2: a grep for `maybe_spawn_brokerd` hits only the three files named."""
    wrong = [
        f"{path}: mentions {name}"
        for name, homes in CALL_SITES.items()
        for path, text in sources().items()
        if name in text and path not in homes
    ]
    assert not wrong, "\n".join(wrong)


def test_a_todo_names_its_issue() -> None:
    loose = [
        f"{path}:{number}: {line.strip()}"
        for path, text in sources().items()
        for number, line in enumerate(text.splitlines(), 1)
        if re.search(r"\b(TODO|FIXME|XXX)\b(?!\(#\d+\))", line)
    ]
    assert not loose, "\n".join(loose)


def test_no_breakpoint_is_left_behind() -> None:
    left = [
        f"{path}:{node.lineno}: {ast.unparse(node.func)}()"
        for path, tree in trees().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and ast.unparse(node.func).rpartition(".")[2] in {"breakpoint", "set_trace"}
        and path not in EXEMPT
    ]
    assert not left, "\n".join(left)


def test_a_message_is_printed_by_the_terminal_only() -> None:
    printing = [
        f"{path}:{node.lineno}"
        for path, tree in trees().items()
        if "/cli" not in path and not path.startswith("piker/cli/") and path not in EXEMPT
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "print"
    ]
    assert not printing, f"log it, or leave it to a command: {printing}"


def test_page_files_stay_short() -> None:
    long = [
        f"{path.relative_to(ROOT)}: {lines} lines"
        for path in sorted(PAGE.rglob("*"))
        if path.suffix in {".js", ".css", ".html"}
        and (lines := len(path.read_text(encoding="utf-8").splitlines())) > PAGE_LINES_MAX
    ]
    assert not long, "\n".join(long)


def test_no_file_names_a_machine() -> None:
    wrong = []
    for path in tracked():
        if path.suffix in {".lock", ".png", ".woff2", ".ico"} or path == Path(__file__).resolve():
            continue
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        wrong += [
            f"{path.relative_to(ROOT)}:{number}: {found.group()}"
            for number, line in enumerate(text.splitlines(), 1)
            if (found := MACHINE_PATHS.search(line))
        ]
    assert not wrong, "\n".join(wrong)
