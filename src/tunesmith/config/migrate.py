"""Old keys -> today's in the text of a config: what ``upgrade`` did to the values is replayed.

Comments, order, quotes and line breaks stay, since only the words of the old keys are cut out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from ruamel.yaml.error import YAMLError

from tunesmith.config.draft import Draft, Rewrite
from tunesmith.config.legacy import upgrade
from tunesmith.config.read import as_error, draft_of, read_old_booleans
from tunesmith.config.splice import Span, Text
from tunesmith.config.tree import Path
from tunesmith.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Migration:
    """A config's text before and after, and one line for each old key that was rewritten.

    ``left`` has a line for each that stays: an anchor shares it between places that differ.
    """

    before: str
    after: str
    rewritten: tuple[str, ...]
    left: tuple[str, ...] = ()


def migrate(text: str, name: str) -> Migration:
    """The same config in today's keys: it loads to the same values, without a notice of old ones
    but for those in ``left``.

    Keys that are refused, unknown or not built stay as they are: loading the file names them.

    Raises:
        ConfigError: the text is no YAML mapping.
    """
    draft = _upgraded(text, name)
    after = _replayed(text, draft.rewrites)
    left = _old_in(after, draft)
    if left is None or left:
        after = text
        for rewrite in draft.rewrites:
            changed = _replayed(after, [rewrite])
            after = after if _old_in(changed, draft) is None else changed
        left = _old_in(after, draft) or []
    stays = {rewrite.old for rewrite in left}
    rewritten = (rewrite.said for rewrite in draft.rewrites if rewrite.old not in stays)
    return Migration(text, after, tuple(rewritten), tuple(rewrite.said for rewrite in left))


def _replayed(text: str, rewrites: Sequence[Rewrite]) -> str:
    """The text after the rewrites, or the text itself where there is no place for one of them."""
    document = Text(text)
    try:
        for rewrite in rewrites:
            _replay(document, rewrite)
    except (LookupError, ValueError, YAMLError):
        return text
    return document.text


def _old_in(after: str, draft: Draft) -> list[Rewrite] | None:
    """What is still old in a text that means what the draft means; None if it means another."""
    try:
        again = _upgraded(after, draft.source)
    except ConfigError:
        return None
    return again.rewrites if again.values == draft.values else None


def _upgraded(text: str, name: str) -> Draft:
    """The values of the text after old keys were read as what they mean."""
    draft = draft_of(text, name)
    if draft.problems:
        raise as_error(draft.problems, name)
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
        document.rename(rewrite.old, str(path[-1]))
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
        document.open(path, name, first)
        _change_inside(document, path, value.items())
    else:
        document.change(path, value)


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
