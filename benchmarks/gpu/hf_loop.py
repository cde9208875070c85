"""A peer without a framework: transformers and peft in the loop that their documents show.

``python -m benchmarks.gpu.hf_loop --work lora-8b --rows FILE --out DIR`` reads the same rows, packs
them in order, and writes the same ``steps.jsonl`` as ``ours``. Attention is what transformers picks
for packed rows (sdpa with a mask of documents) unless ``--attention`` names another.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model

from benchmarks.gpu.material import build
from benchmarks.gpu.shapes import WORKS, Work

STARTED = time.time()


def batches(work: Work, rows: Path) -> Iterator[dict[str, torch.Tensor]]:
    """Micro-batches [rows, sequence_len] of documents in order, the last of a row cut to fit."""
    ids: list[int] = []
    positions: list[int] = []
    with rows.open(encoding="utf-8") as file:
        for line in file:
            words = [int(word[1:]) for word in json.loads(line)["text"].split()] + [1]
            ids += words
            positions += range(len(words))
            while len(ids) >= work.tokens:
                shape = (work.micro_batch, work.sequence_len)
                taken = torch.tensor(ids[: work.tokens]).view(shape)
                placed = torch.tensor(positions[: work.tokens]).view(shape)
                labels = taken.masked_fill(placed == 0, -100)
                yield {"input_ids": taken, "position_ids": placed, "labels": labels}
                del ids[: work.tokens], positions[: work.tokens]


def build_model(work: Work, arguments: argparse.Namespace, device: str) -> Any:
    """The model, its adapter and its switches."""
    extra = {"attn_implementation": arguments.attention} if arguments.attention else {}
    model: Any = build(work.shape, device, **extra)
    if work.lora_rank:
        config = LoraConfig(
            r=work.lora_rank,
            lora_alpha=2 * work.lora_rank,
            target_modules="all-linear",
            task_type="CAUSAL_LM",
        )
        model = get_peft_model(model, config)
        if arguments.recompute:
            model.enable_input_require_grads()
    if arguments.recompute:
        options = {"use_reentrant": False}
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs=options)
    return torch.compile(model) if arguments.compile else model


def main() -> None:
    """Train and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", choices=WORKS, required=True)
    parser.add_argument("--rows", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--attention")
    parser.add_argument("--recompute", action="store_true")
    parser.add_argument("--compile", action="store_true")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    work = WORKS[arguments.work]
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = build_model(work, arguments, device).train()
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-5, fused=device == "cuda")
    with (arguments.out / "steps.jsonl").open("w", encoding="utf-8") as file:
        mark = time.perf_counter()
        for step, batch in enumerate(batches(work, arguments.rows), start=1):
            sent = {name: tensor.to(device) for name, tensor in batch.items()}
            with torch.autocast(device, dtype=torch.bfloat16, enabled=bool(work.lora_rank)):
                loss = model(**sent, use_cache=False).loss
            loss.backward()
            norm = torch.nn.utils.clip_grad_norm_(trained, 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            value = loss.item()
            now = time.perf_counter()
            line: dict[str, Any] = {
                "step": step,
                "seconds": now - mark,
                "tokens": work.tokens,
                "since_start": time.time() - STARTED,
                "loss": value,
            }
            mark = now
            if step in (1, arguments.steps):
                line |= {"grad_norm": float(norm), "peak": _peak()}
            file.write(json.dumps(line) + "\n")
            file.flush()
            if step == arguments.steps:
                break


def _peak() -> dict[str, float]:
    if not torch.cuda.is_available():
        return {}
    return {
        "allocated_gib": torch.cuda.max_memory_allocated() / 2**30,
        "reserved_gib": torch.cuda.max_memory_reserved() / 2**30,
    }


if __name__ == "__main__":
    main()
