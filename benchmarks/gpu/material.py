"""What a measured run reads: a base with random weights, a tokenizer of made-up words, rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers

from benchmarks.gpu.shapes import Shape, Work, document_lengths

SPECIAL = ("<s>", "</s>", "<pad>")
SEED = 1234


def write_base(shape: Shape, folder: Path) -> Path:
    """A folder that ``from_pretrained`` reads: random bf16 weights, and a tokenizer."""
    if (folder / "done").exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = build(shape, device)
    model.save_pretrained(folder, max_shard_size="4GB")
    del model
    write_tokenizer(shape.vocab_size, folder)
    (folder / "done").touch()
    return folder


def build(shape: Shape, device: str, **arguments: Any) -> transformers.PreTrainedModel:
    """The model with random weights, bf16, on the device."""
    config = transformers.AutoConfig.for_model(shape.model_type, **shape.config())
    torch.manual_seed(SEED)
    with torch.device(device):
        model: transformers.PreTrainedModel = transformers.AutoModelForCausalLM.from_config(
            config, dtype=torch.bfloat16, **arguments
        )
    return model


def write_tokenizer(n_words: int, folder: Path) -> None:
    """One token a word: ``w7`` is token 7."""
    words = {f"w{number}": number for number in range(len(SPECIAL), n_words)}
    vocabulary = {word: number for number, word in enumerate(SPECIAL)} | words
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token=SPECIAL[2]))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=inner,
        bos_token=SPECIAL[0],
        eos_token=SPECIAL[1],
        pad_token=SPECIAL[2],
    ).save_pretrained(folder)


def write_rows(work: Work, n_steps: int, path: Path) -> list[int]:
    """Documents of random words for so many steps, as JSON lines; returns their lengths.

    The last token of each is the end of text, which the format adds itself.
    """
    lengths = document_lengths(n_steps * work.tokens, work.sequence_len, seed=SEED)
    draw = np.random.default_rng(SEED)
    with path.open("w", encoding="utf-8") as file:
        for length in lengths:
            ids = draw.integers(len(SPECIAL), work.shape.vocab_size, size=max(1, length - 1))
            text = " ".join(f"w{number}" for number in ids.tolist())
            file.write(json.dumps({"text": text}) + "\n")
    return lengths
