"""Section ``model``: which weights and which classes to load."""

from __future__ import annotations

from typing import Any

from tunesmith.config.section import Section, key


class ModelSection(Section):
    """Where the base model comes from."""

    base: str = key(
        ...,
        "The base model: a hub id, a local folder, or a `.gguf` file (dequantised at load).",
        flat="base_model",
        readers="tunesmith.models.source",
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
        "Never obeyed: code of a model's repository is not run; a model that needs it is refused.",
        flat="trust_remote_code",
        readers="tunesmith.models.load",
    )
    config_overrides: dict[str, Any] | None = key(
        None,
        "Fields of the model's config to overwrite.",
        flat="overrides_of_model_config",
        readers="tunesmith.models.load tunesmith.models.source",
    )
