"""Names that somebody else wrote stay inside the folder that they were read from."""

from __future__ import annotations

import stat
from pathlib import Path, PurePosixPath, PureWindowsPath


def why_outside(folder: Path, name: object) -> str | None:
    """Why the file that data calls ``name`` must not be opened in ``folder``; None where it may.

    A name is relative, without ``..``, and leads, links followed, to a plain file inside of the
    folder. The hub's own cache keeps files behind links, in ``blobs`` beside ``snapshots``: those
    are inside. A file that is not there is no matter of safety.
    """
    if not isinstance(name, str) or not name:
        return "it is no name"
    if "\0" in name:
        return "it holds a NUL"
    if PurePosixPath(name).is_absolute() or PureWindowsPath(name).drive or name.startswith("\\"):
        return "it is an absolute path"
    if ".." in PurePosixPath(name).parts or ".." in PureWindowsPath(name).parts:
        return "it leads out of the folder"
    path = folder / name
    if not any(path.resolve().is_relative_to(root) for root in _roots(folder)):
        return "it is a link that leads out of the folder"
    if path.exists() and not stat.S_ISREG(path.stat().st_mode):
        return "it is not a plain file"
    return None


def _roots(folder: Path) -> list[Path]:
    root = folder.resolve()
    for snapshot in (root, *root.parents):
        if snapshot.parent.name == "snapshots":
            blobs = snapshot.parent.parent / "blobs"
            return [root] if blobs.is_symlink() else [root, blobs]
    return [root]
