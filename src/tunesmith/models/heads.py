"""What each architecture does between its last hidden state and its logits.

Read from the sources of transformers 5.23; the conformance tests prove at least one of each kind. A
type that is not here is not guessed at: its own forward makes the logits.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

from tunesmith.kernels.logprobs import PLAIN, Finish


class _How(Enum):
    """How a field of the config changes the logits."""

    TIMES = "logits * field"
    OVER = "logits / field"
    CAP = "field * tanh(logits / field)"


@dataclass(frozen=True, slots=True)
class Head:
    """What follows the output embedding; ``known`` is false where nobody has looked."""

    finish: Finish = PLAIN
    known: bool = True


# logits = lm_head(last hidden state), and nothing else.
NOTHING_FOLLOWS = frozenset(
    {
        "afmoe",
        "apertus",
        "arcee",
        "aria_text",
        "bamba",
        "bitnet",
        "bloom",
        "codegen",
        "cwm",
        "dbrx",
        "deepseek_v2",
        "deepseek_v3",
        "diffllama",
        "doge",
        "dots1",
        "emu3",
        "ernie4_5",
        "ernie4_5_moe",
        "exaone4",
        "exaone_moe",
        "falcon",
        "falcon_mamba",
        "flex_olmo",
        "gemma",
        "glm",
        "glm4",
        "glm4_moe",
        "glm4_moe_lite",
        "gpt2",
        "gpt_bigcode",
        "gpt_neo",
        "gpt_neox",
        "gpt_neox_japanese",
        "gpt_oss",
        "gptj",
        "helium",
        "hunyuan_v1_dense",
        "hunyuan_v1_moe",
        "jamba",
        "jetmoe",
        "laguna",
        "lfm2",
        "lfm2_moe",
        "llama",
        "longcat_flash",
        "mamba",
        "mamba2",
        "mellum",
        "mimo_v2_flash",
        "minimax",
        "minimax_m2",
        "ministral",
        "ministral3",
        "mistral",
        "mixtral",
        "nemotron",
        "nemotron_h",
        "olmo",
        "olmo2",
        "olmo3",
        "olmo_hybrid",
        "olmoe",
        "opt",
        "persimmon",
        "phi",
        "phi3",
        "phimoe",
        "qwen2",
        "qwen2_moe",
        "qwen3",
        "qwen3_5_moe_text",
        "qwen3_5_text",
        "qwen3_moe",
        "qwen3_next",
        "seed_oss",
        "smollm3",
        "solar_open",
        "stablelm",
        "starcoder2",
        "xglm",
        "youtu",
        "zamba",
        "zamba2",
    }
)

FINISHED: dict[str, tuple[_How, str]] = {
    "cohere": (_How.TIMES, "logit_scale"),
    "cohere2": (_How.TIMES, "logit_scale"),
    "cohere2_moe": (_How.TIMES, "logit_scale"),
    "falcon_h1": (_How.TIMES, "lm_head_multiplier"),
    "gemma2": (_How.CAP, "final_logit_softcapping"),
    "gemma3_text": (_How.CAP, "final_logit_softcapping"),
    "gemma3n_text": (_How.CAP, "final_logit_softcapping"),
    "gemma4_text": (_How.CAP, "final_logit_softcapping"),
    "granite": (_How.OVER, "logits_scaling"),
    "granite_swa": (_How.OVER, "logits_scaling"),
    "granitemoe": (_How.OVER, "logits_scaling"),
    "granitemoe_swa": (_How.OVER, "logits_scaling"),
    "granitemoehybrid": (_How.OVER, "logits_scaling"),
    "granitemoeshared": (_How.OVER, "logits_scaling"),
    "hyperclovax": (_How.TIMES, "logits_scaling"),
    "minicpm3": (_How.OVER, "logits_scaling"),
    "nanochat": (_How.CAP, "final_logit_softcapping"),
    "recurrent_gemma": (_How.CAP, "logits_soft_cap"),
    "vaultgemma": (_How.CAP, "final_logit_softcapping"),
}


def read_head(config: Any) -> Head:
    """Return how the logits are finished, from a (text) config."""
    if config.model_type in NOTHING_FOLLOWS:
        return Head()
    if config.model_type not in FINISHED:
        return Head(known=False)
    how, field = FINISHED[config.model_type]
    value = getattr(config, field)
    if value is None:
        return Head()
    if how is _How.CAP:
        return Head(Finish(cap=float(value)))
    return Head(Finish(scale=float(value) if how is _How.TIMES else 1.0 / float(value)))
