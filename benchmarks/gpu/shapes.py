"""Shapes of models and the work that is measured, with the operations that it needs."""

from __future__ import annotations

import random
from dataclasses import dataclass
from math import log
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Shape:
    """A decoder's shape, by the names of its transformers config."""

    name: str
    model_type: Literal["llama", "qwen3"]
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    vocab_size: int
    tie_word_embeddings: bool
    rope_theta: float

    @property
    def queries(self) -> int:
        """Width of all query heads."""
        return self.num_attention_heads * self.head_dim

    @property
    def multiplied(self) -> int:
        """Parameters that a token is multiplied with: all but the embedding that is looked up."""
        keys = self.num_key_value_heads * self.head_dim
        block = self.hidden_size * (2 * self.queries + 2 * keys + 3 * self.intermediate_size)
        return self.num_hidden_layers * block + self.vocab_size * self.hidden_size

    def config(self) -> dict[str, Any]:
        """Keywords of the transformers config."""
        return {
            "hidden_size": self.hidden_size,
            "intermediate_size": self.intermediate_size,
            "num_hidden_layers": self.num_hidden_layers,
            "num_attention_heads": self.num_attention_heads,
            "num_key_value_heads": self.num_key_value_heads,
            "head_dim": self.head_dim,
            "vocab_size": self.vocab_size,
            "tie_word_embeddings": self.tie_word_embeddings,
            "rope_parameters": {"rope_type": "default", "rope_theta": self.rope_theta},
            "max_position_embeddings": 32_768,
            "bos_token_id": 0,
            "eos_token_id": 1,
            "pad_token_id": 2,
        }


_8B = (4096, 14336, 32, 32, 8, 128, 128_256, False, 500_000.0)
SHAPES = {
    shape.name: shape
    for shape in (
        Shape("8b", "llama", *_8B),
        Shape("1.7b", "qwen3", 2048, 6144, 28, 16, 8, 128, 151_936, True, 1e6),
        Shape("0.6b", "qwen3", 1024, 3072, 28, 16, 8, 128, 151_936, True, 1e6),
        Shape("tiny", "llama", 64, 128, 2, 4, 2, 16, 512, False, 1e4),
    )
}


@dataclass(frozen=True, slots=True)
class Work:
    """One row of the comparison: what is trained on which micro-batches."""

    name: str
    shape: Shape
    lora_rank: int
    sequence_len: int
    micro_batch: int

    @property
    def tokens(self) -> int:
        """Tokens of a step: one micro-batch of full rows."""
        return self.sequence_len * self.micro_batch

    def flops(self, mean_keys: float) -> float:
        """Operations a token needs: forward and backward, recomputing not counted.

        A frozen matrix needs no gradient of its own: 4 in place of 6 a parameter.
        """
        shape = self.shape
        attention = 12.0 * shape.num_hidden_layers * shape.queries * mean_keys
        return (4.0 if self.lora_rank else 6.0) * shape.multiplied + attention


WORKS = {
    work.name: work
    for work in (
        Work("lora-8b", SHAPES["8b"], 16, 8192, 1),
        Work("lora-8b-x2", SHAPES["8b"], 16, 8192, 2),
        Work("full-8b", SHAPES["8b"], 0, 8192, 1),
        Work("full-1.7b", SHAPES["1.7b"], 0, 4096, 8),
        Work("full-0.6b", SHAPES["0.6b"], 0, 4096, 8),
        Work("lora-1.7b", SHAPES["1.7b"], 16, 4096, 8),
        Work("lora-tiny", SHAPES["tiny"], 4, 256, 1),
        Work("full-tiny", SHAPES["tiny"], 0, 256, 2),
    )
}

MEAN_DOCUMENT = 600.0
SHORTEST = 16


def document_lengths(n_tokens: int, longest: int, *, seed: int) -> list[int]:
    """Lengths of documents, lognormal with sigma 1 and a mean of about 600, that add up to at
    least ``n_tokens``.
    """
    draw = random.Random(seed)
    mean = min(MEAN_DOCUMENT, longest / 3)
    lengths: list[int] = []
    total = 0
    while total < n_tokens:
        length = int(draw.lognormvariate(log(mean) - 0.5, 1.0))
        lengths.append(min(max(length, min(SHORTEST, longest // 8)), longest))
        total += lengths[-1]
    return lengths


def mean_keys(lengths: list[int]) -> float:
    """Keys that a token attends to, on average, inside its document."""
    return sum(n * (n + 1) / 2 for n in lengths) / sum(lengths)
