"""Rows of several documents through the processes that render one document at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from types import TracebackType
from typing import Any, Final, Protocol, Self

from tunesmith.data.compared import branches_of, compared, steps_of
from tunesmith.data.formats.lint import lint_record
from tunesmith.data.records import (
    Conversation,
    Drawn,
    Judged,
    Lint,
    Preference,
    Record,
    RowError,
    Segments,
    Source,
    Steps,
    Text,
    TokenRecord,
    Tokens,
)
from tunesmith.data.render import RenderedRow, Renderer, RenderSettings
from tunesmith.data.samples import SampleKind, TrainedSample
from tunesmith.data.sandbox import RenderPool
from tunesmith.data.wire import Outcome

READS: Final[Mapping[SampleKind, tuple[type[Record], ...]]] = {
    "tokens": (Text, Segments, Tokens, Drawn, Conversation),
    "pairs": (Preference,),
    "judged": (Judged,),
    "steps": (Steps,),
}
"""The records that become samples of each kind."""

AnyRow = tuple[Source, Record]


@dataclass(frozen=True, slots=True)
class ComparedRow:
    """What a row of several documents became."""

    samples: tuple[TrainedSample, ...]
    lints: tuple[Lint, ...] = ()


AnyOutcome = RenderedRow | ComparedRow | RowError


class Pool(Protocol):
    """Renders rows and hands them back in their order."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    # Rows of the kinds that it was opened for; what others would be is nothing that types can say.
    def render(self, rows: Iterable[Any]) -> Iterator[tuple[AnyRow, AnyOutcome]]:
        """Each row with what became of it."""
        ...


def open_pool(settings: RenderSettings, kind: SampleKind, workers: int) -> Pool:
    """What renders rows to samples of this kind."""
    if kind == "steps":
        return StepPool(settings)
    pool = RenderPool(settings, workers)
    return pool if kind == "tokens" else BranchPool(pool)


class BranchPool:
    """Has each answer of a row rendered by itself, and puts the row together again."""

    def __init__(self, pool: RenderPool) -> None:
        self._pool = pool

    def __enter__(self) -> Self:
        self._pool.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._pool.__exit__(kind, error, trace)

    def render(
        self, rows: Iterable[tuple[Source, Preference | Judged]]
    ) -> Iterator[tuple[AnyRow, AnyOutcome]]:
        """Each row with what became of it, in the order of the rows."""
        waiting: deque[tuple[Source, Preference | Judged]] = deque()

        def branches() -> Iterator[tuple[Source, TokenRecord]]:
            for source, record in rows:
                waiting.append((source, record))
                yield from ((source, branch) for branch in branches_of(record))

        outcomes = (outcome for _, outcome in self._pool.render(branches()))
        for first in outcomes:
            source, record = waiting.popleft()
            others = islice(outcomes, len(branches_of(record)) - 1)
            yield (source, record), _joined(record, source, (first, *others))


class StepPool:
    """Encodes solutions in steps, here: they are texts, and no template is run."""

    def __init__(self, settings: RenderSettings) -> None:
        self._renderer = Renderer(settings)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Nothing: there is no process to end."""

    def render(self, rows: Iterable[tuple[Source, Steps]]) -> Iterator[tuple[AnyRow, AnyOutcome]]:
        """Each row with what became of it, in the order of the rows."""
        renderer = self._renderer
        for source, record in rows:
            try:
                sample = steps_of(renderer.encoder, record, source, renderer.rules.bos_id)
                lints = tuple(replace(lint, source=str(source)) for lint in lint_record(record))
                yield (source, record), ComparedRow((sample,), lints)
            except RowError as error:
                yield (source, record), error


def _joined(
    record: Preference | Judged, source: Source, outcomes: Sequence[Outcome]
) -> ComparedRow | RowError:
    """The row of which these are the answers; one finding of a kind."""
    rendered = []
    for outcome in outcomes:
        if isinstance(outcome, RowError):
            return outcome
        rendered.append(outcome)
    try:
        sample = compared(record, [row.samples for row in rendered])
    except RowError as error:
        return error
    lints = [replace(lint, source=str(source)) for lint in lint_record(record)]
    lints += [lint for row in rendered for lint in row.lints]
    first = {lint.code: lint for lint in reversed(lints)}
    return ComparedRow((sample,), tuple(reversed(first.values())))
