"""Rows of tables and plain text: csv, parquet, arrow, text. Each row with its number or line."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tunesmith.data.files import MAX_LINE, data_suffix, read_lines
from tunesmith.data.jsonrow import Row, refuse_nul
from tunesmith.data.records import RowError
from tunesmith.errors import DataError

_ROWS = 512
"""Rows that are made Python objects at a time."""

_ARROW_FILE = b"ARROW1"


def read_parquet(path: Path) -> Iterator[tuple[int, Row]]:
    """The rows of a parquet file, numbered from 1, a piece of a row group at a time.

    Raises:
        DataError: the file is no parquet, is cut off, or holds no rows.
    """
    with _arrow_errors(path, "parquet"), pq.ParquetFile(path) as file:
        _need_rows(path, file.metadata.num_rows)
        yield from _rows_of(file.iter_batches(batch_size=_ROWS))


def read_arrow(path: Path) -> Iterator[tuple[int, Row]]:
    """The rows of an arrow file or stream, numbered from 1, memory-mapped.

    Raises:
        DataError: the file is no arrow data, is cut off, or holds no rows.
    """
    with _arrow_errors(path, "arrow"), pa.memory_map(str(path)) as file:
        is_file = file.read(len(_ARROW_FILE)) == _ARROW_FILE
        file.seek(0)
        n_rows = 0
        for n_rows, row in _rows_of(_batches(file, is_file=is_file)):
            yield n_rows, row
        _need_rows(path, n_rows)


def read_csv(path: Path) -> Iterator[tuple[int, Row]]:
    """The rows of a csv or tsv file with the line at which each starts; the header names fields.

    An empty cell is the empty text; line ends inside of quotes become line feeds.

    Raises:
        DataError: the file cannot be read, or has no header or no rows.
    """
    csv.field_size_limit(MAX_LINE)
    separator = "\t" if data_suffix(path) == ".tsv" else ","
    reader = csv.reader(_texts(path), delimiter=separator, strict=True)
    header = _csv_header(path, reader)
    n_rows, line = 0, reader.line_num + 1
    while (cells := _next_cells(reader)) is not None:
        if cells:
            n_rows += 1
            yield line, _csv_row(header, cells)
        line = reader.line_num + 1
    _need_rows(path, n_rows)


def read_text(path: Path) -> Iterator[tuple[int, Row]]:
    """Each line that is not blank, as ``{"text": line}``.

    Raises:
        DataError: the file cannot be read or holds nothing but blanks.
    """
    n_rows = 0
    for line in read_lines(path):
        if line.data.strip():
            n_rows += 1
            yield line.number, _text_row(line.data)
    _need_rows(path, n_rows)


def _text_row(data: bytes) -> Row:
    try:
        return refuse_nul({"text": data.decode("utf-8")})
    except UnicodeDecodeError as error:
        fix = "convert the file to UTF-8, from latin1 say: iconv -f latin1 -t UTF-8"
        return RowError("", f"is not UTF-8 (byte {error.start + 1} of the line)", fix)


def _texts(path: Path) -> Iterator[str]:
    """The file's lines as text, each closed by a line feed."""
    for line in read_lines(path):
        try:
            yield line.data.decode("utf-8") + "\n"
        except UnicodeDecodeError as error:
            raise DataError(
                f"{path}:{line.number} is not UTF-8 (byte {error.start + 1} of the line)",
                hint="convert the file to UTF-8, from latin1 say: iconv -f latin1 -t UTF-8",
                where=f"{path}:{line.number}",
            ) from error


def _csv_header(path: Path, reader: Any) -> list[str]:
    try:
        header: list[str] = next((cells for cells in reader if cells), [])
    except csv.Error as error:
        raise DataError(
            f"{path}:{reader.line_num}: the header cannot be read: {error}",
            hint="write the names of the columns into the first line, separated as the rows are",
            where=f"{path}:{reader.line_num}",
        ) from error
    _need_rows(path, len(header))
    repeated = sorted({name for name in header if header.count(name) > 1})
    if repeated:
        raise DataError(
            f"{path}: the header names `{repeated[0]}` twice",
            hint="give every column its own name",
            where=f"{path}:1",
        )
    return header


def _next_cells(reader: Any) -> list[str] | RowError | None:
    """The next row's cells, or None at the end."""
    try:
        cells: list[str] | None = next(reader, None)
    except csv.Error as error:
        fix = "put a text with quotes, commas or line breaks in quotes, its own quotes twice"
        return RowError("", f"is no csv: {error}", fix)
    return cells


def _csv_row(header: list[str], cells: list[str] | RowError) -> Row:
    if isinstance(cells, RowError):
        return cells
    if len(cells) == len(header):
        return refuse_nul(dict(zip(header, cells, strict=True)))
    fix = "put a text with commas or line breaks in quotes"
    return RowError("", f"has {len(cells)} cells, the header has {len(header)}", fix)


def _batches(file: Any, *, is_file: bool) -> Iterator[Any]:
    if not is_file:
        yield from pa.ipc.open_stream(file)
        return
    reader = pa.ipc.open_file(file)
    for number in range(reader.num_record_batches):
        yield reader.get_batch(number)


def _rows_of(batches: Iterable[Any]) -> Iterator[tuple[int, Row]]:
    number = 0
    for batch in batches:
        for start in range(0, batch.num_rows, _ROWS):
            for row in batch.slice(start, _ROWS).to_pylist():
                number += 1
                yield number, refuse_nul(row)


def _need_rows(path: Path, n_rows: int) -> None:
    if n_rows == 0:
        raise DataError(
            f"no rows in {path}", hint="point `path` to a file with rows", where=str(path)
        )


@contextmanager
def _arrow_errors(path: Path, kind: str) -> Iterator[None]:
    """Arrow's errors as ours."""
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(
            f"{path} is no whole {kind} file: {reason}",
            hint=f"copy or download it again; set `ds_type` if it is no {kind}",
            where=str(path),
        ) from error
