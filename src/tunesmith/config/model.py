"""Section ``model``: which weights and which classes to load."""

from __future__ import annotations

from typing import Any

from tunesmith.config.section import Section, key


class RemoteCode(Section):
    """Code of a model's repository that somebody has read, by its bytes."""

    repo: str = key(
        ...,
        "The repository, as `base_model` names it.",
        readers="tunesmith.models.remote_code",
    )
    commit: str | None = key(
        None,
        "The commit, all 40 hex digits; left out where `base_model` is a local folder.",
        readers="tunesmith.models.remote_code",
    )
    sha256: dict[str, str] = key(
        ...,
        "The SHA-256 (64 hex digits) of every `.py` file of the repository, by its path in it.",
        readers="tunesmith.models.remote_code",
    )


class ModelSection(Section):
    """Where the base model comes from."""

    base: str = key(
        ...,
        "The base model: a hub id, a local folder, or a `.gguf` file (dequantised at load).",
        flat="base_model",
        readers="tunesmith.models.source tunesmith.runs.sent",
    )
    config_path: str | None = key(
        None,
        "Read the model's config from here instead.",
        flat="base_model_config",
        readers="tunesmith.models.load tunesmith.models.source",
    )
    revision: str | None = key(
        None,
        "Commit, branch or tag of the hub repository.",
        flat="revision_of_model",
        readers="tunesmith.models.source",
    )
    class_name: str | None = key(
        None,
        "The transformers class to load; `AutoModelForCausalLM` when left out.",
        flat="model_type",
        readers="tunesmith.models.load",
    )
    trust_remote_code: bool = key(
        False,
        "Never enough: a model that needs code of its repository is refused until `remote_code` "
        "names the code's bytes; where transformers has the model itself, nothing is run.",
        flat="trust_remote_code",
        readers="tunesmith.models.load",
    )
    remote_code: RemoteCode | None = key(
        None,
        "Code of the model's repository that may run: repository, commit and the hash of each "
        "file. `train` prints the block for a model that needs it. Anything else that is found "
        "ends the run with exit code 8.",
        flat="remote_code",
        readers="tunesmith.models.source",
    )
    config_overrides: dict[str, Any] | None = key(
        None,
        "Fields of the model's config to overwrite.",
        flat="overrides_of_model_config",
        readers="tunesmith.models.load tunesmith.models.source",
    )
