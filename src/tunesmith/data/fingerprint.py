"""What prepared data depends on, as plain JSON, and its hash: the key of the cache.

Content decides: the bytes of the data files, the tokenizer, the template's text, the parameters
that matter, and the source code of every stage. Nothing depends on a time or a machine.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tunesmith.config.data import DatasetEntry
from tunesmith.data.facts import LAYOUT
from tunesmith.data.formats.load import format_modules
from tunesmith.data.imports import source_files
from tunesmith.data.render import RenderSettings
from tunesmith.data.sources import Location
from tunesmith.data.store import hash_file, hash_json
from tunesmith.errors import DataError

Recipe = dict[str, Any]
"""Everything that the prepared bytes depend on; JSON."""

_LATER_STAGES = {
    *("batch.py", "collate.py", "inspect.py", "mixing.py", "packing.py", "stream.py"),
    *("ahead.py", "catalogue.py", "live.py", "recipes.py"),
    *("compared.py", "explain.py", "reference.py", "survey.py"),
}
"""Names of files of this package that have no part in the prepared bytes."""

_LIBRARIES = ("jinja2", "pyarrow", "tokenizers")

_MIXTURE = {"weight", "repeats"}
"""Keys of an entry that decide how often its samples are drawn, not what they are."""


@cache
def code_digest() -> str:
    """A digest of the source code of all stages of preparation."""
    package = Path(__file__).parent
    files = sorted(path for path in package.rglob("*.py") if path.name not in _LATER_STAGES)
    return hash_json([[path.relative_to(package).as_posix(), hash_file(path)] for path in files])


def set_recipe(
    entry: DatasetEntry,
    location: Location,
    settings: RenderSettings,
    parameters: Mapping[str, Any],
) -> Recipe:
    """What the rendered samples of one data set depend on."""
    return {
        "layout": LAYOUT,
        "code": code_digest(),
        "libraries": {name: version(name) for name in _LIBRARIES},
        "entry": entry.model_dump(mode="json", exclude=_MIXTURE),
        "files": [[str(path), hash_file(path)] for path in location.files],
        "left_out": [str(path) for path, _ in location.left_out],
        "given": location.saved.digest() if location.saved is not None else None,
        "format": _format_digest(entry),
        "render": {"digest": settings.digest, **_render_parts(settings)},
        "parameters": dict(parameters),
    }


def _render_parts(settings: RenderSettings) -> Recipe:
    """What the digest of the settings is made of, so that a change can be named."""
    parts = settings.parts
    template = settings.template
    parts["template"] = template and [template.name, template.digest]
    plain: Recipe = json.loads(json.dumps(parts, sort_keys=True, default=str))
    return plain


def whole_recipe(sets: Sequence[Recipe], parameters: Mapping[str, Any]) -> Recipe:
    """What a whole prepared folder depends on."""
    return {"layout": LAYOUT, "datasets": list(sets), "parameters": dict(parameters)}


def key_of(recipe: Recipe) -> str:
    """The recipe's hash, short enough for a folder's name."""
    return hash_json(recipe)[:32]


def stamps(paths: Iterable[Path]) -> dict[str, tuple[int, int]]:
    """Size and time of change of each file: tells whether one was written while it was read."""
    found = {str(path): path.stat() for path in paths}
    return {name: (stat.st_size, stat.st_mtime_ns) for name, stat in found.items()}


def refuse_changed(
    before: Mapping[str, tuple[int, int]], after: Mapping[str, tuple[int, int]]
) -> None:
    """Raise where a file is not the one that it was.

    Raises:
        DataError: with the file's name.
    """
    for name, stamp in before.items():
        if after[name] != stamp:
            raise DataError(
                f"{name} was written to while it was read",
                hint="run again when nothing writes to it any more",
                where=name,
            )


def _format_digest(entry: DatasetEntry) -> str:
    """The code that reads the rows: of a module of the user's, with all of theirs it imports."""
    files = source_files(format_modules(entry))
    return hash_json([[name, hash_file(path)] for name, path in files.items()])
