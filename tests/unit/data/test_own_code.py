"""The code of a module of the user's decides over the cache, with all of theirs that it imports."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.data.toys import request, write_jsonl
from tunesmith.config.data import DatasetEntry
from tunesmith.data.prepare import prepare

FILES = {
    "mine.py": (
        "import json\nimport numpy\nfrom mine_helper import PREFIX\n"
        "from mine_package import inner\nfrom mine_other import shown\n"
        "def read_row(row):\n    import mine_late\n    return {'text': PREFIX + row['q']}\n"
    ),
    "mine_helper.py": "from mine_deep import WORD\nPREFIX = WORD\n",
    "mine_deep.py": "WORD = 'Q: '\n",
    "mine_late.py": "",
    "mine_package/__init__.py": "",
    "mine_package/inner.py": "from . import beside\nfrom .lower import last\n",
    "mine_package/beside.py": "",
    "mine_package/lower/__init__.py": "",
    "mine_package/lower/last.py": "import mine\n",
    "mine_other.py": "def shown(row):\n    return {'text': row['q']}\n",
    "mine_alone.py": "",
}


def forget() -> None:
    for name in [name for name in sys.modules if name.startswith("mine")]:
        del sys.modules[name]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)  # for what is imported late
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    write_jsonl(tmp_path / "rows.jsonl", [{"q": "one"}, {"q": "two"}])
    yield tmp_path
    forget()


def prepared(home: Path, kind: str = "mine") -> tuple[str, bool]:
    """The fingerprint, and whether the cache had it, as a process that begins anew finds it."""
    forget()
    found = prepare(request([DatasetEntry(path="rows.jsonl", type=kind)], home))
    return found.fingerprint, found.from_cache


@pytest.mark.parametrize("changed", sorted(set(FILES) - {"mine_alone.py"}))
def test_a_change_of_what_the_module_imports_prepares_anew(home: Path, changed: str) -> None:
    before, _ = prepared(home)
    assert prepared(home) == (before, True)
    with (home / changed).open("a", encoding="utf-8") as file:
        file.write("# changed\n")
    after, from_cache = prepared(home)
    assert (after != before, from_cache) == (True, False)
    assert prepared(home) == (after, True)


def test_what_the_module_does_not_import_changes_nothing(home: Path) -> None:
    before, _ = prepared(home)
    (home / "mine_alone.py").write_text("changed = 1\n", encoding="utf-8")
    assert prepared(home) == (before, True)


def test_a_function_that_the_module_has_from_elsewhere(home: Path) -> None:
    before, _ = prepared(home, "mine.shown")
    for changed in ("mine.py", "mine_other.py"):
        (home / changed).write_text(f"{FILES[changed]}# changed\n", encoding="utf-8")
        after, from_cache = prepared(home, "mine.shown")
        assert (after != before, from_cache) == (True, False), changed
        before = after
