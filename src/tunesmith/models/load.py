"""A located base model as a ``transformers`` model: its config, then its weights."""

from __future__ import annotations

from typing import Any

import torch
import transformers
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    BitsAndBytesConfig,
    PreTrainedConfig,
    PreTrainedModel,
)

from tunesmith.errors import ExitCode, ModelError
from tunesmith.log import get_logger
from tunesmith.models.quiet import without_bars
from tunesmith.models.repacking import keep_values
from tunesmith.models.source import LocatedModel

log = get_logger(__name__)


def read_config(base: LocatedModel) -> PreTrainedConfig:
    """Return the model's config, the user's overrides applied; loads no weights.

    Raises:
        ModelError: transformers does not know the architecture (exit code 8 where the repository
            brings its own code), or an override names a field that the config lacks.
    """
    folder = base.settings.config_path or str(base.path)
    try:
        config: PreTrainedConfig = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except (ValueError, OSError) as error:
        raise _unreadable(base, error) from error
    if base.settings.trust_remote_code:
        log.warning(
            "notice: trust_remote_code has no effect: transformers has %s itself", config.model_type
        )
    for name, value in (base.settings.config_overrides or {}).items():
        if not hasattr(config, name):
            raise ModelError(
                f"the config of {config.model_type} has no field {name}",
                hint="see the model's config.json",
                where=f"overrides_of_model_config.{name}",
            )
        setattr(config, name, value)
    return config


def load_model(
    base: LocatedModel,
    dtype: torch.dtype,
    quantization: BitsAndBytesConfig | None,
    device: torch.device,
    attention: str,
) -> PreTrainedModel:
    """Return the model with its weights on ``device``, in evaluation mode.

    ``attention`` is a name in transformers' registry; ours must be registered before. Only
    safetensors are read, and no code of the repository runs.

    Raises:
        ModelError: a weight is missing from the files or has another shape.
    """
    model_class = _find_class(base.settings.class_name)
    arguments: dict[str, Any] = {
        "config": read_config(base),
        "dtype": dtype,
        "attn_implementation": attention,
        "use_safetensors": True,
        "trust_remote_code": False,
        "output_loading_info": True,
        "device_map": {"": device},
    }
    if quantization is not None:
        arguments["quantization_config"] = quantization
    try:
        with without_bars():
            model, loading = model_class.from_pretrained(base.path, **arguments)
    except (ValueError, OSError, RuntimeError) as error:
        raise ModelError(
            f"{base.original} cannot be loaded: {error}",
            hint="check that weights and config.json belong together",
            where="base_model",
        ) from error
    _check_complete(base, loading)
    loaded: PreTrainedModel = model
    keep_values(loaded)
    return loaded


def _check_complete(base: LocatedModel, loading: dict[str, Any]) -> None:
    """A missing weight is drawn at random by transformers; here it is an error."""
    wrong = {
        kind: sorted(str(key) for key in loading.get(kind) or ())
        for kind in ("missing_keys", "mismatched_keys", "error_msgs")
    }
    found = [
        f"{kind.replace('_', ' ')}: {', '.join(keys[:3])}" for kind, keys in wrong.items() if keys
    ]
    if found:
        raise ModelError(
            f"the weights of {base.original} do not fill the model ({'; '.join(found)})",
            hint="check that weights, config.json and overrides_of_model_config belong together",
            where="base_model",
        )


def _find_class(name: str | None) -> Any:
    if name is None:
        return AutoModelForCausalLM
    found = getattr(transformers, name, None)
    if not hasattr(found, "from_pretrained"):
        raise ModelError(
            f"transformers has no model class {name}",
            hint="leave model_type out: the class is read from the model's config",
            where="model_type",
        )
    return found


def _unreadable(base: LocatedModel, error: Exception) -> ModelError:
    text = str(error)
    if "trust_remote_code" in text or "custom code" in text:
        return ModelError(
            f"{base.original} needs code from its own repository, which is never run here",
            hint="choose a model that transformers has itself, or a newer transformers",
            where="trust_remote_code",
            exit_code=ExitCode.UNSAFE,
        )
    reason = text.splitlines()[0] if text else repr(error)
    return ModelError(
        f"the config of {base.original} cannot be read: {reason}",
        hint="install a transformers that knows this architecture, or choose another base_model",
        where="base_model",
    )
