"""What lies in a cache of prepared data: listed, verified, and cleared away."""

from __future__ import annotations

import fcntl
import json
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tunesmith.data.facts import PREPARED, SET, SHARD, damaged, read_facts
from tunesmith.data.fingerprint import Recipe
from tunesmith.data.prepare import SETS
from tunesmith.data.shards import damaged_set
from tunesmith.data.store import LOCK, UNFINISHED
from tunesmith.data.windows import STREAMS

Kind = Literal["prepared", "set", "stream", "unfinished"]


@dataclass(frozen=True, slots=True)
class Entry:
    """One folder of the cache: ``size`` in bytes, ``used`` in seconds since 1970.

    ``names`` are the data sets in it; ``needs`` the rendered sets that it draws on. ``is_whole`` is
    false where files are missing or of an older layout.
    """

    kind: Kind
    path: Path
    size: int
    used: float
    names: tuple[str, ...]
    needs: tuple[str, ...]
    is_whole: bool

    @property
    def key(self) -> str:
        """The folder's name, which is the hash of its recipe."""
        return self.path.name.removesuffix(UNFINISHED)


@dataclass(frozen=True, slots=True)
class Limits:
    """What may stay: not used for ``age`` seconds at most, ``size`` bytes in all at most."""

    age: float | None = None
    size: int | None = None


def entries(cache_dir: Path) -> list[Entry]:
    """Everything in the cache, the most recently used first."""
    found = [_prepared(path) for path in _folders(cache_dir) if path.name not in (SETS, STREAMS)]
    found += [_set(path) for path in _folders(cache_dir / SETS)]
    found += [_stream(path) for path in _folders(cache_dir / STREAMS)]
    return sorted(found, key=lambda entry: (-entry.used, str(entry.path)))


def recipes(cache_dir: Path, kind: Kind) -> dict[str, Recipe]:
    """Key -> recipe of the whole entries of a kind, the most recently used first."""
    name = SET if kind == "set" else PREPARED
    found: dict[str, Recipe] = {}
    for entry in entries(cache_dir):
        if entry.kind == kind and entry.is_whole and (facts := read_facts(entry.path, name)):
            found[entry.key] = facts["recipe"]
    return found


def verify(cache_dir: Path) -> list[Path]:
    """The files whose bytes are not the ones that were written; unfinished builds are left out."""
    wrong: list[Path] = []
    for entry in entries(cache_dir):
        if entry.kind == "prepared":
            wrong += damaged(entry.path, PREPARED)
        elif entry.kind == "set":
            wrong += damaged_set(entry.path)
        elif entry.kind == "stream":
            for window in _windows(entry.path):
                wrong += damaged(window, PREPARED)
                facts = read_facts(window, PREPARED)
                shards = facts["shards"] if facts else []
                wrong += [file for shard in shards for file in damaged(window / shard, SHARD)]
    return wrong


def collect(cache_dir: Path, limits: Limits, now: float, *, dry_run: bool = False) -> list[Entry]:
    """Remove what is of no use, then what the limits do not allow; returns what was removed.

    Of no use are unfinished builds, what is not whole, and rendered sets that no prepared folder
    draws on and that were not used for a day. Beyond the limits goes what was used longest ago.
    What a process builds at this moment stays.
    """
    present = entries(cache_dir)
    going = _garbage(present, now)
    if limits.age is not None:
        going += [
            entry
            for entry in present
            if entry.kind != "unfinished" and _is_old(entry, limits.age, now)
        ]
    if limits.size is not None:
        going += _beyond([entry for entry in present if entry not in going], limits.size)
    removed = []
    for entry in dict.fromkeys(_with_dependents(present, going)):
        with _unless_locked(entry) as is_free:
            if is_free:
                removed.append(entry)
                if not dry_run:
                    shutil.rmtree(entry.path, ignore_errors=True)
    return removed


_DAY = 86_400.0


def _garbage(present: list[Entry], now: float) -> list[Entry]:
    needed = {key for entry in present for key in entry.needs}
    return [
        entry
        for entry in present
        if not entry.is_whole
        or (entry.kind == "set" and entry.key not in needed and _is_old(entry, _DAY, now))
    ]


def _is_old(entry: Entry, age: float, now: float) -> bool:
    return now - entry.used > age


def _beyond(present: Iterable[Entry], size: int) -> list[Entry]:
    """The entries that were used longest ago, until the others are no larger than ``size``."""
    left, going = sorted(present, key=lambda entry: entry.used), []
    total = sum(entry.size for entry in left)
    for entry in left:
        if total <= size:
            break
        going.append(entry)
        total -= entry.size
    return going


def _with_dependents(present: list[Entry], going: list[Entry]) -> Iterator[Entry]:
    """Prepared folders are of no use without their sets, so they go first."""
    keys = {entry.key for entry in going if entry.kind == "set"}
    yield from (entry for entry in present if keys & set(entry.needs))
    yield from going


@contextmanager
def _unless_locked(entry: Entry) -> Iterator[bool]:
    """Hold the entry's lock; False where a process builds it now. Locks themselves stay: removing
    one would let two processes hold "the" lock.
    """
    path = entry.path.with_name(entry.key + LOCK)
    with path.open("a", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []


def _windows(folder: Path) -> list[Path]:
    return [path for path in _folders(folder) if not path.name.endswith(UNFINISHED)]


def _prepared(path: Path) -> Entry:
    facts = read_facts(path, PREPARED)
    if facts is None or path.name.endswith(UNFINISHED):
        return _remains(path)
    needs = {Path(shard).parent.name for shard in facts["shards"]}
    is_whole = all(read_facts(path / shard, SHARD) is not None for shard in facts["shards"])
    names = tuple(_name(recipe) for recipe in facts["recipe"].get("datasets", ()))
    used = (path / PREPARED).stat().st_mtime
    return Entry("prepared", path, _size(path), used, names, tuple(sorted(needs)), is_whole)


def _set(path: Path) -> Entry:
    facts = read_facts(path, SET)
    if facts is None or path.name.endswith(UNFINISHED):
        return _remains(path)
    is_whole = all(read_facts(path / shard, SHARD) is not None for shard in facts["shards"])
    used = (path / SET).stat().st_mtime
    return Entry("set", path, _size(path), used, (_name(facts["recipe"]),), (), is_whole)


def _stream(path: Path) -> Entry:
    windows = _windows(path)
    names: tuple[str, ...] = ()
    with suppress(OSError, ValueError, KeyError, IndexError):
        ledger = json.loads((windows[0] / "ledger.json").read_text(encoding="utf-8"))
        names = tuple(account["name"] for account in ledger["datasets"])
    return Entry("stream", path, _size(path), path.stat().st_mtime, names, (), is_whole=True)


def _remains(path: Path) -> Entry:
    return Entry("unfinished", path, _size(path), path.stat().st_mtime, (), (), is_whole=False)


def _name(recipe: Any) -> str:
    return str(recipe["entry"]["path"])


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
