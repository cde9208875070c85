"""Files whose bytes were changed: all of their rows are in the ledger, or one is named.

What a file holds is judged by plain readers (json, csv, gzip, pyarrow), which share nothing with
ours.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.data.toys import make_tokenizer, request
from tunesmith.config.data import DatasetEntry
from tunesmith.data.prepare import prepare
from tunesmith.errors import DataError

ROWS = [
    {"instruction": "Say é.", "input": "", "output": 'é, "quoted"'},
    {"instruction": "Say b\nand c.", "input": "twice", "output": "b\nc"},
    {"instruction": "Say d.", "input": "", "output": "d, 😀"},
    {"instruction": "Say e.", "input": "", "output": "e"},
]
Change = Callable[[bytes], bytes]


def _csv(separator: str) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(ROWS[0]), delimiter=separator, lineterminator="\n")
    writer.writeheader()
    writer.writerows(ROWS)
    return text.getvalue().encode()


def _parquet() -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(ROWS), sink)
    return sink.getvalue()


LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS).encode()
FILES = {
    "jsonl": LINES,
    "json": json.dumps(ROWS, ensure_ascii=False, indent=1).encode(),
    "jsonl.gz": gzip.compress(LINES, mtime=0),
    "csv": _csv(","),
    "tsv": _csv("\t"),
    "parquet": _parquet(),
}
BYTES = st.binary(min_size=1, max_size=6) | st.sampled_from(
    [b"\n", b"\r", b'"', b"{", b"}", b"[", b"]", b",", b"\x00", b"\xff", b"\xef\xbb\xbf", b"NaN"]
)


@st.composite
def files(draw: st.DrawFn) -> tuple[str, bytes]:
    """The name's ending and the bytes of a file: changed in up to three places, or misnamed."""
    kind = draw(st.sampled_from(sorted(FILES)))
    data = FILES[kind]
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(data)))
        end = min(len(data), at + draw(st.integers(0, 40)))
        how = draw(st.sampled_from(["cut", "drop", "insert", "replace", "repeat"]))
        if how == "cut":
            data = data[:at]
        elif how == "drop":
            data = data[:at] + data[end:]
        elif how == "repeat":
            data = data[:end] + data[at:]
        else:
            left = end if how == "replace" else at
            data = data[:at] + draw(BYTES) + data[left:]
    if draw(st.integers(0, 9)) == 0:
        kind = draw(st.sampled_from(sorted(FILES)))
    return kind, data


def plain_count(kind: str, data: bytes) -> int | None:
    """The rows of a file as plain readers find them; None where they find none of that kind."""
    try:
        if data.startswith(b"\x1f\x8b"):
            data = gzip.decompress(data)
        elif kind.endswith(".gz"):
            return None
        if kind == "parquet":
            return int(pq.read_table(io.BytesIO(data)).num_rows)
        text = data.decode("utf-8-sig")
        if text.lstrip().startswith("["):
            return _rows(json.loads(text))
        if kind.startswith("json"):  # lines are read under either name
            ends = "\n" if "\n" in text else "\r"  # beside line feeds, a return is a blank of JSON
            lines = [line for line in text.split(ends) if line.strip(" \t\r")]
            return sum(isinstance(json.loads(line), dict) for line in lines)
        separator = "\t" if kind == "tsv" else ","
        found = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
        return max(0, sum(bool(cells) for cells in found) - 1)
    except (ValueError, EOFError, OSError, zlib.error, csv.Error, pa.ArrowException):
        return None


def _rows(value: Any) -> int | None:
    return len(value) if isinstance(value, list) else None


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    make_tokenizer(folder / "tokenizer")
    return folder


def check(home: Path, kind: str, data: bytes) -> None:
    """Prepare the file; what comes of it is whole or says where it is wrong."""
    with tempfile.TemporaryDirectory(dir=home) as folder:
        path = Path(folder) / f"rows.{kind}"
        path.write_bytes(data)
        entry = DatasetEntry(path=str(path), type="alpaca")
        asked = request([entry], home, cache_dir=Path(folder) / "cache")
        refused: DataError | None = None
        try:
            prepared = prepare(asked)
        except DataError as error:
            refused = error
        if refused is not None:
            is_named(refused, str(path))
            return
        account = prepared.ledger.accounts[0]
        booked = account.rows_trained + sum(account.rows_dropped.values())
        assert account.rows_in == booked == plain_count(kind, data)


def is_named(error: DataError, path: str) -> None:
    """The error says what to do, and names the file; each of its problems names the row too."""
    assert error.hint
    assert error.exit_code == 2
    if error.message.startswith("nothing is left to train on"):
        return
    assert path in f"{error.where} {error.message}"
    for problem in error.problems:
        assert problem.file == path
        assert problem.line
        assert problem.fix


@settings(max_examples=300, deadline=None)
@given(files())
def test_a_changed_file_is_whole_or_refused(home: Path, drawn: tuple[str, bytes]) -> None:
    check(home, *drawn)


@pytest.mark.slow
@settings(max_examples=10_000, deadline=None)
@given(files())
def test_ten_thousand_changed_files(home: Path, drawn: tuple[str, bytes]) -> None:
    check(home, *drawn)


@pytest.mark.parametrize("kind", FILES)
def test_unchanged_files_are_read_whole(home: Path, kind: str) -> None:
    assert plain_count(kind, FILES[kind]) == len(ROWS)
    check(home, kind, FILES[kind])


@pytest.mark.parametrize("kind", FILES)
def test_every_place_where_a_file_may_be_cut(home: Path, kind: str) -> None:
    data = FILES[kind]
    for end in range(0, len(data), max(1, len(data) // 40)):
        check(home, kind, data[:end])
