"""Why the prepared data of a config is found in the cache, or is not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunesmith.config.schema import RunConfig
from tunesmith.data.catalogue import Kind, recipes
from tunesmith.data.facts import PREPARED, SET, read_facts
from tunesmith.data.fingerprint import Recipe, key_of
from tunesmith.data.prepare import SETS, silent, whole_recipe_of
from tunesmith.data.recipes import Nearest, find_nearest
from tunesmith.data.windows import Windows
from tunesmith.dist.runtime import cache_dir
from tunesmith.models.source import locate
from tunesmith.models.tokenizer import load_tokenizer
from tunesmith.runs.prepare import request_of
from tunesmith.runs.streams import windows_of


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage of preparation: is it there, and if not, what is nearest to it."""

    what: str
    key: str
    path: Path
    is_hit: bool
    nearest: Nearest | None

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        near = self.nearest
        changed = [str(one) for one in near.differences] if near else []
        return {
            "stage": self.what,
            "key": self.key,
            "path": str(self.path),
            "hit": self.is_hit,
            "nearest": near.key if near else None,
            "differences": changed,
        }


def prepared_dir(config: RunConfig | None = None) -> Path:
    """The folder of the prepared data: the config's own, or everybody's."""
    own = config.data.prepared_path if config is not None else None
    return Path(own) if own else cache_dir() / "prepared"


def explain(config: RunConfig) -> list[Stage]:
    """Each data set's rendering, then the whole; the files are hashed, nothing is prepared.

    Raises:
        ModelError, DataError, ConfigError: as ``prepare``, for what can be told without rows.
    """
    tokenizer = load_tokenizer(locate(config.model), config.tokenizer)
    request = request_of(config, tokenizer, ())
    if config.data.streaming:
        return [_stream(windows_of(request, silent))]
    whole = whole_recipe_of(request)
    folder = request.cache_dir
    kept = {kind: recipes(folder, kind) for kind in ("set", "prepared")}
    stages = [
        _stage(str(one["entry"]["path"]), "set", one, folder / SETS, kept["set"])
        for one in whole["datasets"]
    ]
    return [*stages, _stage("all of it together", "prepared", whole, folder, kept["prepared"])]


def _stream(windows: Windows) -> Stage:
    """A stream is prepared while it trains: what is told is whether any window of it is there."""
    is_hit = any(windows.folder.glob("window-*"))
    return Stage("windows of the stream", windows.folder.name, windows.folder, is_hit, None)


def _stage(
    what: str, kind: Kind, recipe: Recipe, folder: Path, kept: Mapping[str, Recipe]
) -> Stage:
    key = key_of(recipe)
    is_hit = read_facts(folder / key, SET if kind == "set" else PREPARED) is not None
    return Stage(what, key, folder / key, is_hit, None if is_hit else find_nearest(kept, recipe))
