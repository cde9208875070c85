"""The table of silent kinds in docs/reliability.md: each kind is there, and its tests expect it."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path
from typing import get_args

import pytest

from tunesmith.config.preflight import ProbeName

HERE = Path(__file__).parent
DOCUMENT = HERE.parents[1] / "docs/reliability.md"

KINDS = {3, 6, 7, *range(11, 22), 25, 26, 27, 29, 30, 35, 36, 37, 39, 40}
"""The rows of the lessons that are silent."""

BEFORE_THE_MODEL = {"config check": "CHECK", "prepare": "PREPARE"}
"""As the table calls them, and the tests."""


def rows() -> list[list[str]]:
    """The cells of the table's lines."""
    text = DOCUMENT.read_text(encoding="utf-8")
    part = text.split("## Silent kinds")[1].split("\n## ")[0]
    lines = [line for line in part.splitlines() if re.match(r"\| \d", line)]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def named_in(cell: str) -> list[tuple[str, str]]:
    """(file, function) of each test that a cell names."""
    found: list[tuple[str, str]] = []
    for word in re.findall(r"`([^`]+)`", cell):
        file, _, name = word.partition("::")
        found.append((file or found[-1][0], name))
    return found


@cache
def functions(file: str) -> dict[str, str]:
    """The source of each test of a file, its decorators included, by name."""
    source = (HERE / file).read_text(encoding="utf-8")
    lines = source.splitlines()
    return {
        node.name: "\n".join(lines[min(n.lineno for n in parts) - 1 : node.end_lineno])
        for node in ast.parse(source).body
        if isinstance(node, ast.FunctionDef)
        for parts in [(node, *node.decorator_list)]
    }


def test_each_silent_kind_is_in_the_table() -> None:
    assert {int(cells[0].split()[0]) for cells in rows()} == KINDS
    assert len(KINDS) == 24


@pytest.mark.parametrize("cells", rows(), ids=lambda cells: cells[0])
def test_a_line_names_tests_that_exist_and_expect_who_it_says(cells: list[str]) -> None:
    _, _, who, when, tests = cells
    name = who.split(" (")[0].strip("`")
    assert name in (*get_args(ProbeName), *BEFORE_THE_MODEL)
    assert when
    named = named_in(tests)
    assert named
    for file, test in named:
        assert test in functions(file), f"{file}::{test}"
    expected = BEFORE_THE_MODEL.get(name, f'"{name}"')
    sources = [functions(file)[test] for file, test in named]
    assert who.endswith("(told)") or any(expected in source for source in sources), expected
