"""``_synthetic``: rows of random ids, to try speed and memory without any data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tunesmith.config.data import DatasetEntry
from tunesmith.data.formats.fields import is_whole, kind_of, need
from tunesmith.data.formats.options import FormatOptions
from tunesmith.data.records import Drawn, RowError


def synthetic_rows(entry: DatasetEntry) -> list[dict[str, Any]]:
    """The rows that the entry asks for; its ``path`` is only a name."""
    drawn = {
        "length": entry.sequence_length,
        "low": entry.min_input_id,
        "high": entry.max_input_id,
        "seed": entry.seed,
    }
    return [{**drawn, "number": number} for number in range(entry.length)]


def read_synthetic(row: Mapping[str, Any], options: FormatOptions) -> Drawn:
    """What is drawn for one of the rows of ``synthetic_rows``.

    Raises:
        RowError: the row is none of these.
    """
    numbers = {name: need(row, name, "") for name in ("low", "seed", "number")}
    numbers |= {name: row[name] for name in ("length", "high") if row.get(name) is not None}
    for name, value in numbers.items():
        if not is_whole(value) or value < 0:
            fix = "`_synthetic` draws its own rows: leave the data out"
            raise RowError(name, f"is {kind_of(value)}, want a whole number", fix)
    return Drawn(
        numbers.get("length"),
        numbers["low"],
        numbers.get("high"),
        numbers["seed"],
        numbers["number"],
    )
