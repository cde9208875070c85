"""Where a bad number arose is told: phase, tensor, and the rows that make it."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from tests.unit.engine.parts import build_run, weights_of
from tunesmith.checkpoint.state import TrainState
from tunesmith.data.batch import Batch
from tunesmith.engine.guard import NotFinite
from tunesmith.engine.latch import Latch
from tunesmith.engine.loop import fit
from tunesmith.engine.origin import document, explained, find_origin
from tunesmith.engine.run import Run
from tunesmith.engine.step import train_step


def token_of(run: Run, source: str) -> int:
    """A token that only the row of ``source`` holds."""
    samples = run.stream.split.samples  # type: ignore[attr-defined]
    row = next(sample for sample in samples if sample.source == source)
    others = {int(t) for sample in samples if sample is not row for t in sample.input_ids}
    return next(int(t) for t in row.input_ids if int(t) not in others)


def with_marked_row(run: Run, number: int) -> str:
    """Give the row a token of its own; the row's source."""
    sample = run.stream.split.samples[number]  # type: ignore[attr-defined]
    sample.input_ids[1] = 60
    for other in run.stream.split.samples:  # type: ignore[attr-defined]
        if other is not sample:
            other.input_ids[other.input_ids == 60] = 3
    assert token_of(run, sample.source) == 60
    return str(sample.source)


def test_a_bad_weight_is_named(tmp_path: Path) -> None:
    run = build_run(tmp_path)
    with torch.no_grad():
        run.policy.model.model.layers[1].mlp.up_proj.weight[2, 3] = math.inf
    found = find_origin(run, 0)
    assert found is not None
    assert (found.phase, found.tensor) == ("weights", "model.layers.1.mlp.up_proj.weight")


def test_the_first_module_and_the_only_row_are_named(tmp_path: Path) -> None:
    run = build_run(tmp_path)
    source = run.stream.rows(2)[1]
    number = int(source.split(":")[1]) - 1
    source = with_marked_row(run, number)

    def overflow(module: object, inputs: tuple[torch.Tensor], output: torch.Tensor) -> torch.Tensor:
        """An activation that is too large for one token alone."""
        return torch.where((inputs[0] == 60).unsqueeze(-1), math.inf, output)

    run.policy.model.model.embed_tokens.register_forward_hook(overflow)
    before = weights_of(run)
    found = find_origin(run, 2)
    assert found is not None
    assert (found.phase, found.rows) == ("forward", (source,))
    assert found.tensor == "model.embed_tokens"
    for name, value in weights_of(run).items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)
    assert all(parameter.grad is None for parameter in run.policy.parameters())


def test_a_gradient_that_alone_is_bad_is_named(tmp_path: Path) -> None:
    run = build_run(tmp_path)
    run.policy.model.model.layers[0].self_attn.k_proj.weight.register_hook(lambda g: g * math.nan)
    found = find_origin(run, 0)
    assert found is not None
    assert (found.phase, found.tensor) == ("backward", "model.layers.0.self_attn.k_proj.weight")


def test_a_step_that_is_finite_again_has_no_origin(tmp_path: Path) -> None:
    assert find_origin(build_run(tmp_path), 0) is None


def test_the_error_of_a_run_says_where(tmp_path: Path) -> None:
    run = build_run(tmp_path)
    run.policy.model.model.norm.register_forward_hook(lambda module, inputs, out: out * math.nan)
    with (
        pytest.raises(NotFinite, match=r"step 1 went bad: .*forward pass.*`model\.norm`"),
        explained(run),
    ):
        fit(run, TrainState())


def test_a_document_alone_is_its_part_of_the_batch(tmp_path: Path) -> None:
    run = build_run(tmp_path)
    batch: Batch = next(run.stream.from_step(0))[0]
    ids = [document(batch, n).inputs["input_ids"] for n in range(len(batch.sources))]
    torch.testing.assert_close(torch.cat(ids), batch.inputs["input_ids"])
    one = document(batch, 1)
    assert one.sources == (batch.sources[1],)
    assert one.segments.tolist() == [0, one.n_tokens] == [0, one.longest]


def test_the_latch_keeps_later_steps_out(tmp_path: Path) -> None:
    run = build_run(tmp_path)
    steps = run.stream.from_step(0)
    train_step(run, TrainState(), next(steps))
    before = weights_of(run)
    run.latch(torch.tensor(True), [])
    train_step(run, TrainState(step=1), next(steps))
    for name, value in weights_of(run).items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)


def test_without_holding_each_step_is_judged_alone(tmp_path: Path) -> None:
    mesh = build_run(tmp_path).mesh
    good, bad = torch.tensor(False), torch.tensor(True)
    latch = Latch(mesh, holds=False)
    assert [bool(latch(flag, [])) for flag in (good, bad, good)] == [False, True, False]
    latch = Latch(mesh)
    assert [bool(latch(flag, [])) for flag in (good, bad, good)] == [False, True, True]
    assert bool(Latch(mesh)(good, [torch.tensor(math.nan)]))
