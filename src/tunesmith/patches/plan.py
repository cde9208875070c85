"""Which patches and which attention a run needs: pure, printable, explains itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tunesmith.config.kernels import KernelsSection
from tunesmith.patches.patch import Patch

Layout = Literal["flat", "rows"]

VARLEN = Patch(
    name="varlen-attention",
    what="adds the attention function and mask `tunesmith_varlen`",
    where="transformers.AttentionInterface, transformers.AttentionMaskInterface",
    why="packed documents must not see each other, on any device, without a mask of T x T",
    since="0.1",
    door="tunesmith.patches.attention:register",
)


@dataclass(frozen=True, slots=True)
class PatchPlan:
    """What is changed before the model is loaded, and how the model is called.

    ``attention`` is the name for transformers' ``attn_implementation``; ``layout`` says how the
    policy lays documents out; ``reason`` says why, in words for the plan.
    """

    patches: tuple[Patch, ...]
    attention: str
    layout: Layout
    reason: str


def plan_patches(kernels: KernelsSection, *, isolates: bool, why: str = "") -> PatchPlan:
    """Return the patches, attention and layout for an architecture.

    ``isolates`` says whether documents laid end to end can be kept apart by attention alone, and
    ``why`` what stands against it (``models.facts`` knows both).
    """
    asked = kernels.attention
    if not isolates:
        name = asked if asked in ("eager", "sdpa") else "sdpa"
        return PatchPlan((), name, "rows", f"one row a document with {name}: {why}")
    if asked in (None, "varlen"):
        reason = "documents end to end, each attended to by itself"
    else:
        reason = f"documents end to end; {asked} cannot keep them apart, so it is not used"
    return PatchPlan((VARLEN,), "tunesmith_varlen", "flat", reason)
