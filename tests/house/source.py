"""The source tree, parsed once: what the house tests look at."""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SRC = ROOT / "src"

# The floors of docs/architecture.md, from the ground. Packages on one floor are strangers; the
# ground floor's modules may know each other.
FLOORS: tuple[frozenset[str], ...] = (
    frozenset({"errors", "log", "registry", "catalog", "plugins"}),
    frozenset({"config"}),
    frozenset({"kernels", "dist"}),
    frozenset({"data", "patches", "parallel", "optim", "tracking"}),
    frozenset({"models"}),
    frozenset({"objectives", "rollout", "checkpoint"}),
    frozenset({"engine", "export", "report", "serve"}),
    frozenset({"runs"}),
    frozenset({"launch"}),
    frozenset({"cli"}),
)
FLOOR_OF = {package: floor for floor, packages in enumerate(FLOORS) for package in packages}


@dataclass(frozen=True)
class Import:
    """One imported module: where it is written, and whether it waits inside a function."""

    module: str  # the importing module
    target: str  # the imported module, or module.name
    place: str
    lazy: bool
    typing_only: bool

    @property
    def is_ours(self) -> bool:
        return self.target == "tunesmith" or self.target.startswith("tunesmith.")


@dataclass(frozen=True)
class Module:
    """One file of the product."""

    name: str
    path: Path
    text: str
    tree: ast.Module

    @property
    def package(self) -> str:
        """The room it stands in: `tunesmith.data.formats.chat` -> `data`; the root itself: ``."""
        return self.name.split(".")[1] if "." in self.name else ""

    @property
    def is_init(self) -> bool:
        return self.path.name == "__init__.py"

    @property
    def is_public(self) -> bool:
        return not any(part.startswith("_") for part in self.name.split("."))

    def place(self, node: ast.AST) -> str:
        return f"{self.path.relative_to(ROOT)}:{getattr(node, 'lineno', 1)}"


@cache
def modules() -> tuple[Module, ...]:
    return tuple(_parse(path) for path in sorted((SRC / "tunesmith").rglob("*.py")))


def _parse(path: Path) -> Module:
    parts = path.relative_to(SRC).with_suffix("").parts
    name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
    text = path.read_text(encoding="utf-8")
    return Module(name, path, text, ast.parse(text, filename=str(path)))


@cache
def imports() -> tuple[Import, ...]:
    """Every import of every file: at the top, inside functions, and under TYPE_CHECKING."""
    return tuple(found for module in modules() for found in _imports(module))


def _imports(module: Module) -> Iterator[Import]:
    waiting: list[tuple[ast.AST, bool, bool]] = [(module.tree, False, False)]
    while waiting:
        node, lazy, typing_only = waiting.pop()
        if isinstance(node, ast.Import | ast.ImportFrom):
            for target in _targets(module, node):
                yield Import(module.name, target, module.place(node), lazy, typing_only)
        inside = lazy or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        guarded = typing_only or (
            isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        )
        waiting += [(child, inside, guarded) for child in ast.iter_child_nodes(node)]


def _targets(module: Module, node: ast.Import | ast.ImportFrom) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    start = node.module or ""
    if node.level:
        above = module.name.split(".")
        above = above[: len(above) - node.level + module.is_init]
        start = ".".join([*above, start] if start else above)
    if not start.startswith("tunesmith"):
        return [start]
    # `from package import module` names a module; `from module import name` does not.
    known = {each.name for each in modules()}
    names = [f"{start}.{alias.name}" for alias in node.names]
    return sorted({name if name in known else start for name in names})


@cache
def tracked_files() -> tuple[Path, ...]:
    """What git holds; outside of a checkout, nothing can be said about it."""
    done = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode:
        return ()
    return tuple(
        path for name in done.stdout.split("\0") if name and (path := ROOT / name).is_file()
    )
