"""Which files of source code a module stands on: its imports, followed from file to file.

Read off the source, so that the answer is the same whatever else the process has imported.
"""

from __future__ import annotations

import ast
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Final

_OWN: Final = Path(__file__).parent.parent
_LIBRARY: Final = [Path(sysconfig.get_path(key)).resolve() for key in ("stdlib", "platstdlib")]
_INSTALLED: Final = {"site-packages", "dist-packages"}


def source_files(modules: Iterable[ModuleType]) -> Mapping[str, Path]:
    """The files of the modules, and of all modules that these import, by the modules' names.

    Imports are followed wherever they stand, inside of functions too, and so is ``import_module``
    of a constant name. What lies in the standard library, in ``site-packages`` or in this package
    is left out, unless it is one of ``modules``.
    """
    found: dict[str, Path] = {}
    waiting = [(module.__name__, _file_of(module)) for module in modules]
    while waiting:
        name, path = waiting.pop()
        if path is None or name in found:
            continue
        found[name] = path
        if path.suffix == ".py" and _is_followed(path):
            imported = ((other, _find(other, name, path)) for other in _names(name, path))
            waiting += [(other, at) for other, at in imported if at and _is_followed(at)]
    return dict(sorted(found.items()))


def _file_of(module: ModuleType | None) -> Path | None:
    file = getattr(module, "__file__", None)
    return Path(file) if file else None


def _find(name: str, importer: str, path: Path) -> Path | None:
    """The file of a module: the one that is loaded, or one beside where the importer comes from.

    What is imported only when a function runs is not loaded yet.
    """
    if name in sys.modules:
        return _file_of(sys.modules[name])
    root = path.parents[len(_package(importer, path))]
    base = root.joinpath(*name.split("."))
    choices = (base.with_name(f"{base.name}.py"), base / "__init__.py")
    return next((choice for choice in choices if choice.is_file()), None)


def _package(name: str, path: Path) -> list[str]:
    """The names of the package that a module is in, or is."""
    parts = name.split(".")
    return parts if path.stem == "__init__" else parts[:-1]


def _is_followed(path: Path) -> bool:
    whole = path.resolve()
    places = (_OWN, *_LIBRARY)
    installed = _INSTALLED.intersection(whole.parts)
    return not installed and not any(whole.is_relative_to(place) for place in places)


def _names(name: str, path: Path) -> Iterator[str]:
    """The full names of what a module imports; of ``from a import b`` both ``a`` and ``a.b``."""
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):  # a file that was not loaded: whoever loads it will be told
        return
    package = _package(name, path)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _with_parents(alias.name)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield from _with_parents(base)
            yield from (f"{base}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and _is_import_call(node.func):
            match node.args:
                case [ast.Constant(value=str(said)), *_]:
                    yield from _with_parents(said)


def _with_parents(name: str) -> Iterator[str]:
    parts = name.split(".")
    return (".".join(parts[: end + 1]) for end in range(len(parts)))


def _is_import_call(function: ast.expr) -> bool:
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    return name in ("import_module", "__import__")
