"""Names say what a thing is; a heap has no name."""

from __future__ import annotations

import ast
import re

from tests.house.source import modules

HEAPS = {"utils", "util", "helpers", "helper", "common", "base", "misc", "shared", "core"}
EMPTY_WORDS = re.compile(r"(Manager|Handler|Mixin)$|^_?(Base|Abstract)(?=[A-Z]|$)")


def test_no_module_is_a_heap() -> None:
    wrong = [m.name for m in modules() if HEAPS & {part.strip("_") for part in m.name.split(".")}]
    assert not wrong


def test_no_class_has_an_empty_word_for_a_name() -> None:
    wrong = [
        f"{module.place(node)}: {node.name}"
        for module in modules()
        for node in ast.walk(module.tree)
        if isinstance(node, ast.ClassDef) and EMPTY_WORDS.search(node.name)
    ]
    assert not wrong, "\n".join(wrong)


def test_every_public_module_says_what_it_is() -> None:
    wrong = [m.place(m.tree) for m in modules() if m.is_public and not ast.get_docstring(m.tree)]
    assert not wrong, "\n".join(wrong)


def test_every_package_has_an_init() -> None:
    """A folder without one is found by some tools and not by others."""
    folders = {m.path.parent for m in modules()}
    missing = [str(each) for each in sorted(folders) if not (each / "__init__.py").exists()]
    assert not missing, "\n".join(missing)


def test_an_init_holds_only_its_docstring() -> None:
    """A name has one address: the file that defines it. The root's public face is the exception."""
    wrong = [
        m.place(m.tree)
        for m in modules()
        if m.is_init and m.name != "tunesmith" and not _is_only_docstring(m.tree)
    ]
    assert not wrong, "\n".join(wrong)


def _is_only_docstring(tree: ast.Module) -> bool:
    return all(
        isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) for node in tree.body
    )
