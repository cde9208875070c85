"""Small bases, rows, configs, our side of a run, and the comparison with the loop by hand."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from tests.reference.loop import WITH_INPUT, WITHOUT_INPUT, Trace
from tunesmith.config.preflight import ProbeName

STEPS = 6
COLOURS = ("red", "blue", "green", "grey", "brown")
THINGS = ("apple", "river", "stone", "cloud", "horse", "table", "lamp")


def make_rows(n, *, seed):
    """Alpaca rows whose answers follow from their instructions, of very different lengths."""
    draw = random.Random(seed)
    rows = []
    for number in range(n):
        things = draw.choices(THINGS, k=draw.choice((1, 1, 2, 3, 4)))
        colour = draw.choice(COLOURS)
        rows.append(
            {
                "instruction": f"Paint {' and '.join(things)}",
                "input": colour if number % 3 == 0 else "",
                "output": ", ".join(f"a {colour} {thing}" for thing in things),
            }
        )
    return rows


def write_rows(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def make_tokenizer(rows):
    """Byte-level BPE learned on the rows' own text; it opens a text with ``<s>``."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    texts = [WITH_INPUT.format_map(row) + row["output"] for row in rows]
    texts += [WITHOUT_INPUT.format_map(row) for row in rows]
    trainer = trainers.BpeTrainer(
        vocab_size=448,
        special_tokens=["<pad>", "<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 1)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>"
    )


def make_base(folder):
    """A random Llama of two layers, its head tied to its embedding, and its tokenizer."""
    tokenizer = make_tokenizer(make_rows(64, seed=0))
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=128,
            tie_word_embeddings=True,
            initializer_range=0.1,
            bos_token_id=1,
            eos_token_id=2,
            pad_token_id=0,
        )
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


PROBES = list(get_args(ProbeName))
"""The preflight's, for ``preflight_skip``: here the comparison has to see a fault by itself."""


@dataclass(frozen=True)
class Ground:
    """A tiny base model in a folder, and the files with rows to train on and held out."""

    base: Path
    train: Path
    held_out: Path


def make_ground(folder):
    return Ground(
        make_base(folder / "base"),
        write_rows(folder / "train.jsonl", make_rows(96, seed=1)),
        write_rows(folder / "held_out.jsonl", make_rows(12, seed=2)),
    )


LORA = {"adapter": "lora", "lora_r": 8, "lora_alpha": 24, "learning_rate": 1e-2}
KINDS = {
    "lora": LORA,
    "qlora": {**LORA, "adapter": "qlora", "load_in_4bit": True},
    "full": {"learning_rate": 5e-3},
}
LAYOUTS = {
    "packed, accumulation 1": (True, 4, 1),
    "packed, accumulation 4": (True, 1, 4),
    "unpacked, accumulation 1": (False, 8, 1),
    "unpacked, accumulation 4": (False, 2, 4),
}


def make_config(ground, output_dir, *, kind, layout, **changes):
    """The flat keys of a run; ``layout`` and ``kind`` are names in the tables above."""
    packed, micro_batch, accumulation = LAYOUTS[layout]
    config = {
        "base_model": str(ground.base),
        "datasets": [{"path": str(ground.train), "type": "alpaca"}],
        "test_datasets": [{"path": str(ground.held_out), "type": "alpaca"}],
        "output_dir": str(output_dir),
        "sequence_len": 128,
        "sample_packing": packed,
        "micro_batch_size": micro_batch,
        "gradient_accumulation_steps": accumulation,
        "eval_batch_size": 2,
        "max_steps": STEPS,
        "optimizer": "adamw_torch",
        # Below eps a gradient is noise: Adam would make a full step of a rounding error's sign.
        "adam_epsilon": 1e-6,
        "adam_beta1": 0.9,
        "adam_beta2": 0.95,
        "lr_scheduler": "cosine",
        "warmup_steps": 2,
        "weight_decay": 0.1,
        "max_grad_norm": 1.0,
        "bf16": False,
        "fp16": False,
        "eval_steps": 1,
        "eval_first": True,
        "save_strategy": "no",
        "dataset_num_proc": 1,
        "seed": 11,
        **KINDS[kind],
        **changes,
    }
    if config.get("adapter"):
        config |= {"lora_dropout": 0.0, "lora_target_linear": True}
    return config


class Start:
    """A callback that keeps the adapter's values from before the first step, and the last ones."""

    def __init__(self) -> None:
        self.adapter = {}
        self.weights = {}

    def run_started(self, run, state) -> None:
        self.adapter = {n: v for n, v in self._trained(run).items() if "lora_" in n}

    def run_finished(self, run, state) -> None:
        self.weights = self._trained(run)

    def _trained(self, run):
        named = run.policy.model.named_parameters()
        return {name: p.detach().clone() for name, p in named if p.requires_grad}


def run_ours(config):
    """Our trace, the rows of each step, and where the adapter started."""
    from tunesmith.launch import api

    start = Start()
    api.train(config, callbacks=[start])
    trace = Trace(weights=start.weights)
    for line in (Path(config["output_dir"]) / "metrics.jsonl").read_text().splitlines():
        record = json.loads(line)
        if "eval_loss" in record:
            trace.held_out[record["step"]] = record["eval_loss"]
        else:
            trace.losses.append(record["loss"])
            trace.rates.append(record["learning_rate"])
            trace.norms.append(record["grad_norm"])
    return trace, api.steps(config, config["max_steps"]), start.adapter


def mismatches(ours, reference, *, loss=1e-4, weights=1e-5, norm=1e-3):
    """Everything in which two traces differ by more than they may, in words."""
    found = []
    if len(ours.losses) != len(reference.losses):
        return [f"{len(ours.losses)} steps, not {len(reference.losses)}"]
    pairs = [("loss", ours.losses, reference.losses, loss, 0.0)]
    pairs += [("learning rate", ours.rates, reference.rates, 1e-15, 1e-9)]
    pairs += [("gradient norm", ours.norms, reference.norms, 1e-7, norm)]
    for what, mine, theirs, absolute, relative in pairs:
        for step, (a, b) in enumerate(zip(mine, theirs, strict=True), start=1):
            if not abs(a - b) <= absolute + relative * abs(b):
                found.append(f"step {step}: {what} {a!r}, not {b!r}")
    if ours.held_out.keys() != reference.held_out.keys():
        return [*found, f"held out after {list(ours.held_out)}, not {list(reference.held_out)}"]
    for step, value in reference.held_out.items():
        if not abs(ours.held_out[step] - value) <= loss:
            found.append(f"held out after {step}: {ours.held_out[step]!r}, not {value!r}")
    if ours.weights.keys() != reference.weights.keys():
        odd = sorted(ours.weights.keys() ^ reference.weights.keys())
        return [*found, f"trained on one side only: {odd[:3]}"]
    for name, value in reference.weights.items():
        gap = float((ours.weights[name] - value).norm() / value.norm())
        if not gap <= weights:
            found.append(f"{name}: off by {gap:.2e} of its norm")
    return found
