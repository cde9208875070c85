"""Views of a policy's parameters under the names that other programs know.

Names are Hugging Face's: no wrapper's prefix, and one name for a tensor that two modules share.
An adapter's names are those that peft writes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor
from transformers import PreTrainedModel

from tunesmith.errors import ExitCode, RunError
from tunesmith.models.adapters import ADAPTER
from tunesmith.models.names import named_weights, own_tensors, taken_apart
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

    What is fused in memory (experts) is filled once all of its parts have come.

    Raises:
        RunError: exit 5, a name is missing or unknown, or a shape differs.
    """
    model = policy.model
    state = own_tensors(model)
    parts = {name: set(_apart(model, name, tensor)) for name, tensor in state.items()}
    homes = {part: name for name, names in parts.items() for part in names}
    waiting: dict[str, dict[str, Tensor]] = {}
    with torch.no_grad():
        for name, tensor in tensors:
            home = homes.pop(name, None)
            if home is None:
                raise _no_fit(name)
            given = waiting.setdefault(home, {})
            given[name] = tensor
            if given.keys() == parts[home]:
                _fill(model, home, state[home], waiting.pop(home))
    if homes:
        raise _no_fit(min(homes))


def _apart(model: PreTrainedModel, name: str, tensor: Tensor) -> dict[str, Tensor]:
    """What becomes of one of the model's tensors in its files: names, and shapes without values."""
    return taken_apart(model, {name: torch.empty_like(tensor, device="meta")})


def _fill(model: PreTrainedModel, name: str, target: Tensor, parts: Mapping[str, Tensor]) -> None:
    """Put the parts where they lie in the tensor, which a tensor of places is taken apart to see.

    Raises:
        RunError: exit 5, a shape differs.
    """
    if parts.keys() == {name} and parts[name].shape == target.shape:
        target.copy_(parts[name])
        return
    places = torch.arange(target.numel()).view(target.shape)
    for part, where in taken_apart(model, {name: places}).items():
        if parts[part].shape != where.shape:
            raise _no_fit(part)
        flat = parts[part].flatten().to(device=target.device, dtype=target.dtype)
        target.view(-1)[where.flatten().to(target.device)] = flat


def _no_fit(name: str) -> RunError:
    return RunError(
        f"the saved weights do not fit this model: {name}",
        hint="resume with the config that the checkpoint was made with",
        exit_code=ExitCode.DAMAGED,
    )


def saved_tensors(policy: Policy, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors under the names that they are saved under, from their in-memory names.

    With an adapter these are peft's; else the model's own, what is fused in memory taken apart.
    """
    adapted = {saved: t for name, t in tensors.items() if (saved := peft_name(name)) is not None}
    own = {name: t.detach() for name, t in tensors.items() if peft_name(name) is None}
    return adapted | taken_apart(policy.model, own)
