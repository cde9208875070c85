"""Views of a policy's parameters under the names that other programs know.

Names are Hugging Face's: no wrapper's prefix, and one name for a tensor that two modules share.
An adapter's names are those that peft writes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import torch
from torch import Tensor

from tunesmith.errors import ExitCode, RunError
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


def fill_adapter(policy: Policy, tensors: Iterable[tuple[str, Tensor]]) -> None:
    """Put saved values (peft's names) into the adapter and the modules that train whole, in place.

    Raises:
        RunError: exit 5, a name is missing or unknown, or a shape differs; nothing was changed.
    """
    wanted = {
        saved: parameter
        for name, parameter in policy.model.named_parameters()
        if (saved := peft_name(name)) is not None
    }
    given = dict(tensors)
    wrong = sorted(wanted.keys() ^ given.keys()) or [
        name for name, parameter in wanted.items() if parameter.shape != given[name].shape
    ]
    if wrong:
        raise RunError(
            f"the saved adapter does not fit this model: {wrong[0]}"
            + (f" and {len(wrong) - 1} more" if len(wrong) > 1 else ""),
            hint="resume with the config that the checkpoint was made with",
            exit_code=ExitCode.DAMAGED,
        )
    with torch.no_grad():
        for name, parameter in wanted.items():
            parameter.copy_(given[name])


def fill_model(policy: Policy, tensors: Iterable[tuple[str, Tensor]]) -> None:
    """Put saved values into a model without adapters, in place.

    Raises:
        RunError: exit 5, a name is missing, unknown, or of a tensor that is fused in memory.
    """
    wanted = full_state(policy)
    own = {tensor.untyped_storage().data_ptr() for tensor in policy.model.state_dict().values()}
    filled = set()
    with torch.no_grad():
        for name, tensor in tensors:
            # What is no view of the model's own memory could be filled in vain.
            if name not in wanted or wanted[name].untyped_storage().data_ptr() not in own:
                raise _no_fit(name)
            wanted[name].copy_(tensor)
            filled.add(name)
    if wanted.keys() != filled:
        raise _no_fit(min(wanted.keys() - filled))


def _no_fit(name: str) -> RunError:
    return RunError(
        f"the saved weights do not fit this model: {name}",
        hint="resume with the config that the checkpoint was made with",
        exit_code=ExitCode.DAMAGED,
    )


def saved_name(policy: Policy, name: str) -> str:
    """Return the name under which a trained parameter is saved, from its in-memory name.

    With an adapter that is peft's; else the model's own, for a tied tensor the first of its names.
    Fused experts are taken apart when they are saved and keep no single name: they are not found.
    """
    return peft_name(name) or name
