"""The bytes and lines of a data file, whatever it is compressed with, in bounded memory.

What a file is compressed with is decided by its first bytes; a name that promises a compression
which the bytes do not have is refused.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pyarrow as pa

from tunesmith.errors import DataError

CHUNK = 1 << 20
"""Bytes that are read at a time."""

MAX_LINE = 1 << 28
"""A longer line (256 MiB) is refused: it is a file without line ends, not a row."""


def _open_zstd(path: Path) -> IO[bytes]:
    return pa.CompressedInputStream(pa.OSFile(str(path)), "zstd")  # type: ignore[no-any-return]


@dataclass(frozen=True, slots=True)
class Compression:
    """One way to compress: its name, the suffix that promises it, its first bytes, its reader."""

    name: str
    suffix: str
    magic: bytes
    open: Callable[[Path], Any]


COMPRESSIONS = (
    Compression("gzip", ".gz", b"\x1f\x8b", gzip.open),
    Compression("Zstandard", ".zst", b"\x28\xb5\x2f\xfd", _open_zstd),
    Compression("bzip2", ".bz2", b"BZh", bz2.open),
    Compression("xz", ".xz", b"\xfd7zXZ\x00", lzma.open),
)

_OTHER_ENCODINGS = (
    # UTF-32 first: its little-endian mark begins with that of UTF-16.
    (b"\xff\xfe\x00\x00", "UTF-32"),
    (b"\x00\x00\xfe\xff", "UTF-32"),
    (b"\xff\xfe", "UTF-16"),
    (b"\xfe\xff", "UTF-16"),
)


@dataclass(frozen=True, slots=True)
class Line:
    """One line without its end: its number from 1, the byte at which it starts, its bytes.

    ``is_open`` is true for a last line that no line end closes.
    """

    number: int
    offset: int
    data: bytes
    is_open: bool


def data_suffix(path: Path) -> str:
    """The suffix in lower case that says what is inside, a compression's left out (``.jsonl``)."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and any(suffixes[-1] == kind.suffix for kind in COMPRESSIONS):
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def read_chunks(path: Path) -> Iterator[bytes]:
    """The file's bytes, decompressed, a chunk at a time and never an empty one.

    Raises:
        DataError: the file cannot be read, is cut off, or is not what its name promises.
    """
    try:
        with _open(path) as stream:
            while chunk := stream.read(CHUNK):
                yield chunk
    except EOFError as error:
        raise DataError(
            f"{path} is cut off: the compressed data ends in the middle",
            hint="copy or download the file again",
            where=str(path),
        ) from error
    except (OSError, zlib.error, lzma.LZMAError, pa.ArrowException) as error:
        raise DataError(
            f"{path} cannot be read: {_one_line(error)}",
            hint="copy or download the file again, and look at its permissions",
            where=str(path),
        ) from error


def read_lines(path: Path) -> Iterator[Line]:
    r"""The file's lines, split at ``\n``, ``\r\n``, or at ``\r`` where a file has nothing else.

    No other character ends a line. A UTF-8 byte order mark is left out.

    Raises:
        DataError: as ``read_chunks``; also another encoding's mark, or a line without an end.
    """
    end, number, offset = b"", 0, 0
    pieces: list[bytes] = []
    for chunk in read_chunks(path):
        if not end:
            end = b"\r" if b"\n" not in chunk and b"\r" in chunk[:-1] else b"\n"
            offset = _mark_length(path, chunk)
            chunk = chunk[offset:]
        first, *others = chunk.split(end)
        pieces.append(first)
        for following in others:
            data = b"".join(pieces)
            number += 1
            yield Line(number, offset, data.removesuffix(b"\r"), is_open=False)
            offset += len(data) + 1
            pieces = [following]
        if sum(map(len, pieces)) > MAX_LINE:
            raise DataError(
                f"{path}:{number + 1} is longer than {MAX_LINE >> 20} MiB",
                hint="write one row on each line",
                where=f"{path}:{number + 1}",
            )
    if data := b"".join(pieces):
        yield Line(number + 1, offset, data, is_open=True)


def _open(path: Path) -> Any:
    """The open file; a name that promises a compression must have its first bytes."""
    with path.open("rb") as plain:
        head = plain.read(8)
    for kind in COMPRESSIONS:
        if head.startswith(kind.magic):
            return kind.open(path)
        if path.suffix.lower() == kind.suffix:
            raise DataError(
                f"{path} is not {kind.name} data, as its name says",
                hint=f"rename it without `{kind.suffix}`, or compress it",
                where=str(path),
            )
    return path.open("rb")


def _mark_length(path: Path, head: bytes) -> int:
    """How many bytes of byte order mark the file begins with; other encodings are refused."""
    for mark, name in _OTHER_ENCODINGS:
        if head.startswith(mark):
            raise DataError(
                f"{path} is {name}, not UTF-8",
                hint=f"convert it: iconv -f {name} -t UTF-8 {path}",
                where=str(path),
            )
    return 3 if head.startswith(b"\xef\xbb\xbf") else 0


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
