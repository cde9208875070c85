"""Which files this process opens: an audit hook, since every way to open one ends there."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_listening: list[set[str]] = []


def _hear(event: str, arguments: tuple[object, ...]) -> None:
    if event == "open" and _listening and isinstance(arguments[0], str | bytes):
        path = os.path.abspath(os.fsdecode(arguments[0]))
        for heard in _listening:
            heard.add(path)


sys.addaudithook(_hear)  # for good: a hook cannot be taken away


class Opens:
    """The paths that are opened inside of ``with opens.heard() as paths``."""

    @contextmanager
    def heard(self) -> Iterator[set[str]]:
        paths: set[str] = set()
        _listening.append(paths)
        try:
            yield paths
        finally:
            _listening.remove(paths)

    @staticmethod
    def inside(paths: set[str], folder: Path) -> list[str]:
        return sorted(path for path in paths if Path(path).is_relative_to(folder))
