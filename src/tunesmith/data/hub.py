"""Data sets that are not files of ours to read: saved by ``datasets``, on the hub, in memory.

What a repository says of itself is looked at before it is followed: which reader it asks for, and
which files. Rows are taken as they are stored: nothing that a row names is opened or decoded.

The library takes 1.5 s of CPU to import, which a run on local files need not pay; so it is imported
where it is used. It does not import torch.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunesmith.config.data import DatasetEntry
from tunesmith.data.inside import why_outside
from tunesmith.data.jsonrow import Row, refuse_nul
from tunesmith.data.records import RowError
from tunesmith.data.splits import Slice, split_word
from tunesmith.errors import DataError, ExitCode
from tunesmith.log import get_logger

if TYPE_CHECKING:
    from datasets import Dataset

_ROWS = 512
_COMMIT = re.compile("[0-9a-f]{40}")

_READERS = frozenset({"arrow", "cache", "csv", "json", "parquet", "text"})
"""The library's readers that are used; others unpickle, unpack, or follow paths in rows."""


log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class SavedRows:
    """Data sets that lie in arrow ``files``, and the slices of them that are wanted.

    ``commit`` is the hub's; None for what was saved here.
    """

    files: tuple[Path, ...]
    parts: tuple[tuple[Slice, Dataset], ...]
    commit: str | None = None

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
    commit: str | None = None

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
        DataError: it cannot be loaded, or has no such split; exit code 8, it names files outside of
            itself.
    """
    from datasets import DatasetDict, load_from_disk

    _screen_saved(path)
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
    splits = dict.fromkeys(dict.fromkeys(names), loaded)
    return _choose(str(path), splits, slices)


def _screen_saved(folder: Path) -> None:
    """Refuse a saved data set that leads out of its folder."""
    parts = [""]
    if (folder / "dataset_dict.json").is_file():
        parts = [f"{split}/" for split in _json_list(folder, "dataset_dict.json", "splits")]
    for part in parts:
        for file in ("state.json", "dataset_info.json"):
            _require_inside(folder, f"{part}{file}")
        for item in _json_list(folder, f"{part}state.json", "_data_files"):
            name = str(item.get("filename") if isinstance(item, dict) else item)
            _require_inside(folder, name if name.startswith("/") else f"{part}{name}")


def _require_inside(folder: Path, name: str) -> None:
    if (reason := why_outside(folder, name)) is not None:
        raise _unsafe(str(folder), f"it names {name!r}, and {reason}")


def _json_list(folder: Path, file: str, key: str) -> list[Any]:
    _require_inside(folder, file)
    try:
        content = json.loads((folder / file).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []  # the library says what is wrong with it
    found = content.get(key) if isinstance(content, dict) else None
    return found if isinstance(found, list) else []


def open_hub(entry: DatasetEntry, slices: tuple[Slice, ...]) -> SavedRows:
    """The entry's data set from the hub, downloaded into the library's own cache.

    All of it is of one commit, which is asked for once.

    Raises:
        DataError: the hub has no such data set, or cannot be reached; exit code 8, it asks for a
            reader that is not used here, or for files of another repository.
    """
    from datasets.exceptions import DatasetsError

    try:
        with _quiet_retries():
            commit = _commit(entry)
            builder = _kept(entry) if commit is None else _builder(entry, commit)
            _screen_builder(entry, builder, commit)
            builder.download_and_prepare()
            splits = builder.as_dataset()
    except (OSError, ValueError, RuntimeError, DatasetsError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(
            f"{entry.path} is neither a file or folder here ({Path(entry.path).absolute()}) nor a "
            "data set that the hub gives: "
            f"{reason[:300]}",
            hint="correct `path`, `name` or `revision`, or look at the network; `HF_TOKEN` opens "
            "private data sets",
            where=entry.path,
        ) from error
    return replace(_choose(entry.path, splits, slices), commit=commit or builder.hash)


def _commit(entry: DatasetEntry) -> str | None:
    """The commit that the entry's revision is now; None without a connection, where what was
    fetched before is used.
    """
    from huggingface_hub import HfApi, utils
    from huggingface_hub.errors import OfflineModeIsEnabled

    try:
        return HfApi().dataset_info(entry.path, revision=entry.revision).sha
    except OfflineModeIsEnabled:
        return None
    except utils.httpx.TransportError as error:  # type: ignore[attr-defined]
        log.warning("notice: the hub cannot be reached (%s)", error)
        return None


def _kept(entry: DatasetEntry) -> Any:
    """What reads the data set that was fetched before; its ``hash`` is the commit.

    Raises:
        ValueError: none was fetched, or the latest is not of the commit that the entry names.
    """
    from datasets.packaged_modules.cache.cache import Cache

    name = entry.path.rpartition("/")[2]
    words = {"config_name": entry.name, "data_files": entry.data_files}
    try:
        builder = Cache(repo_id=entry.path, dataset_name=name, version="auto", hash="auto", **words)
    except ValueError as error:
        raise ValueError(f"without a connection to the hub: {error}") from error
    if _COMMIT.fullmatch(entry.revision or "") and builder.hash != entry.revision:
        raise ValueError(f"without a connection, and what was fetched is of {builder.hash}")
    return builder


def _builder(entry: DatasetEntry, commit: str) -> Any:
    """What the library would read the data set with; nothing is read yet."""
    from datasets import load_dataset_builder

    return load_dataset_builder(
        entry.path, name=entry.name, revision=commit, data_files=entry.data_files
    )


def _screen_builder(entry: DatasetEntry, builder: Any, commit: str | None) -> None:
    reader = type(builder).__module__.rpartition(".")[2]
    if reader not in _READERS:
        raise _unsafe(
            entry.path, f"it is read by `{reader}`, and only {', '.join(sorted(_READERS))} are used"
        )
    if entry.data_files is not None or commit is None:
        return  # the user named the files, or they were fetched before
    for files in (builder.config.data_files or {}).values():
        for file in map(str, files):
            if not (file.startswith("hf://datasets/") and f"@{commit}/" in file):
                raise _unsafe(entry.path, f"it names a file that is not its own: {file}")


def _unsafe(name: str, reason: str) -> DataError:
    return DataError(
        f"{name} is refused: {reason}",
        hint="name the files that you trust with `path` and `data_files`",
        where=name,
        exit_code=ExitCode.UNSAFE,
    )


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
    """The rows as they are stored: no column is decoded, so no path in a row is opened."""
    number = 0
    for table in dataset.with_format("arrow").iter(batch_size=_ROWS):
        for row in table.to_pylist():
            number += 1
            yield number, refuse_nul(row)
