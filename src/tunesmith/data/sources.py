"""A data set entry becomes rows: local files, saved data sets, and the hub.

``locate`` finds out what an entry means without reading rows; ``open_rows`` reads them one after
the other, in the order of the files' names, in bounded memory.
"""

from __future__ import annotations

import glob
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any

from tunesmith.config.data import DatasetEntry
from tunesmith.data.files import COMPRESSIONS, data_suffix
from tunesmith.data.formats.synthetic import synthetic_rows
from tunesmith.data.hub import GivenRows, SavedRows, is_saved, open_hub, open_saved
from tunesmith.data.jsonrow import Row
from tunesmith.data.lines import read_json
from tunesmith.data.records import Lint, RowError, Source
from tunesmith.data.remote import fetch, is_address
from tunesmith.data.selection import ALL_ROWS, Selection
from tunesmith.data.splits import Slice, parse_split, split_word
from tunesmith.data.tables import read_arrow, read_csv, read_parquet, read_text
from tunesmith.errors import DataError
from tunesmith.registry import nearest

Reader = Callable[[Path], Iterator[tuple[int, Row]]]
"""A file -> its rows, each with its line or row number from 1."""

Splits = Mapping[str | None, tuple[Path, ...]]
"""The files of each split; None for those whose names speak of none."""

_READERS: dict[str, Reader] = {
    "json": read_json,
    "jsonl": read_json,
    "csv": read_csv,
    "parquet": read_parquet,
    "arrow": read_arrow,
    "text": read_text,
}
_SUFFIXES = {
    ".json": "json",
    ".jsonl": "json",
    ".ndjson": "json",
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
    ".txt": "text",
}
_TOLD = 5
_METADATA = {"dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json"}
_HUB_ID = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")


@dataclass(frozen=True, slots=True)
class Location:
    """What an entry's path turned out to be: files of one ``kind``, or a ``saved`` data set.

    ``splits`` holds the files of each split; ``saved`` is a folder of ``Dataset.save_to_disk``, a
    data set of the hub, or rows in memory. ``slices`` say which rows of which split are wanted, in
    order. ``selection`` says which of those rows are used. ``left_out`` holds the data files of a
    folder that belong to no wanted split, each with the split that its name speaks of.
    """

    splits: Mapping[str, tuple[Path, ...]]
    kind: str
    slices: tuple[Slice, ...]
    saved: SavedRows | GivenRows | None = None
    selection: Selection = ALL_ROWS
    left_out: tuple[tuple[Path, str | None], ...] = ()

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that hold the wanted rows, each once, in order."""
        if self.saved is not None:
            return self.saved.files
        wanted = (path for part in self.slices for path in self.splits[part.split])
        return tuple(dict.fromkeys(wanted))


def locate(entry: DatasetEntry, seed: int = 42) -> Location:
    """What the entry's ``path``, ``data_files``, ``ds_type`` and ``split`` mean here.

    ``seed`` draws the part of ``shards``.

    Raises:
        DataError: there is no such file, folder, split or data set, or it holds nothing of use.
    """
    return replace(_locate(entry), selection=Selection.of(entry, seed))


def _locate(entry: DatasetEntry) -> Location:
    if entry.type == "_synthetic":
        return given_rows(synthetic_rows(entry))
    path = fetch(entry.path) if is_address(entry.path) else Path(entry.path).expanduser()
    if entry.path in _READERS and not path.exists():
        return _of_files(entry, _named_files(entry, Path()))
    if entry.data_files is not None and path.is_dir():
        return _of_files(entry, _named_files(entry, path))
    slices = parse_split(entry.split)
    if is_saved(path):
        return Location({}, "saved", slices, open_saved(path, slices))
    if path.is_file():
        # A file that somebody names is what they want, whatever the split is called.
        return _of_files(entry, {"train": (path,), split_word(Path(path.name)): (path,)})
    if path.is_dir():
        return _of_folder(entry, _in_folder(entry, path))
    if matches := _glob(path):
        return _of_files(entry, {"train": matches})
    _refuse_missing(entry)
    return Location({}, "hub", slices, open_hub(entry, slices))


def open_rows(
    entry: DatasetEntry, index: int, location: Location | None = None
) -> Iterator[tuple[Source, Row]]:
    """The entry's rows in order, each with its file and row; a broken row is its ``RowError``.

    ``index`` is the entry's number in the config; ``location`` spares looking a second time.

    Raises:
        DataError: as ``locate``; also a file that cannot be read, or no rows, in the files or after
            what the entry's keys leave out.
    """
    where = location or locate(entry)
    return _some(entry, where, where.selection.take(partial(_all_rows, entry, index, where)))


def _some(
    entry: DatasetEntry, where: Location, rows: Iterator[tuple[Source, Row]]
) -> Iterator[tuple[Source, Row]]:
    """The rows, of which there must be one at least."""
    first = next(rows, None)
    if first is None:
        sliced = any(part.start or part.stop for part in where.slices)
        keys = [f"split: {entry.split}"] if sliced else []
        named = ", ".join(f"`{key}`" for key in (*keys, *where.selection.keys()))
        raise DataError(
            f"no rows of {entry.path} are left" + (f" by {named}" if named else ""),
            hint="choose more rows, or take the entry out",
            where=entry.path,
        )
    yield first
    yield from rows


def _all_rows(entry: DatasetEntry, index: int, where: Location) -> Iterator[tuple[Source, Row]]:
    if where.saved is not None:
        for number, row in where.saved.rows():
            yield Source(index, entry.path, number), row
        return
    for part in where.slices:
        yield from part.take(partial(_read, where.splits[part.split], where.kind, index))


def _read(files: tuple[Path, ...], kind: str, index: int) -> Iterator[tuple[Source, Row]]:
    return chain.from_iterable(_read_one(path, kind, index) for path in files)


def _read_one(path: Path, kind: str, index: int) -> Iterator[tuple[Source, Row]]:
    name = str(path)
    for number, row in _READERS[kind](path):
        yield Source(index, name, number), row


def _of_files(entry: DatasetEntry, splits: Splits) -> Location:
    """A location of files, which must be of one kind and hold the splits that are asked for."""
    slices = parse_split(entry.split)
    named = {name: files for name, files in splits.items() if name is not None}
    for part in slices:
        if part.split not in named:
            of_none = [path.name for path in splits.get(None, ())]
            raise DataError(
                f"{entry.path} has no split `{part.split}`",
                hint=f"`split` can be {', '.join(f'`{name}`' for name in sorted(named))}"
                + (f"; {some_names(of_none)} speak of none: `data_files`" if of_none else ""),
                where=entry.path,
            )
    location = Location(named, "", slices)
    kinds = {entry.ds_type or _kind(entry, path): path for path in location.files}
    if len(kinds) > 1:
        found = ", ".join(f"{kind} ({path.name})" for kind, path in sorted(kinds.items()))
        raise DataError(
            f"{entry.path} holds files of several kinds: {found}",
            hint="choose the files with `data_files`, or the kind with `ds_type`",
            where=entry.path,
        )
    return replace(location, kind=next(iter(kinds)))


def _of_folder(entry: DatasetEntry, splits: Splits) -> Location:
    location = _of_files(entry, splits)
    wanted = set(location.files)
    others = [
        (path, split) for split, paths in splits.items() for path in paths if path not in wanted
    ]
    return replace(location, left_out=tuple(sorted(others, key=lambda other: other[0])))


def some_names(names: Sequence[str]) -> str:
    """The first few names, and how many more there are."""
    more = len(names) - _TOLD
    return ", ".join(names[:_TOLD]) + (f" and {more:,} more" if more > 0 else "")


def _kind(entry: DatasetEntry, path: Path) -> str:
    if entry.path in _READERS:
        return entry.path
    kind = _SUFFIXES.get(data_suffix(path))
    if kind is None:
        raise DataError(
            f"{path}: the name does not say what kind of file it is",
            hint=f"set `ds_type` to one of {', '.join(_READERS)}",
            where=str(path),
        )
    return kind


def _named_files(entry: DatasetEntry, folder: Path) -> Splits:
    """The files of each split that ``data_files`` names, inside ``folder``."""
    wanted = entry.data_files if entry.data_files is not None else []
    splits = wanted if isinstance(wanted, dict) else {"train": wanted}
    return {split: _patterns(entry, folder, patterns) for split, patterns in splits.items()}


def _patterns(entry: DatasetEntry, folder: Path, wanted: str | list[str]) -> tuple[Path, ...]:
    """The files that names, patterns or addresses mean, each once."""
    found: list[Path] = []
    for pattern in [wanted] if isinstance(wanted, str) else wanted:
        path = fetch(pattern) if is_address(pattern) else folder / Path(pattern).expanduser()
        matches = (path,) if path.is_file() else _glob(path)
        if is_address(pattern) and path.is_dir():
            matches = tuple(file for file in sorted(path.rglob("*")) if file.is_file())
        if not matches:
            raise DataError(
                f"there is no file {path}",
                hint=_hint_at(path) or "correct `data_files`",
                where=entry.path,
            )
        found += [match for match in matches if match not in found]
    if not found:
        raise DataError(
            f"`path: {entry.path}` needs `data_files`",
            hint="name the files in `data_files`, or write the file as `path`",
            where=entry.path,
        )
    return tuple(found)


def _in_folder(entry: DatasetEntry, folder: Path) -> Splits:
    """The data files of each split inside a folder, at any depth, sorted by name.

    Hidden files are left out. Where no name speaks of a split, all files are ``train``.
    """
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    inside = [path for path in files if _is_data(path.relative_to(folder), entry)]
    if not inside:
        raise DataError(
            f"no data files in the folder {folder}",
            hint=f"it should hold files that end in one of {', '.join(_SUFFIXES)}",
            where=entry.path,
        )
    words = [split_word(path.relative_to(folder)) for path in inside]
    if not any(words):
        return {"train": tuple(inside)}
    return {
        word: tuple(path for path, its in zip(inside, words, strict=True) if its == word)
        for word in dict.fromkeys(words)
    }


def _is_data(path: Path, entry: DatasetEntry) -> bool:
    hidden = any(part.startswith((".", "__")) for part in path.parts)
    kind = _SUFFIXES.get(data_suffix(path))
    of_kind = kind is not None if entry.ds_type is None else kind == _kind_of(entry.ds_type)
    return of_kind and not hidden and path.name not in _METADATA


def _kind_of(ds_type: str) -> str:
    return "json" if ds_type == "jsonl" else ds_type


def _glob(path: Path) -> tuple[Path, ...]:
    if not glob.has_magic(str(path)):
        return ()
    matches = sorted(glob.glob(str(path), recursive=True))
    return tuple(Path(match) for match in matches if Path(match).is_file())


def _refuse_missing(entry: DatasetEntry) -> None:
    """Raise where a file or folder here was meant, so that nobody waits for a network."""
    path = Path(entry.path)
    may_be_hub = _HUB_ID.fullmatch(entry.path) and not _is_file_name(path)
    if may_be_hub and _near(path) is None:
        return
    hint = _hint_at(path) or "paths start from the folder in which the command runs"
    if may_be_hub:
        hint += " A data set of the hub is named by its owner too: `owner/name`"
    raise DataError(
        f"there is no file or folder {entry.path}",
        hint=hint,
        where=entry.path,
    )


def _is_file_name(path: Path) -> bool:
    """Whether the name ends as a data file's does, or nearly so."""
    if any(path.suffix.lower() == kind.suffix for kind in COMPRESSIONS):
        return True
    suffix = data_suffix(path)
    return suffix in _SUFFIXES or (
        suffix[1:].isalpha() and len(suffix) > 3 and nearest(suffix, _SUFFIXES) is not None
    )


def _near(path: Path) -> Path | None:
    """The file or folder of nearly the same name beside the missing one."""
    folder = path.expanduser().parent
    if not folder.is_dir():
        return None
    names = [other.name for other in islice(sorted(folder.iterdir()), 10_000)]
    # Of equally near names the one that begins with the same letter, in the same case.
    names.sort(key=lambda name: name[0] != path.name[:1])
    near = nearest(path.name, names)
    return folder / near if near else None


def _hint_at(path: Path) -> str:
    """A hint at what was meant by a missing path, or ""."""
    folder = path.expanduser().parent
    if not folder.is_dir():
        return f"there is no folder {folder} either"
    near = _near(path)
    return f"did you mean {near}?" if near else ""


def note_of(location: Location, name: str) -> Lint | None:
    """What is odd about where the rows come from: files of the folder that are not read."""
    if not location.left_out:
        return None
    told = [f"{path.name} ({split or 'no split'})" for path, split in location.left_out]
    n_files = len(location.left_out) + len(location.files)
    message = f"{len(told):,} of {n_files:,} files are not read: {some_names(told)}"
    return Lint("left-out-files", message, name)


def given_rows(rows: Sequence[Mapping[str, Any] | RowError]) -> Location:
    """A location of rows that are in memory already."""
    return Location({}, "given", (), GivenRows(rows))
