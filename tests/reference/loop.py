"""Fine-tuning written out by hand: transformers, peft and torch, one row at a time.

Nothing here is taken from tunesmith. Which rows a step takes and where the adapter starts are
given; every other number is found independently.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training
from torch.nn import functional as F
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    Trainer,
    get_scheduler,
)

WITH_INPUT = (
    "Below is an instruction that describes a task, paired with an input that provides further "
    "context. Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:\n"
)
WITHOUT_INPUT = (
    "Below is an instruction that describes a task. Write a response that appropriately completes "
    "the request.\n\n### Instruction:\n{instruction}\n\n### Response:\n"
)


@dataclass
class Trace:
    """What a run showed: a number a step, the held-out loss by finished steps, trained weights."""

    losses: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    norms: list[float] = field(default_factory=list)
    held_out: dict[int, float] = field(default_factory=dict)
    weights: dict[str, torch.Tensor] = field(default_factory=dict)


def tokenize(row, tokenizer):
    """Ids and labels of an alpaca row: the answer and the end token train."""
    wording = WITH_INPUT if row.get("input") else WITHOUT_INPUT
    prompt = tokenizer(wording.format_map(row))["input_ids"]
    answer = tokenizer(row["output"], add_special_tokens=False)["input_ids"]
    answer = [*answer, tokenizer.eos_token_id]
    return torch.tensor([prompt + answer]), torch.tensor([[-100] * len(prompt) + answer])


def nll(model, row):
    """The summed loss of one row, and how many tokens it trains."""
    ids, labels = row
    logits = model(input_ids=ids).logits[0, :-1].float()
    loss = F.cross_entropy(logits, labels[0, 1:], ignore_index=-100, reduction="sum")
    return loss, int((labels[0, 1:] != -100).sum())


def load_model(config):
    """The base in fp32 (or NF4, as its users write it), with an adapter where one is asked for."""
    quantization = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.float32,
    )
    four_bits = config.get("load_in_4bit", False)
    model = AutoModelForCausalLM.from_pretrained(
        config["folder"],
        dtype=torch.float32,
        quantization_config=quantization if four_bits else None,
    )
    if four_bits:
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    if config.get("adapter") is None:
        return model
    return get_peft_model(
        model,
        LoraConfig(
            r=config["lora_r"],
            lora_alpha=config["lora_alpha"],
            lora_dropout=0.0,
            target_modules="all-linear",
            task_type="CAUSAL_LM",
        ),
    )


def train(config, steps, adapter, rows, held_out):
    """The trace of training on ``rows[name]`` for the names in each of ``steps``.

    ``config`` holds the flat keys of the run and ``folder``, the base model's. ``adapter`` are the
    values to start from, by the end of their names.
    """
    tokenizer = AutoTokenizer.from_pretrained(config["folder"])
    model = load_model(config)
    batches = [[tokenize(rows[name], tokenizer) for name in names] for names in steps]
    return fit(model, config, batches, [tokenize(row, tokenizer) for row in held_out], adapter)


def fit(model, config, batches, held_out, adapter):
    """The trace of a step on each of ``batches``, lists of (ids, labels)."""
    model.train()
    named = {n.removeprefix("base_model.model."): p for n, p in model.named_parameters()}
    trained = {name: p for name, p in named.items() if p.requires_grad}
    with torch.no_grad():
        for name, value in adapter.items():
            trained[name].copy_(value)
    decayed = {n.removeprefix("base_model.model.") for n in decayed_names(model)}
    groups = [
        {"params": [p for n, p in trained.items() if n in decayed]},
        {"params": [p for n, p in trained.items() if n not in decayed], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(
        groups,
        lr=config["learning_rate"],
        weight_decay=config["weight_decay"],
        betas=(config["adam_beta1"], config["adam_beta2"]),
        eps=config["adam_epsilon"],
    )
    schedule = get_scheduler(
        config["lr_scheduler"],
        optimizer,
        num_warmup_steps=config["warmup_steps"],
        num_training_steps=config["max_steps"],
    )
    trace = Trace(held_out={0: evaluate(model, held_out)})
    for step, batch in enumerate(batches, start=1):
        total = sum(int((labels[0, 1:] != -100).sum()) for _, labels in batch)
        losses = []
        for row in batch:
            loss, _ = nll(model, row)
            (loss / total).backward()
            losses.append(float(loss.detach()))
        norm = torch.nn.utils.clip_grad_norm_(trained.values(), config["max_grad_norm"])
        trace.losses.append(sum(losses) / total)
        trace.norms.append(float(norm))
        trace.rates.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        trace.held_out[step] = evaluate(model, held_out)
    trace.weights = {name: p.detach().clone() for name, p in trained.items()}
    return trace


def decayed_names(model):
    """The parameters that transformers' Trainer lets decay."""
    return Trainer.get_decay_parameter_names(None, model)


@torch.no_grad()
def evaluate(model, rows):
    """The mean over all trained tokens of the rows."""
    parts = [nll(model, row) for row in rows]
    return sum(float(loss) for loss, _ in parts) / max(1, sum(n for _, n in parts))


def read_rows(path):
    """The rows of a json-lines file by the names that a step gives them: ``file:line``."""
    lines = Path(path).read_text(encoding="utf-8").splitlines()
    return {f"{path}:{n}": json.loads(line) for n, line in enumerate(lines, start=1)}
