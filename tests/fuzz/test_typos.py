"""Every slip of the finger in every key is refused, and answered with the key that was meant."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from tunesmith.config.flat import leaves
from tunesmith.config.legacy import legacy_keys
from tunesmith.config.legacy_data import ENTRY_KEYS, SINGULAR
from tunesmith.config.names import suggest
from tunesmith.config.read import load
from tunesmith.config.unbuilt import unbuilt_keys
from tunesmith.errors import ConfigError, Problem

RIGHT: dict[str, Any] = {"base_model": "m", "micro_batch_size": 1, "learning_rate": 1e-5}
ENTRY = {"path": "a.jsonl", "type": "alpaca"}
OLD_ENTRY_KEYS = {f"datasets[].{name}" for name in ENTRY_KEYS}
KNOWN = frozenset({*leaves(), *unbuilt_keys(), *legacy_keys(), *SINGULAR, *OLD_ENTRY_KEYS})
# One slip of each key in the fast test: all are as right, and take minutes.
EVERY = 15


def slips(name: str) -> dict[str, set[str]]:
    """What becomes of a key in a hurry, by kind."""
    words = name.split("_")
    places = range(len(name))
    return {
        "swap": {name[:i] + name[i : i + 2][::-1] + name[i + 2 :] for i in places},
        "drop": {name[:i] + name[i + 1 :] for i in places},
        "double": {name[: i + 1] + name[i:] for i in places},
        "case": {
            name.upper(),
            name.title(),
            name.capitalize(),
            "".join(word.capitalize() for word in words),
            words[0] + "".join(word.capitalize() for word in words[1:]),
        },
        "dash": {name.replace("_", other) for other in ("-", "", " ", "__")},
    }


def cases() -> Iterator[tuple[str, str, str, str]]:
    """(kind, block, key, slip) for every key of every block that is read by name.

    Slips that are themselves keys are none. The keys of a key of free form, and of what is not
    built, are no names of ours; `dataset` is no name that anybody should be led to.
    """
    for flat in sorted(KNOWN - set(SINGULAR)):
        block, dot, name = flat.rpartition(".")
        if flat.startswith("test_datasets[].") or block not in ("", "datasets[]", *_blocks()):
            continue
        for kind, made in slips(name).items():
            for slip in sorted(made - {name, ""}):
                if block + dot + slip not in KNOWN:
                    yield kind, block, name, slip


def _blocks() -> set[str]:
    return {name for name, leaf in leaves().items() if leaf.inner is not None and not leaf.listed}


def refused(block: str, misspelt: list[str]) -> list[Problem]:
    """What is said of a config in which these keys stand."""
    inside = dict.fromkeys(misspelt, 1)
    values = {**RIGHT, "datasets": [ENTRY]}
    if not block:
        values |= inside
    elif block == "datasets[]":
        values["datasets"] = [ENTRY | inside]
    elif block.startswith("datasets[]."):
        values["datasets"] = [ENTRY | {block.removeprefix("datasets[]."): inside}]
    else:
        values[block] = inside
    with pytest.raises(ConfigError) as caught:
        load(values)
    return list(caught.value.problems)


def measure(chosen: list[tuple[str, str, str, str]]) -> tuple[Counter[str], Counter[str]]:
    """How many slips of each kind there were, and how many led back to their key."""
    tried: Counter[str] = Counter()
    right: Counter[str] = Counter()
    for kind, block, name, slip in chosen:
        tried[kind] += 1
        right[kind] += suggest(slip, f"{block}." if block else "") == name
    return tried, right


def show(tried: Counter[str], right: Counter[str]) -> float:
    """Print the figures; the share of slips that led back to their key."""
    for kind in tried:
        print(f"{kind:7} {right[kind]:6} of {tried[kind]:6} lead back to the key")
    share = right.total() / tried.total()
    print(f"{'all':7} {right.total():6} of {tried.total():6}: {share:.2%}")
    return share


def require_refused(chosen: list[tuple[str, str, str, str]]) -> None:
    """Every slip is an unknown key, whatever else stands in the config."""
    by_block: dict[str, list[str]] = {}
    for _, block, _, slip in chosen:
        by_block.setdefault(block, []).append(slip)
    for block, misspelt in by_block.items():
        for start in range(0, len(misspelt), 200):
            some = sorted(set(misspelt[start : start + 200]))
            found = {item.key for item in refused(block, some) if item.code == "unknown-key"}
            prefix = block.replace("[]", ".0") + "." if block else ""
            assert {prefix + slip for slip in some} <= found


def test_one_slip_of_each_key_is_refused_and_leads_back():
    chosen = list(cases())[::EVERY]
    assert len(chosen) > 1_500
    assert show(*measure(chosen)) >= 0.95
    require_refused(chosen)


@pytest.mark.slow
def test_every_slip_of_every_key_is_refused_and_leads_back():
    chosen = list(cases())
    assert {kind for kind, *_ in chosen} == {"swap", "drop", "double", "case", "dash"}
    assert show(*measure(chosen)) >= 0.95
    require_refused(chosen)
