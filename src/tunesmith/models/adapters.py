"""LoRA adapters: which modules get one, with which values, and how to switch them off.

The layers are peft's own, injected into the model, so that Hugging Face names stay and the saved
adapter loads in plain peft.
"""

from __future__ import annotations

import difflib
import math
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.other import ModulesToSaveWrapper
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from tunesmith.config.adapters import AdaptersSection
from tunesmith.errors import ModelError
from tunesmith.log import get_logger
from tunesmith.models.seeds import draw_uniform

log = get_logger(__name__)

ADAPTER = "default"
"""peft's name for the one adapter; it never reaches a file."""


@dataclass(frozen=True, slots=True)
class AdapterInfo:
    """What was injected.

    ``adapter_config`` is the content of ``adapter_config.json``, plain data. ``modules`` names
    every adapted module, ``saved_whole`` those that train as a full copy.
    """

    adapter_config: dict[str, Any]
    modules: tuple[str, ...]
    saved_whole: tuple[str, ...]


def add_adapter(
    model: PreTrainedModel,
    section: AdaptersSection,
    seed: int,
    *,
    base_name: str,
    revision: str | None = None,
) -> AdapterInfo:
    """Inject the adapter that the section describes; only it trains afterwards.

    Adapters and modules that train whole are float32. Their values depend on (seed, name) alone.
    ``base_name`` is what the saved adapter calls its base, ``revision`` its commit on the hub.

    Raises:
        ModelError: a rule matches no module.
    """
    config = LoraConfig(
        r=section.rank,
        lora_alpha=section.alpha,
        lora_dropout=section.dropout,
        target_modules=find_targets(model, section),
        modules_to_save=_find_whole(model, section.modules_to_save or ()),
        fan_in_fan_out=_transposed(model, section),
        use_rslora=section.rslora,
        bias="none",
        task_type="CAUSAL_LM",
        base_model_name_or_path=base_name,
        revision=revision,
    )
    model.requires_grad_(requires_grad=False)
    try:
        with untied():
            inject_adapter_in_model(config, model, adapter_name=ADAPTER)
    except ValueError as error:
        raise ModelError(
            f"peft cannot adapt these modules: {error}",
            hint="name other modules, or set lora_target_linear: true",
            where="lora_target_modules",
        ) from error
    if getattr(model.config, "tie_word_embeddings", False) and _trains_a_tied_part(model):
        log.warning(
            "notice: %s ties its head to its embedding; the adapter changes one without the other",
            type(model).__name__,
        )
    _draw(model, seed)
    _compute_as_before(model)
    return AdapterInfo(
        adapter_config=_as_plain(config),
        modules=tuple(n for n, m in model.named_modules() if isinstance(m, LoraLayer)),
        saved_whole=tuple(n for n, m in model.named_modules() if type(m) is ModulesToSaveWrapper),
    )


def find_targets(model: PreTrainedModel, section: AdaptersSection) -> list[str] | str | None:
    """Return peft's ``target_modules``: names, one regular expression, or None for peft's default.

    Raises:
        ModelError: a name or the expression matches no module; the nearest names are in the hint.
    """
    rule = section.target_modules
    linear = _linear_names(model) if section.target_linear else []
    if isinstance(rule, str) and rule != "all-linear":
        return _check_expression(model, rule, linear)
    if rule == "all-linear":
        return sorted({*linear, *_linear_names(model)})
    names = sorted({*(rule or ()), *linear})
    modules = [name for name, _ in model.named_modules()]
    for name in rule or ():
        if not any(found == name or found.endswith(f".{name}") for found in modules):
            raise _unmatched(model, name, "lora_target_modules")
    return names or None


@contextmanager
def untied() -> Iterator[None]:
    """Peft does not warn inside of a tied embedding that the adapter changes: we say it once."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Model has `tie_word_embeddings=True`", UserWarning)
        yield


@contextmanager
def as_loaded(model: nn.Module) -> Iterator[None]:
    """Modules that train whole have their base's dtype inside, as peft will load them."""
    kept = [(copy, copy.data) for copy, _ in _trained_whole(model)]
    for copy, original in _trained_whole(model):
        copy.data = copy.data.to(original.dtype)
    try:
        yield
    finally:
        for copy, data in kept:
            copy.data = data


@contextmanager
def disabled(model: nn.Module) -> Iterator[None]:
    """Run the base as it was: adapters and modules that train whole are out of the way inside.

    What trains is the same afterwards.
    """
    layers: list[Any] = [
        module
        for module in model.modules()
        if isinstance(module, BaseTunerLayer) or type(module) is ModulesToSaveWrapper
    ]
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for layer in layers:
        layer.enable_adapters(enabled=False)
    try:
        yield
    finally:
        for layer in layers:
            layer.enable_adapters(enabled=True)
        for parameter in trained:
            parameter.requires_grad = True


def _wrappers(model: nn.Module) -> Iterator[tuple[nn.Module, nn.Module]]:
    """Each module that trains whole, and the frozen one that it stands for."""
    found: list[Any] = [m for m in model.modules() if type(m) is ModulesToSaveWrapper]
    return ((m.modules_to_save[ADAPTER], m.original_module) for m in found)


def _trains_a_tied_part(model: PreTrainedModel) -> bool:
    tied = (model.get_input_embeddings(), model.get_output_embeddings())
    return any(isinstance(part, BaseTunerLayer | ModulesToSaveWrapper) for part in tied)


def _trained_whole(model: nn.Module) -> Iterator[tuple[nn.Parameter, nn.Parameter]]:
    """The parameters of those modules, and the base's."""
    for copy, original in _wrappers(model):
        yield from zip(copy.parameters(), original.parameters(), strict=True)


def _compute_as_before(model: nn.Module) -> None:
    """Let modules that train whole, in float32, answer in the numbers of the base.

    Autocast leaves embeddings and norms as they are; float32 from them would go through the whole
    model, and layers that take one dtype alone would refuse it.
    """
    for copy, original in _wrappers(model):
        dtype = next((parameter.dtype for parameter in original.parameters()), torch.float32)
        if dtype.is_floating_point and dtype != torch.float32:
            copy.register_forward_hook(lambda _, __, output, dtype=dtype: output.to(dtype))


def _draw(model: nn.Module, seed: int) -> None:
    """Give the new parameters their dtype and values: A uniform as peft draws it, B zero."""
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        parameter.data = parameter.data.to(torch.float32)
        if ".lora_A." in name:
            # Kaiming with a = sqrt(5), as torch's own linear layers: 1 / sqrt(fan in).
            draw_uniform(parameter, 1 / math.sqrt(parameter.shape[1]), seed=seed, name=name)
        elif ".lora_embedding_B." in name:
            draw_uniform(parameter, math.sqrt(3), seed=seed, name=name)
        elif ".lora_B." in name or ".lora_embedding_A." in name:
            nn.init.zeros_(parameter)


def _linear_names(model: PreTrainedModel) -> list[str]:
    """The last parts of the names of all linear layers but the head."""
    head = model.get_output_embeddings()
    names = {
        name.rsplit(".", 1)[-1]
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | Conv1D) and module is not head
    }
    return sorted(names)


def _check_expression(model: PreTrainedModel, rule: str, linear: Sequence[str]) -> str:
    """One expression that matches what the rule matches, and the linear layers if asked for."""
    try:
        pattern = re.compile(rule)
    except re.error as error:
        raise ModelError(
            f"{rule!r} is not a regular expression: {error}",
            hint="give a list of module names instead",
            where="lora_target_modules",
        ) from error
    if not any(pattern.fullmatch(name) for name, _ in model.named_modules()):
        raise _unmatched(model, rule, "lora_target_modules")
    if not linear:
        return rule
    return rf"(?:{rule})|(?:.*\.)?(?:{'|'.join(re.escape(name) for name in linear)})"


def _find_whole(model: PreTrainedModel, names: Sequence[str]) -> list[str] | None:
    modules = [name for name, _ in model.named_modules()]
    for name in names:
        if not any(found == name or found.endswith(f".{name}") for found in modules):
            raise _unmatched(model, name, "lora_modules_to_save")
    return list(names) or None


def _unmatched(model: PreTrainedModel, rule: str, key: str) -> ModelError:
    leaves = sorted({name.rsplit(".", 1)[-1] for name, _ in model.named_modules() if name})
    leaves = [leaf for leaf in leaves if not leaf.isdigit()]
    nearest = difflib.get_close_matches(rule.rsplit(".", 1)[-1], leaves, n=3, cutoff=0.4)
    return ModelError(
        f"{rule!r} matches no module of {type(model).__name__}",
        hint=f"the nearest names are: {', '.join(nearest or leaves)}",
        where=key,
    )


def _transposed(model: PreTrainedModel, section: AdaptersSection) -> bool:
    """What the layers are; peft, too, goes by them and only warns of an answer that is wrong."""
    found = any(isinstance(module, Conv1D) for module in model.modules())
    if section.fan_in_fan_out not in (None, found):
        log.warning(
            "notice: lora_fan_in_fan_out: %s has no effect: the weights of %s are %stransposed",
            str(section.fan_in_fan_out).lower(),
            type(model).__name__,
            "" if found else "not ",
        )
    return found


def _as_plain(config: LoraConfig) -> dict[str, Any]:
    """The config as it goes into a file: sets as sorted lists, enums as their values."""

    def plain(value: Any) -> Any:
        if isinstance(value, set | frozenset):
            return sorted(value)
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items()}
        return getattr(value, "value", value)

    return {key: plain(value) for key, value in config.to_dict().items()} | {"inference_mode": True}
