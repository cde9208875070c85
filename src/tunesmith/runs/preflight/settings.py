"""What the config asks for is what the assembled run holds: read from its parts, key by key.

An argument that a library renamed is swallowed without a word, and a default trains in its place.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import torch
from peft.tuners.lora import LoraLayer
from peft.tuners.lora.layer import ParamWrapper
from torch import nn
from transformers import PreTrainedModel

from tunesmith.config.flat import to_flat
from tunesmith.config.optim import PACKAGED
from tunesmith.errors import ProbeError
from tunesmith.models.adapters import ADAPTER
from tunesmith.models.source import local_settings
from tunesmith.runs.plan import DTYPES
from tunesmith.runs.preflight.probe import Subject

Flat = Mapping[str, Any]


NOT_TAKEN = (
    "a part of the run did not take the value: report it with the versions that "
    "`tunesmith doctor` prints"
)
UNREAD = (
    "transformers does not read this name for this architecture: set what it reads instead under "
    "overrides_of_model_config"
)
QUANTISED = (
    "the repository's weights are quantised as its config.json says: take the key out, or name the "
    "base from which they were made"
)
"""What to do: a library's fault, one of the base's files, one of the config."""


class Setting(NamedTuple):
    """A key, what it asks for, and what was found where it should have arrived.

    Floats may differ by ``within`` of themselves.
    """

    key: str
    wanted: Any
    found: Any
    where: str
    within: float = 1e-6
    hint: str = NOT_TAKEN

    @property
    def arrived(self) -> bool:
        """Whether the two are the same, numbers up to what rounding explains."""
        if isinstance(self.wanted, float) and isinstance(self.found, float | int):
            return math.isclose(self.wanted, self.found, rel_tol=self.within)
        return bool(self.wanted == self.found)


def probe_settings(subject: Subject) -> str:
    """How many settings were found where they act.

    Raises:
        ProbeError: one was not; names the key, what it asks for and what is there.
    """
    keys = Counter[str]()
    for setting in _settings(subject):
        if not setting.arrived:
            raise ProbeError(
                f"{setting.key} asks for {setting.wanted!r}, {setting.where} has {setting.found!r}",
                hint=setting.hint,
                where=setting.key,
            )
        keys[setting.key] += 1
    return f"{len(keys)} keys are found where they act, at {keys.total()} places"


def _settings(subject: Subject) -> Iterator[Setting]:
    asked = to_flat(subject.plan.config, all=True)
    yield from _of_steps(subject, asked)
    yield from _of_optimizer(subject, asked)
    yield from _of_adapter(subject, asked)
    yield from _of_numbers(subject, asked)
    yield from _of_base(subject, asked)


# --- steps and rates ------------------------------------------------------------------------------


def _of_steps(subject: Subject, asked: Flat) -> Iterator[Setting]:
    """Steps, and the schedule that was laid over them."""
    run, steps = subject.run, subject.stream.steps
    if asked["max_steps"] is not None:
        yield Setting("max_steps", asked["max_steps"], steps, "the stream")
    yield Setting("num_epochs", steps, run.cadence.steps, "the loop")
    yield Setting("max_grad_norm", asked["max_grad_norm"], run.max_norm, "the loop")
    yield Setting("seed", asked["seed"], run.seed, "the loop")
    per_step = subject.stream.step_bins // run.mesh.data_size
    batch = subject.plan.micro_batch.value * subject.plan.accumulation.value
    yield Setting("gradient_accumulation_steps", batch, per_step, "a step of the stream")
    yield from _of_decay(subject, asked, subject.plan.warmup_steps.value, steps)


_SHAPED = ("lr_scheduler_", "cosine_", "jagged_")
"""How keys begin that give a schedule another shape."""


def _of_decay(subject: Subject, asked: Flat, warmup: int, steps: int) -> Iterator[Setting]:
    """The middle of a plain decay is where it would be if it ended with the last step."""
    name = asked["lr_scheduler"]
    shaped = any(value for key, value in asked.items() if key.startswith(_SHAPED))
    if shaped or name not in ("linear", "cosine") or steps <= warmup:
        return
    if warmup > 0:
        risen = tuple(round(subject.run.schedule(at), 6) for at in (0, warmup))
        yield Setting("warmup_steps", (0.0, 1.0), risen, f"the schedule at steps 1, {warmup + 1}")
    step = warmup + (steps - warmup) // 2
    done = (step - warmup) / (steps - warmup)
    rate = 1 - done if name == "linear" else 0.5 * (1 + math.cos(math.pi * done))
    found = subject.run.schedule(step)
    where = f"the schedule at step {step + 1} of {steps}"
    yield Setting("lr_scheduler", round(rate, 6), round(found, 6), where)


# --- the optimizer --------------------------------------------------------------------------------


_UNDECAYED = re.compile(r"norm\.weight$|(?:^|\.)bias$")
"""Names that transformers' rule leaves out of the decay."""


def _of_optimizer(subject: Subject, asked: Flat) -> Iterator[Setting]:
    given = asked["optim_args"]
    if given:
        return  # they may overwrite any of these
    optimizer = subject.run.optimizer
    rate = asked["learning_rate"]
    found = rate if rate in optimizer.rates else optimizer.rates[0]  # some groups have their own
    yield Setting("learning_rate", rate, found, "the optimizer")
    decays = {group["weight_decay"] for group in optimizer.inner.param_groups}
    yield Setting("weight_decay", asked["weight_decay"], max(decays), "the optimizer")
    name = asked["optimizer"]
    has_own = "adam" not in name or name in PACKAGED or ":" in name  # defaults, or another epsilon
    for group in () if has_own else optimizer.inner.param_groups:
        if "betas" in group:
            betas = (asked["adam_beta1"], asked["adam_beta2"])
            yield Setting("adam_beta1", betas[0], group["betas"][0], "the optimizer")
            yield Setting("adam_beta2", betas[1], group["betas"][1], "the optimizer")
        if "eps" in group:
            yield Setting("adam_epsilon", asked["adam_epsilon"], group["eps"], "the optimizer")


# --- the adapter ----------------------------------------------------------------------------------


def _of_adapter(subject: Subject, asked: Flat) -> Iterator[Setting]:
    """Rank, scale and dropout of every adapted module, and that each one asked for is adapted."""
    if asked["adapter"] not in ("lora", "qlora"):
        return
    model = subject.run.policy.model
    adapted = {n: m for n, m in model.named_modules() if isinstance(m, LoraLayer)}
    rank, alpha = asked["lora_r"], asked["lora_alpha"]
    scale = alpha / (math.sqrt(rank) if asked["peft_use_rslora"] else rank)
    for name, module in adapted.items():
        dropout: Any = module.lora_dropout[ADAPTER]
        if not isinstance(module, ParamWrapper):  # of two fused tensors peft doubles it
            yield Setting("lora_r", rank, module.r[ADAPTER], name)
        yield Setting("lora_alpha", float(scale), module.scaling[ADAPTER], f"the scale of {name}")
        yield Setting("lora_dropout", asked["lora_dropout"], getattr(dropout, "p", 0.0), name)
    if asked.get("peft_layers_to_transform") is not None:
        return
    passed = left_to_experts(model)
    for name, module in model.named_modules():
        if any(f".{part}" in name for part in _INSIDE):
            continue
        if name in passed:
            continue  # told by `coverage`: peft offers no way to adapt it
        for key in keys_for(model, name, module, asked):
            yield Setting(key, "an adapter", "an adapter" if name in adapted else "none", name)


_INSIDE = ("base_layer", "lora_", "modules_to_save", "original_module")
"""How the names of modules inside of an adapted one, or of one that trains whole, go on."""

_PARTS = frozenset({"gate", "gate_proj", "up_proj", "down_proj", "w1", "w2", "w3"})


def left_to_experts(model: nn.Module) -> set[str]:
    """The names of linear layers that peft passes over because they are called as experts' parts.

    Where experts are one tensor, it sends such a name to that tensor alone; shared experts and
    dense layers of the same name get no adapter, whatever is asked for.
    """
    modules = dict(model.named_modules())
    if not any(isinstance(module, ParamWrapper) for module in modules.values()):
        return set()
    return {
        name
        for name, module in modules.items()
        if isinstance(module, nn.Linear)
        and name.rsplit(".", 1)[-1] in _PARTS
        and ".base_layer" not in name
    }


def keys_for(model: PreTrainedModel, name: str, module: nn.Module, asked: Flat) -> Iterator[str]:
    """The keys that ask for an adapter on this module."""
    rule = asked["lora_target_modules"]
    for wanted in rule if isinstance(rule, list) else ():
        if name == wanted or name.endswith(f".{wanted}"):
            yield f"lora_target_modules ({wanted})"
    is_linear = isinstance(getattr(module, "base_layer", module), nn.Linear)
    if is_linear and name and module is not model.get_output_embeddings():
        if asked["lora_target_linear"]:
            yield "lora_target_linear"
        elif rule == "all-linear":
            yield "lora_target_modules (all-linear)"


# --- numbers --------------------------------------------------------------------------------------


def _of_numbers(subject: Subject, asked: Flat) -> Iterator[Setting]:
    """The dtype of most weights, their bits, and the function that attends."""
    model = subject.run.policy.model
    frozen = asked["adapter"] is not None
    sizes = Counter[torch.dtype]()
    for parameter in model.parameters():
        if parameter.dtype.is_floating_point and not (frozen and parameter.requires_grad):
            sizes[parameter.dtype] += parameter.numel()
    most = max(sizes, key=lambda dtype: sizes[dtype])
    wanted, stored = DTYPES[subject.plan.weights_dtype.value], _stored_bits(subject, asked)
    if stored.get("quant_method", BNB) == BNB:  # others keep their weights in dtypes of their own
        yield Setting("bf16", str(wanted), str(most), "most of the weights")
    attention = model.config._attn_implementation
    yield Setting("attn_implementation", subject.plan.attention.value, attention, "the model")
    if subject.base is not None:  # a model that was handed in is as whoever made it wished
        yield from _of_bits(model, asked, stored)


BNB = "bitsandbytes"


def _of_bits(model: nn.Module, asked: Flat, stored: Flat) -> Iterator[Setting]:
    """Kind and details of the quantisation: the config's wishes, or what the files are in."""
    hint = QUANTISED if stored else NOT_TAKEN
    kinds = Counter(type(module).__name__ for module in model.modules())
    for key, name in (("load_in_4bit", "Linear4bit"), ("load_in_8bit", "Linear8bitLt")):
        where = f"whether the model has a {name}"
        wanted = asked[key] or bool(stored.get(key))
        yield Setting(key, wanted, kinds[name] > 0, where, hint=hint)
    given: dict[str, Any] = {"bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True}
    if stored:
        given = {"bnb_4bit_quant_type": "fp4", "bnb_4bit_use_double_quant": False, **stored}
    given |= asked["bnb_config_kwargs"] or {}
    for name, module in model.named_modules():
        state = getattr(getattr(module, "weight", None), "quant_state", None)
        if state is None:
            continue
        found = {
            "bnb_4bit_quant_type": state.quant_type,
            "bnb_4bit_use_double_quant": state.nested,
        }
        for key, value in found.items():
            yield Setting(key, given[key], value, f"the weight of {name}", hint=hint)


def _stored_bits(subject: Subject, asked: Flat) -> Flat:
    """How the base's files say that their weights are quantised; nothing where they are not."""
    base = subject.base
    if base is None:
        return {}
    named = asked["base_model_config"]
    folder = base.path if named is None else local_settings(named, "base_model_config")
    file = folder / "config.json"
    raw = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return raw.get("quantization_config") or {}


# --- the base -------------------------------------------------------------------------------------

POSITIONS = ("max_position_embeddings", "n_positions", "max_seq_len", "max_sequence_length")
"""Names under which configs have said how long a context is."""


def _of_base(subject: Subject, asked: Flat) -> Iterator[Setting]:
    """What the base's own ``config.json`` says, and the config's overrides of it."""
    model, overrides = subject.run.policy.model, asked["overrides_of_model_config"] or {}
    for name, value in overrides.items():
        if isinstance(value, str | int | float | bool):
            found = getattr(model.config, name, None)
            yield Setting(f"overrides_of_model_config.{name}", value, found, "the model's config")
    file = subject.base.path / "config.json" if subject.base is not None else None
    if file is None or not file.is_file() or asked["base_model_config"] is not None:
        return
    raw = json.loads(file.read_text(encoding="utf-8"))
    text = raw.get("text_config") or raw
    limits = [(name, text[name]) for name in POSITIONS if isinstance(text.get(name), int)]
    # A name that the class knows as its own needs no other.
    limits = [(n, v) for n, v in limits if n == POSITIONS[0] or not hasattr(type(model.config), n)]
    if len(limits) == 1 and not set(overrides) & set(POSITIONS):
        found = subject.plan.architecture.max_positions
        name, limit = limits[0]
        hint = NOT_TAKEN if name == POSITIONS[0] else UNREAD
        yield Setting(f"config.json: {name}", limit, found, "the loaded model", hint=hint)
    theta = _theta_of(text)
    found_theta = _theta_in(model)
    if theta is not None and found_theta is not None and "rope" not in "".join(overrides):
        where = "the loaded model's rotary embedding"
        found_theta = float(round(found_theta))
        yield Setting("config.json: rope_theta", theta, found_theta, where, THETA_WITHIN)


THETA_WITHIN = 1e-3
"""A base is a high power of a frequency in single precision, whose last bit is so multiplied."""


def _theta_of(text: Flat) -> float | None:
    """The base of plain rotary frequencies, as the file says it; None where they are scaled."""
    rope = text.get("rope_parameters") or text.get("rope_scaling") or {}
    plain = "rope_type" not in rope or rope["rope_type"] == "default"
    theta = rope.get("rope_theta", text.get("rope_theta"))
    return float(theta) if plain and "type" not in rope and isinstance(theta, int | float) else None


def _theta_in(model: nn.Module) -> float | None:
    """The same as the model's one rotary embedding has it; None without frequencies of one kind."""
    found = [
        buffer.float()
        for name, buffer in model.named_buffers()
        if name.endswith("inv_freq") and "original" not in name and buffer.dim() == 1
    ]
    if len(found) != 1 or len(found[0]) < 2 or float(found[0][0]) != 1.0:
        return None
    return math.pow(float(found[0][1]), -len(found[0]))
