"""Data sets that are not files of ours to read: saved by ``datasets``, on the hub, in memory.

The library takes 1.5 s of CPU to import, which a run on local files need not pay; so it is imported
where it is used. It does not import torch.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunesmith.config.data import DatasetEntry
from tunesmith.data.jsonrow import Row, refuse_nul
from tunesmith.data.records import RowError
from tunesmith.data.splits import Slice, split_word
from tunesmith.errors import DataError

if TYPE_CHECKING:
    from datasets import Dataset

_ROWS = 512


@dataclass(frozen=True, slots=True)
class SavedRows:
    """Data sets that lie in arrow ``files``, and the slices of them that are wanted."""

    files: tuple[Path, ...]
    parts: tuple[tuple[Slice, Dataset], ...]

    def rows(self) -> Iterator[tuple[int, Row]]:
        """The rows in order, each with its number in its split, from 1."""
        for part, dataset in self.parts:
            yield from part.take(lambda dataset=dataset: _numbered(dataset))  # type: ignore[misc]

    def digest(self) -> str:
        """Which splits and slices are wanted; the bytes are those of ``files``."""
        return "+".join(str(part) for part, _ in self.parts)


@dataclass(frozen=True, slots=True)
class GivenRows:
    """Rows, or why they are none, that somebody handed over as objects; they lie in no file."""

    given: Sequence[Mapping[str, Any] | RowError]
    files: tuple[Path, ...] = ()

    def rows(self) -> Iterator[tuple[int, Row]]:
        """The rows in order, numbered from 1."""
        for number, row in enumerate(self.given, start=1):
            yield number, row if isinstance(row, RowError) else refuse_nul(row)

    def digest(self) -> str:
        """SHA-256 of the rows as JSON.

        Raises:
            DataError: a row is no JSON.
        """
        found = sha256()
        for number, row in enumerate(self.given, start=1):
            try:
                plain = str(row) if isinstance(row, RowError) else row
                text = json.dumps(plain, sort_keys=True, ensure_ascii=False, allow_nan=False)
                found.update(text.encode() + b"\n")
            except (TypeError, ValueError, RecursionError) as error:
                raise DataError(
                    f"row {number} of the given data cannot be written as JSON: {error}",
                    hint="give rows of texts, numbers, lists and objects",
                    where=f"data:{number}",
                ) from error
        return found.hexdigest()


def is_saved(path: Path) -> bool:
    """Whether the folder was written by ``Dataset.save_to_disk`` (one split or several)."""
    one = (path / "state.json").is_file() and (path / "dataset_info.json").is_file()
    return one or (path / "dataset_dict.json").is_file()


def open_saved(path: Path, slices: tuple[Slice, ...]) -> SavedRows:
    """The data set of a folder that ``save_to_disk`` wrote.

    A folder of one split is ``train``, and also the split that its name or the library speaks of.

    Raises:
        DataError: it cannot be loaded, or has no such split.
    """
    from datasets import DatasetDict, load_from_disk

    try:
        loaded = load_from_disk(str(path))
    except (OSError, ValueError, KeyError) as error:
        raise DataError(
            f"{path} cannot be loaded as a saved data set: {error}",
            hint="save it again with `save_to_disk`",
            where=str(path),
        ) from error
    if isinstance(loaded, DatasetDict):
        return _choose(str(path), loaded, slices)
    names = ("train", str(loaded.split or "train"), split_word(Path(path.name)) or "train")
    splits = dict.fromkeys(names, loaded)
    return _choose(str(path), splits, slices)


def open_hub(entry: DatasetEntry, slices: tuple[Slice, ...]) -> SavedRows:
    """The entry's data set from the hub, downloaded into the library's own cache.

    Raises:
        DataError: the hub has no such data set, or cannot be reached.
    """
    from datasets import load_dataset
    from datasets.exceptions import DatasetsError

    try:
        with _quiet_retries():
            splits = load_dataset(
                entry.path, name=entry.name, revision=entry.revision, data_files=entry.data_files
            )
    except (OSError, ValueError, DatasetsError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(
            f"{entry.path} is neither a file or folder here nor a data set that the hub gives: "
            f"{reason[:300]}",
            hint="correct `path`, `name` or `revision`, or look at the network; `HF_TOKEN` opens "
            "private data sets",
            where=entry.path,
        ) from error
    return _choose(entry.path, splits, slices)


@contextmanager
def _quiet_retries() -> Iterator[None]:
    """No warning for each try that fails: what came of all of them is told once, at the end."""
    logger = logging.getLogger("huggingface_hub")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _choose(name: str, splits: Any, slices: tuple[Slice, ...]) -> SavedRows:
    parts = []
    for part in slices:
        if part.split not in splits:
            found = ", ".join(f"`{split}`" for split in splits)
            raise DataError(
                f"{name} has no split `{part.split}`", hint=f"`split` can be {found}", where=name
            )
        parts.append((part, splits[part.split]))
    if not any(dataset.num_rows for _, dataset in parts):
        raise DataError(f"no rows in {name}", hint="choose another `split`", where=name)
    files = {Path(file["filename"]): None for _, data in parts for file in data.cache_files}
    return SavedRows(tuple(files), tuple(parts))


def _numbered(dataset: Dataset) -> Iterator[tuple[int, Row]]:
    number = 0
    for columns in dataset.iter(batch_size=_ROWS):
        names = list(columns)
        for values in zip(*columns.values(), strict=True):
            number += 1
            yield number, refuse_nul(dict(zip(names, values, strict=True)))
