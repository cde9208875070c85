"""Only `patches` changes someone else's objects, and only `launch` writes environment variables."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator

from tests.house.source import Module, modules

# Of our own rooms: who may change foreign objects, and who may write the environment.
PATCHERS = {"patches"}
ENVIRONMENT_WRITERS = {"launch"}

# Documented switches of a library, meant to be assigned to.
SWITCHES = {
    "torch.backends.cuda.matmul.allow_tf32",
    "torch.backends.cudnn.allow_tf32",
    "torch.backends.cudnn.benchmark",
    "torch.backends.cudnn.deterministic",
}


def _foreign_names(module: Module) -> set[str]:
    """The names that a file's imports bind to something that is neither ours nor Python's."""
    names = set()
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            names |= {
                alias.asname or alias.name.split(".")[0]
                for alias in node.names
                if _is_foreign(alias.name)
            }
        elif isinstance(node, ast.ImportFrom) and not node.level and _is_foreign(node.module or ""):
            names |= {alias.asname or alias.name for alias in node.names}
    return names


def _is_foreign(name: str) -> bool:
    top = name.split(".")[0]
    return top != "tunesmith" and top not in sys.stdlib_module_names


def _root(node: ast.expr) -> str:
    """`a` of `a.b[c].d`, but nothing of `a().b`: what a call returns may well be ours."""
    while isinstance(node, ast.Attribute | ast.Subscript):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""


def _changed(node: ast.AST) -> Iterator[ast.expr]:
    """The objects whose attributes or entries a statement sets or deletes."""
    if isinstance(node, ast.Assign | ast.Delete):
        targets = node.targets
    elif isinstance(node, ast.AugAssign | ast.AnnAssign):
        targets = [node.target]
    elif isinstance(node, ast.Call) and _name(node.func) in ("setattr", "delattr") and node.args:
        yield node.args[0]
        return
    else:
        return
    for target in targets:
        parts = target.elts if isinstance(target, ast.Tuple | ast.List) else [target]
        yield from (part for part in parts if isinstance(part, ast.Attribute | ast.Subscript))


def _name(node: ast.expr) -> str:
    return node.id if isinstance(node, ast.Name) else ""


def test_only_patches_change_foreign_objects() -> None:
    wrong = []
    for module in modules():
        if module.package in PATCHERS:
            continue
        foreign = _foreign_names(module)
        wrong += [
            f"{module.place(node)}: {ast.unparse(changed)}"
            for node in ast.walk(module.tree)
            for changed in _changed(node)
            if _root(changed) in foreign and ast.unparse(changed) not in SWITCHES
        ]
    assert not wrong, "\n".join(wrong)


def test_only_launch_writes_environment_variables() -> None:
    wrong = [
        f"{module.place(node)}: {ast.unparse(node)[:60]}"
        for module in modules()
        if module.package not in ENVIRONMENT_WRITERS
        for node in ast.walk(module.tree)
        if _writes_environment(node)
    ]
    assert not wrong, "\n".join(wrong)


def _writes_environment(node: ast.AST) -> bool:
    if isinstance(node, ast.Call):
        called = ast.unparse(node.func)
        return called in {
            "os.putenv",
            "os.unsetenv",
            *(f"os.environ.{verb}" for verb in ("setdefault", "update", "pop", "clear")),
        }
    return any(ast.unparse(changed).startswith("os.environ[") for changed in _changed(node))
