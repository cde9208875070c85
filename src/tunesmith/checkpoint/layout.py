"""Names on disk, the manifest, the newest valid checkpoint, and which ones stay."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunesmith.checkpoint.durable import force_to_disk, write_text
from tunesmith.log import get_logger

MANIFEST = "manifest.json"
STATE = "state.json"
OPTIMIZER = Path("state", "optimizer.safetensors")
VERSION = 1

_NAME = re.compile(r"checkpoint-(\d+)")
log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Damage:
    """A checkpoint that cannot be used, and every reason found."""

    path: Path
    reasons: tuple[str, ...]

    def __str__(self) -> str:
        """One line for people."""
        return f"{self.path.name}: {'; '.join(self.reasons)}"


@dataclass(frozen=True, slots=True)
class Survey:
    """What an output directory holds: the newest valid checkpoint, and newer ones that are not."""

    newest: Path | None
    damaged: tuple[Damage, ...]


def checkpoint_path(output_dir: Path, step: int) -> Path:
    """Where the checkpoint after ``step`` optimizer steps lies."""
    return output_dir / f"checkpoint-{step}"


def partial_path(output_dir: Path, step: int) -> Path:
    """Where it is written until it is whole."""
    return output_dir / f".checkpoint-{step}.partial"


def step_of(path: Path) -> int:
    """The step in a checkpoint's name.

    Raises:
        ValueError: the folder has another name.
    """
    match = _NAME.fullmatch(path.name)
    if match is None:
        raise ValueError(f"{path} is not named checkpoint-<step>")
    return int(match.group(1))


def checkpoints(output_dir: Path) -> list[Path]:
    """All folders named ``checkpoint-<step>``, valid or not, newest first."""
    if not output_dir.is_dir():
        return []
    found = [p for p in output_dir.iterdir() if _NAME.fullmatch(p.name) and p.is_dir()]
    return sorted(found, key=step_of, reverse=True)


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_manifest(folder: Path) -> None:
    """Write the size and SHA-256 of every file in ``folder``; the last file written to it."""
    files = {
        name: {"bytes": path.stat().st_size, "sha256": sha256_of(path)}
        for name, path in _files(folder)
        if name != MANIFEST
    }
    content = {"version": VERSION, "files": files}
    write_text(folder / MANIFEST, json.dumps(content, indent=2, sort_keys=True) + "\n")


def verify(folder: Path) -> Damage | None:
    """What is wrong with a checkpoint: files missing, added, cut or changed. None when it is whole.

    A file that the manifest does not know is damage too: it would be loaded beside the others.
    """
    try:
        listed = _listed(folder)
    except (OSError, ValueError, KeyError, TypeError) as error:
        return Damage(folder, (f"{MANIFEST} cannot be read ({type(error).__name__}: {error})",))
    present = dict(_files(folder))
    present.pop(MANIFEST, None)
    reasons = [f"{name} is missing" for name in sorted(listed.keys() - present.keys())]
    reasons += [f"{name} is not in {MANIFEST}" for name in sorted(present.keys() - listed.keys())]
    for name in sorted(listed.keys() & present.keys()):
        reasons += _changes(name, present[name], listed[name])
    return Damage(folder, tuple(reasons)) if reasons else None


def survey(output_dir: Path) -> Survey:
    """The newest valid checkpoint of a folder, after its newer and damaged ones."""
    damaged: list[Damage] = []
    for path in checkpoints(output_dir):
        damage = verify(path)
        if damage is None:
            return Survey(path, tuple(damaged))
        damaged.append(damage)
    return Survey(None, tuple(damaged))


def find_newest_valid(output_dir: Path) -> Path | None:
    """The newest checkpoint whose every hash is right; damaged ones are named in a warning."""
    found = survey(output_dir)
    for damage in found.damaged:
        log.warning("skipping a damaged checkpoint: %s", damage)
    return found.newest


def surplus(output_dir: Path, *, keep: int | None, best_step: int | None) -> list[Path]:
    """The checkpoints beyond the ``keep`` newest, oldest first, and never the best one.

    Folders without our manifest are somebody else's.
    """
    if keep is None:
        return []
    ours = [path for path in checkpoints(output_dir) if (path / MANIFEST).is_file()]
    old = ours[max(keep, 1) :]
    return [path for path in reversed(old) if step_of(path) != best_step]


def remove(path: Path) -> None:
    """Remove a checkpoint so that a crash in the middle leaves nothing that looks like one."""
    doomed = path.with_name(f".{path.name}.removed")
    shutil.rmtree(doomed, ignore_errors=True)
    path.replace(doomed)
    force_to_disk(path.parent)
    shutil.rmtree(doomed)


def sweep(output_dir: Path) -> None:
    """Remove what interrupted saves and removals left behind. Call it under the folder's lock."""
    for pattern in (".checkpoint-*.partial", ".checkpoint-*.removed"):
        for path in output_dir.glob(pattern):
            shutil.rmtree(path)
    for path in output_dir.glob(".checkpoint-*.superseded"):
        _restore_superseded(path)


def _restore_superseded(path: Path) -> None:
    """Undo a replacement that stopped between its two renames; otherwise finish it."""
    final = path.with_name(path.name.removeprefix(".").removesuffix(".superseded"))
    if final.exists():
        shutil.rmtree(path)
    else:
        path.replace(final)


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    """(name relative to the folder, path) of every file below it."""
    for path in sorted(folder.rglob("*")):
        if not path.is_dir():
            yield path.relative_to(folder).as_posix(), path


def _listed(folder: Path) -> dict[str, dict[str, Any]]:
    """The files that the manifest lists."""
    content = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    if content["version"] != VERSION:
        raise ValueError(f"version {content['version']} is not {VERSION}")
    return {str(name): {**entry} for name, entry in content["files"].items()}


def _changes(name: str, path: Path, entry: dict[str, Any]) -> list[str]:
    """How a file differs from its manifest entry; it is read only when its size is right."""
    size = path.stat().st_size
    if size != entry.get("bytes"):
        return [f"{name} has {size} bytes, not {entry.get('bytes')}"]
    if sha256_of(path) != entry.get("sha256"):
        return [f"{name} was changed: its SHA-256 is another"]
    return []
