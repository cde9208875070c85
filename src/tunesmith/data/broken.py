"""Rows that cannot be used: the first are told, all are counted."""

from __future__ import annotations

from tunesmith.data.records import RowError, Source
from tunesmith.errors import DataError, Problem

TOLD = 20
"""Broken rows that are told one by one."""

ENOUGH = 1000
"""Broken rows after which reading on tells nothing new."""


class BrokenRows:
    """Collects broken rows, so that one run tells them all."""

    def __init__(self) -> None:
        self._found: list[tuple[Source, RowError]] = []

    def __len__(self) -> int:
        return len(self._found)

    @property
    def is_enough(self) -> bool:
        """Whether reading on would tell nothing new."""
        return len(self._found) >= ENOUGH

    def add(self, source: Source, error: RowError) -> None:
        """Note a broken row."""
        self._found.append((source, error))

    def raise_any(self) -> None:
        """Raise when any row is broken.

        Raises:
            DataError: with a problem for each of the first rows, in the order of the data.
        """
        if not self._found:
            return
        problems = self._problems()
        first = problems[0]
        count = f"at least {len(self):,}" if self.is_enough else f"{len(self):,}"
        rows = "row" if len(self) == 1 else "rows"
        told = f"`{first.key}`: {first.message}" if first.key else first.message
        raise DataError(
            f"{count} {rows} cannot be used; the first is {first.place}: {told}",
            hint=first.fix,
            where=first.place,
            problems=problems,
        )

    def _problems(self) -> list[Problem]:
        """A problem for each of the first rows; rows of a file with the same one are told once."""
        alike: dict[tuple[str, str, str], list[tuple[Source, RowError]]] = {}
        for source, error in self._in_order():
            alike.setdefault((source.file, str(error), error.fix), []).append((source, error))
        return [_problem(*rows[0], n_more=len(rows) - 1) for rows in alike.values()][:TOLD]

    def _in_order(self) -> list[tuple[Source, RowError]]:
        """By data set, file in order of appearance, row: workers answer later than formats do."""
        files: dict[str, int] = {}
        for source, _ in self._found:
            files.setdefault(source.file, len(files))

        def place(item: tuple[Source, RowError]) -> tuple[int, int, int]:
            return item[0].dataset, files[item[0].file], item[0].row

        return sorted(self._found, key=place)


def _problem(source: Source, error: RowError, *, n_more: int) -> Problem:
    more = f" (as in {n_more:,} more rows of this file)" if n_more else ""
    return Problem(
        code="row",
        message=f"{error.message}{more}",
        fix=error.fix,
        key=error.field,
        file=source.file,
        line=source.row,
    )
