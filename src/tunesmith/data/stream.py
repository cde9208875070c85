"""Streams: which batches an optimizer step takes, resumable by the step's number alone."""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tunesmith.data.ahead import Ahead
from tunesmith.data.batch import Batch
from tunesmith.data.collate import collate
from tunesmith.data.mixing import PLAIN, Mixture, draw_epoch
from tunesmith.data.packing import (
    EpochPlan,
    Ints,
    PackingRule,
    Shapes,
    check_lengths,
    derive_key,
    group_by_length,
    pack_shapes,
    plan_epoch,
)
from tunesmith.data.samples import TokenSample
from tunesmith.dist.mesh import Mesh
from tunesmith.errors import DataError, TunesmithError

PLANS_KEPT = 2
"""Epoch plans that stay in memory: a million rows are 8 MB each."""


class Split(Protocol):
    """Prepared samples and their index (``data.cache.PreparedSplit``)."""

    @property
    def lengths(self) -> NDArray[np.int32]:
        """Tokens of each row, [N]."""
        ...

    @property
    def totals(self) -> Mapping[str, NDArray[np.float64]]:
        """Each row's share of each named weight, [N]."""
        ...

    @property
    def datasets(self) -> NDArray[np.int64]:
        """The number of each row's data set, [N]."""
        ...

    @property
    def fingerprint(self) -> str:
        """What the data is, as a hash."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, row: int) -> TokenSample: ...


class Stream(Protocol):
    """Batches by optimizer step. ``steps`` is exact before the start."""

    steps: int

    def from_step(self, step: int) -> Iterator[list[Batch]]:
        """This rank's micro-batches of each step, from ``step`` to the last."""
        ...

    def weights(self, step: int) -> dict[str, float]:
        """The named weights of the step's *global* batch."""
        ...

    def rows(self, step: int) -> list[str]:
        """The sources of the step's global batch."""
        ...

    def n_tokens(self, step: int) -> int:
        """Tokens of the step's global batch, padding not counted."""
        ...

    def epoch_at(self, step: int) -> float:
        """Epochs that are done after ``step`` steps."""
        ...

    def policy_updated(self, step: int, policy: object) -> None:
        """The policy has finished ``step`` steps."""
        ...


@dataclass(frozen=True, slots=True)
class OrderSettings:
    """What decides the order, the steps and the shape of batches.

    ``micro_batch`` counts bins a forward takes, ``accumulation`` micro-batches a rank sums in a
    full step. ``max_steps`` wins over ``epochs``, and may go past the last one. ``drop_last``
    leaves out an epoch's short last step. ``pad_to`` is the length of a micro-batch in tokens,
    ``pad_multiple`` makes it a multiple of so many. ``workers`` threads collate ahead; the order
    stays.
    """

    seed: int
    capacity: int
    micro_batch: int = 1
    accumulation: int = 1
    epochs: float = 1.0
    max_steps: int | None = None
    packed: bool = False
    shuffle: bool = True
    in_order: bool = False
    max_documents: int | None = None
    group: int | None = None
    group_by_length: bool = False
    mixture: Mixture = PLAIN
    drop_last: bool = False
    pad_to: int | None = None
    pad_multiple: int | None = None
    pad_id: int = 0
    workers: int = 0

    @property
    def rule(self) -> PackingRule:
        """The part that packing reads."""
        return PackingRule(
            capacity=self.capacity,
            packed=self.packed,
            shuffle=self.shuffle,
            in_order=self.in_order,
            max_documents=self.max_documents,
            group=self.group,
        )


def plan_rows(
    lengths: NDArray[np.int32],
    order: OrderSettings,
    *,
    key: int,
    step_bins: int,
    draw: Ints | None = None,
    shapes: Shapes | None = None,
) -> EpochPlan:
    """The bins of the rows ``draw`` (None: every row once), in the order that ``key`` decides."""
    drawn = lengths if draw is None else lengths[draw]
    plan = plan_epoch(drawn, order.rule, key=key, shapes=shapes)
    if order.group_by_length:
        plan = group_by_length(plan, drawn, step_bins=step_bins, key=key)
    return plan if draw is None else EpochPlan(plan.offsets, draw[plan.members])


def collate_rows(
    samples: Sequence[TokenSample], index: tuple[int, int], order: OrderSettings
) -> Batch:
    """One micro-batch, filled up as the settings ask."""
    pad_to = order.pad_to
    if pad_to is None and order.pad_multiple:
        n_tokens = max(1, sum(map(len, samples)))
        pad_to = math.ceil(n_tokens / order.pad_multiple) * order.pad_multiple
    return collate(
        samples, index=index, capacity=order.capacity, pad_to=pad_to, pad_id=order.pad_id
    )


class MapStream:
    """The stream of a prepared set: a pure function of (fingerprint, seed, step).

    The global batch of a step is decided first; ranks and micro-batches only slice it. Micro-batch
    m of the step takes bins ``[m * micro_batch, (m + 1) * micro_batch)`` and belongs to rank
    ``m % ranks``, so that one rank with four micro-batches and four ranks with one run the same.
    The last step of an epoch is short and never crosses the border.
    """

    def __init__(self, split: Split, order: OrderSettings, mesh: Mesh) -> None:
        if len(split) == 0:
            raise DataError(
                "there are no rows to draw from", hint="see the ledger for what was dropped"
            )
        check_lengths(split.lengths, order.capacity)
        self.split, self.order, self.mesh = split, order, mesh
        self.step_bins = order.micro_batch * order.accumulation * mesh.data_size
        self._plans: OrderedDict[int, EpochPlan] = OrderedDict()
        self._lock = threading.RLock()
        self._reading: dict[int, int] = {}  # thread -> the row that it reads now
        fitted = order.rule.fits_together(len(split)) and order.mixture.is_plain
        self._shapes = pack_shapes(split.lengths, order.rule) if fitted else None
        # Where the number of bins cannot differ between epochs, no plan is made to count steps.
        self._epoch_bins = self._constant_bins()
        self._starts = [0]
        self.steps = order.max_steps or self._count_steps(order.epochs)

    def from_step(self, step: int) -> Iterator[list[Batch]]:
        """This rank's micro-batches of each step, from ``step`` to the last.

        All ranks get equally many, only as many as the step's bins need; a rank without a bin gets
        an empty one.
        """
        if self.order.workers < 1:
            return map(self.step_batches, range(step, self.steps))
        return Ahead(self.step_batches, self.order.workers, self._doing).run(step, self.steps)

    def step_batches(self, step: int) -> list[Batch]:
        """This rank's micro-batches of one step."""
        plan, start, stop = self._bounds(step)
        micro, ranks = self.order.micro_batch, self.mesh.data_size
        n_micro = math.ceil((stop - start) / (micro * ranks))
        batches = []
        for turn in range(n_micro):
            number = turn * ranks + self.mesh.data_rank
            first = min(start + number * micro, stop)
            rows = plan.rows(first, min(first + micro, stop))
            batches.append(self._collate(rows, (step, number)))
        return batches

    def weights(self, step: int) -> dict[str, float]:
        """The named weights of the step's global batch, from the index: no collective."""
        rows = self.global_rows(step)
        # fsum is exact, so that neither the order of addition nor a library can change a weight.
        return {name: math.fsum(total[rows].tolist()) for name, total in self.split.totals.items()}

    def global_rows(self, step: int) -> Ints:
        """The prepared rows of the step's global batch, in order."""
        plan, start, stop = self._bounds(step)
        return plan.rows(start, stop)

    def n_tokens(self, step: int) -> int:
        """Tokens of the step's global batch, padding not counted."""
        return int(self.split.lengths[self.global_rows(step)].sum(dtype=np.int64))

    def rows(self, step: int) -> list[str]:
        """``file:row`` of every document in the step's global batch."""
        return [self._sample(row).source for row in self.global_rows(step).tolist()]

    def epoch_at(self, step: int) -> float:
        """Epochs that are done after ``step`` steps, as a share of the running one's steps."""
        epoch = self._epoch_of(step)
        begin, end = self._starts[epoch], self._starts[epoch + 1]
        return epoch + (step - begin) / (end - begin)

    def policy_updated(self, step: int, policy: object) -> None:
        """Nothing: prepared data does not depend on the policy."""

    def plan_of(self, epoch: int) -> EpochPlan:
        """The bins of an epoch; the last few are kept."""
        with self._lock:
            if epoch not in self._plans:
                self._plans[epoch] = self._plan(epoch)
                while len(self._plans) > PLANS_KEPT:
                    self._plans.popitem(last=False)
            self._plans.move_to_end(epoch)
            return self._plans[epoch]

    def _plan(self, epoch: int) -> EpochPlan:
        key = derive_key(self.split.fingerprint, self.order.seed, epoch)
        draw = None if self.order.mixture.is_plain else self._draw(epoch)
        return plan_rows(
            self.split.lengths,
            self.order,
            key=key,
            step_bins=self.step_bins,
            draw=draw,
            shapes=self._shapes,
        )

    def _draw(self, epoch: int) -> Ints:
        """The rows of an epoch that is not every row once."""
        return draw_epoch(
            self.split.datasets,
            self.order.mixture,
            epoch=epoch,
            key=derive_key(self.split.fingerprint, self.order.seed),
            shuffle=self.order.shuffle,
        )

    def _constant_bins(self) -> int | None:
        """Bins of every epoch, or None where they differ (documents packed in shuffled order)."""
        if not self.order.mixture.is_plain:
            return None
        if not self.order.packed:
            return len(self.split)
        if self._shapes is not None:
            return len(self._shapes.offsets) - 1
        return None if self.order.shuffle else len(self.plan_of(0))

    def epoch_steps(self, epoch: int) -> int:
        """Optimizer steps of one epoch, its short last one included unless that is dropped."""
        bins = self._epoch_bins if self._epoch_bins is not None else len(self.plan_of(epoch))
        if not self.order.drop_last:
            return math.ceil(bins / self.step_bins)
        if bins < self.step_bins:
            raise DataError(
                f"an epoch has {bins} rows, a step takes {self.step_bins}: `dataloader_drop_last` "
                "leaves no step",
                hint="take `dataloader_drop_last` out, or make the batch smaller",
                where="dataloader_drop_last",
            )
        return bins // self.step_bins

    def _count_steps(self, epochs: float) -> int:
        """Steps of so many epochs; a fraction takes its share of that epoch's steps, rounded up."""
        whole = math.floor(epochs)
        total = sum(self.epoch_steps(epoch) for epoch in range(whole))
        share = (epochs - whole) * self.epoch_steps(whole) if epochs > whole else 0.0
        # A share such as 0.1 * 30 must not gain a step from the last bit of its product.
        return max(1, total + math.ceil(share - 1e-9))

    def _epoch_of(self, step: int) -> int:
        """The epoch that holds ``step``; ``_starts`` then reaches beyond it."""
        with self._lock:
            while self._starts[-1] <= step:
                self._starts.append(self._starts[-1] + self.epoch_steps(len(self._starts) - 1))
        return int(np.searchsorted(self._starts, step, side="right")) - 1

    def _bounds(self, step: int) -> tuple[EpochPlan, int, int]:
        """The plan that holds the step, and its first bin and the one after its last."""
        epoch = self._epoch_of(step)
        plan = self.plan_of(epoch)
        start = (step - self._starts[epoch]) * self.step_bins
        return plan, start, min(start + self.step_bins, len(plan))

    def _sample(self, row: int) -> TokenSample:
        try:
            return self.split[row]
        except TunesmithError:
            raise
        except Exception as error:
            raise DataError(
                f"prepared row {row} cannot be read: {error}",
                hint="delete the prepared data and run again",
            ) from error

    def _collate(self, rows: Ints, index: tuple[int, int]) -> Batch:
        thread = threading.get_ident()
        samples = []
        try:
            for row in rows.tolist():
                self._reading[thread] = row
                samples.append(self._sample(row))
        finally:
            self._reading.pop(thread, None)
        return collate_rows(samples, index, self.order)

    def _doing(self) -> str:
        rows = ", ".join(str(row) for row in sorted(self._reading.values()))
        return f"prepared rows being read: {rows or 'none'}"
