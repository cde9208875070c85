"""A folder that a run ended with: what is in it, and loading it as anybody would.

Only transformers and peft are used to load, so that what works here works elsewhere.
"""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel, get_peft_model_state_dict
from transformers import AutoConfig, AutoModelForCausalLM, BitsAndBytesConfig, PreTrainedModel

from tunesmith.checkpoint.weights import ADAPTER, MODEL, has_weights, read_weights
from tunesmith.errors import ExitCode, RunError
from tunesmith.models.adapters import untied
from tunesmith.models.quiet import without_bars
from tunesmith.models.repacking import keep_values

RECORD = "tunesmith.json"
ADAPTER_CONFIG = "adapter_config.json"


@dataclass(frozen=True, slots=True)
class Finished:
    """A loadable folder. ``record`` is its ``tunesmith.json``; other tools' folders have none.

    ``base`` is what an adapter stands on: a folder, or a hub id with its ``revision``. None for
    whole models.
    """

    path: Path
    base: str | None
    revision: str | None = None
    record: dict[str, Any] = field(default_factory=dict)

    @property
    def is_adapter(self) -> bool:
        """Whether the folder holds an adapter, not a whole model."""
        return self.base is not None

    @property
    def dtype(self) -> torch.dtype | None:
        """The dtype of the weights in training, where it was recorded."""
        name = self.record.get("dtype")
        return getattr(torch, name) if name is not None else None

    @property
    def quantization(self) -> dict[str, Any] | None:
        """How the base was quantised in training, if it was."""
        settings: dict[str, Any] | None = self.record.get("quantization")
        return settings

    @property
    def base_settings(self) -> tuple[str | None, dict[str, Any]]:
        """Where the base's config was read from, if elsewhere, and which fields were overwritten.

        A whole model's own config says both already.
        """
        base = (self.record.get("base") or {}) if self.is_adapter else {}
        return base.get("config_path"), base.get("config_overrides") or {}


def describe(model: PreTrainedModel) -> dict[str, Any]:
    """The part of ``tunesmith.json`` that says how to load the model as it was trained.

    ``dtype`` is that of the weights that are not quantised.
    """
    quantization = getattr(model.config, "quantization_config", None)
    return {
        "dtype": str(model.dtype).removeprefix("torch."),
        "quantization": quantization.to_dict() if quantization is not None else None,
    }


def open_finished(folder: Path) -> Finished:
    """What ``folder`` holds.

    Raises:
        RunError: exit 2, it holds no model; exit 5, its ``tunesmith.json`` cannot be read.
    """
    record: dict[str, Any] = {}
    if (folder / RECORD).is_file():
        record = _read_json(folder / RECORD)
    if (folder / ADAPTER_CONFIG).is_file() and has_weights(folder, ADAPTER):
        config = _read_json(folder / ADAPTER_CONFIG)
        base, revision = str(config["base_model_name_or_path"]), config.get("revision")
        return Finished(folder, base, revision, record)
    if (folder / "config.json").is_file() and has_weights(folder, MODEL):
        return Finished(folder, None, record=record)
    raise RunError(
        f"{folder} holds neither a model nor an adapter",
        hint="name the output_dir of a finished run, or one of its checkpoints",
        where=str(folder),
        exit_code=ExitCode.WRONG_INPUT,
    )


def load_base(
    finished: Finished, *, device: torch.device | str, base: str | None = None
) -> PreTrainedModel:
    """The model under an adapter as it was in training (quantised if it was), or the whole model.

    ``base`` is used in place of the recorded one; the run's own changes to its config are made.

    Raises:
        RunError: exit 2, transformers cannot load it.
    """
    source = base or finished.base or str(finished.path)
    arguments: dict[str, Any] = {
        "dtype": finished.dtype or "auto",
        "device_map": {"": torch.device(device)},
        "use_safetensors": True,
    }
    if finished.is_adapter and finished.quantization is not None:
        arguments["quantization_config"] = BitsAndBytesConfig.from_dict(finished.quantization)
    if base is None and finished.revision is not None:
        arguments["revision"] = finished.revision
    try:
        arguments |= _changed_config(finished, source, arguments.get("revision"))
        with without_bars():
            model = AutoModelForCausalLM.from_pretrained(source, **arguments)
    except (OSError, ValueError) as error:
        raise RunError(
            f"{source} cannot be loaded: {str(error).splitlines()[0]}",
            hint="name the base model's folder with --base-model, or fetch it again",
            where=str(finished.path),
            exit_code=ExitCode.WRONG_INPUT,
        ) from error
    keep_values(model)
    loaded: PreTrainedModel = model.eval()
    return loaded


def _changed_config(finished: Finished, source: str, revision: str | None) -> dict[str, Any]:
    """The argument ``config`` where the run had another one than the base's folder holds."""
    path, overrides = finished.base_settings
    if path is None and not overrides:
        return {}
    where = {"revision": revision} if path is None and revision is not None else {}
    config = AutoConfig.from_pretrained(path or source, trust_remote_code=False, **where)
    for name, value in overrides.items():
        setattr(config, name, value)
    return {"config": config}


def load_finished(
    finished: Finished, *, device: torch.device | str, base: str | None = None
) -> PreTrainedModel | PeftModel:
    """The trained model in evaluation mode, with its adapter on top where it has one.

    Raises:
        RunError: as ``load_base``; exit 5, the adapter's weights do not fill the adapter.
    """
    model = load_base(finished, device=device, base=base)
    return put_on(model, finished) if finished.is_adapter else model


def put_on(model: PreTrainedModel, finished: Finished) -> PeftModel:
    """The adapter of ``finished`` on ``model``, which is changed in place.

    Raises:
        RunError: exit 5, names in the file and in the adapter differ.
    """
    with untied(), warnings.catch_warnings():
        # peft asks transformers by a name that transformers 5 has renamed, and is told so.
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
        # What is missing is an error, below.
        warnings.filterwarnings("ignore", "Found missing adapter keys", UserWarning)
        adapted = PeftModel.from_pretrained(
            model, str(finished.path), torch_device=str(model.device)
        )
    given = {name for name, _ in read_weights(finished.path, ADAPTER)}
    wanted = set(get_peft_model_state_dict(adapted, save_embedding_layers=False))
    if given != wanted:
        raise RunError(
            f"the adapter in {finished.path} does not fit its base: {min(given ^ wanted)}",
            hint="name the base model that it was trained on with --base-model",
            where=str(finished.path),
            exit_code=ExitCode.DAMAGED,
        )
    return adapted.eval()


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise RunError(
            f"{path.name} cannot be read: {error}",
            hint="export the model again",
            where=str(path),
            exit_code=ExitCode.DAMAGED,
        ) from error
    return content
