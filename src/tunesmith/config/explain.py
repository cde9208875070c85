"""One key explained: what it means, what it is in a config, who set it, what it is checked with."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

from tunesmith.config.checks.rule import MachineRule, PlainRule, Rule
from tunesmith.config.checks.rules import MACHINE_RULES, RULES
from tunesmith.config.docs import Row, reference, type_in_words, written
from tunesmith.config.draft import path_of
from tunesmith.config.flat import Leaf, leaves
from tunesmith.config.kind_docs import kind_in_words
from tunesmith.config.kinds import kinds
from tunesmith.config.legacy_data import SINCE
from tunesmith.config.names import home, suggest
from tunesmith.config.paths import Path, value_at
from tunesmith.config.read import Examined, LoadedConfig
from tunesmith.config.support import KeyState, old_keys, state_of
from tunesmith.config.synonyms import synonyms
from tunesmith.errors import ConfigError, Problem
from tunesmith.registry import nearest, plain

EDITORS = "$schema"
"""The key that is not for us."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """What a key means, and what it is in a config.

    ``state`` says what becomes of the key: ``read``, or why not and what to write. ``asked`` is
    what the user wrote where that is no key. Of a key that is not read, the rest may be empty.
    ``said`` is what the reading of the config said about the key: notices, and what is wrong.
    ``needs`` says when the key has an effect at all ("" for always), ``rules`` what it is checked
    with. ``value``, ``source``, ``effect`` and ``deferred`` (checks that wait for a machine) are
    empty where no config was given.
    """

    key: str
    state: str
    asked: str = ""
    section: str = ""
    meaning: str = ""
    type: str = ""
    default: str = ""
    readers: tuple[str, ...] = ()
    needs: str = ""
    rules: tuple[str, ...] = ()
    value: str = ""
    source: str = ""
    effect: str = ""
    deferred: tuple[str, ...] = ()
    said: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The explanation as plain data."""
        return asdict(self)


def explain(key: str, found: Examined | None = None) -> Explanation:
    """What a key means and, with a config, what it is there, who set it, and whether it matters.

    ``key`` may be in kebab case and may hold list positions (``datasets.0.path``). An old key leads
    to the one that stands for it, another tool's word or a slip to the key that was meant, a key of
    a block to the block. What was written is told where the config is wrong, too.

    Raises:
        ConfigError: nothing is called so, nor nearly so.
    """
    if key == EDITORS:
        return Explanation(key, "left out: it tells editors where the schema is")
    flat = _schema_name(key)
    state = state_of(flat)
    if state is not None:
        return _of_state(key, flat, state, found)
    meant = _meant(flat)
    if meant is None:
        raise ConfigError(
            f"there is no key `{key}`", hint="`tunesmith config keys` lists all", where=key
        )
    explanation = replace(explain(meant, found), asked=key)
    return explanation if found is None else _with_words(explanation, key, found)


def _of_state(key: str, flat: str, state: KeyState, found: Examined | None) -> Explanation:
    leaf = leaves().get(flat)
    if leaf is not None:
        explanation = _of_leaf(key, leaf, found, "read")
        return explanation if found is None else _with_given(explanation, key, found)
    today = leaves().get(state.today)
    if today is not None:
        explanation = _of_leaf(flat, today, found, state_in_words(state))
        return explanation if found is None else _with_words(explanation, key, found)
    kind = kind_in_words(flat) if state.state == "not built" else ""
    said = state_in_words(state)
    explanation = Explanation(flat, said, type=kind, rules=tuple(_rules_of(flat)))
    return explanation if found is None else _with_given(explanation, key, found)


def _with_given(explanation: Explanation, key: str, found: Examined) -> Explanation:
    """The same with what was written, where the key is not read or its value is wrong."""
    explanation = _with_words(explanation, key, found)
    path = path_of(key.replace("-", "_"))
    given = value_at(found.given, path)
    is_read = explanation.state == "read" and not _problems_of(path, found)
    if given is None or is_read:
        return explanation
    place = found.places.get(path)
    source = str(place) if place else explanation.source
    return replace(explanation, value=written(given), source=source)


def _with_words(explanation: Explanation, key: str, found: Examined) -> Explanation:
    """The same with what was said about what stands at the key."""
    path = path_of(key.replace("-", "_"))
    place = found.places.get(path)
    said = [text for text in found.loaded.notices if place and text.startswith(f"{place}: ")]
    wrong = [f"wrong: {problem.message}" for problem in _problems_of(path, found)]
    effect = "" if wrong else explanation.effect
    return replace(explanation, effect=effect, said=(*explanation.said, *said, *wrong))


def _problems_of(path: Path, found: Examined) -> list[Problem]:
    problems = found.error.problems if found.error else ()
    return [problem for problem in problems if path_of(problem.key)[: len(path)] == path]


def state_in_words(state: KeyState) -> str:
    """What becomes of a key: ``left out: it is worked out here``."""
    joined = f"read as {state.what}" if state.what.startswith("`") else state.what
    return {
        "read": "read",
        "read another way": f"an old spelling, {joined} ({SINCE})",
        "left out": f"left out: {state.what}",
        "refused": f"refused: {state.what}",
        "not built": f"not built yet: {state.what}",
    }[state.state]


def _of_leaf(key: str, leaf: Leaf, found: Examined | None, state: str) -> Explanation:
    old = state != "read"
    explanation = Explanation(
        key=leaf.flat,
        state="read" if old else state,
        asked=f"{key} ({state})" if old else "",
        section=leaf.section,
        meaning=leaf.doc,
        type=type_in_words(leaf),
        default=written(leaf.default),
        readers=leaf.info.readers,
        needs=leaf.info.why if leaf.info.when else "",
        rules=tuple(_rules_of(leaf.flat)),
    )
    return explanation if found is None else _with_value(explanation, leaf, key, found.loaded)


def _rules_of(flat: str) -> Iterator[str]:
    """Each rule that looks at the key: what it holds, and the other keys that it looks at."""
    top = flat.partition("[]")[0]
    for rule in (*RULES, *MACHINE_RULES):
        if flat not in rule.keys and top not in rule.keys:
            continue
        others = [key for key in rule.keys if key not in (flat, top)]
        if isinstance(rule, MachineRule):
            others.append("the machine")
        yield f"{_meaning(rule)} ({', '.join(others)})" if others else _meaning(rule)


def _meaning(rule: Rule | PlainRule | MachineRule) -> str:
    said = (rule.check.__doc__ or "").partition("\n\n")[0]
    return " ".join(said.split()).replace("``", "`")


def _with_value(
    explanation: Explanation, leaf: Leaf, key: str, loaded: LoadedConfig
) -> Explanation:
    top = leaf
    while top.parent:
        top = leaves()[top.parent]
    written_as = key.replace("-", "_")
    source = str(loaded.sources.get(written_as, loaded.sources[top.flat]))
    if leaf.info.when is None:
        effect = "always read"
    elif _has_effect(leaf, written_as, loaded):
        effect = "read in this config"
    else:
        effect = f"has no effect here: {leaf.info.why}"
    value = getattr(getattr(loaded.config, top.section), top.field)
    if leaf.parent:
        for part in written_as.split(".")[len(top.flat.split(".")) :]:
            value = _step(value, part)
    waiting = [text for text in loaded.deferred if text.partition(":")[0] == leaf.flat]
    return replace(
        explanation,
        value=written(value),
        source=source,
        effect=effect,
        deferred=tuple(waiting),
    )


def _has_effect(leaf: Leaf, key: str, loaded: LoadedConfig) -> bool:
    """Whether the key matters in the config; an entry's key without a number, in any entry."""
    if not leaf.parent:
        return leaf.has_effect(loaded.config)
    outer = leaves()[leaf.parent]
    blocks = getattr(getattr(loaded.config, outer.section), outer.field)
    number = key.removeprefix(f"{outer.flat}.").partition(".")[0]
    asked = blocks[int(number) : int(number) + 1] if number.isdigit() else blocks
    return any(leaf.has_effect(loaded.config, block) for block in asked)


def _step(value: Any, part: str) -> Any:
    if part.isdigit() and isinstance(value, tuple):
        return value[int(part)] if int(part) < len(value) else None
    return getattr(value, part, None)


def _schema_name(key: str) -> str:
    parts: list[str] = []
    for part in key.replace("-", "_").split("."):
        if part.isdigit() and parts:
            parts[-1] += "[]"
        else:
            parts.append(part)
    name = ".".join(parts)
    listed = name.replace("datasets.", "datasets[].", 1)
    return listed if state_of(name) is None and state_of(listed) is not None else name


def _meant(flat: str) -> str | None:
    """The key that was most likely meant by a name that is none."""
    prefix, dot, name = flat.rpartition(".")
    scope = prefix + dot
    if scope in ("datasets.", "test_datasets."):
        scope = scope.replace(".", "[].")
    if (block := home(name, scope)) is not None:
        return block + (suggest(name, block) or name)
    if not scope and ("", plain(name)) not in synonyms() and (inner := _inner(name)) is not None:
        return inner
    found = suggest(name, scope)
    if found is not None:
        return scope + found
    return nearest(flat, [key for key in old_keys() if "." not in key])


def _inner(name: str) -> str | None:
    """The one key of a block that is not built that is called so: ``vllm_mode`` is of ``trl``."""
    inside = f"fsdp_config.{name.removeprefix('fsdp_')}"
    if name.startswith("fsdp_") and inside in kinds():
        return inside
    called = [key for key in kinds() if key.endswith(f".{name}")]
    return called[0] if len(called) == 1 else None


def rows_like(pattern: str = "") -> list[tuple[Row, str]]:
    """Each key whose name or meaning holds the pattern, whatever its case, with its state.

    First those that are read, in the schema's order, then the others by name.
    """
    wanted, text = pattern.lower().replace("-", "_"), pattern.lower()
    found = [
        (row, "read")
        for rows in reference().values()
        for row in rows
        if wanted in row.key.lower() or text in row.meaning.lower()
    ]
    for key in sorted(set(old_keys())):
        state = state_of(key)
        if state is not None and wanted in key.lower():
            found.append((Row(key, "", "", ""), state_in_words(state)))
    return found
