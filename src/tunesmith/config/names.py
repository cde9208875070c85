"""Unknown keys: found, answered with the key that was most likely meant, or taken as not built."""

from __future__ import annotations

from functools import cache
from typing import Any

from tunesmith.config.carried import asks_nothing, can_be, wanted
from tunesmith.config.draft import Draft, dotted_path
from tunesmith.config.flat import groups, leaves, top_leaves
from tunesmith.config.foreign import Foreign, foreign
from tunesmith.config.legacy import legacy_keys
from tunesmith.config.legacy_data import ENTRY_KEYS
from tunesmith.config.synonyms import synonyms
from tunesmith.config.tree import Path
from tunesmith.config.unbuilt import take_unbuilt, unbuilt_keys
from tunesmith.config.words import edit_in_words
from tunesmith.errors import REMOVE, Edit
from tunesmith.registry import distance, nearest, plain

# Blocks that a key may belong to which stands outside of them.
_BLOCKS = ("datasets[].", "special_tokens.")

_SLIP = 2
"""Letters that may be wrong where a value is carried over to the key that was meant."""


def check_names(draft: Draft, *, lenient: bool) -> None:
    """Take every key out of the draft that no section declares, each with its problem or notice.

    ``lenient`` turns an unknown key's problem into a notice.
    """
    unbuilt: list[tuple[str, Path, Any]] = []
    _walk(draft, draft.values, (), "", unbuilt, lenient=lenient)
    take_unbuilt(draft, unbuilt, lenient=lenient)


def _walk(
    draft: Draft,
    block: dict[str, Any],
    path: Path,
    prefix: str,
    unbuilt: list[tuple[str, Path, Any]],
    *,
    lenient: bool,
) -> None:
    for name, value in list(block.items()):
        flat, here = prefix + name, (*path, name)
        is_path = ("." in name or "[" in name) and flat not in top_leaves()
        if flat in unbuilt_keys() and not is_path:
            unbuilt.append((flat, here, value))
        elif flat in groups() and isinstance(value, dict):
            _walk(draft, value, here, flat + ".", unbuilt, lenient=lenient)
        elif flat not in leaves() or is_path:
            _unknown(draft, here, prefix, lenient=lenient)
            draft.drop(here)
        elif leaves()[flat].inner is not None:
            for inner_path, inner in _blocks(here, value):
                below = flat + ("[]." if leaves()[flat].listed else ".")
                _walk(draft, inner, inner_path, below, unbuilt, lenient=lenient)


def _blocks(path: Path, value: Any) -> list[tuple[Path, dict[str, Any]]]:
    """The mappings in a key's value: itself, or the items of a list."""
    if isinstance(value, dict):
        return [(path, value)]
    items = value if isinstance(value, list) else []
    return [((*path, i), item) for i, item in enumerate(items) if isinstance(item, dict)]


def _unknown(draft: Draft, path: Path, prefix: str, *, lenient: bool) -> None:
    name = str(path[-1])
    key = dotted_path(path)
    if not prefix and name.startswith("x-"):
        draft.notice(path, f"{key} is left out: a key with `x-` only holds anchors")
        return
    if lenient:
        draft.notice(path, f"unknown key `{key}` is left out (--lenient)")
        return
    said, edit = _answer(draft, path, prefix)
    if path[:-1]:
        draft.damaged.add(path[:-1])
    draft.problem("unknown-key", path, f"there is no key `{name}`{_inside(prefix)}", said, edit)


def _answer(draft: Draft, path: Path, prefix: str) -> tuple[str, Edit]:
    """What to do about an unknown key, in words and, where it is one thing, as an edit."""
    name = str(path[-1])
    gone: dict[str, Any] = {dotted_path(path): REMOVE}
    target, fix = _meant(draft, path, prefix)
    value = draft.old_booleans.get(path, draft.get(path))
    if target is None:
        if not prefix and isinstance(value, dict | list) and "`" not in fix.partition(";")[0]:
            fix = f"call it `x-{name}` if it only holds anchors, else take it out"
            return fix, {f"x-{name}": value} | gone
        return fix, gone
    is_word = _word_for(name, prefix) == target[-1]
    other = foreign(_scope(prefix).rstrip("."), name) if is_word else None
    if other is not None and value is not None:
        return _converted(draft, path, target, other, fix)
    draft.meant.add(target)
    if value is None or draft.get(target) == value or (is_word and asks_nothing(target, value)):
        return fix, gone
    if draft.get(target) is not None:
        return _and(fix, "it is set already, keep one of them"), {}
    slip = is_word or distance(plain(name), plain(str(target[-1])), _SLIP) <= _SLIP
    if slip and can_be(target, value, only_built=is_word):
        return fix, gone | {dotted_path(target): value}
    takes = wanted(target) if slip else ""
    return _and(fix, f"it takes {takes}" if takes else ""), {}


def _and(fix: str, said: str) -> str:
    """The fix and what is to be known beside it."""
    if not said:
        return fix
    return f"{fix} {said[0].upper()}{said[1:]}" if fix.endswith("?") else f"{fix}: {said}"


def _converted(
    draft: Draft, path: Path, target: Path, other: Foreign, fix: str
) -> tuple[str, Edit]:
    """The same for a word of another tool whose value is another one here."""
    gone = {dotted_path(path): REMOVE}
    value = draft.old_booleans.get(path, draft.get(path))
    found = other.convert(value, draft.values)
    if found is None:
        draft.meant.add(target)
        return _and(fix, other.said), {}
    if not found:
        return f"take it out: {other.so}", gone
    new = {(*path[:-1], key): value for key, value in found.items()}
    draft.meant |= new.keys()
    if any(draft.get(key) not in (None, value) for key, value in new.items()):
        return _and(fix, "it is set already, keep one of them"), {}
    if not all(can_be(key, value, only_built=True) for key, value in new.items()):
        return _and(fix, other.said), {}
    edit = {dotted_path(key): value for key, value in new.items()} | gone
    return edit_in_words(edit), edit


def _meant(draft: Draft, path: Path, prefix: str) -> tuple[Path | None, str]:
    """Where the value of an unknown key was to go, if that is one place, and how to say it."""
    name = str(path[-1])
    if "." in name and (name in leaves() or name in unbuilt_keys()):
        outer, _, inner = name.rpartition(".")
        return None, f"write it as a block: `{outer.removesuffix('[]')}:` with `{inner}:` in it"
    block = home(name, prefix)
    if block is None:
        meant = suggest(name, prefix)
        if meant is None:
            return None, "take it out; `tunesmith config keys` lists all"
        return (*path[:-1], meant), f"did you mean `{meant}`?"
    meant = suggest(name, block) or name
    outer = block.rstrip(".").removesuffix("[]")
    where = f"in `{outer}`" if outer else "at the top level"
    return _place_in(draft, outer, meant), f"write `{meant}` {where}"


def _place_in(draft: Draft, outer: str, name: str) -> Path | None:
    value = draft.values.get(outer)
    if not outer:
        return (name,)
    if outer != "datasets":
        return (outer, name) if value is None or isinstance(value, dict) else None
    is_one = isinstance(value, list) and len(value) == 1 and isinstance(value[0], dict)
    return (outer, 0, name) if is_one else None


def _inside(prefix: str) -> str:
    outer = prefix.rstrip(".").replace("[]", "")
    return f" in `{outer}`" if outer else ""


def home(name: str, prefix: str) -> str | None:
    """The block whose key ``name`` is (but for case and dashes) where it stands outside of it, in
    the block ``prefix``; None where it is near a key of ``prefix`` itself, or nobody's.
    """
    scope = _scope(prefix)
    if _same(name, scope) or (scope.rstrip("."), plain(name)) in synonyms():
        return None
    elsewhere = _BLOCKS if not scope else ("",)
    return next((block for block in elsewhere if block != scope and _same(name, block)), None)


def suggest(name: str, prefix: str = "") -> str | None:
    """The key most likely meant by ``name`` inside the block ``prefix`` ("" at the top, else
    ending with a dot): by case and dashes first, then by synonym, then by spelling.
    """
    scope = _scope(prefix)
    return _same(name, scope) or _word_for(name, prefix) or nearest(name, _names_in(scope))


def _word_for(name: str, prefix: str) -> str | None:
    """The key that another tool's word stands for."""
    return synonyms().get((_scope(prefix).rstrip("."), plain(name)))


def _scope(prefix: str) -> str:
    return prefix.replace("test_datasets[]", "datasets[]")


def _same(name: str, scope: str) -> str | None:
    return _plain_names(scope).get(plain(name))


@cache
def _plain_names(scope: str) -> dict[str, str]:
    return {plain(name): name for name in reversed(_names_in(scope))}


@cache
def _names_in(scope: str) -> tuple[str, ...]:
    """The keys of a block: those that are built first, so that they win where two are as near, and
    old ones last.
    """
    old = [*sorted(legacy_keys()), *(f"datasets[].{name}" for name in ENTRY_KEYS)]
    names = [*leaves(), *unbuilt_keys(), *old]
    inside = [name[len(scope) :] for name in names if name.startswith(scope)]
    return tuple(name for name in dict.fromkeys(inside) if "." not in name and "[]" not in name)
