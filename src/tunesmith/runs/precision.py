"""Which numbers weights are kept in and multiplied in, from the config and the machine."""

from __future__ import annotations

from tunesmith.config.environment import Environment
from tunesmith.config.schema import RunConfig
from tunesmith.runs.choices import Chosen

SLOW_BF16 = "this CPU has no bf16 units and multiplies bf16 about 70 times slower than fp32"


def compute_dtype(config: RunConfig, environment: Environment) -> Chosen[str]:
    """``bfloat16``, ``float16`` or ``float32``: what matrices are multiplied in."""
    precision = config.precision
    if precision.bf16 is True:
        slow = environment.device == "cpu" and not environment.bf16_compute
        return Chosen(
            "bfloat16", "as asked" + (f", although {SLOW_BF16}" if slow else ""), ("bf16",)
        )
    if precision.fp16:
        return Chosen("float16", "as asked", ("fp16",))
    if precision.bf16 is False:
        return Chosen("float32", "bf16 and fp16 are off", ("bf16", "fp16"))
    if environment.bf16_compute:
        return Chosen("bfloat16", "auto: the device multiplies bf16 at full speed", ("bf16",))
    if environment.device == "cuda":
        return Chosen("float16", "auto: the device has no bf16", ("bf16",))
    return Chosen("float32", f"auto: {SLOW_BF16}", ("bf16",))


def weights_dtype(config: RunConfig, compute: str) -> Chosen[str]:
    """What the base weights are stored in; 4- and 8-bit bases keep what is not quantised so."""
    if config.adapters.kind is not None:
        return Chosen(compute, "frozen base weights are kept as they are multiplied", ("adapter",))
    if compute == "float32":
        return Chosen("float32", "full fine-tuning in fp32")
    if compute == "float16":
        return Chosen("float32", "fp16 needs fp32 weights under its loss scaler", ("fp16",))
    if config.precision.master_weights == "fp32":
        return Chosen("float32", "fp32 master weights, as asked", ("master_weights",))
    if config.optim.optimizer not in ROUNDED:
        return Chosen(
            "float32",
            f"fp32 master weights: {config.optim.optimizer} does not round stochastically",
            ("optimizer", "bf16"),
        )
    return Chosen(
        "bfloat16",
        "weights and moments, rounded stochastically; `master_weights: fp32` is the other way",
        ("bf16", "master_weights"),
    )


ROUNDED = ("adamw_torch", "adamw_torch_fused")
"""Optimizers whose bf16 form is ours and rounds stochastically."""


def determinism(config: RunConfig, environment: Environment) -> Chosen[str]:
    """How like two runs of this plan are: to the bit, or in their order of rows alone."""
    keys = ("deterministic",)
    if environment.device == "cpu":
        why = "the same bits again, also when resumed, with as many threads and these libraries"
        return Chosen("exact", why, keys)
    if config.precision.deterministic:
        why = "the same bits again on this kind of device, with these libraries"
        return Chosen("exact", why, keys)
    why = "the same rows in the same steps; kernels add up in any order (deterministic: true)"
    return Chosen("same order", why, keys)
