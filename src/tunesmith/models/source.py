"""Where a base model is: a hub id, a folder, or a ``.gguf`` file, made into one local folder."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

from tunesmith.config.model import ModelSection
from tunesmith.dist.runtime import cache_dir
from tunesmith.errors import ExitCode, ModelError
from tunesmith.models.gguf import convert

Kind = Literal["hub", "folder", "gguf"]

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
_WANTED = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja", "*.tiktoken"]


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
            it holds pickled weights or code of its own only (exit code 8).
    """
    given = Path(model.base).expanduser()
    if model.base.endswith(".gguf"):
        if not given.is_file():
            raise _missing(model.base, "no such file")
        sha256 = hash_file(given)
        folder = convert(given, (cache or cache_dir()) / "models" / sha256, sha256=sha256)
        return LocatedModel(folder, model.base, "gguf", model, sha256=sha256)
    if given.is_dir():
        base = LocatedModel(given.resolve(), model.base, "folder", model)
    elif given.exists():
        raise _missing(model.base, "it is a file, but not a .gguf")
    else:
        folder = _download(model)
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


def _download(model: ModelSection) -> Path:
    if not _HUB_ID.fullmatch(model.base):
        raise _missing(model.base, "no such folder, and it is no hub id either")
    try:
        return Path(snapshot_download(model.base, revision=model.revision, allow_patterns=_WANTED))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        first_line = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
        raise _missing(
            model.base, f"no such folder, and the hub does not give it: {first_line}"
        ) from error


def _missing(name: str, reason: str) -> ModelError:
    return ModelError(
        f"the base model {name} cannot be found: {reason}",
        hint="give a folder with config.json and safetensors, a .gguf file, or a hub id "
        "(with a connection, and `hf auth login` where the repository is gated)",
        where="base_model",
    )


def _check_folder(base: LocatedModel) -> None:
    """Refuse what cannot be loaded safely, before anything is read from it."""
    config_path = base.path / "config.json"
    if not config_path.is_file():
        raise _missing(base.original, "the folder has no config.json")
    if not any(base.path.glob("*.safetensors")):
        pickles = sorted(p.name for p in base.path.iterdir() if p.suffix in (".bin", ".pt", ".pth"))
        if not pickles:
            raise _missing(base.original, "the folder has no weights")
        raise ModelError(
            f"{base.original} has pickled weights only ({pickles[0]}); a pickle can run any code",
            hint="convert them to safetensors, or take a revision that has them",
            where="base_model",
            exit_code=ExitCode.UNSAFE,
        )
    try:
        json.loads(config_path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError(
            f"the model's config.json is not JSON: {error}",
            hint="fetch the model again",
            where=str(config_path),
        ) from error
