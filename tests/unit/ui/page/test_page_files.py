"""Habits of the page's files: small, headed by a purpose, importing downward, no markup strings."""

import re

import pytest
from stage import FILES

# Top knows nothing, bottom wires; a module may import only from lines above its own.
ORDER = """
num ladder dom frames cache text ceremony notices
cal theme view scale store link loop order_words
order_book
paint_bars paint_lines paint_axes paint_orders
paint_volume
live
scene
picture line_specs
cross cards measure lines
chart market
intents gestures keys order_keys amend staging order_news
orders
help header status palette pane layout order_pane
actions
debug
main
"""
RANKS = {name: rank for rank, line in enumerate(ORDER.split("\n")) for name in line.split()}
MODULES = sorted(FILES.glob("*.js"))


def test_every_module_has_its_place():
    assert {path.stem for path in MODULES} == set(RANKS)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.name)
def test_imports_point_downward(path):
    for name in re.findall(r"""from '\./(\w+)\.js'""", path.read_text()):
        assert RANKS[name] < RANKS[path.stem], f"{path.name} imports {name}.js"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.name)
def test_a_module_is_small_and_says_what_it_is_for(path):
    text = path.read_text()
    assert text.startswith("// ")
    assert text.count("\n") <= 300


@pytest.mark.parametrize("path", [*MODULES, FILES / "index.html"], ids=lambda path: path.name)
def test_nothing_is_built_from_markup_or_text(path):
    banned = (
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|style=\""
    )
    assert not re.search(banned, path.read_text())


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.name)
def test_every_imported_name_is_used(path):
    text = path.read_text()
    for names in re.findall(r"import \{([^}]*)\} from", text):
        for name in names.replace("\n", " ").split(","):
            if name.strip():
                assert len(re.findall(rf"\b{name.strip()}\b", text)) > 1, name
