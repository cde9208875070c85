"""Unknown keys: found, answered with the key that was most likely meant, or taken as not built."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from tunesmith.config.draft import Draft, dotted_path
from tunesmith.config.flat import groups, leaves
from tunesmith.config.tree import Path
from tunesmith.config.unbuilt import take_unbuilt, unbuilt_keys
from tunesmith.errors import REMOVE
from tunesmith.registry import nearest, plain

# Words of other tools, or of habit -> our key. Compared without case, dashes and underscores.
_SYNONYMS: Mapping[str, str] = {
    "lr": "learning_rate",
    "rate": "learning_rate",
    "r": "lora_r",
    "rank": "lora_r",
    "lora_rank": "lora_r",
    "alpha": "lora_alpha",
    "dropout": "lora_dropout",
    "target_modules": "lora_target_modules",
    "lora_target": "lora_target_modules",
    "lora_targets": "lora_target_modules",
    "lora_modules": "lora_target_modules",
    "modules_to_save": "lora_modules_to_save",
    "use_rslora": "peft_use_rslora",
    "rslora": "peft_use_rslora",
    "peft_type": "adapter",
    "lora": "adapter",
    "qlora": "adapter",
    "finetuning_type": "adapter",
    "model": "base_model",
    "model_name": "base_model",
    "model_id": "base_model",
    "model_path": "base_model",
    "model_name_or_path": "base_model",
    "tokenizer": "tokenizer_config",
    "tokenizer_path": "tokenizer_config",
    "data": "datasets",
    "dataset": "datasets",
    "dataset_name": "datasets",
    "train_datasets": "datasets",
    "train_file": "datasets",
    "eval_dataset": "test_datasets",
    "eval_datasets": "test_datasets",
    "val_datasets": "test_datasets",
    "validation_datasets": "test_datasets",
    "val_size": "val_set_size",
    "test_size": "val_set_size",
    "validation_split": "val_set_size",
    "epochs": "num_epochs",
    "num_train_epochs": "num_epochs",
    "n_epochs": "num_epochs",
    "steps": "max_steps",
    "train_steps": "max_steps",
    "num_steps": "max_steps",
    "bs": "micro_batch_size",
    "train_batch_size": "micro_batch_size",
    "per_device_train_batch_size": "micro_batch_size",
    "per_device_batch_size": "micro_batch_size",
    "per_device_eval_batch_size": "eval_batch_size",
    "global_batch_size": "batch_size",
    "ga": "gradient_accumulation_steps",
    "grad_accum": "gradient_accumulation_steps",
    "accumulation_steps": "gradient_accumulation_steps",
    "gradient_accumulation": "gradient_accumulation_steps",
    "max_length": "sequence_len",
    "max_len": "sequence_len",
    "max_seq_len": "sequence_len",
    "max_seq_length": "sequence_len",
    "seq_len": "sequence_len",
    "cutoff_len": "sequence_len",
    "context_length": "sequence_len",
    "block_size": "sequence_len",
    "packing": "sample_packing",
    "eval_packing": "eval_sample_packing",
    "template": "chat_template",
    "optim": "optimizer",
    "optimizer_args": "optim_args",
    "scheduler": "lr_scheduler",
    "schedule": "lr_scheduler",
    "lr_schedule": "lr_scheduler",
    "lr_scheduler_type": "lr_scheduler",
    "warmup": "warmup_steps",
    "num_warmup_steps": "warmup_steps",
    "min_lr_ratio": "cosine_min_lr_ratio",
    "decay": "weight_decay",
    "wd": "weight_decay",
    "clip": "max_grad_norm",
    "grad_clip": "max_grad_norm",
    "gradient_clipping": "max_grad_norm",
    "clip_grad_norm": "max_grad_norm",
    "betas": "adam_beta1",
    "eps": "adam_epsilon",
    "epsilon": "adam_epsilon",
    "output": "output_dir",
    "out_dir": "output_dir",
    "save_dir": "output_dir",
    "save_every": "save_steps",
    "eval_every": "eval_steps",
    "log_every": "logging_steps",
    "resume": "resume_from_checkpoint",
    "checkpointing": "gradient_checkpointing",
    "activation_checkpointing": "gradient_checkpointing",
    "use_gradient_checkpointing": "gradient_checkpointing",
    "dtype": "bf16",
    "torch_dtype": "bf16",
    "precision": "bf16",
    "mixed_precision": "bf16",
    "4bit": "load_in_4bit",
    "8bit": "load_in_8bit",
    "use_4bit": "load_in_4bit",
    "use_8bit": "load_in_8bit",
    "attention": "attn_implementation",
    "attn": "attn_implementation",
    "random_seed": "seed",
    "num_workers": "dataset_num_proc",
    "preprocessing_num_workers": "dataset_num_proc",
    "datasets[].file": "path",
    "datasets[].files": "data_files",
    "datasets[].dataset": "path",
    "datasets[].format": "type",
    "datasets[].train_on_split": "split",
    "datasets[].subset": "name",
    "datasets[].config": "name",
    "datasets[].messages": "field_messages",
    "datasets[].messages_field": "field_messages",
    "datasets[].text_field": "field",
    "datasets[].template": "chat_template",
    "special_tokens.pad": "pad_token",
    "special_tokens.eos": "eos_token",
    "special_tokens.bos": "bos_token",
}


def check_names(draft: Draft, *, lenient: bool) -> None:
    """Take every key out of the draft that no section declares, each with its problem or notice.

    ``lenient`` turns an unknown key's problem into a notice.
    """
    unbuilt: list[tuple[str, Path, Any]] = []
    _walk(draft, draft.values, (), "", unbuilt, lenient=lenient)
    take_unbuilt(draft, unbuilt)


def _walk(
    draft: Draft,
    block: dict[str, Any],
    path: Path,
    prefix: str,
    unbuilt: list[tuple[str, Path, Any]],
    *,
    lenient: bool,
) -> None:
    for name, value in list(block.items()):
        flat, here = prefix + name, (*path, name)
        if flat in unbuilt_keys():
            unbuilt.append((flat, here, value))
        elif flat in groups() and isinstance(value, dict):
            _walk(draft, value, here, flat + ".", unbuilt, lenient=lenient)
        elif flat not in leaves():
            _unknown(draft, here, prefix, lenient=lenient)
            draft.drop(here)
        elif leaves()[flat].inner is not None:
            for inner_path, inner in _blocks(here, value):
                below = flat + ("[]." if leaves()[flat].listed else ".")
                _walk(draft, inner, inner_path, below, unbuilt, lenient=lenient)


def _blocks(path: Path, value: Any) -> list[tuple[Path, dict[str, Any]]]:
    """The mappings in a key's value: itself, or the items of a list."""
    if isinstance(value, dict):
        return [(path, value)]
    items = value if isinstance(value, list) else []
    return [((*path, i), item) for i, item in enumerate(items) if isinstance(item, dict)]


def _unknown(draft: Draft, path: Path, prefix: str, *, lenient: bool) -> None:
    name = str(path[-1])
    meant = suggest(name, prefix)
    key = dotted_path(path)
    if lenient:
        draft.notice(path, f"unknown key `{key}` is left out (--lenient)")
        return
    fix = f"did you mean `{meant}`?" if meant else "take it out; `tunesmith config keys` lists all"
    edit: dict[str, Any] = {key: REMOVE}
    if meant and draft.get((*path[:-1], meant)) is None:
        edit[dotted_path((*path[:-1], meant))] = draft.get(path)
    draft.problem("unknown-key", path, f"there is no key `{name}`{_inside(prefix)}", fix, edit)


def _inside(prefix: str) -> str:
    outer = prefix.rstrip(".").replace("[]", "")
    return f" in `{outer}`" if outer else ""


def suggest(name: str, prefix: str = "") -> str | None:
    """The key most likely meant by ``name`` inside the block ``prefix`` ("" at the top, else
    ending with a dot): by case and dashes first, then by synonym, then by spelling.
    """
    scope = prefix.replace("test_datasets[]", "datasets[]")
    here = _names_in(scope)
    same = [option for option in here if plain(option) == plain(name)]
    if same:
        return same[0]
    for synonym, key in _SYNONYMS.items():
        place, _, word = synonym.rpartition(".")
        if place == scope.rstrip(".") and plain(word) == plain(name):
            return key
    return nearest(name, here)


@cache
def _names_in(scope: str) -> tuple[str, ...]:
    """The keys of a block: those that are built first, so that they win where two are as near."""
    names = [*leaves(), *unbuilt_keys()]
    inside = [name[len(scope) :] for name in names if name.startswith(scope)]
    return tuple(name for name in inside if "." not in name and "[]" not in name)
