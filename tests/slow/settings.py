"""Settings that are given to both programs: chats drawn by number, and each other kind of row."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.unit.data.formats import examples
from tunesmith.config.dataset_types import is_compared
from tunesmith.data.templates import TEMPLATE_NAMES

SHAREGPT = {
    "field_messages": "conversations",
    "message_property_mappings": {"role": "from", "content": "value"},
}
CALLS = {
    "roles": {
        "user": ["human"],  # axolotl forgets its own names where any are given; here they stay
        "assistant": ["gpt", "function_call"],
        "tool": ["observation"],
    }
}
CHATS: Mapping[str, Mapping[str, Any]] = {
    "data/chat/mt_bench_multiturn.jsonl": {},
    "data/chat/gsm8k_chat_openai.jsonl": {},
    "data/chat/reasoning_tool_openai.jsonl": {},
    "data/chat/reason_tool_use_50.jsonl": {},
    "data/chat/stock_toolcall_openai.jsonl": {},
    "data/chat/think_inline.jsonl": {},
    "data/chat/sharegpt_dummy.jsonl": SHAREGPT,
    "data/chat/glaive_toolcall_en.jsonl": {**SHAREGPT, **CALLS},
    "goldens/derived/chat_edge.jsonl": {},
    "goldens/derived/chat_nosys.jsonl": {},
    "goldens/derived/chat_two_turns.jsonl": {},
    "goldens/derived/chat_think.jsonl": {},
    "goldens/derived/chat_reasoning_field.jsonl": {},
    "goldens/derived/chat_flags.jsonl": {"message_field_training": "train"},
    "goldens/derived/chat_detail.jsonl": {"message_field_training_detail": "train_detail"},
    "goldens/derived/chat_parts_train.jsonl": {},
}
"""Files under the reference folder, and how their rows are read."""

EOT: Mapping[str, str] = {
    "bpe4k_chatml": "<|im_end|>",
    "bpe4k_llama3": "<|eot_id|>",
    "bpe4k_gemma": "<end_of_turn>",
    "minimind": "<|im_end|>",
    "mistral_v1_spm": "</s>",
}
"""The tokenizers of the reference folder, each with the token that ends a turn."""

NOT_BESIDE = ("ebft.", "messages", "_synthetic", "untyped", "pretrain")
"""Kinds of rows that axolotl has under other names, draws at random, or streams."""


@dataclass(frozen=True, slots=True)
class Setting:
    """A config but for its paths: the tokenizer's name, the entry's keys, the other keys."""

    name: str
    tokenizer: str
    rows: tuple[Mapping[str, Any], ...]
    entry: Mapping[str, Any]
    more: Mapping[str, Any] = field(default_factory=dict)


def drawn_chat(number: int, reference: Path) -> Setting:
    """Eight rows of a chat under keys that the number draws."""
    rng = random.Random(number)
    source = rng.choice(list(CHATS))
    tokenizer = rng.choice(list(EOT))
    lines = (reference / source).read_text(encoding="utf-8").splitlines()
    start = rng.randrange(max(1, len(lines) - 7))
    entry: dict[str, Any] = {"type": "chat_template", **CHATS[source]}
    more: dict[str, Any] = {"sequence_len": 2048}
    if tokenizer == "mistral_v1_spm" or rng.random() < 0.8:
        more["chat_template"] = rng.choice(list(TEMPLATE_NAMES))
    roles = [["assistant"], ["user"], ["user", "assistant"], ["system", "assistant"]]
    choices: dict[str, tuple[float, list[Any]]] = {
        "roles_to_train": (0.4, roles),
        "train_on_eos": (0.5, ["turn", "all", "last", "none"]),
        "train_on_eot": (0.3, ["turn", "all", "last", "none"]),
        "split_thinking": (0.5 if "think" in source else 0.0, [True]),
        "drop_system_message": (0.1, [True]),
    }
    for key, (chance, values) in choices.items():
        if rng.random() < chance:
            entry[key] = rng.choice(values)
    if rng.random() < 0.4:
        more["eot_tokens"] = [EOT[tokenizer]]
    if rng.random() < 0.1:
        more["train_on_inputs"] = True
    if rng.random() < 0.2:
        more |= {"sequence_len": 128, "excess_length_strategy": rng.choice(["drop", "truncate"])}
    rows = tuple(json.loads(line) for line in lines[start : start + 8])
    return Setting(f"chat-{number}", tokenizer, rows, entry, more)


def altered(value: Any, how: int) -> Any:
    """The texts of a value in another form: edges of blanks, other scripts, several lines."""
    if isinstance(value, str):
        return (value, f" {value}\n", f"{value} é 你好 😀", f"{value}\n\n{value}")[how]
    if isinstance(value, list):
        return [altered(part, how) for part in value]
    if isinstance(value, dict):
        return {k: altered(v, how) if k in ("text", "value") else v for k, v in value.items()}
    return value


def plain() -> Iterator[Setting]:
    """Each kind of row that is no chat for a template, twice, with keys that its number draws."""
    names = [n for n in examples.names() if not is_compared(n) and not n.startswith(NOT_BESIDE)]
    for number, name in enumerate([*names, *names]):
        if name == "chat_template":
            continue
        rng = random.Random(number)
        row = examples.row(name)
        rows = tuple({k: altered(v, how) for k, v in row.items()} for how in range(4))
        kind = {"inline": {"field_instruction": "instruction"}}.get(name, name)
        entry: dict[str, Any] = {"type": kind}
        if name == "pretokenized":
            rows, entry = (row,), {}
        more: dict[str, Any] = {"sequence_len": rng.choice([32, 64, 2048])}
        if rng.random() < 0.4:
            more["train_on_inputs"] = True
        if rng.random() < 0.4:
            more["excess_length_strategy"] = rng.choice(["drop", "truncate"])
        tokenizer = rng.choice(list(EOT))
        yield Setting(f"{name}-{number}", tokenizer, rows, entry, more)
