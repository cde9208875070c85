"""From the command to `backward()` in five files: each imports the next, and calls it."""

from __future__ import annotations

import ast

import pytest

from tests.house.source import Module, modules

PATH = [
    ("tunesmith.cli.train", "train", "start"),
    ("tunesmith.launch.local", "start", "train"),
    ("tunesmith.runs.train", "_fit", "fit"),
    ("tunesmith.engine.loop", "fit", "train_step"),
]
"""(module, function in it, the function of the next module that it calls)."""

LAST = "tunesmith.engine.step"


def _module(name: str) -> Module:
    return next(module for module in modules() if module.name == name)


def _function(module: Module, name: str) -> ast.FunctionDef:
    return next(
        node
        for node in ast.walk(module.tree)
        if isinstance(node, ast.FunctionDef) and node.name == name
    )


def _calls(function: ast.FunctionDef) -> set[str]:
    return {
        node.func.id
        for node in ast.walk(function)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }


def _imported(module: Module) -> dict[str, str]:
    """Name -> the module that it comes from, of every `from ... import`, lazy ones included."""
    return {
        alias.asname or alias.name: node.module or ""
        for node in ast.walk(module.tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


@pytest.mark.parametrize(("number", "step"), list(enumerate(PATH)), ids=[name for name, *_ in PATH])
def test_each_file_calls_into_the_next(number: int, step: tuple[str, str, str]) -> None:
    name, caller, called = step
    following = [*(name for name, *_ in PATH), LAST][number + 1]
    module = _module(name)
    assert _imported(module)[called] == following
    assert called in _calls(_function(module, caller))
    assert _function(_module(following), called)


def test_inside_of_runs_train_the_way_is_straight() -> None:
    assert "_fit" in _calls(_function(_module("tunesmith.runs.train"), "train"))


def test_the_gradient_is_made_in_the_fifth_file_and_nowhere_else() -> None:
    found = [
        module.place(node)
        for module in modules()
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "backward"
    ]
    assert len(found) == 1, found
    assert found[0].startswith("src/tunesmith/engine/step.py:")
