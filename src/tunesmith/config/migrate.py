"""Old keys -> today's in the text of a config: what ``upgrade`` did to the values is replayed.

Comments, order, quotes and line breaks stay, since only the words of the old keys are cut out.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from tunesmith.config.draft import Draft, Rewrite, dotted_path
from tunesmith.config.legacy import upgrade
from tunesmith.config.read import read_old_booleans
from tunesmith.config.splice import Span, Text, written
from tunesmith.config.tree import Path, read_tree
from tunesmith.errors import ConfigError, Problem


@dataclass(frozen=True, slots=True)
class Migration:
    """A config's text before and after, and one line for each old key that was rewritten."""

    before: str
    after: str
    rewritten: tuple[str, ...]


def migrate(text: str, name: str) -> Migration:
    """The same config in today's keys: it loads to the same values, without a notice of old ones.

    Keys that are refused, unknown or not built stay as they are: loading the file names them.

    Raises:
        ConfigError: the text is no YAML mapping, or an old key stands where it cannot be rewritten
            (shared by several places through an anchor).
    """
    draft = _upgraded(text, name)
    document = Text(text)
    for rewrite in draft.rewrites:
        _replay(document, rewrite)
    if draft.rewrites:
        _require_same(draft, document.text, name)
    return Migration(text, document.text, tuple(rewrite.said for rewrite in draft.rewrites))


def _upgraded(text: str, name: str) -> Draft:
    """The values of the text after old keys were read as what they mean."""
    tree = read_tree(text, name)
    problems = list(tree.problems)
    if not problems and not isinstance(tree.values, dict | None):
        problems = [Problem("yaml", "a config is a list of `key: value`", file=name)]
    if problems:
        first = problems[0]
        raise ConfigError(first.message, hint=first.fix, where=first.place, problems=problems)
    draft = Draft(tree.values or {}, tree.places, name, tree.old_booleans)
    upgrade(draft)
    read_old_booleans(draft)
    return draft


def _replay(document: Text, rewrite: Rewrite) -> None:
    """Do to the text what was done to the values. What an anchor did already is left alone."""
    old = document.find(rewrite.old)
    if old is None:
        return
    raw = document.raw(old) if old.kind == "scalar" else None
    beside: dict[str, Any] = {}
    for path, value in rewrite.new.items():
        if path == rewrite.old:
            continue
        present = document.find(path)
        if present is not None and document.raw(present).strip():
            _change(document, path, present, value)
        elif _is_open(document, path[:-1]) and path[:-1] != rewrite.old[:-1]:
            document.add(path[:-1], {str(path[-1]): value})
        else:
            _nest(beside, path[len(rewrite.old) - 1 :], value)
    if rewrite.old in rewrite.new:
        _change(document, rewrite.old, document.find(rewrite.old), rewrite.new[rewrite.old])
        if beside:
            document.add_after(rewrite.old, beside)
    elif not beside:
        document.remove(rewrite.old)
    else:
        _exchange(document, rewrite, beside, raw)


def _exchange(document: Text, rewrite: Rewrite, beside: dict[str, Any], raw: str | None) -> None:
    """Put the new keys where the old one stands; what only moves stays as it is written."""
    around = rewrite.old[:-1]
    for name in [name for name in beside if document.find((*around, name)) is not None]:
        document.remove((*around, name))  # there, but empty
    path, value = next(iter(rewrite.new.items()))
    if path[:-1] == around and path[-1] in beside:
        document.rename(rewrite.old, written(path[-1]))
        _change(document, path, document.find(path), value)
        del beside[str(path[-1])]
        if beside:
            document.add_after(path, beside)
        return
    moved = value is rewrite.value and raw is not None
    document.put_instead(rewrite.old, beside, {str(path[-1]): str(raw)} if moved else {})


def _is_open(document: Text, path: Path) -> bool:
    span = document.find(path)
    return span is not None and bool(span.pairs)


def _change(document: Text, path: Path, span: Span | None, value: Any) -> None:
    """Write a value over the one at ``path``, in as few letters as it takes."""
    if span is None or _reads_as(document, span, value):
        return
    if isinstance(value, list) and span.kind == "sequence" and len(value) == len(span.items):
        _change_inside(document, path, enumerate(value))
    elif isinstance(value, list) and len(value) == 1 and span.kind != "sequence":
        document.wrap(path)
        _change_inside(document, path, enumerate(value))
    elif (
        isinstance(value, dict) and span.pairs and {name for name, _, _ in span.pairs} <= set(value)
    ):
        _change_inside(document, path, value.items())
    elif isinstance(value, dict) and isinstance(path[-1], int) and not _in_brackets(document, path):
        (name, first), *_ = value.items()
        document.change(path, f"{name}: {written(first)}")
        _change_inside(document, path, value.items())
    else:
        document.change(path, written(value))


def _change_inside(document: Text, path: Path, parts: Iterable[tuple[str | int, Any]]) -> None:
    """Change the items of a list, or the keys of a mapping; those that it lacks are added."""
    for name, value in parts:
        inner = (*path, name)
        span = document.find(inner)
        if span is None:
            document.add(path, {str(name): value})
        else:
            _change(document, inner, span, value)


def _reads_as(document: Text, span: Span, value: Any) -> bool:
    """Whether that value stands there. An alias counts: its anchor is what is rewritten."""
    return span.kind == "alias" or bool(document.value(span) == value)


def _in_brackets(document: Text, path: Path) -> bool:
    around = document.find(path[:-1])
    return around is not None and around.flow


def _nest(block: dict[str, Any], path: Path, value: Any) -> None:
    for part in path[:-1]:
        block = block.setdefault(str(part), {})
    block[str(path[-1])] = value


def _require_same(draft: Draft, after: str, name: str) -> None:
    """Read the new text and compare: the values are the same, and nothing old is left."""
    try:
        again = _upgraded(after, name)
    except ConfigError:
        again = None
    if again is not None and again.values == draft.values and not again.rewrites:
        return
    left = again.rewrites if again is not None else draft.rewrites
    keys = ", ".join(f"`{dotted_path(rewrite.old)}`" for rewrite in left or draft.rewrites)
    raise ConfigError(
        f"{keys} cannot be rewritten where it stands, nothing was changed",
        hint="an anchor may share it between several places: write it out there, or by hand",
        where=name,
    )
