"""Rules for single capabilities: kernels, tokenizers, trackers; and for what a machine can do."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

from tunesmith.config.checks.asked import Asked
from tunesmith.config.checks.rule import MachineRule, PlainRule, conflict, missing
from tunesmith.config.environment import Environment
from tunesmith.errors import REMOVE, Problem

_MESH = (
    *("dp_replicate_size", "dp_shard_size", "tensor_parallel_size"),
    *("context_parallel_size", "expert_parallel_size"),
)
_NOT_WITH_MISTRAL = (
    *("added_tokens_overrides", "special_tokens", "tokens", "chat_template", "processor_kwargs"),
)
_RESERVED = {"revision": "revision_of_model", "trust_remote_code": "trust_remote_code"}
_FP8_FROM = (8, 9)
_SAGE_ON = ((8, 0), (8, 6), (8, 9), (9, 0), (12, 0))


def output_has_a_place(asked: Asked) -> Iterator[Problem]:
    """Who writes the key says where."""
    if asked.has("output_dir") and asked.get("output_dir") is None:
        yield missing(
            "output_dir", "has no value", {"output_dir": "./outputs"}, "use `output_dir: ./outputs`"
        )


def one_kernel_for_experts(asked: Asked) -> Iterator[Problem]:
    """ScatterMoE or SonicMoE."""
    if asked.on("use_scattermoe") and asked.on("use_sonicmoe"):
        yield conflict(
            "use_sonicmoe",
            "`use_scattermoe` chose how experts are computed already",
            {"use_sonicmoe": REMOVE},
            "keep one: take `use_sonicmoe` out, or `use_scattermoe`",
        )


def hybrid_attention_is_flash(asked: Asked) -> Iterator[Problem]:
    """Gemma 4's hybrid is flash-attention where heads are small enough."""
    other = asked.text("attn_implementation")
    if asked.on("gemma4_hybrid_attn_impl") and other not in ("", "flash_attention_2"):
        yield conflict(
            "attn_implementation",
            f"`gemma4_hybrid_attn_impl` is a form of flash_attention_2, not of {other}",
            {"attn_implementation": "flash_attention_2"},
        )


def scaled_softmax_is_flex(asked: Asked) -> Iterator[Problem]:
    """Only flex attention lets the scores be scaled."""
    flex = asked.on("flex_attention") or asked.text("attn_implementation") == "flex_attention"
    if asked.on("scaling_softmax") and not flex:
        yield missing(
            "attn_implementation",
            "`scaling_softmax` needs flex_attention",
            {"attn_implementation": "flex_attention"},
        )


def mistral_knows_its_tokens(asked: Asked) -> Iterator[Problem]:
    """mistral-common brings its tokens and its template."""
    for key in _NOT_WITH_MISTRAL:
        if asked.on("tokenizer_use_mistral_common") and asked.on(key):
            yield conflict(
                key, "`tokenizer_use_mistral_common` brings its own and reads none", {key: REMOVE}
            )


def processors_have_no_other_source(asked: Asked) -> Iterator[Problem]:
    """Where a processor comes from is said by the model's own keys."""
    for name in asked.block("processor_kwargs"):
        if name in _RESERVED:
            key = f"processor_kwargs.{name}"
            yield conflict(
                key, f"is said by `{_RESERVED[name]}` for all of the model", {key: REMOVE}
            )


def swanlab_has_a_project(asked: Asked) -> Iterator[Problem]:
    """SwanLab files runs under a project."""
    if asked.on("use_swanlab") and not asked.on("swanlab_project"):
        yield missing("swanlab_project", "`use_swanlab` needs it", {"swanlab_project": "my-runs"})


def gym_has_tasks(asked: Asked) -> Iterator[Problem]:
    """NeMo Gym is told which servers to start and which tasks to read."""
    if not asked.on("nemo_gym_enabled"):
        return
    for key, example in (
        ("nemo_gym_config_paths", ["gym.yaml"]),
        ("nemo_gym_datasets", [{"path": "tasks.jsonl"}]),
    ):
        if not asked.on(key):
            yield missing(key, "`nemo_gym_enabled` needs it", {key: example})


def masks_have_a_range(asked: Asked) -> Iterator[Problem]:
    """The share of masked tokens is drawn from least to most."""
    least = asked.number("diffusion.min_mask_ratio")
    most = asked.number("diffusion.max_mask_ratio")
    if least is not None and most is not None and least > most:
        yield conflict(
            "diffusion.min_mask_ratio",
            f"{least} is more than `diffusion.max_mask_ratio: {most}`",
            {"diffusion.min_mask_ratio": most},
        )


def fp8_needs(asked: Asked) -> str | None:
    """Products in fp8."""
    return "fp8: true - does the device multiply fp8?" if asked.on("fp8") else None


def fp8_works(asked: Asked, environment: Environment) -> Iterator[Problem]:
    """fp8 exists from CUDA capability 8.9 on."""
    if (environment.capability or (0, 0)) < _FP8_FROM:
        yield conflict("fp8", f"{environment.device_name} has no fp8", {"fp8": REMOVE})


def sage_needs(asked: Asked) -> str | None:
    """SageAttention."""
    named = asked.on("sage_attention") or asked.text("attn_implementation") == "sage"
    return "sage attention - does it run on the device?" if named else None


def sage_works(asked: Asked, environment: Environment) -> Iterator[Problem]:
    """SageAttention is built for a few capabilities."""
    if environment.capability not in _SAGE_ON:
        key = "sage_attention" if asked.on("sage_attention") else "attn_implementation"
        yield conflict(
            key, f"sage attention does not run on {environment.device_name}", {key: REMOVE}
        )


def mesh_needs(asked: Asked) -> str | None:
    """Sizes of a mesh of devices."""
    sizes = _mesh(asked)
    said = " x ".join(f"{key}: {size}" for key, size in sizes.items())
    return f"{said} - are there as many devices?" if sizes else None


def mesh_fits(asked: Asked, environment: Environment) -> Iterator[Problem]:
    """The sizes of the mesh divide the number of devices."""
    sizes = _mesh(asked)
    wanted = prod(sizes.values())
    if environment.n_devices % wanted:
        key = next(iter(sizes))
        yield conflict(
            key,
            f"a mesh of {wanted} does not divide {environment.n_devices} devices of this machine",
            dict.fromkeys(sizes, REMOVE),
        )


def _mesh(asked: Asked) -> dict[str, int]:
    sizes = {key: asked.number(key) or 1 for key in _MESH}
    return {key: int(size) for key, size in sizes.items() if size > 1}


RULES: tuple[PlainRule, ...] = (
    PlainRule(("output_dir",), output_has_a_place),
    PlainRule(("use_scattermoe", "use_sonicmoe"), one_kernel_for_experts),
    PlainRule(("gemma4_hybrid_attn_impl", "attn_implementation"), hybrid_attention_is_flash),
    PlainRule(("scaling_softmax", "attn_implementation"), scaled_softmax_is_flex),
    PlainRule(("tokenizer_use_mistral_common", *_NOT_WITH_MISTRAL), mistral_knows_its_tokens),
    PlainRule(("processor_kwargs",), processors_have_no_other_source),
    PlainRule(("use_swanlab", "swanlab_project"), swanlab_has_a_project),
    PlainRule(("nemo_gym_enabled", "nemo_gym_config_paths", "nemo_gym_datasets"), gym_has_tasks),
    PlainRule(("diffusion",), masks_have_a_range),
)

MACHINE_RULES: tuple[MachineRule, ...] = (
    MachineRule(("fp8",), fp8_needs, fp8_works),
    MachineRule(("sage_attention", "attn_implementation"), sage_needs, sage_works),
    MachineRule(_MESH, mesh_needs, mesh_fits),
)
