"""What each architecture does between its last hidden state and its logits.

Read from the sources of transformers 5.23 and proved by the conformance tests. A type that is not
here is not guessed at: its own forward makes the logits.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any


class Finish(Enum):
    """How a field of the config changes the logits."""

    TIMES = "logits * field"
    OVER = "logits / field"
    CAP = "field * tanh(logits / field)"


@dataclass(frozen=True, slots=True)
class Head:
    """``logits * scale``, then ``cap * tanh(logits / cap)``; ``known`` is false for a guess."""

    scale: float = 1.0
    cap: float | None = None
    known: bool = True


# logits = lm_head(last hidden state), and nothing else.
PLAIN = frozenset(
    """
    afmoe apertus arcee aria_text bamba bitnet bloom codegen cwm dbrx deepseek_v2 deepseek_v3
    diffllama doge dots1 emu3 ernie4_5 ernie4_5_moe exaone4 exaone_moe falcon falcon_mamba flex_olmo
    gemma glm glm4 glm4_moe glm4_moe_lite gpt2 gpt_bigcode gpt_neo gpt_neox gpt_neox_japanese
    gpt_oss gptj helium hunyuan_v1_dense hunyuan_v1_moe jamba jetmoe laguna lfm2 lfm2_moe llama
    llama4_text longcat_flash mamba mamba2 mellum mimo_v2_flash minimax minimax_m2 ministral
    ministral3 mistral mixtral nemotron nemotron_h olmo olmo2 olmo3 olmo_hybrid olmoe opt persimmon
    phi phi3 phimoe qwen2 qwen2_moe qwen3 qwen3_5_moe_text qwen3_5_text qwen3_moe qwen3_next
    seed_oss smollm3 solar_open stablelm starcoder2 xglm youtu zamba zamba2
    """.split()
)

FINISHED: dict[str, tuple[Finish, str]] = {
    "cohere": (Finish.TIMES, "logit_scale"),
    "cohere2": (Finish.TIMES, "logit_scale"),
    "cohere2_moe": (Finish.TIMES, "logit_scale"),
    "falcon_h1": (Finish.TIMES, "lm_head_multiplier"),
    "gemma2": (Finish.CAP, "final_logit_softcapping"),
    "gemma3_text": (Finish.CAP, "final_logit_softcapping"),
    "gemma3n_text": (Finish.CAP, "final_logit_softcapping"),
    "gemma4_text": (Finish.CAP, "final_logit_softcapping"),
    "granite": (Finish.OVER, "logits_scaling"),
    "granite_swa": (Finish.OVER, "logits_scaling"),
    "granitemoe": (Finish.OVER, "logits_scaling"),
    "granitemoe_swa": (Finish.OVER, "logits_scaling"),
    "granitemoehybrid": (Finish.OVER, "logits_scaling"),
    "granitemoeshared": (Finish.OVER, "logits_scaling"),
    "hyperclovax": (Finish.TIMES, "logits_scaling"),
    "minicpm3": (Finish.OVER, "logits_scaling"),
    "nanochat": (Finish.CAP, "final_logit_softcapping"),
    "recurrent_gemma": (Finish.CAP, "logits_soft_cap"),
    "vaultgemma": (Finish.CAP, "final_logit_softcapping"),
}


def read_head(config: Any) -> Head:
    """Return how the logits are finished, from a (text) config."""
    if config.model_type in PLAIN:
        return Head()
    if config.model_type not in FINISHED:
        return Head(known=False)
    finish, field = FINISHED[config.model_type]
    value = getattr(config, field)
    if value is None:
        return Head()
    if finish is Finish.CAP:
        return Head(cap=float(value))
    return Head(scale=float(value) if finish is Finish.TIMES else 1.0 / float(value))
