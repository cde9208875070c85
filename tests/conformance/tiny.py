"""Tiny random models, one a family, and batches for them; every test builds its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import transformers
from transformers import PreTrainedConfig, PreTrainedModel

from tunesmith.data.batch import Batch
from tunesmith.models.facts import read_facts
from tunesmith.models.policy import Policy

VOCAB = 67

_SHAPE: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 128,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}

_MORE: dict[str, dict[str, Any]] = {
    "Llama": {},
    "Qwen2": {},
    "Qwen3": {},
    "Mistral": {"sliding_window": 4},
    "Gemma": {},
    "Gemma2": {
        "sliding_window": 4,
        "query_pre_attn_scalar": 8,
        # Small caps, so that a model that forgets one cannot pass.
        "final_logit_softcapping": 0.5,
        "attn_logit_softcapping": 0.3,
    },
    "Gemma3Text": {"sliding_window": 4, "query_pre_attn_scalar": 8},
    "Phi3": {"sliding_window": 4},
    "Olmo2": {},
    "Granite": {"logits_scaling": 8.0},
    "Cohere": {"logit_scale": 0.25},
    "GptOss": {
        "sliding_window": 4,
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
    },
    "Mixtral": {"num_local_experts": 4, "num_experts_per_tok": 2},
    "SmolLM3": {},
    "Starcoder2": {"sliding_window": 4},
    "DeepseekV3": {
        "num_key_value_heads": 4,
        "q_lora_rank": 16,
        "kv_lora_rank": 16,
        "qk_rope_head_dim": 8,
        "qk_nope_head_dim": 8,
        # Values narrower than keys.
        "v_head_dim": 4,
        "n_routed_experts": 4,
        "num_experts_per_tok": 2,
        "n_group": 1,
        "topk_group": 1,
        "moe_intermediate_size": 16,
        "first_k_dense_replace": 1,
    },
    "Nemotron": {},
    "Lfm2": {"layer_types": ["conv", "full_attention"], "block_auto_adjust_ff_dim": False},
    "Qwen3Next": {
        "layer_types": ["linear_attention", "full_attention"],
        "linear_num_key_heads": 2,
        "linear_num_value_heads": 4,
        "linear_key_head_dim": 8,
        "linear_value_head_dim": 8,
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 16,
        "shared_expert_intermediate_size": 16,
    },
}

ROWS = ("Lfm2", "Qwen3Next", "Nemotron")
FLAT = tuple(name for name in _MORE if name not in ROWS)


def config_of(family: str, **changes: Any) -> PreTrainedConfig:
    """The config of a tiny model of a family (``Llama``, ``Gemma2``, ...)."""
    config_class = getattr(transformers, f"{family}Config")
    return config_class(**(_SHAPE | _MORE[family] | changes))


def build(
    family: str,
    *,
    dtype: torch.dtype = torch.float32,
    attention: str = "tunesmith_varlen",
    seed: int = 0,
    **changes: Any,
) -> PreTrainedModel:
    """A tiny random model, in evaluation mode, its weights large enough to matter."""
    torch.manual_seed(seed)
    config = config_of(family, **changes)
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation=attention)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0.0, 0.2)
    return model.to(dtype).eval()


def policy_of(model: PreTrainedModel, layout: str | None = None) -> Policy:
    """The model's policy, in the layout that its facts ask for."""
    facts = read_facts(model.config)
    return Policy(model, facts, layout=layout or ("flat" if facts.isolates else "rows"))


def batch_of(
    lengths: Sequence[int], *, seed: int = 0, ids: Sequence[torch.Tensor] | None = None
) -> Batch:
    """Documents of these lengths; about a third of the targets weigh 0, one weighs 0.5."""
    draw = torch.Generator().manual_seed(seed)
    documents = ids or [torch.randint(3, VOCAB, (n,), generator=draw) for n in lengths]
    targets, weights = [], []
    for document in documents:
        weight = (torch.rand(len(document), generator=draw) > 0.3).float()
        weight[-1] = 0.0
        if len(document) > 1:
            weight[0] = 0.5
        targets.append(torch.cat([document[1:], document[:1]]))
        weights.append(weight)
    return Batch(
        inputs={
            "input_ids": torch.cat(list(documents)),
            "position_ids": torch.cat([torch.arange(len(d)) for d in documents]),
        },
        targets={"target_ids": torch.cat(targets), "weights": torch.cat(weights)},
        segments=torch.tensor([0, *torch.tensor(lengths).cumsum(0).tolist()], dtype=torch.int32),
        longest=max(lengths),
        index=(0, 0),
        sources=tuple(f"row:{n}" for n in range(len(lengths))),
    )
