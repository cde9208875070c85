"""Where a base model is: a hub id, a folder, or a ``.gguf`` file, made into one local folder."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tunesmith.config.model import ModelSection
from tunesmith.dist.runtime import cache_dir
from tunesmith.log import get_logger
from tunesmith.models.hub import CODE, SETTINGS, fetch, missing
from tunesmith.models.remote_code import admit, approved_commit, needs_code
from tunesmith.models.screen import require_no_pickle, screen, screen_model

Kind = Literal["hub", "folder", "gguf"]

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class LocatedModel:
    """A base model on this machine.

    ``path`` is a folder in Hugging Face layout with safetensors. ``original`` is what the config
    named. ``sha256`` is the hash of the ``.gguf`` file, ``commit`` the hub's; the other is None.
    """

    path: Path
    original: str
    kind: Kind
    settings: ModelSection
    sha256: str | None = None
    commit: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the record for ``tunesmith.json``."""
        return {
            "original": self.original,
            "kind": self.kind,
            "path": str(self.path),
            "sha256": self.sha256,
            "commit": self.commit,
            "config_path": self.settings.config_path,
            "config_overrides": self.settings.config_overrides,
        }


def locate(model: ModelSection, *, cache: Path | None = None) -> LocatedModel:
    """Return the base model as a local folder; downloads from the hub, converts a ``.gguf`` once.

    ``cache`` holds converted models under ``models/<sha256 of the file>``.

    Raises:
        ModelError: there is no such file or folder and the hub does not give it (exit code 2), or
            it is refused for safety: pickled weights only, code of its own that is not approved,
            or a config that names what would run or lead out of the folder (exit code 8).
    """
    given = Path(model.base).expanduser()
    if model.base.endswith(".gguf"):
        if not given.is_file():
            raise missing(model.base, "no such file")
        from tunesmith.models.gguf import convert  # imports torch, which other bases do without

        sha256 = hash_file(given)
        folder = convert(given, (cache or cache_dir()) / "models" / sha256, sha256=sha256)
        return LocatedModel(folder, model.base, "gguf", model, sha256=sha256)
    if given.is_dir():
        base = LocatedModel(given.resolve(), model.base, "folder", model)
    elif given.exists():
        raise missing(model.base, "it is a file, but not a .gguf")
    else:
        folder = fetch(model.base, model.revision or approved_commit(model.remote_code))
        base = LocatedModel(folder, model.base, "hub", model, commit=folder.name)
    _check_folder(base)
    return base


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_weights(folder: Path) -> str:
    """Return one SHA-256 over names and bytes of a folder's safetensors files."""
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.safetensors")):
        digest.update(f"{path.name}:{hash_file(path)}\n".encode())
    return digest.hexdigest()


def local_settings(name: str, where: str) -> Path:
    """The folder of a config or tokenizer that is named apart from the model, screened.

    Raises:
        ModelError: it is nowhere (exit code 2), or is refused for safety (exit code 8).
    """
    given = Path(name).expanduser()
    if given.name == "config.json" and given.is_file():
        given = given.parent
    folder = given.resolve() if given.is_dir() else fetch(name, None, SETTINGS, where=where)
    screen(folder, name)
    return folder


def _check_folder(base: LocatedModel) -> None:
    """Refuse what cannot be loaded safely, before any library reads it."""
    if not (base.path / "config.json").is_file():
        raise missing(base.original, "the folder has no config.json")
    require_no_pickle(base.path, base.original, "model", "base_model")
    if not any(base.path.glob("*.safetensors")):
        raise missing(base.original, "the folder has no weights")
    screen_model(base.path, base.original)
    approved = base.settings.remote_code
    if not needs_code(base.path):
        if approved is not None:
            log.warning("notice: remote_code has no effect: transformers has the model itself")
        return
    if base.commit is not None:
        fetch(base.original, base.commit, CODE)
    admit(base.path, base.original, base.commit, approved)
