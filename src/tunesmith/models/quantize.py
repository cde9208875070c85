"""4- and 8-bit base weights through bitsandbytes, which runs on CPUs and GPUs."""

from __future__ import annotations

import inspect
from importlib.util import find_spec
from typing import Any

import torch
from transformers import BitsAndBytesConfig, PreTrainedModel

from tunesmith.config.quant import QuantSection
from tunesmith.errors import ModelError

_QUANTISED_CLASSES = ("Linear4bit", "Linear8bitLt")


def build_quantization(section: QuantSection, compute: torch.dtype) -> BitsAndBytesConfig | None:
    """Return how transformers shall quantise the base, or None where it shall not.

    4 bits are NF4 with quantised scales, the head stays as it is. ``compute`` is the dtype that
    dequantised weights multiply in. ``bnb_config_kwargs`` overwrites any of these.

    Raises:
        ModelError: bitsandbytes is missing, or an argument is not one of its own.
    """
    if not (section.load_in_4bit or section.load_in_8bit):
        return None
    if find_spec("bitsandbytes") is None:
        raise ModelError(
            "4- and 8-bit weights need the package bitsandbytes",
            hint="pip install 'tunesmith[bnb]'",
            where="load_in_4bit" if section.load_in_4bit else "load_in_8bit",
        )
    arguments: dict[str, Any] = (
        {
            "load_in_4bit": True,
            "bnb_4bit_quant_type": "nf4",
            "bnb_4bit_use_double_quant": True,
            "bnb_4bit_compute_dtype": compute,
            "bnb_4bit_quant_storage": "uint8",
        }
        if section.load_in_4bit
        else {"load_in_8bit": True}
    )
    return _build(arguments | (section.bnb_args or {}))


def _build(arguments: dict[str, Any]) -> BitsAndBytesConfig:
    # The class takes unknown arguments and forgets them.
    known = set(inspect.signature(BitsAndBytesConfig.__init__).parameters)
    unknown = sorted(set(arguments) - known)
    try:
        if unknown:
            raise TypeError(f"unknown {', '.join(unknown)}")
        return BitsAndBytesConfig(**arguments)
    except (TypeError, ValueError, AttributeError) as error:
        raise ModelError(
            f"BitsAndBytesConfig does not take these arguments: {error}",
            hint="see the documentation of transformers.BitsAndBytesConfig",
            where="bnb_config_kwargs",
        ) from error


def is_quantized(model: PreTrainedModel) -> bool:
    """Tell whether any layer of the model holds quantised weights."""
    return any(type(module).__name__ in _QUANTISED_CLASSES for module in model.modules())
