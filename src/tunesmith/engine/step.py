"""One optimizer step: count, forward, backward, clip, update. The gradient is here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from tunesmith.checkpoint.state import TrainState
from tunesmith.data.batch import Batch
from tunesmith.engine.accumulate import WideSum
from tunesmith.engine.report import StepFacts, StepReport, StepSums
from tunesmith.engine.run import Run
from tunesmith.engine.scaling import Scale, Unscaled
from tunesmith.errors import ExitCode, RunError
from tunesmith.models.policy import Policy, seed_dropout
from tunesmith.objectives.objective import Loss, Objective
from tunesmith.optim.clip import clip
from tunesmith.optim.optimizer import set_rates


def train_step(run: Run, state: TrainState, microbatches: Sequence[Batch]) -> StepReport:
    """The report of one update of the weights. The numbers in it may still be on the device."""
    totals = run.stream.weights(state.step)  # global, known before any forward
    sums = run.forward_backward(microbatches, totals)
    folded = run.optimizer.reads_scalars
    norm = clip(run.policy.parameters(), run.mesh, run.max_norm, folded=folded)
    is_bad = run.latch(norm.is_bad, sums.losses.values())  # stays on the device
    set_rates(run.optimizer, run.schedule, state.step)
    run.optimizer.step(is_bad, norm.scale)  # skipped on the device where a number is bad
    run.optimizer.zero_grad()
    run.scale.update(is_bad)
    return run.report(_facts(run, state, totals), sums, norm.value)


@dataclass(frozen=True, slots=True)
class Backward:
    """``forward_backward``, bound at assembly: the plain one, a micro-batch after the other.

    ``look_up`` is called before each micro-batch; what it raises ends the step.
    """

    policy: Policy
    objective: Objective
    device: torch.device
    seed: int
    shard: Callable[[Batch], Batch] = lambda batch: batch
    scale: Scale = field(default_factory=Unscaled)
    look_up: Callable[[], None] = lambda: None

    def __call__(self, microbatches: Sequence[Batch], totals: Mapping[str, float]) -> StepSums:
        """This rank's sums; every trained parameter's ``.grad`` is that of the step's global loss.

        Each named sum is divided once, by its global weight: how the step is cut into micro-batches
        does not matter.
        """
        require_weight(totals, microbatches)
        sums = StepSums({}, {})
        wide = WideSum(self.policy.parameters() if len(microbatches) > 1 else ())
        for batch in microbatches:
            self.look_up()
            seed_dropout(self.seed, batch.index)
            loss = self.objective.loss(self.policy, self.shard(batch.to(self.device)))
            self.scale.grow(mean(loss, totals)).backward()  # type: ignore[no-untyped-call]
            wide.take()
            add(sums, loss)
        wide.give()
        self.scale.shrink(self.policy.parameters())
        return sums


def mean(loss: Loss, totals: Mapping[str, float]) -> Tensor:
    """The part of the step's loss that these sums are: each over its own global weight."""
    return torch.stack([value / (totals[name] or 1.0) for name, value in loss.sums.items()]).sum()


def add(sums: StepSums, loss: Loss) -> None:
    """Add a micro-batch's sums, in double, without its graph."""
    for into, values in ((sums.losses, loss.sums), (sums.metrics, loss.metrics)):
        for name, value in values.items():
            value = value.detach().double()
            into[name] = into[name] + value if name in into else value


def require_weight(totals: Mapping[str, float], microbatches: Sequence[Batch]) -> None:
    """Raise unless something in the step is trained: there would be nothing to divide by.

    Raises:
        RunError: exit 2, naming the step.
    """
    if any(total != 0 for total in totals.values()):
        return
    step = microbatches[0].index[0] + 1 if microbatches else "?"
    raise RunError(
        f"nothing is trained in step {step}: every token of its rows weighs 0",
        hint="look at the rows with `tunesmith preprocess CONFIG --show`",
        where=f"step {step}",
        exit_code=ExitCode.WRONG_INPUT,
    )


def _facts(run: Run, state: TrainState, totals: Mapping[str, float]) -> StepFacts:
    """What the host knows about the step that was just queued."""
    return StepFacts(
        step=state.step + 1,
        epoch=run.stream.epoch_at(state.step + 1),
        learning_rate=run.optimizer.rate,
        tokens=run.stream.n_tokens(state.step),
        totals=totals,
    )
