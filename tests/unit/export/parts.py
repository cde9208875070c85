"""A tiny base model in a folder with a tokenizer, and policies trained from it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from tunesmith.checkpoint.weights import ADAPTER, MODEL, ModelFiles
from tunesmith.config.adapters import AdaptersSection
from tunesmith.config.model import ModelSection
from tunesmith.config.quant import QuantSection
from tunesmith.export.compare import make_prompts
from tunesmith.export.final import Export
from tunesmith.models.adapters import add_adapter
from tunesmith.models.facts import read_facts
from tunesmith.models.load import load_model
from tunesmith.models.policy import Policy
from tunesmith.models.quantize import build_quantization
from tunesmith.models.repacking import keep_values
from tunesmith.models.source import locate
from tunesmith.models.state import adapter_state, full_state

CPU = torch.device("cpu")
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def byte_tokenizer(template: str | None = CHATML) -> PreTrainedTokenizerFast:
    """One token a byte, and the three of chatml."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    inner = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    inner.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    inner.add_special_tokens([AddedToken(token, special=True) for token in special])
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        chat_template=template,
    )


def make_base(folder: Path, *, seed: int = 0, dtype: torch.dtype = torch.float32) -> Path:
    """A random Llama with tied embeddings and its tokenizer, as a hub would give them."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=259,
        hidden_size=64,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        tie_word_embeddings=True,
        bos_token_id=257,
        eos_token_id=258,
        pad_token_id=256,
        initializer_range=0.2,
    )
    LlamaForCausalLM(config).to(dtype).save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder


def make_policy(
    base: Path,
    *,
    adapter: str | None = "lora",
    dtype: torch.dtype = torch.float32,
    learned: float = 0.05,
    whole: tuple[str, ...] | None = None,
) -> tuple[Policy, ModelFiles]:
    """A policy on ``base`` whose trained weights are moved by ``learned``, and what it saves."""
    quant = build_quantization(QuantSection(load_in_4bit=adapter == "qlora"), dtype)
    model = load_model(locate(ModelSection(base=str(base))), dtype, quant, CPU, "sdpa")
    keep_values(model)
    config = None
    if adapter is not None:
        section = AdaptersSection(
            kind=adapter, rank=4, alpha=8, target_linear=True, modules_to_save=whole
        )
        config = add_adapter(model, section, 0, base_name=str(base)).adapter_config
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(learned * torch.randn_like(parameter))
    policy = Policy(model, read_facts(model.config), layout="rows").train()

    def write_companions(folder: Path) -> None:
        byte_tokenizer().save_pretrained(folder)
        if config is not None:
            (folder / "adapter_config.json").write_text(json.dumps(config))
        else:
            model.config.save_pretrained(folder)
            model.generation_config.save_pretrained(folder)

    def tensors() -> Iterable[tuple[str, Tensor]]:
        return (full_state(policy) if adapter is None else adapter_state(policy)).items()

    return policy, ModelFiles(tensors, MODEL if adapter is None else ADAPTER, write_companions)


def make_export(output_dir: Path, base: Path, **changes: object) -> Export:
    policy, files = make_policy(base, **changes)  # type: ignore[arg-type]
    return Export(
        output_dir=output_dir,
        files=files,
        policy=policy,
        base=base,
        prompts=make_prompts(byte_tokenizer()),
        record={"base": {"original": str(base)}},
        card="# card\n",
    )
