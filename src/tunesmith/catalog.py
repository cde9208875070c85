"""The table of contents: every part that can be swapped, as name -> ``"module:object"``.

Plain strings, so that reading this file imports nothing. `tunesmith.registry` looks names up; a
house test resolves every entry.
"""

from __future__ import annotations

from collections.abc import Mapping

FORMATS: dict[str, str] = {
    "untyped": "tunesmith.data.formats.untyped:read_untyped",
    "chat_template": "tunesmith.data.formats.chat:read_chat",
    "messages": "tunesmith.data.formats.messages:read_messages",
    "messages.chat": "tunesmith.data.formats.messages:read_messages",
    "alpaca": "tunesmith.data.formats.instruct:read_alpaca",
    "alpaca_chat": "tunesmith.data.formats.instruct:read_alpaca_chat",
    "alpaca_chat.load_concise": "tunesmith.data.formats.instruct:read_alpaca_concise",
    "alpaca_chat.load_no_prompt": "tunesmith.data.formats.instruct:read_bare_chat",
    "alpaca_chat.load_qa": "tunesmith.data.formats.instruct:read_question",
    "alpaca_chat.load_camel_ai": "tunesmith.data.formats.instruct:read_camel",
    "alpaca_instruct": "tunesmith.data.formats.instruct:read_alpaca_instruct",
    "alpaca_instruct.load_no_prompt": "tunesmith.data.formats.instruct:read_bare_instruct",
    "explainchoice": "tunesmith.data.formats.instruct:read_explained_choice",
    "concisechoice": "tunesmith.data.formats.instruct:read_brief_choice",
    "summarizetldr": "tunesmith.data.formats.instruct:read_summary",
    "jeopardy": "tunesmith.data.formats.instruct:read_jeopardy",
    "oasst": "tunesmith.data.formats.instruct:read_open_assistant",
    "gpteacher": "tunesmith.data.formats.instruct:read_gpteacher",
    "alpaca_w_system": "tunesmith.data.formats.system:read_chat",
    "alpaca_w_system.load_chat": "tunesmith.data.formats.system:read_chat",
    "alpaca_w_system.load_instruct": "tunesmith.data.formats.system:read_instruct",
    "alpaca_w_system.load_open_orca": "tunesmith.data.formats.system:read_open_orca",
    "alpaca_w_system.load_open_orca_chatml": "tunesmith.data.formats.system:read_open_orca_chatml",
    "orcamini": "tunesmith.data.formats.system:read_orca_mini",
    "reflection": "tunesmith.data.formats.reflection:read_reflection",
    "context_qa": "tunesmith.data.formats.context_qa:read_context",
    "context_qa.load_v2": "tunesmith.data.formats.context_qa:read_context_v2",
    "context_qa.load_404": "tunesmith.data.formats.context_qa:read_context_404",
    "creative_acr.load_answer": "tunesmith.data.formats.creative:read_answer",
    "creative_acr.load_critique": "tunesmith.data.formats.creative:read_critique",
    "creative_acr.load_revise": "tunesmith.data.formats.creative:read_revision",
    "metharme": "tunesmith.data.formats.roleplay:read_metharme",
    "pygmalion": "tunesmith.data.formats.roleplay:read_pygmalion",
    "llama2_chat": "tunesmith.data.formats.llama2:read_llama2_chat",
    "completion": "tunesmith.data.formats.completion:read_completion",
    "pretrain": "tunesmith.data.formats.completion:read_pretrain",
    "input_output": "tunesmith.data.formats.segments:read_input_output",
    "inline": "tunesmith.data.formats.inline:read_inline",
    "pretokenized": "tunesmith.data.formats.tokenized:read_pretokenized",
    "_synthetic": "tunesmith.data.formats.synthetic:read_synthetic",
    "dpo": "tunesmith.data.formats.pairs:read_plain",
    "dpo.passthrough": "tunesmith.data.formats.pairs:read_plain",
    "dpo.inline": "tunesmith.data.formats.pairs:read_inline_pair",
    "dpo.chatml.default": "tunesmith.data.formats.pairs:read_chatml",
    "dpo.chatml.argilla_chat": "tunesmith.data.formats.pairs:read_chatml_argilla_chat",
    "dpo.chatml.icr": "tunesmith.data.formats.pairs:read_chatml_icr",
    "dpo.chatml.intel": "tunesmith.data.formats.pairs:read_chatml_intel",
    "dpo.chatml.prompt_pairs": "tunesmith.data.formats.pairs:read_chatml_prompt_pairs",
    "dpo.chatml.ultra": "tunesmith.data.formats.pairs:read_chatml_ultra",
    "dpo.llama3.default": "tunesmith.data.formats.pairs:read_llama3",
    "dpo.llama3.argilla_chat": "tunesmith.data.formats.pairs:read_llama3_argilla_chat",
    "dpo.llama3.icr": "tunesmith.data.formats.pairs:read_llama3_icr",
    "dpo.llama3.intel": "tunesmith.data.formats.pairs:read_llama3_intel",
    "dpo.llama3.prompt_pairs": "tunesmith.data.formats.pairs:read_llama3_prompt_pairs",
    "dpo.llama3.ultra": "tunesmith.data.formats.pairs:read_llama3_ultra",
    "dpo.zephyr.nectar": "tunesmith.data.formats.pairs:read_nectar",
    "dpo.chat_template.default": "tunesmith.data.formats.pair_chat:read_pair",
    "dpo.chat_template.argilla_chat": "tunesmith.data.formats.pair_chat:read_pair_of_conversations",
    "orpo": "tunesmith.data.formats.pairs:read_plain",
    "orpo.chat_template": "tunesmith.data.formats.pair_chat:read_orpo",
    "orpo.chat_template.argilla": "tunesmith.data.formats.pair_chat:read_orpo",
    "kto": "tunesmith.data.formats.judged:read_plain",
    "kto.inline": "tunesmith.data.formats.judged:read_inline_judged",
    "kto.chatml.argilla": "tunesmith.data.formats.judged:read_chatml_argilla",
    "kto.chatml.argilla_chat": "tunesmith.data.formats.judged:read_chatml_argilla_chat",
    "kto.chatml.intel": "tunesmith.data.formats.judged:read_chatml_intel",
    "kto.chatml.prompt_pairs": "tunesmith.data.formats.judged:read_chatml_prompt",
    "kto.chatml.ultra": "tunesmith.data.formats.judged:read_chatml_prompt",
    "kto.llama3.argilla": "tunesmith.data.formats.judged:read_llama3_argilla",
    "kto.llama3.argilla_chat": "tunesmith.data.formats.judged:read_llama3_argilla_chat",
    "kto.llama3.intel": "tunesmith.data.formats.judged:read_llama3_intel",
    "kto.llama3.prompt_pairs": "tunesmith.data.formats.judged:read_llama3_prompt",
    "kto.llama3.ultra": "tunesmith.data.formats.judged:read_llama3_prompt",
    "bradley_terry.chat_template": "tunesmith.data.formats.pair_chat:read_reward",
    "bradley_terry.llama3.icr": "tunesmith.data.formats.pair_chat:read_reward_llama3",
    "stepwise_supervised": "tunesmith.data.formats.steps:read_steps",
    "prompts": "tunesmith.data.formats.prompts:read_prompt",
    "ebft.ebft_opencode.transform": "tunesmith.data.formats.ebft:read_code",
    "ebft.ebft_chat_multiturn.transform": "tunesmith.data.formats.ebft:read_first_turn",
    "ebft.ebft_chat_multiturn.transform_last_turn": "tunesmith.data.formats.ebft:read_last_turn",
    "ebft.ebft_chat_multiturn.transform_all_turns": "tunesmith.data.formats.ebft:read_turns",
    "ebft.ebft_reasoning.transform": "tunesmith.data.formats.ebft:read_last_turn",
    "ebft.ebft_reasoning.transform_split_thinking": "tunesmith.data.formats.ebft:read_split",
    "ebft.ebft_reasoning.transform_answer_only": "tunesmith.data.formats.ebft:read_answer_only",
    "ebft.ebft_reasoning.transform_strided": "tunesmith.data.formats.ebft:read_strided_last_turn",
    "ebft.ebft_strided_chat.transform": "tunesmith.data.formats.ebft:read_strided_chat",
    "ebft.ebft_strided_structured.transform": "tunesmith.data.formats.ebft:read_strided_pair",
    "ebft.ebft_pretrain.transform": "tunesmith.data.formats.ebft:read_strided_text",
}
"""A data set's ``type`` -> a function from a row and its options to a record."""

STYLED_FORMATS: frozenset[str] = frozenset(
    {
        "alpaca",
        "concisechoice",
        "explainchoice",
        "gpteacher",
        "jeopardy",
        "oasst",
        "reflection",
        "summarizetldr",
    }
)
"""Formats that take a prompt style, as ``type: name:style``."""

PROMPT_STYLES: tuple[str, ...] = ("instruct", "chat", "chatml", "phi")
"""The styles that they take."""

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
    "cache": "tunesmith.cli.cache:cache",
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
    "cache": "Look into the cache of prepared data, and clear it.",
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
        "agent-docs",
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

NEEDLESS_COMMANDS: dict[str, str] = {
    "generate-cli-config-options": "options come from the schema itself",
}
"""axolotl's commands that have nothing to do here, and why."""

TABLES: Mapping[str, Mapping[str, str]] = {
    "formats": FORMATS,
    "objectives": OBJECTIVES,
    "optimizers": OPTIMIZERS,
    "schedules": SCHEDULES,
    "commands": COMMANDS,
}
"""Every table by name; installed packages add to them through ``tunesmith.<table>``."""
