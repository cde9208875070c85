"""Is what was written what was trained? Logits on a few prompts answer, for any kind of folder.

Dimensions: T tokens of a prompt, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from tunesmith.checkpoint.modes import evaluating
from tunesmith.checkpoint.weights import NamedTensors, differing
from tunesmith.errors import ExitCode, RunError
from tunesmith.models.adapters import as_loaded
from tunesmith.models.policy import Policy

Prompts = Sequence[Sequence[int]]

TEXTS = (
    "The capital of France is",
    "Water boils at a temperature of",
    "def add(a, b):\n    return",
    "Question: How many legs does a spider have?\nAnswer:",
    "Dear customer, thank you for",
    "1, 2, 3, 4,",
    "Il était une fois",
    '{"name": "Ada", "born":',
)
"""Eight kinds of text; what they say does not matter."""

FULL = frozenset({torch.float32, torch.float64})
"""Dtypes whose rounding is seen in the last digits only: the largest gap is judged."""

ABSOLUTE = 1e-4
"""The largest gap that full precision explains where logits are small ..."""

SHARE_OF_LARGEST = 1e-5
"""... and as a share of the largest logit where they are not (30 real layers: 2e-6)."""

SHARE_OF_SPREAD = {torch.bfloat16: 0.05, torch.float16: 0.01}
"""The root mean square gap, as a share of the logits' own spread, that half precision explains.

The same model had 0.02 in bfloat16, and 0.07 with half of its adapter's effect lost."""


def make_prompts(tokenizer: PreTrainedTokenizerBase) -> list[list[int]]:
    """The ids of the eight texts."""
    return [list(tokenizer.encode(text)) for text in TEXTS]


@contextmanager
def whole_products() -> Iterator[None]:
    """Products of fp32 numbers in fp32 inside: TensorFloat-32 would hide what is looked for."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def policy_logits(policy: Policy, prompts: Prompts) -> list[Tensor]:
    """The trained model's logits, made as whoever loads it will make them.

    With transformers' own attention and in the weights' own dtype, so that what is left between
    these and a loaded folder's is no other order of summation: that ours agree with the plain ones
    is what the preflight has shown.
    """
    with policy.without_autocast(), policy.plain_attention(), as_loaded(policy.model):
        return plain_logits(policy.model, prompts)


@torch.no_grad()
def plain_logits(model: nn.Module, prompts: Prompts) -> list[Tensor]:
    """The logits of a transformers or peft model, one prompt at a time, [T, V] float32."""
    device = next(model.parameters()).device
    with evaluating(model), whole_products():
        return [
            model(input_ids=torch.tensor([list(ids)], device=device)).logits[0].float().cpu()
            for ids in prompts
        ]


def largest_gap(first: Sequence[Tensor], second: Sequence[Tensor]) -> float:
    """The largest difference between two lists of logits; NaN when any is not a number."""
    gaps = [(a - b).abs().max() for a, b in zip(first, second, strict=True)]
    return float(torch.stack(gaps).max())


def typical_gap(first: Sequence[Tensor], second: Sequence[Tensor]) -> float:
    """The root mean square difference between two lists of logits; NaN when any is not a number."""
    return _root_mean_square([a - b for a, b in zip(first, second, strict=True)])


def spread(logits: Sequence[Tensor]) -> float:
    """The root mean square of logits around their mean at each position."""
    return _root_mean_square([part - part.mean(-1, keepdim=True) for part in logits])


def distance(first: Sequence[Tensor], second: Sequence[Tensor], dtype: torch.dtype) -> float:
    """How far two lists of logits are apart, in the measure by which ``dtype`` is judged."""
    return largest_gap(first, second) if dtype in FULL else typical_gap(first, second)


def tolerance(dtype: torch.dtype, logits: Sequence[Tensor]) -> float:
    """The largest ``distance`` that rounding in ``dtype`` explains."""
    if dtype in FULL:
        return max(ABSOLUTE, SHARE_OF_LARGEST * max(float(part.abs().max()) for part in logits))
    return SHARE_OF_SPREAD[dtype] * spread(logits)


def require_same(
    trained: Sequence[Tensor], written: Sequence[Tensor], dtype: torch.dtype, folder: Path
) -> float:
    """The distance between what was trained and what was made of it.

    Raises:
        RunError: exit 5, it is larger than rounding explains, or not a number.
    """
    gap = distance(trained, written, dtype)
    allowed = tolerance(dtype, trained)
    if not gap <= allowed:
        raise RunError(
            f"what was written differs from what was trained: logits by {gap:.3g}, more than "
            f"the {allowed:.3g} that rounding in {dtype} explains",
            hint="the checkpoints are intact; report this as a bug, with the model's name",
            where=str(folder),
            exit_code=ExitCode.DAMAGED,
        )
    return gap


def require_tensors(folder: Path, stem: str, wanted: NamedTensors) -> None:
    """Check that the folder's weights are the wanted ones, bit by bit.

    Raises:
        RunError: exit 5, naming the first tensors that are not.
    """
    wrong = differing(folder, stem, wanted)
    if wrong:
        raise RunError(
            f"what was read back differs from what was trained: {', '.join(wrong[:3])}",
            hint="check the disk; the checkpoints are intact",
            where=str(folder),
            exit_code=ExitCode.DAMAGED,
        )


def require_different(
    trained: Sequence[Tensor], base: Sequence[Tensor], folder: Path, what: str
) -> float:
    """The gap between what was trained and the base it started from.

    Raises:
        RunError: exit 5, there is none.
    """
    gap = largest_gap(trained, base)
    if gap == 0:
        raise nothing_learned(folder, what)
    return gap


def nothing_learned(folder: Path, what: str) -> RunError:
    """The error for a model that is its own base."""
    return RunError(
        f"nothing was learned: {what} equals the base model exactly",
        hint="raise learning_rate or max_steps, and look at what trains with `tunesmith check`",
        where=str(folder),
        exit_code=ExitCode.DAMAGED,
    )


def summary(gap: float | None, base_gap: float | None, prompts: Prompts) -> dict[str, Any]:
    """What ``tunesmith.json`` says about the comparison."""
    return {"prompts": len(prompts), "logit_gap": gap, "logit_gap_to_base": base_gap}


def _root_mean_square(parts: Sequence[Tensor]) -> float:
    return float(torch.cat([part.flatten() for part in parts]).double().square().mean().sqrt())
