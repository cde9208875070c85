"""``Architecture``: what must be known about a model before it is built, read from its config."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedConfig, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

from tunesmith.errors import ModelError
from tunesmith.models.heads import Head, read_head

# Layers that mix tokens through a registered attention function and through nothing else.
ATTENTION_LAYERS = frozenset({"full_attention", "sliding_attention"})
# These say that they use the registered functions, but do not, or mix tokens in another way too.
OWN_ATTENTION = frozenset({"ctrl", "diffllama", "doge", "longcat_flash", "llama4_text", "moshi"})
# Their layers take the documents' bounds and do not hand them to the attention function.
DROPS_BOUNDS = frozenset({"nemotron", "phimoe"})
# Queries and keys pass through norms of their own.
NORMED_QUERIES = frozenset(
    {"gemma3_text", "olmo2", "olmo3", "olmoe", "qwen3", "qwen3_moe", "glm4_moe", "exaone4"}
)


@dataclass(frozen=True, slots=True)
class Architecture:
    """Facts of one architecture; plain data.

    ``backbone`` is the attribute that holds the model without its head. ``blocks`` are the class
    names of the repeated layers: the unit of recomputing, compiling and sharding. ``isolates``
    says whether attention alone can keep documents on one axis apart; ``isolates_why`` says what
    stands against it. ``n_experts`` is 0 for a dense model. ``ffn`` is the width of the MLP, of one
    expert where there are several, of which a token visits ``n_experts_per_token``.
    ``normed_queries`` says that queries and keys have norms of their own.
    """

    model_type: str
    class_name: str
    backbone: str
    head: Head
    blocks: tuple[str, ...]
    isolates: bool
    isolates_why: str
    n_layers: int
    hidden: int
    vocab: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    n_experts: int
    max_positions: int | None
    tied: bool
    ffn: int = 0
    n_experts_per_token: int = 0
    normed_queries: bool = False


def read_facts(config: PreTrainedConfig) -> Architecture:
    """Return the facts of the causal language model that ``config`` describes; loads no weights.

    Raises:
        ModelError: transformers has no causal language model for this config.
    """
    text: Any = config.get_text_config()
    model_class = find_class(config)
    why = _against_isolation(text, model_class)
    n_heads = int(getattr(text, "num_attention_heads", None) or 1)
    return Architecture(
        model_type=text.model_type,
        class_name=model_class.__name__,
        backbone=model_class.base_model_prefix,
        head=read_head(text),
        blocks=tuple(sorted(getattr(model_class, "_no_split_modules", None) or ())),
        isolates=not why,
        isolates_why=why,
        n_layers=int(text.num_hidden_layers),
        hidden=int(text.hidden_size),
        vocab=int(text.vocab_size),
        n_heads=n_heads,
        n_kv_heads=int(getattr(text, "num_key_value_heads", None) or n_heads),
        head_dim=int(getattr(text, "head_dim", None) or text.hidden_size // n_heads),
        n_experts=_n_experts(text),
        max_positions=getattr(text, "max_position_embeddings", None),
        tied=bool(getattr(text, "tie_word_embeddings", False)),
        ffn=_ffn(text),
        n_experts_per_token=_first_int(text, "num_experts_per_tok", "moe_k", "moe_topk"),
        normed_queries=text.model_type in NORMED_QUERIES,
    )


def find_class(config: PreTrainedConfig) -> type[PreTrainedModel]:
    """Return the class that ``AutoModelForCausalLM`` would build.

    Raises:
        ModelError: there is none.
    """
    try:
        found = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
    except KeyError as error:
        raise ModelError(
            f"{config.model_type} is not a causal language model that transformers can build",
            hint="choose a base_model that predicts the next token",
            where="base_model",
        ) from error
    model_class: type[PreTrainedModel] = found[0] if isinstance(found, Sequence) else found
    return model_class


def _against_isolation(text: Any, model_class: type[PreTrainedModel]) -> str:
    """What would let documents on one axis see each other; empty when nothing would."""
    layers = set(getattr(text, "layer_types", None) or ()) - ATTENTION_LAYERS
    if layers:
        return f"it has {', '.join(sorted(layers))} layers, which carry state across documents"
    if getattr(model_class, "_is_stateful", False):
        return "it has recurrent layers, which carry state across documents"
    if text.model_type in OWN_ATTENTION or not getattr(
        model_class, "_supports_attention_backend", False
    ):
        return "its attention cannot be replaced"
    if text.model_type in DROPS_BOUNDS:
        return "its layers do not tell attention where documents begin"
    if getattr(text, "index_topk", None) is not None:
        return "its attention picks keys by itself"
    if getattr(text, "is_causal", True) is False or getattr(
        text, "use_bidirectional_attention", None
    ):
        return "its attention is not causal"
    return ""


def _n_experts(text: Any) -> int:
    return _first_int(
        text, "num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts", least=2
    )


def _ffn(text: Any) -> int:
    """The width between the two halves of an MLP."""
    if _n_experts(text):
        return _first_int(text, "moe_intermediate_size", "intermediate_size", "ffn_hidden_size")
    return _first_int(text, "intermediate_size", "ffn_dim", "n_inner") or 4 * int(text.hidden_size)


def _first_int(text: Any, *names: str, least: int = 1) -> int:
    """The first of these fields that is a number of at least ``least``; 0 where none is."""
    for name in names:
        value = getattr(text, name, None)
        if isinstance(value, int) and value >= least:
            return value
    return 0
