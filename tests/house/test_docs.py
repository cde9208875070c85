"""What the documents say exists: files that they link to, commands that they show."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from tests.house.source import ROOT, tracked_files
from tunesmith import catalog

LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)(?:\s+\"[^\"]*\")?\)|!\[[^\]]*\]\(([^)\s]+)\)")
BLOCK = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"^(?:\$ )?(?:\.venv/bin/)?tunesmith((?: +[a-z][a-z-]*)+)", re.MULTILINE)
TARGET = re.compile(r"^(?:\$ )?make +([a-z-]+)", re.MULTILINE)

# Somebody's disk, somebody's network, somebody's registry. (Written so as not to match itself.)
PRIVATE = {
    "an absolute path of one machine": re.compile(
        r"(?<![\w./~:-])/(?:home|root|Users|work|opt|mnt|private/var)/\w"
    ),
    "an address of a private network": re.compile(
        r"(?<![\d.])(?:10(?:\.\d{1,3}){3}|192\.168(?:\.\d{1,3}){2}|172\.(?:1[6-9]|2\d|3[01])(?:\.\d{1,3}){2})(?![\d.])"
    ),
    "a package index": re.compile(r"(?:--(?:extra-)?index-url|--find-links|-f )[ =]*\S*(?:/)"),
}
BINARY = {".safetensors", ".png", ".gif", ".ico", ".gguf", ".parquet", ".arrow", ".gz", ".woff2"}


def _documents() -> list[Path]:
    return [path for path in tracked_files() if path.suffix == ".md"]


def _blocks() -> Iterator[tuple[Path, str]]:
    for path in _documents():
        for language, body in BLOCK.findall(path.read_text(encoding="utf-8")):
            if language in ("", "sh", "bash", "shell", "console"):
                yield path, body


def _commands() -> list[tuple[str, list[str]]]:
    return [
        (f"{path.relative_to(ROOT)}: tunesmith{words}", words.split())
        for path, body in _blocks()
        for words in COMMAND.findall(body)
    ]


def test_relative_links_resolve() -> None:
    wrong = []
    for path in _documents():
        text = BLOCK.sub("", path.read_text(encoding="utf-8"))
        for found in LINK.findall(text):
            target = (found[0] or found[1]).partition("#")[0]
            if not target or re.match(r"[a-z]+:", target):
                continue
            if not (path.parent / target).exists():
                wrong.append(f"{path.relative_to(ROOT)}: {target}")
    assert not wrong, "\n".join(wrong)


def test_commands_that_documents_show_exist() -> None:
    wrong = [place for place, words in _commands() if words[0] not in catalog.COMMANDS]
    assert not wrong, "\n".join(wrong)


def test_make_targets_that_documents_show_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    wrong = [
        f"{path.relative_to(ROOT)}: make {target}"
        for path, body in _blocks()
        for target in TARGET.findall(body)
        if target not in targets
    ]
    assert not wrong, "\n".join(wrong)


def test_every_make_target_describes_itself_or_is_a_part() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    described = set(re.findall(r"^([a-z-]+):.*## \w", makefile, re.MULTILINE))
    parts = {"lint", "types", "contracts", "house"}
    assert set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE)) - described <= parts


def test_nothing_names_one_machine() -> None:
    wrong = []
    for path in tracked_files():
        if path.suffix in BINARY:
            continue
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        for what, pattern in PRIVATE.items():
            found = pattern.search(text)
            if found:
                line = text.count("\n", 0, found.start()) + 1
                wrong.append(f"{path.relative_to(ROOT)}:{line}: {what}: {found.group()[:60]}")
    assert not wrong, "\n".join(wrong)


def test_generated_pages_are_what_the_source_gives() -> None:
    from scripts.make_docs import pages

    stale = [
        str(path.relative_to(ROOT))
        for path, text in pages().items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    ]
    assert not stale, f"run `make docs`: {', '.join(stale)}"


def test_no_reference_page_outlives_its_section() -> None:
    from scripts.make_docs import REFERENCE, pages

    assert {*REFERENCE.glob("*.md")} <= set(pages())


def test_the_architecture_names_every_module() -> None:
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    part = text[text.index("## What stands today") :]
    missing = []
    for path in sorted((ROOT / "src/tunesmith").rglob("*.py")):
        package, *rest = path.relative_to(ROOT / "src/tunesmith").with_suffix("").parts
        if rest == ["__init__"] or not rest:
            name = f"**`{package}/`**" if rest else f"| `{package}` |"
            name = "**`tunesmith/`**" if package == "__init__" else name
        elif rest[-1] == "__init__":
            continue
        else:
            name = f"| `{'.'.join(rest)}` |"
        if name not in part:
            missing.append(name)
    assert not missing, f"run `make docs`: {missing}"


def test_the_list_of_axolotls_keys_is_the_recorded_one(reference: Path) -> None:
    from scripts.make_docs import axolotl_keys

    table = (reference / "reference/config-keys.tsv").read_text(encoding="utf-8").splitlines()
    assert axolotl_keys() == [line.partition("\t")[0] for line in table[1:]]


def test_tests_that_documents_name_exist() -> None:
    named = re.compile(r"`(tests/[\w/.]+\.py)(?:::(\w+))?`")
    wrong = []
    for path in _documents():
        for file, function in named.findall(path.read_text(encoding="utf-8")):
            text = (ROOT / file).read_text() if (ROOT / file).exists() else ""
            if not text or (function and f"def {function}(" not in text):
                wrong.append(f"{path.relative_to(ROOT)}: {file}::{function}")
    assert not wrong, "\n".join(wrong)
