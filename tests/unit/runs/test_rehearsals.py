"""The probes that rehearse: layouts, serving, the largest batch, resuming, exporting."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from tests.smallrun import full
from tests.unit.runs.test_preflight import failing, probe
from tunesmith.data.batch import Batch
from tunesmith.engine.step import Backward
from tunesmith.errors import ExitCode, ProbeError
from tunesmith.models.policy import Policy
from tunesmith.optim.optimizer import Optimizer
from tunesmith.patches import attention
from tunesmith.runs import assemble, train
from tunesmith.runs.preflight import serving

__all__ = ["probe"]


def test_a_mean_of_means_is_seen(probe, monkeypatch):
    """Each micro-batch divided by its own weight, as trainers did for years under accumulation."""

    def unequal(self, microbatches, totals):
        shares = {name: total / len(microbatches) for name, total in totals.items()}
        return inner(self, microbatches, shares if len(microbatches) > 1 else totals)

    inner = Backward.__call__
    monkeypatch.setattr(Backward, "__call__", unequal)
    error = failing(probe, "invariance")
    assert "accumulation changes what is trained" in error.message


def test_padding_that_trains_is_seen(probe, monkeypatch):
    real = Batch.to

    def heavy(self, device):
        moved = real(self, device)
        if self.sources[-1]:
            return moved
        weights = moved.targets["weights"].clone()
        weights[-3:-1] = 1.0
        return replace(moved, targets={**moved.targets, "weights": weights})

    monkeypatch.setattr(Batch, "to", heavy)
    assert "padding changes what is trained" in failing(probe, "invariance").message


def test_a_leak_in_the_backward_pass_alone_is_seen(probe, monkeypatch):
    """The forward is right; the gradient of the keys takes in the document before."""
    real = attention.varlen_attention

    def leaking(query, key, value, segments, longest, *, scoring):
        out = real(query, key, value, segments, longest, scoring=scoring)
        # Adds nothing to the value, and the neighbour's keys to the gradient of the queries.
        leak = (query * key.repeat_interleave(query.shape[1] // key.shape[1], 1).roll(60, 0)).sum()
        return out + (leak - leak.detach()) * 1e-3

    monkeypatch.setattr(attention, "varlen_attention", leaking)
    error = failing(probe, "isolation")
    assert "in the backward pass" in error.message


def test_a_template_that_is_saved_otherwise_is_seen(probe, monkeypatch):
    real = serving.save_tokenizer
    monkeypatch.setattr(
        serving,
        "save_tokenizer",
        lambda tokenizer, folder, text: real(tokenizer, folder, "Talk:\n" + text),
    )
    error = failing(probe, "serving")
    assert "chat_template.jsonl:1" in error.where
    assert "'Talk" in error.message


def test_a_batch_that_does_not_fit_names_its_longest_row(probe, monkeypatch):
    real = Policy.forward

    def small(self, batch, want):
        if batch.n_tokens > 230:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(self, batch, want)

    monkeypatch.setattr(Policy, "forward", small)
    with pytest.raises(ProbeError, match=r"preflight longest: .* does not fit") as caught:
        probe()
    assert caught.value.exit_code == ExitCode.NO_ROOM
    assert "chat_template.jsonl:" in caught.value.where
    assert "micro_batch_size" in caught.value.hint


@pytest.mark.parametrize("changes", [{}, full()], ids=["lora", "full"])
def test_an_optimizer_that_forgets_is_seen(probe, monkeypatch, changes):
    monkeypatch.setattr(
        Optimizer, "load_state", lambda self, tensors, scalars: self.inner.state.clear()
    )
    error = failing(probe, "resume", **changes)
    assert "stopped and resumed is another run" in error.message


def test_an_adapter_that_is_saved_with_another_scale_is_seen(probe, monkeypatch):
    real = assemble.model_files

    def wrong(policy, material, adapter):
        files = real(policy, material, adapter)

        def companions(folder):
            files.write_companions(folder)
            path = folder / "adapter_config.json"
            config = json.loads(path.read_text())
            path.write_text(json.dumps({**config, "lora_alpha": 4 * config["lora_alpha"]}))

        return replace(files, write_companions=companions)

    monkeypatch.setattr(assemble, "model_files", wrong)
    assert "what was written differs" in failing(probe, "export").message


def test_the_rehearsals_leave_no_trace(probe, monkeypatch):
    """Weights, optimizer and rates after all probes are those of a run that never probed."""
    seen = []
    real = assemble.assemble

    def kept(*arguments, **named):
        made = real(*arguments, **named)
        weights = made.run.policy.named_parameters()
        seen.append((made.run, {name: value.detach().clone() for name, value in weights}))
        return made

    monkeypatch.setattr(train, "assemble", kept)
    probe(lora_dropout=0.1)
    ((run, before),) = seen
    for name, parameter in run.policy.named_parameters():
        assert torch.equal(parameter, before[name]), name
        assert parameter.grad is None
    assert not run.optimizer.inner.state
