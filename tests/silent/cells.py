"""The hundred clean cells: families, dtypes, layouts and methods on which no probe may alarm."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tests.conformance.tiny import FLAT, ROWS
from tests.smallrun import full

MORE_FAMILIES: dict[str, dict[str, Any]] = {
    "Olmo3": {"sliding_window": 4},
    "Qwen3Moe": {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16},
    "FalconH1": {
        "mamba_d_ssm": 32,
        "mamba_n_heads": 4,
        "mamba_d_head": 8,
        "mamba_n_groups": 1,
        "mamba_d_state": 8,
        "mamba_chunk_size": 16,
    },
}
"""Beside those whose tiny models the conformance tests build: what each needs to be tiny."""

FAMILIES = (*FLAT, *ROWS, *MORE_FAMILIES)


WRAPPED = ("DeepseekV3", "Qwen3Next", "Qwen3Moe")
"""Families whose experts peft adapts too, as parameters, on which it takes no dropout."""

TARGETS = {"lora_target_linear": None, "lora_target_modules": ["q_proj", "v_proj", "up_proj"]}
"""peft refuses the `out_proj` of a Mamba layer, which is one of all linear layers."""

METHODS: dict[str, dict[str, Any]] = {
    "lora": {"lora_dropout": 0.1},
    "full": full(),
    "qlora": {"adapter": "qlora", "load_in_4bit": True},
    "lora8": {"load_in_8bit": True},
}

DTYPES: dict[str, dict[str, Any]] = {"float32": {"bf16": False}, "bfloat16": {"bf16": True}}


@dataclass(frozen=True)
class Cell:
    """One clean run: a base's family, and what else differs from the small run."""

    family: str
    dtype: str
    method: str
    packed: bool
    rows: str = "chat_template"
    more: dict[str, Any] = field(default_factory=dict, hash=False)

    @property
    def name(self) -> str:
        """What pytest calls it."""
        layout = "packed" if self.packed else "padded"
        parts = [self.family, self.dtype, self.method, layout]
        parts += [self.rows] if self.rows != "chat_template" else []
        parts += [f"{k}_{v}" if isinstance(v, str) else k for k, v in self.more.items()]
        return "-".join(parts)

    @property
    def changes(self) -> dict[str, Any]:
        """The keys that make a small run this one."""
        return {
            "max_steps": 1,
            "sample_packing": self.packed,
            **DTYPES[self.dtype],
            **METHODS[self.method],
            **({"lora_dropout": 0.0} if self.family in WRAPPED else {}),
            **(TARGETS if self.family == "FalconH1" and self.method == "lora" else {}),
            **self.more,
        }


def _cells() -> list[Cell]:
    cells = []
    for family in FAMILIES:
        cells += [
            Cell(family, "float32", "lora", packed=True),
            Cell(family, "bfloat16", "full", packed=True),
            Cell(family, "float32", "full", packed=False),
        ]
    for family in ("Llama", "Qwen3", "Gemma2", "Gemma3Text", "Mistral", "Phi3", "SmolLM3"):
        cells += [
            Cell(family, "bfloat16", "lora", packed=False),
            Cell(family, "bfloat16", "qlora", packed=True),
        ]
    cells += [Cell(family, "float32", "lora8", packed=True) for family in ("Llama", "Qwen2")]
    for rows in ("alpaca", "completion", "input_output", "inline"):
        cells += [Cell("Llama", "float32", "lora", packed, rows) for packed in (True, False)]
    more: list[dict[str, Any]] = [
        {"excess_length_strategy": "truncate", "sequence_len": 48},
        {"excess_length_strategy": "split", "sequence_len": 48},
        {"excess_length_strategy": "drop", "sequence_len": 70},
        {"train_on_inputs": True},
        {"lora_modules_to_save": ["lm_head", "embed_tokens"]},
        {"gradient_checkpointing": True},
        {"streaming": True},
        {"val_set_size": 0.2, "eval_steps": 1},
        {"num_epochs": 2, "max_steps": None, "warmup_steps": 3},
        {"batch_tokens": 300, "sample_packing": None},
        {"optimizer": "sgd"},
        {"pad_to_sequence_len": True},
    ]
    return cells + [Cell("Llama", "float32", "lora", packed=True, more=one) for one in more]


CELLS = _cells()

QUICK = {
    "Llama-float32-lora-packed",
    "Gemma2-bfloat16-full-packed",
    "Qwen3-bfloat16-qlora-packed",
    "GptOss-float32-lora-packed",
    "Lfm2-float32-full-padded",
    "Mistral-bfloat16-lora-padded",
    "Llama-float32-lora-packed-alpaca",
    "Llama-float32-lora-padded-completion",
    "Llama-float32-lora-packed-excess_length_strategy_truncate-sequence_len",
    "Llama-float32-lora-packed-streaming",
    "Llama-float32-lora-packed-train_on_inputs",
}
"""The cells of the ordinary run; all others are slow."""
