"""Views of a policy's parameters under the names that other programs know.

Names are Hugging Face's: no wrapper's prefix, and one name for a tensor that two modules share.
An adapter's names are those that peft writes.
"""

from __future__ import annotations

import re

from torch import Tensor

from tunesmith.models.adapters import ADAPTER
from tunesmith.models.names import named_weights
from tunesmith.models.policy import Policy

PEFT_PREFIX = "base_model.model."


def trainable_state(policy: Policy) -> dict[str, Tensor]:
    """Return every trained parameter under its in-memory Hugging Face name; for optimizers."""
    return {n: p for n, p in policy.model.named_parameters() if p.requires_grad}


def adapter_state(policy: Policy) -> dict[str, Tensor]:
    """Return the adapter and the modules that train whole, as peft's file has them.

    The tensors are detached views of the parameters.
    """
    state = {}
    for name, parameter in policy.model.named_parameters():
        saved = peft_name(name)
        if saved is not None:
            state[saved] = parameter.detach()
    return state


def peft_name(name: str) -> str | None:
    """Return the name in peft's file for a parameter's in-memory name; None for the base's own."""
    if f".modules_to_save.{ADAPTER}." in f".{name}":
        return PEFT_PREFIX + name.replace(f"modules_to_save.{ADAPTER}.", "")
    if re.search(rf"\.lora_[A-Za-z_]+\.{ADAPTER}(\.|$)", name):
        return PEFT_PREFIX + re.sub(rf"\.{ADAPTER}(?=\.|$)", "", name, count=1)
    return None


def full_state(policy: Policy) -> dict[str, Tensor]:
    """Return all weights of a model without adapters, as its ``model.safetensors`` has them.

    Parameters and persistent buffers, detached; a tied head is left out, since it is its embedding.
    """
    return dict(named_weights(policy.model))
