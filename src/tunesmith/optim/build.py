"""The section becomes an optimizer, and ``Optimizer`` is what the engine holds of it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, cast

import torch
from torch import nn
from transformers.optimization import Adafactor

from tunesmith.config.optim import OWN_ARGS, PACKAGED, OptimSection, args_of
from tunesmith.errors import ConfigError, ModelError, Problem
from tunesmith.log import get_logger
from tunesmith.optim.adamw_bf16 import AdamWBf16
from tunesmith.optim.adopt import Adopt
from tunesmith.optim.bnb import bnb_class
from tunesmith.optim.elsewhere import arguments_of, optimizer_class
from tunesmith.optim.groups import ParamGroup
from tunesmith.optim.muon import LIKE_ADAMW, Muon, split
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


MUON_ARGS = frozenset(
    {"momentum", "nesterov", "ns_coefficients", "eps", "ns_steps", "adjust_lr_fn"}
)
"""What `optim_args` may hold for Muon."""

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
    name = section.optimizer
    is_elsewhere = ":" in name or name in PACKAGED
    maker = elsewhere if is_elsewhere else cast("Maker", registry("optimizers").load(name))
    parameters = [parameter for group in groups for parameter in group.parameters.values()]
    has_bf16 = any(parameter.dtype == torch.bfloat16 for parameter in parameters)
    recipe = Recipe(section, torch.device(device), seed, has_bf16)
    inner = maker([_as_dict(group) for group in groups], recipe)
    return Optimizer(inner, [group["lr"] for group in inner.param_groups])


def adamw_torch(groups: Groups, recipe: Recipe) -> torch.optim.Optimizer:
    """Torch's AdamW, many tensors at once where the device gains by it."""
    return _torch_adamw(groups, recipe, is_fused=False)


def adamw_torch_fused(groups: Groups, recipe: Recipe) -> torch.optim.Optimizer:
    """Torch's AdamW as one kernel a step; it skips steps on the device."""
    return _torch_adamw(groups, recipe, is_fused=True)


def sgd(groups: Groups, recipe: Recipe) -> torch.optim.Optimizer:
    """Torch's SGD, without momentum unless `optim_args` says so."""
    return _call(torch.optim.SGD, groups, parse_args(recipe.section.args))


def adagrad(groups: Groups, recipe: Recipe) -> torch.optim.Optimizer:
    """Torch's Adagrad."""
    return _call(torch.optim.Adagrad, groups, parse_args(recipe.section.args))


def rmsprop(groups: Groups, recipe: Recipe) -> torch.optim.Optimizer:
    """Torch's RMSprop."""
    return _call(torch.optim.RMSprop, groups, parse_args(recipe.section.args))


def adafactor(groups: Groups, recipe: Recipe) -> torch.optim.Optimizer:
    """Adafactor of transformers at the given rate, as its Trainer sets it up."""
    fixed = {"scale_parameter": False, "relative_step": False}
    return _call(Adafactor, groups, fixed | parse_args(recipe.section.args))


def adopt(groups: Groups, recipe: Recipe) -> torch.optim.Optimizer:
    """ADOPT with decoupled decay."""
    return _call(Adopt, groups, recipe.adam)


def muon(groups: Groups, recipe: Recipe) -> torch.optim.Optimizer:
    """Muon for hidden matrices, its updates as large as AdamW's, and AdamW for all else."""
    given = parse_args(recipe.section.args)
    _refuse_unknown(given, MUON_ARGS)
    adam = {"betas": (recipe.section.beta1, recipe.section.beta2), "eps": recipe.section.epsilon}
    try:
        return Muon(split(groups), matrices={"adjust_lr_fn": LIKE_ADAMW, **given}, others=adam)
    except (TypeError, ValueError) as error:
        raise _wrong(str(error), "correct the optimizer's arguments") from error


def elsewhere(groups: Groups, recipe: Recipe) -> torch.optim.Optimizer:
    """Any class of optimizers, by its place."""
    kind = optimizer_class(recipe.section)
    return _call(kind, groups, arguments_of(kind, recipe.section) | parse_args(recipe.section.args))


def bnb(kind: str, *, bits: int, is_paged: bool = False) -> Maker:
    """A maker of an optimizer of bitsandbytes, its moments in so many bits (embeddings': 32), which
    may leave a GPU's memory where it ``is_paged``.
    """

    def make(groups: Groups, recipe: Recipe) -> torch.optim.Optimizer:
        _require_bitsandbytes(recipe.section)
        if is_paged and recipe.device.type != "cuda":
            logger.info("%s: a CPU's memory is not paged", recipe.section.optimizer)
        fixed: dict[str, Any] = {"optim_bits": bits}
        if is_paged and recipe.device.type == "cuda":
            fixed["is_paged"] = True
        return _call(bnb_class(kind), groups, _bnb_args(kind, recipe), **fixed)

    return make


adamw_8bit = bnb("AdamW", bits=8)
paged_adamw_8bit = bnb("AdamW", bits=8, is_paged=True)
paged_adamw_32bit = bnb("AdamW", bits=32, is_paged=True)
ademamix = bnb("AdEMAMix", bits=32)
ademamix_8bit = bnb("AdEMAMix", bits=8)
paged_ademamix_32bit = bnb("AdEMAMix", bits=32, is_paged=True)
paged_ademamix_8bit = bnb("AdEMAMix", bits=8, is_paged=True)
lion_32bit = bnb("Lion", bits=32)
lion_8bit = bnb("Lion", bits=8)
paged_lion_32bit = bnb("Lion", bits=32, is_paged=True)
paged_lion_8bit = bnb("Lion", bits=8, is_paged=True)
rmsprop_32bit = bnb("RMSprop", bits=32)
rmsprop_8bit = bnb("RMSprop", bits=8)


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


def _require_bitsandbytes(section: OptimSection) -> None:
    if find_spec("bitsandbytes") is None:
        raise ModelError(
            f"`optimizer: {section.optimizer}` needs bitsandbytes, which is not installed",
            hint="pip install 'tunesmith[bnb]', or set `optimizer: adamw_torch_fused`",
            where="optimizer",
        )


def _bnb_args(kind: str, recipe: Recipe) -> dict[str, Any]:
    """What transformers' Trainer hands to the same class, with `optim_args` on top."""
    section, given = recipe.section, parse_args(recipe.section.args)
    betas = (section.beta1, section.beta2)
    if kind == "AdamW":
        return recipe.adam
    if kind == "Lion":
        return {"betas": betas} | given
    if kind == "AdEMAMix":
        return {"betas": (*betas, given.pop("beta3", 0.9999)), "eps": section.epsilon} | given
    return given


def _refuse_unknown(args: Mapping[str, Any], known: Collection[str]) -> None:
    unknown = sorted(set(args) - set(known))
    if unknown:
        own = OWN_ARGS.get(unknown[0])
        raise _wrong(
            f"the optimizer takes no `{unknown[0]}` here",
            f"set `{own}`" if own else f"it takes {', '.join(sorted(known))}",
        )


def _call(
    kind: Callable[..., torch.optim.Optimizer], groups: Groups, args: dict[str, Any], **fixed: Any
) -> torch.optim.Optimizer:
    """The optimizer, its arguments checked; ``fixed`` are those that `optim_args` may not set."""
    known = inspect.signature(kind).parameters.keys() - {"params", "groups", *fixed, *OWN_ARGS}
    _refuse_unknown(args, known)
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
