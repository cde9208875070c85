"""Files at an address (``s3://``, ``gs://``, ``az://``, ``https://``): copied once into the cache.

fsspec speaks to the store, with the credentials that the environment holds. A copy is known by what
the store says of the file (size, ETag, time of change), so that a changed file is copied again.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from fsspec.core import url_to_fs

from tunesmith.data.store import build_once
from tunesmith.errors import DataError

T = TypeVar("T")

ATTEMPTS = 3
"""Tries of one request; between them we wait longer each time."""

_WAIT_SECONDS = 2.0

_EXTRAS = {
    **dict.fromkeys(("s3", "s3a"), "s3"),
    **dict.fromkeys(("gs", "gcs"), "gs"),
    **dict.fromkeys(("az", "abfs", "abfss", "adl"), "az"),
    **dict.fromkeys(("http", "https"), "http"),
}
"""Protocol -> the extra of ours that installs what fsspec needs for it."""

_FINAL = (FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError)
"""What trying again does not mend."""


def is_address(path: str) -> bool:
    """Whether a path is an address and not a name on this machine."""
    return "://" in path


def fetch(address: str) -> Path:
    """The local copy of a file, or of a folder or pattern with all files in it.

    Raises:
        DataError: the store's library is missing, there is no such file, or it cannot be read.
    """
    from tunesmith.dist.runtime import cache_dir  # imports torch, which local files need not pay

    files, root, is_file = _list(address)
    about = [[name, json.dumps(info, sort_keys=True, default=str)] for name, info in files.items()]
    digest = hashlib.sha256(json.dumps([address, about]).encode()).hexdigest()[:32]
    folder = cache_dir() / "remote" / digest

    def build(unfinished: Path) -> None:
        system = _open(address)[0]
        for name in files:
            target = unfinished / _inside(name, root)
            target.parent.mkdir(parents=True, exist_ok=True)
            _try(address, lambda name=name, target=target: system.get_file(name, str(target)))  # type: ignore[misc]

    build_once(folder, is_whole=Path.is_dir, build=build, waiting=lambda: None)
    return folder / _inside(next(iter(files)), root) if is_file else folder


def _open(address: str) -> tuple[Any, str]:
    """The file system of an address, and the path in it."""
    protocol = address.split("://")[0]
    try:
        system, path = url_to_fs(address)
    except ImportError as error:
        extra = _EXTRAS.get(protocol)
        what = f"pip install 'tunesmith[{extra}]'" if extra else str(error)
        raise DataError(
            f"{address}: what reads {protocol}:// is not installed", hint=what, where=address
        ) from error
    except ValueError as error:
        raise DataError(
            f"{address}: {error}",
            hint="write a path, a hub id, or an address such as s3://bucket/rows.jsonl",
            where=address,
        ) from error
    return system, path


def _list(address: str) -> tuple[dict[str, Any], str, bool]:
    """The files at an address with what is known of each; their folder; whether it is one file."""
    system, path = _open(address)
    is_web = address.startswith(("http://", "https://"))
    if any(mark in path for mark in "*[") and not is_web:
        names = sorted(_try(address, lambda: system.glob(path)))
        root, is_file = path[: min(path.find(mark) for mark in "*[" if mark in path)], False
    elif is_web or _try(address, lambda: system.isfile(path)):
        names, root, is_file = [path], path, True
    else:
        names, root, is_file = sorted(_try(address, lambda: system.find(path))), path, False
    if not names:
        raise DataError(
            f"there is no file at {address}",
            hint="correct the address; credentials come from the environment",
            where=address,
        )
    infos = {name: _try(address, lambda name=name: system.info(name)) for name in names}  # type: ignore[misc]
    return infos, root.rsplit("/", 1)[0] if is_file or not root.endswith("/") else root, is_file


def _inside(name: str, root: str) -> str:
    """Where a file lies in its copy's folder: never outside of it."""
    relative = name.removeprefix(root.rstrip("/")).lstrip("/").split("?")[0]
    parts = [part for part in PurePosixPath(relative).parts if part not in ("..", "/")]
    return "/".join(parts) or "data"


def _try(address: str, ask: Callable[[], T]) -> T:
    """What a request answers, tried again where the network may be to blame."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return ask()
        # The libraries below raise errors of their own making, with no common ancestor.
        except Exception as error:
            if attempt < ATTEMPTS and not isinstance(error, _FINAL):
                time.sleep(_WAIT_SECONDS * attempt)
                continue
            reason = " ".join(str(error).split()) or type(error).__name__
            raise DataError(
                f"{address} cannot be read: {reason[:300]}",
                hint="correct the address, or look at the network and the credentials in the "
                "environment",
                where=address,
            ) from error
    raise AssertionError("the last attempt returns or raises")
