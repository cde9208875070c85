"""Every string of the catalog names something that exists.

Read, not imported: the catalog names objects in files that load torch or an optional package, and
this must answer in a moment. That each one also works is what `tests/contracts` shows.
"""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator, Mapping

import pytest

from tests.house.source import SRC, modules


def _addresses() -> Iterator[tuple[str, str]]:
    if not (SRC / "tunesmith" / "catalog.py").exists():
        return
    catalog = importlib.import_module("tunesmith.catalog")
    for table, entries in vars(catalog).items():
        if table.isupper() and isinstance(entries, Mapping):
            for name, address in entries.items():
                if isinstance(address, str) and address.startswith("tunesmith."):
                    yield f"{table}[{name}]", address


ADDRESSES = sorted(_addresses())
FILES = {module.name: module for module in modules()}


def _defined(tree: ast.Module) -> Iterator[str]:
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Assign):
            yield from (target.id for target in node.targets if isinstance(target, ast.Name))
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id


@pytest.mark.parametrize(("entry", "address"), ADDRESSES, ids=[entry for entry, _ in ADDRESSES])
def test_the_address_resolves(entry: str, address: str) -> None:
    module, colon, name = address.partition(":")
    assert colon, f"{entry}: {address} is not module:object"
    assert module in FILES, f"{entry}: there is no file {module}"
    assert name in set(_defined(FILES[module].tree)), f"{entry}: {module} defines no {name}"
