"""``RunIds``: which run of each service this one is, kept in the run's folder."""

from __future__ import annotations

import json
import threading
from pathlib import Path


class RunIds:
    """Service -> the id that it gave this run, in a file; a run from the start has none.

    A file that cannot be read or written costs the connection to the earlier run and nothing else.
    """

    def __init__(self, path: Path, *, resumed: bool) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._ids: dict[str, str] = _read(path) if resumed else {}

    def get(self, name: str) -> str:
        """The id, "" where there is none."""
        return self._ids.get(name, "")

    def keep(self, name: str, id: str) -> None:
        """Write it down.

        Raises:
            OSError: the file cannot be written.
        """
        if not id:
            return
        with self._lock:
            self._ids[name] = id
            temporary = self.path.with_name(f".{self.path.name}.tmp")
            temporary.write_text(json.dumps(self._ids, indent=2) + "\n", encoding="utf-8")
            temporary.replace(self.path)


def _read(path: Path) -> dict[str, str]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return {str(name): str(id) for name, id in found.items()}
    except (OSError, ValueError, AttributeError):
        return {}
