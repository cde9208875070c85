"""Settings drawn by seed: real models' shapes, made small enough, and how they train.

A shape keeps its family, the ratio of its widths, its heads' proportions, whether its head is tied,
and its vocabulary up to a bound; layers and widths are scaled down.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

SHAPES: Mapping[str, dict[str, Any]] = {
    "SmolLM2-135M": {
        "model_type": "llama",
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "vocab_size": 49152,
        "num_hidden_layers": 30,
        "tie_word_embeddings": True,
    },
    "Llama-3.2-1B": {
        "model_type": "llama",
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "vocab_size": 128256,
        "num_hidden_layers": 16,
        "tie_word_embeddings": True,
    },
    "Llama-3.1-8B": {
        "model_type": "llama",
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "vocab_size": 128256,
        "num_hidden_layers": 32,
        "tie_word_embeddings": False,
    },
    "Qwen3-0.6B": {
        "model_type": "qwen3",
        "hidden_size": 1024,
        "intermediate_size": 3072,
        "num_attention_heads": 16,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "vocab_size": 151936,
        "num_hidden_layers": 28,
        "tie_word_embeddings": True,
    },
    "TinyLlama-1.1B": {
        "model_type": "llama",
        "hidden_size": 2048,
        "intermediate_size": 5632,
        "num_attention_heads": 32,
        "num_key_value_heads": 4,
        "vocab_size": 32000,
        "num_hidden_layers": 22,
        "tie_word_embeddings": False,
    },
    "Mistral-7B": {
        "model_type": "mistral",
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "vocab_size": 32768,
        "num_hidden_layers": 32,
        "tie_word_embeddings": False,
    },
}
"""The numbers of the published ``config.json`` of each."""

METHODS = ("full", "lora", "qlora")


@dataclass(frozen=True, slots=True)
class Scale:
    """Bounds of what a machine can train in a minute."""

    hidden: tuple[int, ...]
    layers: tuple[int, ...]
    vocab: int
    tokens: tuple[int, ...]


SCALES = {
    "cpu": Scale((256, 384, 512), (3, 4, 6), 24576, (768, 1024, 1536)),
    "cuda": Scale((1024, 2048, 4096), (8, 16), 160_000, (4096, 8192, 16384)),
}


@dataclass(frozen=True, slots=True)
class Setting:
    """One run: the model's config, and the flat keys of how it trains."""

    name: str
    config: dict[str, Any]
    keys: dict[str, Any]


def draw(seed: int, count: int, device: str) -> list[Setting]:
    """``count`` settings; every shape and every method comes up before one comes up again."""
    rng = random.Random(seed)
    shapes, methods = _cycle(rng, list(SHAPES), count), _cycle(rng, list(METHODS), count)
    return [
        _setting(rng, f"{number:02d}", SCALES[device], shapes[number], methods[number])
        for number in range(count)
    ]


def _cycle(rng: random.Random, names: list[str], count: int) -> list[str]:
    found: list[str] = []
    while len(found) < count:
        found += rng.sample(names, len(names))
    return found[:count]


def _setting(rng: random.Random, number: str, scale: Scale, shape: str, method: str) -> Setting:
    real = SHAPES[shape]
    config = shrink(real, rng.choice(scale.hidden), rng.choice(scale.layers), scale.vocab)
    sequence_len = rng.choice(scale.tokens)
    micro = rng.choice((1, 2)) if sequence_len < max(scale.tokens) else 1
    keys: dict[str, Any] = {
        "sequence_len": sequence_len,
        "micro_batch_size": micro,
        "gradient_accumulation_steps": rng.choice((1, 2)),
        "sample_packing": rng.random() < 0.6,
        "gradient_checkpointing": rng.random() < 0.4,
        "bf16": rng.random() < 0.35,
        "save_async": rng.random() < 0.25,
        "optimizer": rng.choice(("adamw_torch", "adamw_torch", "adamw_8bit", "sgd")),
    }
    if method != "full":
        keys |= {
            "adapter": method,
            "lora_r": rng.choice((8, 16, 64)),
            "lora_alpha": 32,
            "lora_target_linear": True,
            "lora_dropout": rng.choice((0.0, 0.05)),
        }
    if method == "qlora":
        keys["load_in_4bit"] = True
    name = f"{number} {shape} {method}"
    return Setting(name, config, keys)


def shrink(real: Mapping[str, Any], hidden: int, layers: int, vocab: int) -> dict[str, Any]:
    """The shape with this hidden size and so many layers; proportions stay."""
    share = min(1.0, hidden / real["hidden_size"])
    head_dim = real.get("head_dim") or real["hidden_size"] // real["num_attention_heads"]
    groups = real["num_attention_heads"] // real["num_key_value_heads"]
    n_kv = max(1, round(real["num_key_value_heads"] * share))
    n_heads = n_kv * groups
    # Configs ask for a hidden size that the heads divide.
    hidden = max(1, round(real["hidden_size"] * share / (16 * n_heads))) * 16 * n_heads
    # Heads keep their width where enough of them are left; else the width goes down, too.
    width = round(real["num_attention_heads"] * head_dim * share / n_heads / 16) * 16
    return {
        **real,
        "hidden_size": hidden,
        "intermediate_size": round(real["intermediate_size"] * share / 64) * 64,
        "num_attention_heads": n_heads,
        "num_key_value_heads": n_kv,
        "head_dim": max(16, width),
        "num_hidden_layers": min(layers, int(real["num_hidden_layers"])),
        "vocab_size": min(vocab, int(real["vocab_size"])),
        "max_position_embeddings": 32768,
    }
