"""The smallest whole run: a random Llama that speaks bytes, rows in every format, a YAML."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from ruamel.yaml import YAML

from tests.unit.export.parts import make_base

WORDS = ("sun", "moon", "stars", "rain", "wind")


def chat_rows(n: int = 24) -> list[dict[str, Any]]:
    """Conversations of very different lengths, one or two turns each."""
    rows = []
    for number in range(n):
        word = WORDS[number % len(WORDS)]
        turns = [
            {"role": "user", "content": f"Say {word}" + "!" * (number % 7)},
            {"role": "assistant", "content": " ".join([word] * (1 + number % 4))},
        ]
        if number % 3 == 0:
            turns += [
                {"role": "user", "content": "More"},
                {"role": "assistant", "content": word.upper()},
            ]
        rows.append({"messages": turns})
    return rows


def alpaca_rows(n: int = 12) -> list[dict[str, Any]]:
    return [
        {
            "instruction": f"Say {WORDS[i % 5]} {i}",
            "input": "twice" * (i % 2),
            "output": WORDS[i % 5],
        }
        for i in range(n)
    ]


ROWS: Mapping[str, tuple[list[dict[str, Any]], dict[str, Any]]] = {
    "chat_template": (chat_rows(), {"type": "chat_template"}),
    "alpaca": (alpaca_rows(), {"type": "alpaca"}),
    "completion": (
        [{"text": f"{WORDS[i % 5]} and {WORDS[i % 3]} " * (1 + i % 3)} for i in range(16)],
        {"type": "completion"},
    ),
    "input_output": (
        [
            {
                "segments": [
                    {"label": False, "text": f"Q{i}: {WORDS[i % 5]}\n"},
                    {"label": True, "text": f"A: {WORDS[(i + 1) % 5]}<|im_end|>"},
                ]
            }
            for i in range(16)
        ],
        {"type": "input_output"},
    ),
    "inline": (
        [{"q": f"Say {WORDS[i % 5]}", "a": WORDS[i % 5] * (1 + i % 3)} for i in range(16)],
        {"type": {"field_instruction": "q", "field_output": "a", "format": "Q: {instruction}\nA:"}},
    ),
}
"""Rows and the data set's keys for each format."""

LORA = {"adapter": "lora", "lora_r": 4, "lora_alpha": 8, "lora_target_linear": True}
FULL: dict[str, Any] = {"learning_rate": 3e-3}


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    text = "".join(json.dumps(row) + "\n" for row in rows)
    path.write_text(text, encoding="utf-8")
    return path


def base(folder: Path) -> Path:
    """A random Llama and its tokenizer in ``folder``, as a hub would give them."""
    return make_base(folder / "base")


@pytest.fixture(scope="session")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``base``, a model, and for each format ``<format>.jsonl``."""
    folder = tmp_path_factory.mktemp("ground")
    base(folder)
    for name, (rows, _) in ROWS.items():
        write_rows(folder / f"{name}.jsonl", rows)
    return folder


def keys(model: Path, data: Path, **changes: Any) -> dict[str, Any]:
    """Flat keys of a run of six steps; None takes a key out."""
    config: dict[str, Any] = {
        "base_model": str(model),
        "datasets": [{"path": str(data), "type": "chat_template"}],
        "output_dir": "out",
        "sequence_len": 256,
        "sample_packing": True,
        "micro_batch_size": 1,
        "gradient_accumulation_steps": 2,
        "max_steps": 6,
        "learning_rate": 1e-2,
        "optimizer": "adamw_torch",
        "save_steps": 2,
        "bf16": False,
        "dataset_num_proc": 1,
        "seed": 7,
        **LORA,
        **changes,
    }
    return {name: value for name, value in config.items() if value is not None}


def full(**changes: Any) -> dict[str, Any]:
    """Changes that make a run of ``keys`` a full fine-tuning."""
    return {**dict.fromkeys(LORA), **FULL, **changes}


def write_yaml(folder: Path, config: Mapping[str, Any], name: str = "run.yaml") -> Path:
    path = folder / name
    with path.open("w", encoding="utf-8") as file:
        YAML().dump(dict(config), file)
    return path


def metrics(output_dir: Path) -> list[dict[str, Any]]:
    lines = (output_dir / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def step_lines(output_dir: Path) -> list[dict[str, Any]]:
    return [line for line in metrics(output_dir) if "loss" in line]


def weights(output_dir: Path) -> bytes:
    """The final weights' bytes: an adapter's or a model's."""
    (path,) = (p for p in output_dir.glob("*.safetensors"))
    return path.read_bytes()


def tree(folder: Path) -> dict[str, tuple[int, int]]:
    """Every file with its size and time of change."""
    return {
        str(path.relative_to(folder)): (path.stat().st_size, path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def random_ids(n: int = 40, *, seed: int = 0) -> torch.Tensor:
    draw = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (1, n), generator=draw)
