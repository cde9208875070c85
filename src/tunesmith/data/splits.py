"""Splits with slices, as ``datasets`` writes them: ``train``, ``train[:10%]``, ``a[5:]+b[:20]``."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TypeVar

from tunesmith.errors import DataError

T = TypeVar("T")

_SPLIT_WORDS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}
_BOUND = r"(-?\d[\d_]*)(%?)"
_PART = re.compile(rf"\s*([\w-]+)\s*(?:\[\s*(?:{_BOUND})?\s*:\s*(?:{_BOUND})?\s*\])?\s*")


@dataclass(frozen=True, slots=True)
class Bound:
    """One end of a slice: a row number or a percentage; negative ones count from the end."""

    value: int
    is_percent: bool

    def row(self, n_rows: int) -> int:
        """The row at which it cuts; a percentage goes to the nearest row, as ``datasets`` does."""
        row = round(self.value * n_rows / 100) if self.is_percent else self.value
        return max(row + n_rows, 0) if row < 0 else min(row, n_rows)


@dataclass(frozen=True, slots=True)
class Slice:
    """Rows ``start`` to ``stop`` of a split; None is its own end."""

    split: str
    start: Bound | None = None
    stop: Bound | None = None

    @property
    def needs_count(self) -> bool:
        """Whether the rows must be counted before the first can be given."""
        bounds = [bound for bound in (self.start, self.stop) if bound is not None]
        return any(bound.is_percent or bound.value < 0 for bound in bounds)

    def take(self, open_rows: Callable[[], Iterator[T]]) -> Iterator[T]:
        """The slice's rows of those that ``open_rows`` gives; they may be read twice."""
        if self.needs_count:
            n_rows = sum(1 for _ in open_rows())
            start = self.start.row(n_rows) if self.start else 0
            stop = self.stop.row(n_rows) if self.stop else n_rows
            return islice(open_rows(), start, max(stop, start))
        start = self.start.value if self.start else 0
        if self.stop is None:
            return islice(open_rows(), start, None)
        return islice(open_rows(), start, max(self.stop.value, start))

    def __str__(self) -> str:
        if self.start is None and self.stop is None:
            return self.split
        ends = [f"{b.value}{'%' * b.is_percent}" if b else "" for b in (self.start, self.stop)]
        return f"{self.split}[{':'.join(ends)}]"


def parse_split(text: str | None) -> tuple[Slice, ...]:
    """The slices that a ``split`` asks for, in order; all of ``train`` where it asks for nothing.

    Raises:
        DataError: it cannot be read.
    """
    return tuple(_parse_part(part, text) for part in text.split("+")) if text else (Slice("train"),)


def _parse_part(part: str, text: str) -> Slice:
    match = _PART.fullmatch(part)
    if match is None:
        raise DataError(
            f"`split: {text}` cannot be read",
            hint="write it like `train`, `train[:10%]`, `train[100:200]` or `train+test[:50]`",
            where=f"split: {text}",
        )
    name, start, start_percent, stop, stop_percent = match.groups()
    bounds = [
        Bound(int(value), bool(percent)) if value is not None else None
        for value, percent in ((start, start_percent), (stop, stop_percent))
    ]
    for bound in bounds:
        if bound is not None and bound.is_percent and abs(bound.value) > 100:
            raise DataError(
                f"`split: {text}` asks for {bound.value} percent",
                hint="percentages go from -100 to 100",
                where=f"split: {text}",
            )
    return Slice(name, bounds[0], bounds[1])


def split_word(path: Path) -> str | None:
    """The split that a file's name, or the nearest folder's that does, speaks of."""
    for part in reversed(path.parts):
        words = re.split(r"[^a-z]+", part.lower())
        for split, spellings in _SPLIT_WORDS.items():
            if any(word in spellings for word in words):
                return split
    return None
