"""The section becomes an optimizer, and ``Optimizer`` is what the engine holds of it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, cast

import torch
from torch import nn

from tunesmith.config.optim import OWN_ARGS, OptimSection, args_of
from tunesmith.errors import ConfigError, ModelError, Problem
from tunesmith.log import get_logger
from tunesmith.optim.adamw_bf16 import AdamWBf16
from tunesmith.optim.bnb_adamw import bnb_adamw_class
from tunesmith.optim.groups import ParamGroup
from tunesmith.optim.optimizer import Optimizer
from tunesmith.registry import registry

logger = get_logger(__name__)

Groups = list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a maker gets: the section, the device, the seed of stochastic rounding."""

    section: OptimSection
    device: torch.device
    seed: int
    has_bf16: bool

    @property
    def adam(self) -> dict[str, Any]:
        """Adam's own arguments."""
        return {
            "betas": (self.section.beta1, self.section.beta2),
            "eps": self.section.epsilon,
        } | parse_args(self.section.args)


Maker = Callable[[Groups, Recipe], torch.optim.Optimizer]
"""What the catalog names for each optimizer."""


def build_optimizer(
    groups: list[ParamGroup],
    section: OptimSection,
    device: torch.device | str,
    *,
    seed: int = 0,
) -> Optimizer:
    """The optimizer that ``section`` names, over ``groups``.

    bf16 parameters under an AdamW of torch get ``AdamWBf16``, whose rounding ``seed`` seeds.
    Raises ``ConfigError`` for an unknown name or argument, ``ModelError`` where a package that it
    needs is missing.
    """
    maker = cast("Maker", registry("optimizers").load(section.optimizer))
    parameters = [parameter for group in groups for parameter in group.parameters.values()]
    has_bf16 = any(parameter.dtype == torch.bfloat16 for parameter in parameters)
    recipe = Recipe(section, torch.device(device), seed, has_bf16)
    inner = maker([_as_dict(group) for group in groups], recipe)
    return Optimizer(inner, [group.rate for group in groups])


def adamw_torch(groups: Groups, recipe: Recipe) -> torch.optim.Optimizer:
    """Torch's AdamW, many tensors at once where the device gains by it."""
    return _torch_adamw(groups, recipe, is_fused=False)


def adamw_torch_fused(groups: Groups, recipe: Recipe) -> torch.optim.Optimizer:
    """Torch's AdamW as one kernel a step; it skips steps on the device."""
    return _torch_adamw(groups, recipe, is_fused=True)


def sgd(groups: Groups, recipe: Recipe) -> torch.optim.Optimizer:
    """Torch's SGD, without momentum unless `optim_args` says so."""
    return _call(torch.optim.SGD, groups, parse_args(recipe.section.args))


def adamw_8bit(groups: Groups, recipe: Recipe) -> torch.optim.Optimizer:
    """AdamW of bitsandbytes, its moments in 8 bits (embeddings': 32)."""
    return _bnb_adamw(groups, recipe, bits=8, is_paged=False)


def paged_adamw_8bit(groups: Groups, recipe: Recipe) -> torch.optim.Optimizer:
    """The same, with moments that may leave a GPU's memory."""
    return _bnb_adamw(groups, recipe, bits=8, is_paged=True)


def paged_adamw_32bit(groups: Groups, recipe: Recipe) -> torch.optim.Optimizer:
    """AdamW of bitsandbytes with 32-bit moments that may leave a GPU's memory."""
    return _bnb_adamw(groups, recipe, bits=32, is_paged=True)


def parse_args(args: Mapping[str, Any] | str | None) -> dict[str, Any]:
    """`optim_args` as keywords: a mapping as it is, ``"k=v,k=v"`` taken apart.

    Values are read as Python literals where they are such. Raises ``ConfigError`` for a part
    without ``=``.
    """
    found, odd = args_of(args)
    if odd:
        raise _wrong(f"`{odd[0]}` is no `name=value`", "write `name=value,...`")
    return found


def _torch_adamw(groups: Groups, recipe: Recipe, *, is_fused: bool) -> torch.optim.Optimizer:
    if recipe.has_bf16:
        return _call(AdamWBf16, groups, recipe.adam, seed=recipe.seed)
    # On a GPU the fused kernel is the same arithmetic, and skips a bad step without the host.
    fused = is_fused or recipe.device.type == "cuda"
    return _call(torch.optim.AdamW, groups, recipe.adam, fused=True if fused else None)


def _bnb_adamw(
    groups: Groups, recipe: Recipe, *, bits: int, is_paged: bool
) -> torch.optim.Optimizer:
    if find_spec("bitsandbytes") is None:
        raise ModelError(
            f"`optimizer: {recipe.section.optimizer}` needs bitsandbytes, which is not installed",
            hint="pip install 'tunesmith[bnb]', or set `optimizer: adamw_torch_fused`",
            where="optimizer",
        )
    if is_paged and recipe.device.type != "cuda":
        logger.info("%s: a CPU's memory is not paged", recipe.section.optimizer)
        is_paged = False
    return _call(bnb_adamw_class(), groups, recipe.adam, optim_bits=bits, is_paged=is_paged)


def _call(
    kind: Callable[..., torch.optim.Optimizer], groups: Groups, args: dict[str, Any], **fixed: Any
) -> torch.optim.Optimizer:
    """The optimizer, its arguments checked; ``fixed`` are those that `optim_args` may not set."""
    known = inspect.signature(kind).parameters.keys() - {"params", "groups", *fixed, *OWN_ARGS}
    unknown = sorted(set(args) - known)
    if unknown:
        own = OWN_ARGS.get(unknown[0])
        raise _wrong(
            f"the optimizer takes no `{unknown[0]}` here",
            f"set `{own}`" if own else f"it takes {', '.join(sorted(known))}",
        )
    try:
        return kind(groups, **args, **fixed)
    except (TypeError, ValueError, RuntimeError) as error:
        raise _wrong(str(error), "correct the optimizer's arguments") from error


def _as_dict(group: ParamGroup) -> dict[str, Any]:
    parameters: list[nn.Parameter] = list(group.parameters.values())
    return {
        "params": parameters,
        "names": list(group.parameters),
        "lr": group.rate,
        "weight_decay": group.weight_decay,
        "is_embedding": group.is_embedding,
    }


def _wrong(message: str, fix: str) -> ConfigError:
    problem = Problem(code="out-of-range", message=message, fix=fix, key="optim_args")
    return ConfigError(message, hint=fix, where="optim_args", problems=[problem])
