"""What the value of another tool's key is under ours, where it is not the same value.

A word that stands in no table here means what our key means: its value is carried over as it is
wherever our key takes it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tunesmith.config.synonyms import synonyms
from tunesmith.registry import plain

Values = Mapping[str, Any]
Convert = Callable[[Any, Values], Mapping[str, Any] | None]
"""(the value, the config's top level) -> our keys and their values; nothing where the value asks
for what is so anyway, None where no value of ours says the same."""


@dataclass(frozen=True, slots=True)
class Foreign:
    """How to read the value of a word: ``said`` is to be known where no value of ours says the
    same, ``so`` is why the key can go where it asks for nothing else.
    """

    convert: Convert
    said: str
    so: str


def foreign(block: str, word: str) -> Foreign | None:
    """How the value of a word inside a block (``datasets[]``, "" at the top) is read, or None where
    it is the same under our key.
    """
    return _TABLES.get(block, {}).get(plain(word))


def _nothing_like_it(value: Any, values: Values) -> Mapping[str, Any] | None:
    return None


def _answers_only(value: Any, values: Values) -> Mapping[str, Any] | None:
    """A switch for training on answers alone, which is so unless `train_on_inputs` is on."""
    if not isinstance(value, bool):
        return None
    return {} if value and not values.get("train_on_inputs") else {"train_on_inputs": not value}


def _answers_of_entry(value: Any, values: Values) -> Mapping[str, Any] | None:
    return {} if value is True and not values.get("train_on_inputs") else None


def _least_rate(value: Any, values: Values) -> Mapping[str, Any] | None:
    """A rate, as a share of the peak."""
    names = ["learning_rate", *(name for name in values if _means(name) == "learning_rate")]
    peak = next((values[name] for name in names if _is_number(values.get(name))), None)
    if peak is None or not _is_number(value) or not 0 <= value <= peak:
        return None
    return {"cosine_min_lr_ratio": round(value / peak, 6)}


def _means(name: str) -> str | None:
    return synonyms().get(("", plain(name)))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


_PRECISIONS: Mapping[str, Mapping[str, Any]] = {
    "bf16": {"bf16": True},
    "bfloat16": {"bf16": True},
    "fp16": {"fp16": True},
    "float16": {"fp16": True},
    "half": {"fp16": True},
    "fp32": {"bf16": False},
    "float32": {"bf16": False},
    "no": {"bf16": False},
    "auto": {"bf16": "auto"},
}


def _precision(value: Any, values: Values) -> Mapping[str, Any] | None:
    """``bfloat16``, ``torch.float16``, ``bf16-mixed`` and their like."""
    word = "no" if value is False else str(value).lower().removeprefix("torch.")
    for ending in ("-mixed", "-true"):
        word = word.removesuffix(ending)
    found = _PRECISIONS.get(word)
    other = "bf16" if found and "fp16" in found else "fp16"
    return None if values.get(other) else found


def _bits(value: Any, values: Values) -> Mapping[str, Any] | None:
    return {f"load_in_{value}bit": True} if str(value) in ("4", "8") else None


def _lora_switch(value: Any, values: Values) -> Mapping[str, Any] | None:
    if value is True:
        return {} if values.get("adapter") else {"adapter": "lora"}
    return {} if value is False and not values.get("adapter") else None


def _qlora_switch(value: Any, values: Values) -> Mapping[str, Any] | None:
    if value is True:
        return {"adapter": "qlora", "load_in_4bit": True}
    return {} if value is False and values.get("adapter") != "qlora" else None


def _full_switch(value: Any, values: Values) -> Mapping[str, Any] | None:
    return {} if value is True and not values.get("adapter") else None


def _kind_of_tuning(value: Any, values: Values) -> Mapping[str, Any] | None:
    word = value.lower() if isinstance(value, str) else ""
    if word == "full":
        return _full_switch(True, values)
    return {"adapter": word} if word in ("lora", "qlora") else None


def _betas(value: Any, values: Values) -> Mapping[str, Any] | None:
    if not isinstance(value, list) or len(value) != 2 or not all(_is_number(b) for b in value):
        return None
    return {"adam_beta1": value[0], "adam_beta2": value[1]}


def _warmup(value: Any, values: Values) -> Mapping[str, Any] | None:
    """A share of the steps below 1, else their number."""
    if not _is_number(value) or value < 0 or (value >= 1 and value != int(value)):
        return None
    return {"warmup_ratio": value} if 0 < value < 1 else {"warmup_steps": int(value)}


def _steps(value: Any, values: Values) -> Mapping[str, Any] | None:
    """A number of steps; -1 is "as the epochs say"."""
    if value == -1:
        return {}
    return {"max_steps": value} if type(value) is int and value > 0 else None


def _targets(value: Any, values: Values) -> Mapping[str, Any] | None:
    """Names in a list, in one text, or a word for every linear layer."""
    if value in ("all", "all-linear", "all_linear"):
        return {"lora_target_linear": True}
    names = _names(value)
    return {"lora_target_modules": names} if names else None


def _saved_modules(value: Any, values: Values) -> Mapping[str, Any] | None:
    names = _names(value)
    return {"lora_modules_to_save": names} if names else None


def _names(value: Any) -> list[str]:
    listed = value.split(",") if isinstance(value, str) else value
    if not isinstance(listed, list) or not all(isinstance(name, str) for name in listed):
        return []
    return [name.strip() for name in listed if name.strip()]


_ATTENTIONS: Mapping[Any, Mapping[str, Any]] = {
    "fa2": {},
    "flash_attention_2": {},
    "auto": {},
    "sdpa": {"attn_implementation": "sdpa"},
    "eager": {"attn_implementation": "eager"},
    "disabled": {"attn_implementation": "eager"},
}


def _attention(value: Any, values: Values) -> Mapping[str, Any] | None:
    """Flash attention is what the machine takes by itself, where it can."""
    if isinstance(value, bool):
        return {} if value else None
    return _ATTENTIONS.get(value) if isinstance(value, str) else None


def _resume(value: Any, values: Values) -> Mapping[str, Any] | None:
    if isinstance(value, bool):
        return {"auto_resume_from_checkpoints": value}
    return {"resume_from_checkpoint": value} if isinstance(value, str) else None


def _tags(value: Any, values: Values) -> Mapping[str, Any] | None:
    """The rows' keys of a turn, where nothing else is named."""
    named = {"role_tag": "role", "content_tag": "content"}
    if not isinstance(value, dict) or not value or not value.keys() <= named.keys():
        return None
    return {"message_property_mappings": {named[tag]: key for tag, key in value.items()}}


def _off_is(*, nothing: tuple[Any, ...]) -> Convert:
    """A switch for what only has keys of other kinds here: its off values ask for nothing."""

    def convert(value: Any, values: Values) -> Mapping[str, Any] | None:
        return {} if any(value == off and type(value) is type(off) for off in nothing) else None

    return convert


Row = tuple[str, Convert, str] | tuple[str, Convert, str, str]
"""Words, how their value is read, what is to be known, and why they can go."""


def _table(*rows: Row) -> Mapping[str, Foreign]:
    found: dict[str, Foreign] = {}
    for words, how, said, *so in rows:
        read = Foreign(how, said, so[0] if so else "it asks for what is so anyway")
        found |= {plain(word): read for word in words.split()}
    return found


_PROMPTS = "prompts do not train unless `train_on_inputs: true`"
_TABLES: Mapping[str, Mapping[str, Foreign]] = {
    "": _table(
        (
            "train_on_responses_only completion_only_loss assistant_only_loss mask_prompt",
            _answers_only,
            _PROMPTS,
            _PROMPTS,
        ),
        ("min_lr", _least_rate, "it is a share of `learning_rate`"),
        (
            "dtype torch_dtype precision mixed_precision compute_type bfloat",
            _precision,
            "`bf16: true`, `fp16: true`, or `bf16: false` for fp32",
        ),
        ("quantization_bit", _bits, "`load_in_4bit: true` or `load_in_8bit: true`"),
        ("lora use_peft", _lora_switch, "`adapter: lora`, or no `adapter` at all"),
        ("qlora", _qlora_switch, "`adapter: qlora` with `load_in_4bit: true`"),
        (
            "full_finetuning",
            _full_switch,
            "all weights train where `adapter` is not set",
            "all weights train where `adapter` is not set",
        ),
        ("peft_type finetuning_type", _kind_of_tuning, "all weights train without `adapter`"),
        (
            "peft_config lora_config",
            _nothing_like_it,
            "its keys stand at the top level: `adapter: lora`, `lora_r`, `lora_alpha`",
        ),
        ("betas", _betas, "one number each in `adam_beta1` and `adam_beta2`"),
        ("warmup", _warmup, "`warmup_steps` or `warmup_ratio`"),
        ("steps train_steps num_steps iters max_iters total_steps max_train_steps", _steps, ""),
        (
            "target_modules lora_target lora_targets lora_modules",
            _targets,
            "`[q_proj, v_proj]`, or `lora_target_linear: true`",
        ),
        ("modules_to_save additional_target", _saved_modules, "a list of names"),
        (
            "attention attn flash_attn",
            _attention,
            "`eager`, `sdpa` or nothing",
            "the machine decides, flash kernels on a GPU",
        ),
        ("resume", _resume, "or `auto_resume_from_checkpoints: true`"),
        ("do_eval", _off_is(nothing=(False,)), "give the rows that are held out: `0.05`"),
        ("push_to_hub", _off_is(nothing=(False,)), "it names the repository"),
        ("report_to", _off_is(nothing=("none", [])), "one key for each: `use_wandb`, `use_mlflow`"),
        ("adafactor", _off_is(nothing=(False,)), "`optimizer` takes a name"),
        (
            "stage training_type method",
            _off_is(nothing=("sft",)),
            "it names a method of preference or reinforcement learning",
            "training is supervised where `rl` is not set",
        ),
        ("pref_loss", _nothing_like_it, "it names the method: `dpo`, `orpo`, `simpo`"),
        (
            "logging_strategy",
            _off_is(nothing=("steps",)),
            "the number of steps between two lines",
        ),
        ("logging_first_step", _off_is(nothing=(False,)), "`1` shows every step"),
        ("evaluate_during_training", _off_is(nothing=(False,)), "`steps` or `epoch`"),
        (
            "data_seed",
            _nothing_like_it,
            "one seed stands for the order, the adapters and dropout",
        ),
        (
            "batch_size_total train_batch_size_total",
            _nothing_like_it,
            "`batch_size` is the number of rows a step over all devices",
        ),
        (
            "dataset_text_field",
            _nothing_like_it,
            "`field` of an entry with `type: completion` names the column",
        ),
        (
            "dataset_dir",
            _nothing_like_it,
            "`path` of each entry is a file, a folder or a hub id",
        ),
    ),
    "datasets[]": _table(
        ("mask_prompt", _answers_of_entry, _PROMPTS, _PROMPTS),
        ("tags", _tags, "`{role: ..., content: ...}`, and `roles` for other names of roles"),
        ("columns", _nothing_like_it, "`{role: ..., content: ...}`, or a `type` with its fields"),
    ),
}
