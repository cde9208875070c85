"""Every slip of the finger in every key is refused, and answered with the key that was meant."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import pytest

from tunesmith.config.flat import leaves
from tunesmith.config.kinds import kinds
from tunesmith.config.legacy import legacy_keys
from tunesmith.config.legacy_data import ENTRY_KEYS, SINGULAR
from tunesmith.config.read import MAX_SUGGESTIONS, load
from tunesmith.config.unbuilt import unbuilt_keys
from tunesmith.errors import ConfigError

RIGHT: dict[str, Any] = {"base_model": "m", "micro_batch_size": 1, "learning_rate": 1e-5}
ENTRY = {"path": "a.jsonl", "type": "alpaca"}
OLD_ENTRY_KEYS = {f"datasets[].{name}" for name in ENTRY_KEYS}
KNOWN = frozenset(
    {*leaves(), *unbuilt_keys(), *kinds(), *legacy_keys(), *SINGULAR, *OLD_ENTRY_KEYS}
)
# One slip of each key in the fast test: all are as right, and take minutes.
EVERY = 15


@dataclass(frozen=True)
class Slip:
    """One key, misspelt in one way, in the block where it stands."""

    kind: str
    block: str
    name: str
    slip: str


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


def cases() -> list[Slip]:
    """Every slip of every key of every block whose keys are known.

    Slips that are themselves keys are none. The keys of a key of free form are no names of ours;
    `dataset` is a name that is read, and that nobody should be led to.
    """
    found = []
    for flat in sorted(KNOWN - set(SINGULAR)):
        block, dot, name = flat.rpartition(".")
        if flat.startswith("test_datasets[]."):
            continue  # the same as those of `datasets`
        for kind, made in slips(name).items():
            for slip in sorted(made - {name, ""}):
                if block + dot + slip not in KNOWN:
                    found.append(Slip(kind, block, name, slip))
    return found


def written(block: str, misspelt: list[str]) -> dict[str, Any]:
    """A config that is right but for these keys in a block (``""``, ``trl``, ``lr_groups[]``)."""
    inside = values = {**RIGHT, "datasets": [dict(ENTRY)]}
    for part in block.split(".") if block else []:
        name = part.removesuffix("[]")
        if not isinstance(inside.get(name), dict | list):
            inside[name] = [{}] if part.endswith("[]") else {}
        inside = inside[name][0] if part.endswith("[]") else inside[name]
    inside |= dict.fromkeys(misspelt, 1)
    return values


def measure(chosen: list[Slip]) -> float:
    """The share of slips that are answered with the key they come from, printed by kind; each one
    must be refused.
    """
    by_block: dict[str, list[Slip]] = {}
    for slip in chosen:
        by_block.setdefault(slip.block, []).append(slip)
    tried: Counter[str] = Counter()
    right: Counter[str] = Counter()
    for block, all_of_it in by_block.items():
        place = block.replace("[]", ".0") + "." if block else ""
        for start in range(0, len(all_of_it), MAX_SUGGESTIONS):
            some = all_of_it[start : start + MAX_SUGGESTIONS]
            with pytest.raises(ConfigError) as caught:
                load(written(block, [slip.slip for slip in some]))
            fixes = {item.key: item.fix for item in caught.value.problems}
            codes = {item.key: item.code for item in caught.value.problems}
            for slip in some:
                assert codes.get(place + slip.slip) == "unknown-key", slip
                tried[slip.kind] += 1
                right[slip.kind] += fixes[place + slip.slip].startswith(
                    f"did you mean `{slip.name}`?"
                )
    for kind in tried:
        print(f"{kind:7} {right[kind]:6} of {tried[kind]:6} lead back to the key")
    share = right.total() / tried.total()
    print(f"{'all':7} {right.total():6} of {tried.total():6}: {share:.2%}")
    return share


def test_one_slip_of_each_key_is_refused_and_leads_back():
    chosen = cases()[::EVERY]
    assert len(chosen) > 1_500
    assert measure(chosen) >= 0.95


@pytest.mark.slow
def test_every_slip_of_every_key_is_refused_and_leads_back():
    chosen = cases()
    assert {slip.kind for slip in chosen} == {"swap", "drop", "double", "case", "dash"}
    assert {slip.block for slip in chosen} >= {"", "datasets[]", "special_tokens", "trl", "qat"}
    assert measure(chosen) >= 0.95
