"""The folder in which a document's commands run: a tiny model and some rows under real names."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

BASE = "HuggingFaceTB/SmolLM2-135M-Instruct"
"""The documents' base model. A folder of this name stands before the hub's."""

TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
COLOURS = ("red", "blue", "green", "grey", "brown")
THINGS = ("apple", "river", "stone", "cloud", "horse", "table", "lamp")


def make_chats(n: int) -> list[dict]:
    draw = random.Random(0)
    rows = []
    for _ in range(n):
        thing, colour = draw.choice(THINGS), draw.choice(COLOURS)
        question = {"role": "user", "content": f"Paint the {thing} {colour}."}
        rows.append(
            {"messages": [question, {"role": "assistant", "content": f"A {colour} {thing}."}]}
        )
    return rows


def write_rows(path: Path, rows: list[dict]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def make_base(folder: Path) -> None:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    texts = [turn["content"] for row in make_chats(64) for turn in row["messages"]]
    tokenizer.train_from_iterator(texts, trainer)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        chat_template=TEMPLATE,
    ).save_pretrained(folder)
    torch.manual_seed(0)
    LlamaForCausalLM(
        LlamaConfig(
            vocab_size=320,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=2048,
            initializer_range=0.1,
            bos_token_id=0,
            eos_token_id=2,
            pad_token_id=0,
        )
    ).save_pretrained(folder)


@pytest.fixture(scope="session")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("documents")
    make_base(folder / BASE)
    write_rows(folder / "chats.jsonl", make_chats(48))
    return folder


@pytest.fixture
def place(ground: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh copy of the ground, and the current folder; the cache is the test's own."""
    folder = tmp_path / "work"
    shutil.copytree(ground, folder)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path / "cache"))
    return folder
