"""The models, tokenizers and rows that the runs of the cases share, made once."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, get_args

import torch
from datasets import Dataset, DatasetDict, load_from_disk
from transformers import AutoModelForCausalLM, NemotronConfig, Qwen2Config

from tests.smallrun import WORDS, write_rows
from tests.unit.export.parts import byte_tokenizer, make_base
from tunesmith.config.preflight import ProbeName

SIZES: Mapping[str, Any] = {
    "vocab_size": 259,
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "bos_token_id": 257,
    "eos_token_id": 258,
    "pad_token_id": 256,
}
"""A model for the tokens of the tests' tokenizer, as small as it can be."""

BASE: Mapping[str, Any] = {
    "base_model": "GROUND/base",
    "datasets": [{"path": "GROUND/chat.jsonl", "type": "chat_template"}],
    "output_dir": "RUN/out",
    "sequence_len": 192,
    "micro_batch_size": 2,
    "max_steps": 3,
    "learning_rate": 1e-2,
    "optimizer": "adamw_torch",
    "lr_scheduler": "linear",
    "save_strategy": "no",
    "bf16": False,
    "seed": 7,
    # So that other rows need not mean another order.
    "curriculum_sampling": True,
    "preflight_skip": list(get_args(ProbeName)),
    "adapter": "lora",
    "lora_r": 4,
    "lora_alpha": 8,
    "lora_target_modules": ["q_proj", "down_proj"],
}
"""The flat keys that every case starts from."""

FULL: Mapping[str, Any] = {
    "adapter": None,
    "lora_r": None,
    "lora_alpha": None,
    "lora_target_modules": None,
    "learning_rate": 3e-3,
}
"""Full fine-tuning instead."""

PACKED: Mapping[str, Any] = {"sample_packing": True}
HELD_OUT: Mapping[str, Any] = {"val_set_size": 2}

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SHOUTED = CHATML.replace("<|im_start|>", "<|im_start|>!")
MOODY = "{{ mood | default('') }}" + CHATML
TOOLED = "{% if tools %}{{ tools | tojson }}{% endif %}" + CHATML
DOUBLE_END = CHATML.replace("<|im_end|>", "<|endoftext|><|im_end|>")
THINKING = CHATML.replace(
    "{{ m['content'] }}",
    "{% if m['reasoning_content'] %}[{{ m['reasoning_content'] }}]{% endif %}"
    "{% if m['musing'] %}{{ '{' + m['musing'] + '}' }}{% endif %}{{ m['content'] }}",
)
FORGETFUL = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
    "{% if m['role'] == 'assistant' and not loop.last %}...{% else %}{{ m['content'] }}{% endif %}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""Shows the last answer alone, so that earlier turns are not what a server would have shown."""


def chat(n: int = 8) -> list[dict[str, Any]]:
    """Conversations with a system turn, two exchanges, tools, and all the ways to read them."""
    rows = []
    for number in range(n):
        word = WORDS[number % 5]
        turns = [
            {"role": "system", "content": "Be kind."},
            {"role": "user", "content": f"Say {word}" + "!" * (3 * number)},
            {
                "role": "assistant",
                "content": word,
                "note": " (short)",
                "train": number % 2 == 0,
                "spans": [{"begin_offset": 0, "end_offset": 1, "train": True}],
                "share": 0.5,
            },
            {"role": "user", "content": "More"},
            {"role": "assistant", "content": word.upper() * 2, "note": " (loud)"},
        ]
        tools = [{"type": "function", "function": {"name": f"get_{word}", "parameters": {}}}]
        rows.append(
            {
                "messages": turns,
                "other": list(reversed(turns[1:3])) + turns[3:],
                "tools": tools,
                "functions": tools[:0],
                "instruction": f"Say {word}",
                "output": word,
                "orders": "Be brief.",
            }
        )
    return rows


def instructions(n: int = 8) -> list[dict[str, Any]]:
    """Rows with an instruction, sometimes an input, an answer, and other fields for each."""
    return [
        {
            "instruction": f"Say {WORDS[i % 5]}",
            "input": "twice" * (i % 2),
            "output": WORDS[i % 5],
            "question": f"Please say {WORDS[i % 5]}",
            "more": "thrice" * (i % 2),
            "answer": WORDS[i % 5].upper(),
            "orders": "Be brief.",
            "text": f"{WORDS[i % 5]} and {WORDS[i % 3]} " * (1 + i % 3),
            "body": f"{WORDS[i % 4]}, ",
        }
        for i in range(n)
    ]


def with_roles(n: int = 8) -> list[dict[str, Any]]:
    """Conversations whose turns are named by somebody else."""
    return [
        {
            "messages": [
                {"role": "user", "content": f"Say {WORDS[i % 5]}", "said": f"SAY {WORDS[i % 5]}!"},
                {"role": "tool", "content": "noted", "said": "noted"},
                {"role": "assistant", "content": WORDS[i % 5], "said": WORDS[i % 5] * 2},
            ]
        }
        for i in range(n)
    ]


def with_thoughts(n: int = 8) -> list[dict[str, Any]]:
    """Answers that reason, in their text and beside it."""
    return [
        {
            "messages": [
                {"role": "user", "content": f"Say {WORDS[i % 5]}"},
                {
                    "role": "assistant",
                    "content": f"<think>hm</think>{WORDS[i % 5]}",
                    "thoughts": "aha",
                },
            ]
        }
        for i in range(n)
    ]


def make_ground(folder: Path) -> Path:
    """Fill the folder with everything that ``GROUND/`` stands for in the cases."""
    make_base(folder / "base")
    make_base(folder / "other-base", seed=1)
    _config_of(folder, "settings", rms_norm_eps=0.5)
    _mistral(folder)
    _qwen(folder)
    _nemotron(folder)
    _tokenizer(folder)
    write_rows(folder / "chat.jsonl", chat())
    write_rows(folder / "many.jsonl", chat(300))
    write_rows(folder / "copies.jsonl", [*chat(4), *chat(2), *chat(6)])
    write_rows(folder / "instructions.jsonl", instructions())
    write_rows(folder / "roles.jsonl", with_roles())
    write_rows(folder / "thoughts.jsonl", with_thoughts())
    (folder / "parts").mkdir()
    write_rows(folder / "parts" / "a.jsonl", chat(8)[:4])
    write_rows(folder / "parts" / "b.jsonl", chat(8)[4:])
    write_rows(folder / "held-out.jsonl", chat(3))
    (folder / "cases_plugin.py").write_text(
        "def register(registries):\n    registries['schedules'].add('root', 'math:sqrt')\n"
    )
    return folder


def _config_of(folder: Path, name: str, **changes: Any) -> None:
    """The base's config, changed, in a folder of its own."""
    settings = json.loads((folder / "base" / "config.json").read_text()) | changes
    (folder / name).mkdir()
    (folder / name / "config.json").write_text(json.dumps(settings))


def _mistral(folder: Path) -> None:
    """The base's weights under a config that is Mistral's and, by its fields, Llama's too."""
    shutil.copytree(folder / "base", folder / "mistral")
    path = folder / "mistral" / "config.json"
    settings = json.loads(path.read_text())
    settings |= {"model_type": "mistral", "architectures": ["MistralForCausalLM"]}
    path.write_text(json.dumps(settings | {"sliding_window": None, "head_dim": 16}))


def _nemotron(folder: Path) -> None:
    """A random model of a family whose documents attention cannot keep apart."""
    torch.manual_seed(0)
    config = NemotronConfig(**SIZES, num_hidden_layers=1, head_dim=16)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder / "rows")
    byte_tokenizer().save_pretrained(folder / "rows")


def _qwen(folder: Path) -> None:
    """A random model of another family, its head untied."""
    torch.manual_seed(0)
    config = Qwen2Config(**SIZES, num_hidden_layers=2, tie_word_embeddings=False)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder / "qwen")
    byte_tokenizer().save_pretrained(folder / "qwen")


def _tokenizer(folder: Path) -> None:
    """The base's tokenizer with the ids of ``s`` and ``m`` exchanged."""
    byte_tokenizer().save_pretrained(folder / "tokenizer")
    path = folder / "tokenizer" / "tokenizer.json"
    content = json.loads(path.read_text())
    vocabulary = content["model"]["vocab"]
    vocabulary["s"], vocabulary["m"] = vocabulary["m"], vocabulary["s"]
    path.write_text(json.dumps(content))


def hub_of_data(folder: Path) -> Callable[..., DatasetDict]:
    """A stand-in for ``datasets.load_dataset``: one data set, with a configuration and a revision.

    The rows are saved in ``folder``, as the library's own cache would have them.
    """
    for name, count in (("None-None", 8), ("short-None", 4), ("None-v2", 5)):
        Dataset.from_list([{"messages": row["messages"]} for row in chat(count)]).save_to_disk(
            folder / name
        )

    def load_dataset(path: str, name: str | None, revision: str | None, **_: Any) -> DatasetDict:
        if path != "tiny/talk":
            raise FileNotFoundError(path)
        return DatasetDict(train=load_from_disk(folder / f"{name}-{revision}"))

    return load_dataset


def fill_hub(home: Path, ground: Path) -> None:
    """Put two revisions of a model where huggingface_hub keeps what it has downloaded."""
    folder = home / "hub" / "models--tiny--base"
    for revision, commit, source in (("main", "a" * 40, "base"), ("v2", "b" * 40, "other-base")):
        shutil.copytree(ground / source, folder / "snapshots" / commit)
        (folder / "refs").mkdir(exist_ok=True)
        (folder / "refs" / revision).write_text(commit)
