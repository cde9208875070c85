"""The state of every key that axolotl knows: read, read another way, left out, refused, not built.

The tables of `legacy`, `legacy_data` and `unbuilt` decide what happens to a key; here they only
answer for one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from tunesmith.config import legacy, legacy_data
from tunesmith.config.flat import leaves
from tunesmith.config.unbuilt import unbuilt_keys

STATES: Mapping[str, str] = {
    "read": "means here what it means in axolotl",
    "read another way": "an older or other spelling: read as the key that means the same",
    "left out": "changes no result here: left out, with a notice where it asks for something",
    "refused": "removed or harmful: a problem that says what to write instead",
    "not built": "belongs to what is not built yet: a problem that names it, unless it is off",
}
"""Each state, and what becomes of a key in it."""


@dataclass(frozen=True, slots=True)
class KeyState:
    """One of ``STATES``, and what it means for the key: the section that reads it, today's
    spelling, the reason, or the capability. ``today`` is the flat key that stands for an old one.
    """

    state: str
    what: str
    today: str = ""


def state_of(flat: str) -> KeyState | None:
    """The state of a key by its flat name, or None where nothing answers for it."""
    if flat in leaves():
        return KeyState("read", leaves()[flat].section)
    block = next((name for name in _around(flat) if name in unbuilt_keys()), None)
    if block is not None:
        return KeyState("not built", unbuilt_keys()[block].capability)
    listed, bracket, entry_key = flat.rpartition("[].")
    if bracket and listed in ("datasets", "test_datasets"):
        state, what, today = legacy_data.ENTRY_KEYS.get(entry_key, ("", "", ""))
        return KeyState(state, what, today and f"{listed}[].{today}") if state else None
    return _in_old_block(flat) if bracket else _top_level(flat)


def _in_old_block(flat: str) -> KeyState | None:
    """The state of a key in entries of an old list: what it is in today's."""
    block, _, name = flat.partition("[].")
    _, today = legacy.other_spellings().get(block, ("", ""))
    inner = state_of(f"{today}[].{name}") if today else None
    if inner is None or inner.state != "read":
        return inner
    return KeyState("read another way", f"`{today}[].{name}`", f"{today}[].{name}")


def _top_level(flat: str) -> KeyState | None:
    if flat in legacy.other_spellings():
        what, today = legacy.other_spellings()[flat]
        return KeyState("read another way", what, today)
    if flat in legacy.left_out():
        return KeyState("left out", legacy.left_out()[flat])
    if flat in legacy.REFUSED:
        why, fix = legacy.REFUSED[flat]
        return KeyState("refused", f"{why}: {fix}")
    return None


def _around(flat: str) -> Iterator[str]:
    """The key itself, then the blocks that it lies in."""
    parts = flat.split(".")
    for end in range(len(parts), 0, -1):
        name = ".".join(parts[:end])
        yield name
        yield name.removesuffix("[]")


def old_keys() -> Iterator[str]:
    """Every key that is known and not read, in no order of meaning: old ones, then unbuilt ones."""
    yield from legacy.other_spellings()
    yield from legacy.left_out()
    yield from legacy.REFUSED
    yield from (f"datasets[].{name}" for name in legacy_data.ENTRY_KEYS)
    yield from unbuilt_keys()
