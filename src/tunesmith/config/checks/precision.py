"""Rules for number formats and for what the machine can do."""

from __future__ import annotations

from collections.abc import Iterator

from tunesmith.config.checks.asked import Asked
from tunesmith.config.checks.rule import MachineRule, Rule, conflict
from tunesmith.config.environment import Environment
from tunesmith.config.schema import RunConfig
from tunesmith.errors import REMOVE, Problem


def one_precision(config: RunConfig) -> Iterator[Problem]:
    """bf16 or fp16."""
    if config.precision.bf16 is True and config.precision.fp16:
        yield conflict("fp16", "`bf16: true` chose the numbers already", {"fp16": REMOVE})


def bf16_needs(asked: Asked) -> str | None:
    """bf16 asked for by name."""
    return (
        "bf16: true - does the device have bfloat16?"
        if asked.config.precision.bf16 is True
        else None
    )


def bf16_works(asked: Asked, environment: Environment) -> Iterator[Problem]:
    """A GPU that is asked for bf16 has it. A CPU always can, if slowly: the plan warns."""
    if environment.device == "cuda" and (environment.capability or (0, 0)) < (8, 0):
        yield conflict("bf16", f"{environment.device_name} has no bfloat16", {"bf16": "auto"})


def fp16_needs(asked: Asked) -> str | None:
    """fp16 asked for."""
    return "fp16: true - is there a GPU?" if asked.config.precision.fp16 else None


def fp16_works(asked: Asked, environment: Environment) -> Iterator[Problem]:
    """float16 with a loss scaler is for GPUs."""
    if environment.device == "cpu":
        yield conflict("fp16", "a CPU does not train in float16", {"fp16": REMOVE})


def tf32_needs(asked: Asked) -> str | None:
    """TF32 asked for by name."""
    return "tf32: true - does the device have it?" if asked.config.precision.tf32 is True else None


def tf32_works(asked: Asked, environment: Environment) -> Iterator[Problem]:
    """TF32 exists from CUDA capability 8.0 on."""
    if environment.device == "cpu" or (environment.capability or (0, 0)) < (8, 0):
        yield conflict("tf32", f"{environment.device_name} has no TF32", {"tf32": "auto"})


def flash_needs(asked: Asked) -> str | None:
    """flash-attention asked for by name."""
    if asked.config.kernels.attention == "flash_attention_2":
        return "attn_implementation: flash_attention_2 - is there a GPU?"
    return None


def flash_works(asked: Asked, environment: Environment) -> Iterator[Problem]:
    """flash-attention runs on GPUs from capability 8.0 on."""
    if environment.device == "cpu" or (environment.capability or (0, 0)) < (8, 0):
        yield conflict(
            "attn_implementation",
            f"flash_attention_2 does not run on {environment.device_name}",
            {"attn_implementation": REMOVE},
            "take `attn_implementation` out: the machine decides then",
        )


def paged_needs(asked: Asked) -> str | None:
    """An optimizer of bitsandbytes that pages its state."""
    name = asked.config.optim.optimizer
    return f"optimizer: {name} - is there a GPU?" if name.startswith("paged_") else None


def paged_works(asked: Asked, environment: Environment) -> Iterator[Problem]:
    """Paging moves state between a GPU and the host."""
    if environment.device == "cpu":
        plain = asked.config.optim.optimizer.removeprefix("paged_")
        unpaged = "adamw_torch_fused" if plain == "adamw_32bit" else plain
        yield conflict("optimizer", "paged optimizers need a GPU", {"optimizer": unpaged})


RULES: tuple[Rule, ...] = (Rule(("bf16", "fp16"), one_precision),)

MACHINE_RULES: tuple[MachineRule, ...] = (
    MachineRule(("bf16",), bf16_needs, bf16_works),
    MachineRule(("fp16",), fp16_needs, fp16_works),
    MachineRule(("tf32",), tf32_needs, tf32_works),
    MachineRule(("attn_implementation",), flash_needs, flash_works),
    MachineRule(("optimizer",), paged_needs, paged_works),
)
