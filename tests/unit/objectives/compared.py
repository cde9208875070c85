"""Answers in bytes, what TRL's own code makes of them, and the log-probs that our losses take.

The trainers are made without their constructors: what they read is set by hand, what they compute
is theirs.
"""

from __future__ import annotations

import copy
import importlib
import itertools
import json
import warnings
from collections import defaultdict
from dataclasses import dataclass
from types import SimpleNamespace

import torch
from torch.nn.utils.rnn import pad_sequence

from tests.conformance.tiny import build
from tunesmith.objectives.pair_losses import PairScores

VOCAB = 257
PAD = 256
PROMPT, ANSWER = 40, 60
"""The longest prompt and answer, in bytes."""


@dataclass(frozen=True)
class Pair:
    prompt: tuple[int, ...]
    chosen: tuple[int, ...]
    rejected: tuple[int, ...]


def trl(name):
    """A class of TRL by its dotted name. What its import warns of is no concern of ours."""
    module, _, item = name.rpartition(".")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return getattr(importlib.import_module(f"trl.{module}"), item)


def models():
    """A policy and a reference, tiny, and unlike by enough to matter."""
    policy = build("Llama", attention="eager", vocab_size=VOCAB, pad_token_id=PAD, seed=1)
    reference = copy.deepcopy(policy)
    torch.manual_seed(2)
    with torch.no_grad():
        for parameter in reference.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.03)
    return policy, reference.requires_grad_(False)


def drawn_pairs(count=5, seed=0):
    random = torch.Generator().manual_seed(seed)

    def draw(longest):
        length = int(torch.randint(2, longest, (), generator=random))
        return tuple(torch.randint(0, 256, (length,), generator=random).tolist())

    return [Pair(draw(12), draw(20), draw(20)) for _ in range(count)]


def real_pairs(reference, count=6):
    """Pairs of the preference data, cut to what a tiny model reads in no time."""
    path = reference / "data" / "preference" / "orca_dpo_prompt.jsonl"
    with path.open() as file:
        rows = [json.loads(line) for line in itertools.islice(file, count)]

    def cut(text, longest):
        return tuple(text.encode())[:longest]

    return [
        Pair(cut(r["prompt"], PROMPT), cut(r["chosen"], ANSWER), cut(r["rejected"], ANSWER - 7 * i))
        for i, r in enumerate(rows)
    ]


def answer_logps(model, prompt, answer):
    """The log-probs of an answer's tokens after its prompt, and those of the whole document."""
    ids = torch.tensor([[*prompt, *answer]])
    table = model(ids, use_cache=False).logits[0, :-1].log_softmax(-1)
    every = table.gather(1, ids[0, 1:, None]).squeeze(1)
    squares = (2 * table).logsumexp(-1)
    return every[len(prompt) - 1 :], every, squares[len(prompt) - 1 :]


def scores_of(policy, reference, pairs, tail_weight=1.0, document=False, likelihoods=False):
    """What our losses take, by the plain log-softmax of whole logits."""

    def summed(model, pair, side):
        own, other = getattr(pair, side), len(pair.rejected if side == "chosen" else pair.chosen)
        logps, every, squares = answer_logps(model, pair.prompt, own)
        weights = torch.where(torch.arange(len(own)) < other, 1.0, tail_weight)
        return (logps * weights).sum(), logps, every, (logps - squares).detach().mean().exp()

    chosen = [summed(policy, pair, "chosen") for pair in pairs]
    rejected = [summed(policy, pair, "rejected") for pair in pairs]
    with torch.no_grad():
        held = {s: [summed(reference, p, s)[0] for p in pairs] for s in ("chosen", "rejected")}
    return PairScores(
        chosen_P=torch.stack([each[0] for each in chosen]),
        rejected_P=torch.stack([each[0] for each in rejected]),
        chosen_lengths_P=torch.tensor([len(pair.chosen) for pair in pairs]),
        rejected_lengths_P=torch.tensor([len(pair.rejected) for pair in pairs]),
        reference_chosen_P=torch.stack(held["chosen"]),
        reference_rejected_P=torch.stack(held["rejected"]),
        chosen_text_P=torch.stack([each[2 if document else 1].sum() for each in chosen]),
        likelihoods_P=(
            torch.stack([a[3] * b[3] for a, b in zip(chosen, rejected, strict=True)])
            if likelihoods
            else None
        ),
    )


def gradient(model, loss):
    """The loss, and its gradient by parameter; the model is left without one."""
    model.zero_grad()
    loss.backward()
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return loss.detach(), found


def padded(rows, value):
    return pad_sequence([torch.tensor(row) for row in rows], True, value)


def bare(trainer_name, **attributes):
    """A trainer of TRL on one process, with what its loss reads and nothing else."""
    kind = trl(trainer_name)
    trainer = kind.__new__(kind)
    trainer.accelerator = SimpleNamespace(
        device=torch.device("cpu"),
        gather=lambda value: value,
        gather_for_metrics=lambda value: value,
        unwrap_model=lambda value: value,
    )
    trainer._metrics = defaultdict(lambda: defaultdict(list))
    trainer._total_train_tokens, trainer._tp_size = 0, 1
    trainer.aux_loss_enabled = trainer.is_encoder_decoder = False
    for name, value in attributes.items():
        setattr(trainer, name, value)
    return trainer


def with_fused_head(model):
    """A copy of the model with the head that TRL's trainers of today call."""
    own = copy.deepcopy(model)
    trl("trainer.utils.add_fused_lm_head")(
        own, outputs=("log_probs", "entropy", "mean_logits", "is_top1", "log_sum_sq_probs")
    )
    return own
