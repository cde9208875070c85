"""The stream of data that is prepared while it trains, window after window."""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tunesmith.data.batch import Batch
from tunesmith.data.ledger import Ledger
from tunesmith.data.packing import EpochPlan, Ints, check_lengths, derive_key
from tunesmith.data.samples import TokenSample
from tunesmith.data.stream import OrderSettings, Split, collate_rows, plan_rows
from tunesmith.dist.mesh import Mesh
from tunesmith.errors import ConfigError, DataError

Row = tuple[int, int]
"""A sample: the window's number, and its own in the window."""


class WindowSource(Protocol):
    """Where windows come from (``data.windows.Windows``)."""

    def open(self, number: int) -> tuple[Split, Ledger]:
        """Window ``number``, prepared now if need be, and its account."""
        ...

    def lengths(self, number: int) -> NDArray[np.int32]:
        """The lengths of the window's samples."""
        ...

    def ledger(self, count: int) -> Ledger:
        """The account of the first ``count`` windows."""
        ...

    def let_go(self, number: int) -> None:
        """Windows far behind ``number`` are not needed any more."""
        ...

    def close(self) -> None:
        """No window is asked for soon: end what prepares them."""
        ...


class WindowStream:
    """Batches of a stream: a pure function of (windows, seed, step), like those of a ``MapStream``.

    The bins of all windows form one endless sequence, and step s takes bins s * G to (s + 1) * G of
    it: a step may reach over the border of two windows. Which window that is follows from the
    lengths of the earlier ones, so that a run that is resumed need not read them again. The next
    window is prepared in a thread while this one trains.
    """

    def __init__(self, windows: WindowSource, order: OrderSettings, mesh: Mesh) -> None:
        if order.max_steps is None:
            raise ConfigError(
                "a stream has no known end",
                hint="set `max_steps`",
                where="max_steps",
            )
        self.order, self.mesh, self.steps = order, mesh, order.max_steps
        self.step_bins = order.micro_batch * order.accumulation * mesh.data_size
        self._windows = windows
        self._opened: OrderedDict[int, Split] = OrderedDict()
        self._plans: OrderedDict[int, EpochPlan] = OrderedDict()
        self._ends = [0]  # bins up to the end of each window
        self._lock = threading.RLock()

    def from_step(self, step: int) -> Iterator[list[Batch]]:
        """This rank's micro-batches of each step, from ``step`` to the last."""
        pool = ThreadPoolExecutor(1, thread_name_prefix="window")
        ahead: tuple[int, Future[object]] | None = None
        try:
            for number in range(step, self.steps):
                batches = self.step_batches(number)
                newest = self._window_of((number + 1) * self.step_bins - 1)
                if ahead is None or ahead[0] != newest + 1:
                    self._windows.let_go(newest)
                    ahead = newest + 1, pool.submit(self._windows.open, newest + 1)
                yield batches
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
            self._windows.close()

    def step_batches(self, step: int) -> list[Batch]:
        """This rank's micro-batches of one step."""
        bins = self._bins(step)
        micro, ranks = self.order.micro_batch, self.mesh.data_size
        batches = []
        for turn in range(math.ceil(len(bins) / (micro * ranks))):
            number = turn * ranks + self.mesh.data_rank
            rows = [row for one in bins[number * micro : (number + 1) * micro] for row in one]
            samples = [self._sample(row) for row in rows]
            batches.append(collate_rows(samples, (step, number), self.order))
        return batches

    def weights(self, step: int) -> dict[str, float]:
        """The named weights of the step's global batch, from the windows' index."""
        rows = self.global_rows(step)
        names = self._split(rows[0][0]).totals
        return {
            name: math.fsum(float(self._split(window).totals[name][row]) for window, row in rows)
            for name in names
        }

    def global_rows(self, step: int) -> list[Row]:
        """The samples of the step's global batch, in order."""
        return [row for one in self._bins(step) for row in one]

    def n_tokens(self, step: int) -> int:
        """Tokens of the step's global batch, padding not counted."""
        return sum(int(self._split(window).lengths[row]) for window, row in self.global_rows(step))

    def rows(self, step: int) -> list[str]:
        """``file:row`` of every document in the step's global batch."""
        return [self._sample(row).source for row in self.global_rows(step)]

    def epoch_at(self, step: int) -> float:
        """The share of the run that is done: a stream has no epochs."""
        return step / self.steps

    def ledger(self, step: int) -> Ledger:
        """The account of all that was read for the first ``step`` steps, a pass at most."""
        return self._windows.ledger(self._window_of(step * self.step_bins - 1) + 1 if step else 0)

    def policy_updated(self, step: int, policy: object) -> None:
        """Nothing: the data does not depend on the policy."""

    # --- windows --------------------------------------------------------------------------------

    def _bins(self, step: int) -> list[list[Row]]:
        """The bins of a step's global batch."""
        found: list[list[Row]] = []
        at, stop = step * self.step_bins, (step + 1) * self.step_bins
        while at < stop:
            window = self._window_of(at)
            begin, end = self._ends[window], min(self._ends[window + 1], stop)
            members = self._plan(window).bins(at - begin, end - begin)
            found += [[(window, row) for row in one.tolist()] for one in members]
            at = end
        return found

    def _window_of(self, bin_number: int) -> int:
        """The window that holds a bin; the bins of all windows before it are counted."""
        with self._lock:
            while self._ends[-1] <= bin_number:
                number = len(self._ends) - 1
                self._ends.append(self._ends[-1] + len(self._plan(number)))
                self._refuse_nothing()
        return int(np.searchsorted(self._ends, bin_number, side="right")) - 1

    def _refuse_nothing(self) -> None:
        """Raise when window after window has nothing to train on."""
        if len(self._ends) > _EMPTY_WINDOWS and self._ends[-1] == self._ends[-_EMPTY_WINDOWS - 1]:
            raise DataError(
                f"{_EMPTY_WINDOWS} windows of the stream in a row have nothing to train on",
                hint="look at `sequence_len`, `min_sample_len`, and the data's `type`",
                where="datasets",
            )

    def _plan(self, window: int) -> EpochPlan:
        with self._lock:
            if window not in self._plans:
                self._plans[window] = self._make_plan(window)
                while len(self._plans) > _KEPT:
                    self._plans.popitem(last=False)
            return self._plans[window]

    def _make_plan(self, window: int) -> EpochPlan:
        lengths = self._windows.lengths(window)
        check_lengths(lengths, self.order.capacity)
        if len(lengths) == 0:
            return EpochPlan(np.zeros(1, dtype=np.int64), _NO_ROWS)
        # The key is of the place in the stream, so that a later pass is shuffled differently.
        key = derive_key("window", self.order.seed, window)
        return plan_rows(lengths, self.order, key=key, step_bins=self.step_bins)

    def _split(self, window: int) -> Split:
        with self._lock:
            if window not in self._opened:
                self._opened[window] = self._windows.open(window)[0]
                while len(self._opened) > _KEPT:
                    self._opened.popitem(last=False)
            return self._opened[window]

    def _sample(self, row: Row) -> TokenSample:
        return self._split(row[0])[row[1]]


_KEPT = 3
"""Windows whose plan and index stay in memory."""

_EMPTY_WINDOWS = 8

_NO_ROWS: Ints = np.empty(0, dtype=np.int64)
