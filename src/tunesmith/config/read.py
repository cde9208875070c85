"""File, stdin or mapping, plus overrides -> ``RunConfig``; every problem is found in one reading.

The order: YAML -> overrides -> old keys -> unknown keys -> types and bounds -> plugins -> rules
across sections -> keys without effect. A key that is wrong is taken out and reading goes on, so
that the rest is judged too.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from tunesmith.config.checks.asked import Asked
from tunesmith.config.checks.data import entries
from tunesmith.config.checks.dead import dead_keys
from tunesmith.config.checks.rules import broken_rules, deferred_checks, machine_problems
from tunesmith.config.dataset_types import format_name, is_compared
from tunesmith.config.draft import Draft, dotted_path, flat_of, path_of, put_at
from tunesmith.config.environment import Environment
from tunesmith.config.flat import dotted, from_flat, leaves, top_leaves
from tunesmith.config.legacy import upgrade
from tunesmith.config.names import check_names
from tunesmith.config.overrides import Override, apply_overrides, as_overrides
from tunesmith.config.paths import PathTable
from tunesmith.config.schema import RunConfig
from tunesmith.config.section import takes
from tunesmith.config.source import STDIN, text_of
from tunesmith.config.tree import MAX_DEPTH, Place, read_tree
from tunesmith.config.tree import Path as TreePath
from tunesmith.config.unbuilt import not_trained, other_file
from tunesmith.config.words import problems_of
from tunesmith.errors import REMOVE, ConfigError, Problem
from tunesmith.plugins import load_plugins
from tunesmith.registry import at_most_suggestions

KeySource = Place
"""Who set a key: a file with line and column, the command line, a caller, or ``default``."""

DEFAULT = Place("default")

_NO_MAPPING = "give the file that begins with keys such as `base_model: ...`, without `- `"

# Stand-ins for required keys that are missing or wrong, so that the other keys can be judged.
_STAND_INS: Mapping[str, Any] = {"base_model": "missing", "learning_rate": 1e-4}


@dataclass(frozen=True, slots=True)
class LoadedConfig:
    """A config that is right, and how it came about.

    ``sources`` says for every flat key who set it. ``notices`` is what the user should hear.
    ``deferred`` lists the checks that need to know the machine. Relative paths in the config are
    relative to the current directory; ``base_dir`` is the folder of the file. ``old_keys`` counts
    what `tunesmith config migrate` would rewrite in the file. ``method`` is what ``rl`` names:
    something only where the config was read with ``data_only``.
    """

    config: RunConfig
    sources: dict[str, KeySource]
    notices: list[str]
    deferred: list[str]
    path: Path | None
    base_dir: Path
    old_keys: int = 0
    method: str = ""


@dataclass(frozen=True, slots=True)
class Examined:
    """A config that was read, right or wrong.

    ``error`` has all that is wrong with it. In ``loaded`` are then defaults, or stand-ins, where
    something is wrong. ``given`` holds the values as they were written, old keys too, and
    ``places`` says where.
    """

    loaded: LoadedConfig
    error: ConfigError | None
    given: Mapping[str, Any]
    places: PathTable[Place]


# As many as are listed in a report, and as many again for values.
MAX_SUGGESTIONS = 100


def load(
    source: str | Path | Mapping[str, Any],
    overrides: Sequence[Override] | Mapping[str, Any] = (),
    *,
    lenient: bool = False,
    strict_keys: bool = False,
    data_only: bool = False,
    environment: Environment | None = None,
) -> LoadedConfig:
    """The config of a file, of stdin (``-``) or of a mapping, with overrides on top.

    What is said of the parameters of ``examine`` holds here.

    Raises:
        ConfigError: with every problem, ordered by line.
    """
    found = examine(
        source,
        overrides,
        lenient=lenient,
        strict_keys=strict_keys,
        data_only=data_only,
        environment=environment,
    )
    if found.error is not None:
        raise found.error
    return found.loaded


@at_most_suggestions(MAX_SUGGESTIONS)
def examine(
    source: str | Path | Mapping[str, Any],
    overrides: Sequence[Override] | Mapping[str, Any] = (),
    *,
    lenient: bool = False,
    strict_keys: bool = False,
    data_only: bool = False,
    environment: Environment | None = None,
) -> Examined:
    """A config with all that is wrong with it.

    ``lenient`` turns unknown keys into notices, ``strict_keys`` turns keys without effect into
    problems. ``data_only`` is for commands that train nothing: data of objectives that are not
    built is a notice. With an ``environment`` what the machine cannot do is a problem too; without
    one those checks are listed as deferred.

    Raises:
        ConfigError: nothing of it can be judged: it is no YAML, or the config of something else.
    """
    draft = _read(source)
    draft.data_only = data_only
    apply_overrides(draft, [_own(override) for override in as_overrides(overrides)])
    old, places = copy.deepcopy(draft.values), PathTable(draft.places)
    upgrade(draft)
    written = old | copy.deepcopy(draft.values)
    if (other := other_file(draft)) is not None:
        raise as_error([other], draft.source)
    check_names(draft, lenient=lenient)
    read_old_booleans(draft)
    draft.values = _without_nulls(draft.values)
    config = _validate(draft)
    _load_plugins(draft, config)
    asked = Asked(written, config)
    _check(draft, asked, environment, strict_keys=strict_keys)
    error = _error(draft) if draft.problems else None
    return Examined(_loaded(draft, asked, source), error, old, places)


def _loaded(draft: Draft, asked: Asked, source: str | Path | Mapping[str, Any]) -> LoadedConfig:
    path = None if isinstance(source, Mapping) or str(source) == STDIN else Path(source)
    return LoadedConfig(
        config=asked.config,
        sources=_sources(draft),
        notices=_said(draft),
        deferred=draft.deferred,
        path=path,
        base_dir=path.resolve().parent if path else Path.cwd(),
        old_keys=sum(one.said.startswith(f"{path}:") for one in draft.rewrites) if path else 0,
        method=asked.method,
    )


def _said(draft: Draft) -> list[str]:
    return [text for _, text in sorted(draft.notices, key=lambda notice: notice[0])]


def _read(source: str | Path | Mapping[str, Any]) -> Draft:
    """The draft of a source.

    Raises:
        ConfigError: nothing of it can be read.
    """
    if isinstance(source, Mapping):
        return Draft(_plain(source, 0), PathTable(), "python")
    name, text = read_text(source)
    return draft_of(text, name)


def draft_of(text: str, name: str) -> Draft:
    """The draft of a text, with what is wrong with its YAML; ``name`` says where it is from.

    Raises:
        ConfigError: it holds no mapping.
    """
    tree = read_tree(text, name)
    values = {} if tree.values is None and not tree.problems else tree.values
    if not isinstance(values, dict):
        start = Draft({}, tree.places, name)
        start.problem("yaml", (), "a config is a mapping, `key: value` on each line", _NO_MAPPING)
        raise as_error(tree.problems or start.problems, name)
    draft = Draft(values, tree.places, name, tree.old_booleans)
    draft.problems.extend(tree.problems)
    return draft


def _own(override: Override) -> Override:
    return replace(override, value=_plain(override.value, 0))


def _plain(value: Any, depth: int) -> Any:
    """The same with tuples as lists and mappings as dictionaries of its own, all the way down.

    Raises:
        ConfigError: it is too deep, or holds itself.
    """
    if depth > MAX_DEPTH:
        problem = Problem("yaml", f"nested more than {MAX_DEPTH} deep", "flatten it", file="python")
        raise as_error([problem], "python")
    if isinstance(value, Mapping):
        return {str(name): _plain(item, depth + 1) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, depth + 1) for item in value]
    return value


def read_text(source: str | Path) -> tuple[str, str]:
    """The name and the text of a file or of stdin.

    Raises:
        ConfigError: there is no such file, or it is no text.
    """
    name = str(source)
    text = text_of(name)
    if isinstance(text, Problem):
        raise as_error([text], name)
    return ("stdin" if name == STDIN else name), text


def read_old_booleans(draft: Draft) -> None:
    """Turn ``yes``, ``no``, ``on``, ``off`` and quoted words of boolean keys into truth values."""
    for path, meant in list(draft.old_booleans.items()):
        leaf = leaves().get(flat_of(path))
        word = draft.get(path)
        if leaf is None or not isinstance(word, str) or not takes(leaf.annotation, bool):
            continue
        said = str(meant).lower()
        given = f'"{word}"' if word.lower() == said else word
        draft.replace(path, {path: meant}, f"{dotted_path(path)}: {given} is read as `{said}`")


def _without_nulls(value: Any) -> Any:
    """The same without keys that are null: a null value means that the key is not set."""
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value


def _validate(draft: Draft) -> RunConfig:
    """The config of the draft's keys that are right; what is wrong becomes problems.

    Of a block or entry only the wrong keys are left out where that can be, so that the others are
    judged too.
    """
    draft.removed |= {str(path[0]) for path in draft.meant if len(path) == 1}
    config, found = _attempt(draft.values)
    for path, problem in found:
        if problem.code != "missing" or path not in draft.meant:
            draft.problems.append(draft.placed(problem, path))
    for path, _ in found:
        if not _mend(draft, path):
            _leave_out(draft, path)
    if config is not None:
        return config
    for path, _ in _attempt(draft.values)[1]:
        _leave_out(draft, path)
    return from_flat({**_STAND_INS, **draft.values})


def _attempt(
    values: Mapping[str, Any],
) -> tuple[RunConfig | None, list[tuple[TreePath, Problem]]]:
    """The config of the keys, or what is wrong with them."""
    try:
        return from_flat(values), []
    except ValidationError as error:
        return None, problems_of(error.errors(include_url=False))


def _mend(draft: Draft, path: TreePath) -> bool:
    """Take the wrong key of a block or entry out; False where the whole must go."""
    leaf = leaves().get(flat_of(path))
    if leaf is None or not leaf.parent or not isinstance(draft.get(path[:-1]), dict):
        return False
    if leaf.required:
        draft.get(path[:-1])[str(path[-1])] = _STAND_INS["base_model"]
    else:
        draft.drop(path)
    draft.damaged.add(path[:-1])
    return True


def _leave_out(draft: Draft, path: TreePath) -> None:
    top = _top_key(path)
    draft.removed.add(top)
    draft.drop((top,) if top in draft.values else path_of(top))


def _top_key(path: TreePath) -> str:
    """The top-level flat key that a path lies in."""
    for end in range(1, len(path) + 1):
        flat = ".".join(str(part) for part in path[:end])
        if flat in top_leaves():
            return flat
    raise KeyError(path)


def _load_plugins(draft: Draft, config: RunConfig) -> None:
    for number, name in enumerate(config.plugins.names):
        try:
            load_plugins([name])
        except ConfigError as error:
            draft.problem("refused", ("plugins", number), error.message, error.hint)


def _check(
    draft: Draft, asked: Asked, environment: Environment | None, *, strict_keys: bool
) -> None:
    skip = draft.removed | draft.silenced
    problems = broken_rules(asked, skip=skip)
    if draft.data_only:
        problems = list(_without_compared(draft, problems, asked.config))
    if environment is None:
        draft.deferred.extend(deferred_checks(asked))
    else:
        problems += machine_problems(asked, environment, skip=skip)
    for problem in problems:
        path = path_of(problem.key)
        is_damaged = any(path[:end] in draft.damaged for end in range(1, len(path) + 1))
        if not (is_damaged and problem.code in ("conflict", "missing")):
            draft.problems.append(draft.placed(problem, path))
    _say_idle(draft, asked.config, strict_keys=strict_keys)


def _say_idle(draft: Draft, config: RunConfig, *, strict_keys: bool) -> None:
    """A notice for each key that does nothing; a problem where what trains would differ, or where
    keys are ``strict_keys``.
    """
    for idle in draft.idle:
        if strict_keys:
            key = dotted_path(idle.path)
            fix, edit = f"take `{key}` out", {key: REMOVE}
            said = idle.text.removeprefix(f"{key} ").removeprefix("is ")
            problem = Problem("conflict", said, fix, key=key, edit=edit)
            draft.problems.append(put_at(problem, idle.place))
        else:
            draft.notices.append((idle.place.line or 0, f"{idle.place}: {idle.text}"))
    unknown = draft.removed | draft.silenced | {str(path[0]) for path in draft.damaged}
    unknown |= {dotted_path(path) for path in draft.meant}
    unknown |= {item.key for item in draft.problems if "." in item.key}
    for dead in dead_keys(config, dotted(draft.values), unknown):
        path = path_of(dead.key)
        if dead.alters_training or strict_keys:
            message = dead.message.partition(": ")[2]
            fix = f"take `{dead.key}` out, or set what it needs"
            draft.problem("conflict", path, message, fix, {dead.key: REMOVE})
        else:
            draft.notice(path, dead.message)


def _without_compared(
    draft: Draft, problems: Sequence[Problem], config: RunConfig
) -> Iterator[Problem]:
    """The problems but for types whose rows are compared: those become notices."""
    compared = {
        f"{key}.type": name
        for key, entry in entries(config)
        if is_compared(name := format_name(entry.type))
    }
    for problem in problems:
        if problem.code == "not-built" and problem.key in compared:
            named = f"training on rows of `{compared[problem.key]}`"
            draft.notice(path_of(problem.key), not_trained(named))
        else:
            yield problem


def _sources(draft: Draft) -> dict[str, KeySource]:
    """The place of each key, and of each key of a block or entry that was written."""
    given = dotted(draft.values)
    sources = {
        flat: draft.place(tuple(flat.split("."))) if flat in given else DEFAULT
        for flat in top_leaves()
    }
    inner = [path for path in draft.places if len(path) > 1 and draft.get(path) is not None]
    return sources | {dotted_path(path): draft.places[path] for path in inner}


def _error(draft: Draft) -> ConfigError:
    ordered = sorted(
        draft.problems,
        key=lambda problem: (problem.line is None, problem.line or 0, problem.column or 0),
    )
    error = as_error(ordered, draft.source)
    error.notices = _said(draft)
    return error


def as_error(problems: Sequence[Problem], name: str) -> ConfigError:
    """One error of all problems; its own message is the first problem's, or their number."""
    first = problems[0]
    if len(problems) == 1:
        message = f"{first.key}: {first.message}" if first.key else first.message
        return ConfigError(message, hint=first.fix, where=first.place or name, problems=problems)
    return ConfigError(
        f"{len(problems)} problems in {name}",
        hint="correct them and try again",
        where=name,
        problems=problems,
    )
