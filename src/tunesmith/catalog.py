"""The table of contents: every part that can be swapped, as name -> ``"module:object"``.

Plain strings, so that reading this file imports nothing. `tunesmith.registry` looks names up; a
house test resolves every entry.
"""

from __future__ import annotations

from collections.abc import Mapping

FORMATS: dict[str, str] = {
    "chat_template": "tunesmith.data.formats.chat:read_chat",
    "alpaca": "tunesmith.data.formats.instruct:read_alpaca",
    "completion": "tunesmith.data.formats.completion:read_completion",
    "input_output": "tunesmith.data.formats.segments:read_input_output",
    "inline": "tunesmith.data.formats.inline:read_inline",
}
"""A data set's ``type`` -> a function from a row and its options to a record."""

OBJECTIVES: dict[str, str] = {
    "sft": "tunesmith.objectives.sft:Sft",
}
"""What is optimised."""

OPTIMIZERS: dict[str, str] = {
    "adamw_torch": "tunesmith.optim.build:adamw_torch",
    "adamw_torch_fused": "tunesmith.optim.build:adamw_torch_fused",
    "sgd": "tunesmith.optim.build:sgd",
    "adamw_8bit": "tunesmith.optim.build:adamw_8bit",
    "adamw_bnb_8bit": "tunesmith.optim.build:adamw_8bit",
    "paged_adamw_8bit": "tunesmith.optim.build:paged_adamw_8bit",
    "paged_adamw_32bit": "tunesmith.optim.build:paged_adamw_32bit",
}
"""``optimizer:`` -> what makes it of groups of parameters."""

SCHEDULES: dict[str, str] = {
    "constant": "tunesmith.optim.schedules:constant",
    "constant_with_warmup": "tunesmith.optim.schedules:constant_with_warmup",
    "linear": "tunesmith.optim.schedules:linear",
    "cosine": "tunesmith.optim.schedules:cosine",
    "cosine_with_min_lr": "tunesmith.optim.schedules:cosine_with_min_lr",
    "cosine_warmup_with_min_lr": "tunesmith.optim.schedules:cosine_warmup_with_min_lr",
    "cosine_with_restarts": "tunesmith.optim.schedules:cosine_with_restarts",
    "polynomial": "tunesmith.optim.schedules:polynomial",
    "inverse_sqrt": "tunesmith.optim.schedules:inverse_sqrt",
    "warmup_stable_decay": "tunesmith.optim.schedules:warmup_stable_decay",
    "one_cycle": "tunesmith.optim.schedules:one_cycle",
    "rex": "tunesmith.optim.schedules:rex",
}
"""``lr_scheduler:`` -> a pure function of the step."""

ATTENTIONS: tuple[str, ...] = ("eager", "sdpa", "flash_attention_2", "varlen")
"""Names for ``attn_implementation``."""

COMMANDS: dict[str, str] = {
    "quickstart": "tunesmith.cli.quickstart:quickstart",
    "train": "tunesmith.cli.train:train",
    "preprocess": "tunesmith.cli.data:preprocess",
    "plan": "tunesmith.cli.train:plan",
    "check": "tunesmith.cli.train:check",
    "evaluate": "tunesmith.cli.evaluate:evaluate",
    "generate": "tunesmith.cli.serve:generate",
    "chat": "tunesmith.cli.serve:chat",
    "merge": "tunesmith.cli.export:merge",
    "config": "tunesmith.cli.explain:config",
    "doctor": "tunesmith.cli.doctor:doctor",
}
"""A command's name -> a click command."""

COMMAND_HELP: dict[str, str] = {
    "quickstart": "Fine-tune a small real model on this machine, from nothing.",
    "train": "Plan, check, train and export; goes on with an unfinished run.",
    "preprocess": "Prepare the data; show tokens, masks and packing.",
    "plan": "Show every derived value and its reason; changes nothing.",
    "check": "Run the probes on your own data and model, without training.",
    "evaluate": "The loss on held-out data.",
    "generate": "Answer prompts with a trained model.",
    "chat": "Talk to a trained model in the terminal.",
    "merge": "Fold an adapter into its base model.",
    "config": "Validate and explain configs, and print their schema.",
    "doctor": "This machine, its versions, and what would be used.",
}
"""One line for each command, so that the overview imports none of them."""

COMMAND_ALIASES: dict[str, str] = {
    "inference": "generate",
    "merge-lora": "merge",
    "config-schema": "config schema",
}
"""axolotl's names for commands of ours. They work and say the new name."""

UNBUILT_COMMANDS: frozenset[str] = frozenset(
    {
        "cache",
        "consolidate",
        "delinearize-llama4",
        "fetch",
        "launch",
        "lm-eval",
        "merge-sharded-fsdp-weights",
        "push",
        "quantize",
        "serve",
        "vllm-serve",
    }
)
"""Commands that will come, in our names and in axolotl's."""

TABLES: Mapping[str, Mapping[str, str]] = {
    "formats": FORMATS,
    "objectives": OBJECTIVES,
    "optimizers": OPTIMIZERS,
    "schedules": SCHEDULES,
    "commands": COMMANDS,
}
"""Every table by name; installed packages add to them through ``tunesmith.<table>``."""
