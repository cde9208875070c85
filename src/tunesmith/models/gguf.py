"""A ``.gguf`` file made into a plain Hugging Face folder, once."""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from tunesmith.errors import ModelError
from tunesmith.log import get_logger
from tunesmith.models.names import named_weights
from tunesmith.models.quiet import without_bars

log = get_logger(__name__)

RECORD = "tunesmith_source.json"
SHARD_BYTES = 5_000_000_000
# Dequantised values are sums and products of half-precision numbers: float32 holds them exactly,
# so that the model is the file's. Past this size disk and waiting cost more than the last bits.
EXACT_PARAMETERS = 3_000_000_000


def convert(file: Path, target: Path, *, sha256: str) -> Path:
    """Return ``target``, a folder with the file's weights, config, tokenizer and chat template.

    Does nothing when it is there already. It appears whole or not at all: everything is written
    beside it first, then renamed.

    Raises:
        ModelError: the package ``gguf`` is missing, or transformers cannot read the file.
    """
    if (target / RECORD).is_file():
        return target
    if find_spec("gguf") is None:
        raise ModelError(
            "a .gguf base model needs the package gguf",
            hint="pip install 'tunesmith[gguf]'",
            where="base_model",
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    log.info("converting %s to safetensors, once (kept in %s)", file.name, target)
    scratch = target.parent / f".converting-{uuid.uuid4().hex}"
    scratch.mkdir()
    try:
        _write(file, scratch)
        record = {"original": str(file), "sha256": sha256}
        (scratch / RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        _move(scratch, target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return target


def _move(scratch: Path, target: Path) -> None:
    try:
        scratch.rename(target)
    except OSError:
        # Another process was faster; its folder holds the same bytes.
        if not (target / RECORD).is_file():
            raise


def _write(file: Path, folder: Path) -> None:
    try:
        with without_bars():
            model = AutoModelForCausalLM.from_pretrained(
                file.parent, gguf_file=file.name, dtype=torch.float32
            )
            tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    except Exception as error:  # the reader raises whatever the bytes lead it to
        raise ModelError(
            f"transformers cannot read {file.name}: {error}",
            hint="use the model's safetensors instead of this .gguf",
            where="base_model",
        ) from error
    dtype = torch.float32 if model.num_parameters() <= EXACT_PARAMETERS else torch.bfloat16
    config = model.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    config.dtype = dtype
    config.architectures = [type(model).__name__]
    config.save_pretrained(folder)
    if model.generation_config is not None:
        model.generation_config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    _write_weights(model, folder, dtype)


def _write_weights(model: PreTrainedModel, folder: Path, dtype: torch.dtype) -> None:
    shards = list(_shards(model))
    total = 0
    index: dict[str, str] = {}
    for number, names in enumerate(shards, start=1):
        name = (
            "model.safetensors"
            if len(shards) == 1
            else f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        )
        tensors = {n: t.to(dtype).contiguous() for n, t in names.items()}
        save_file(tensors, folder / name, metadata={"format": "pt"})
        # The writer lets nobody else read it; the cache may be shared.
        (folder / name).chmod((folder / "config.json").stat().st_mode)
        index |= dict.fromkeys(tensors, name)
        total += sum(t.numel() * t.element_size() for t in tensors.values())
    if len(shards) > 1:
        content = {"metadata": {"total_size": total}, "weight_map": index}
        (folder / "model.safetensors.index.json").write_text(json.dumps(content, indent=2))


def _shards(model: PreTrainedModel) -> Iterator[dict[str, Tensor]]:
    shard: dict[str, Tensor] = {}
    size = 0
    for name, tensor in named_weights(model):
        n_bytes = tensor.numel() * tensor.element_size()
        if shard and size + n_bytes > SHARD_BYTES:
            yield shard
            shard, size = {}, 0
        shard[name] = tensor
        size += n_bytes
    yield shard
