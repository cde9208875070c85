"""The final folder: weights or adapter, tokenizer, card; written aside, proven, then moved in."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from tunesmith.checkpoint.durable import (
    explaining_disk,
    force_to_disk,
    force_tree_to_disk,
    require_room,
    write_text,
)
from tunesmith.checkpoint.finished import RECORD, describe, load_finished, open_finished
from tunesmith.checkpoint.layout import sha256_of
from tunesmith.checkpoint.weights import (
    ADAPTER,
    MODEL,
    ModelFiles,
    has_weights,
    read_weights,
    same_tensor,
)
from tunesmith.errors import ExitCode, RunError
from tunesmith.export.compare import (
    Prompts,
    nothing_learned,
    plain_logits,
    policy_logits,
    require_different,
    require_same,
    require_tensors,
    summary,
)
from tunesmith.log import get_logger
from tunesmith.models.adapters import disabled
from tunesmith.models.policy import Policy
from tunesmith.models.source import hash_weights

CARD = "README.md"
PARTIAL = ".final.partial"

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Export:
    """What is to be written, and what it must equal.

    ``base`` is the local folder that training started from; None where it started from a module
    that no folder holds, so that nobody can load an adapter of it. ``record`` goes into
    ``tunesmith.json``, beside what is found out here. ``card`` is the text of ``README.md``.
    """

    output_dir: Path
    files: ModelFiles
    policy: Policy
    base: Path | None
    prompts: Prompts
    record: Mapping[str, Any]
    card: str


def export(job: Export) -> Path:
    """``output_dir``, once it holds the final model and that was loaded again and compared.

    Until then the folder's top level is as it was. ``tunesmith.json`` comes last: where it is,
    the run is finished.

    Raises:
        RunError: exit 3, no room; exit 5, what was read back differs from what was trained, or
            equals the base model.
    """
    job.output_dir.mkdir(parents=True, exist_ok=True)
    require_room(job.output_dir, job.files.n_bytes())
    with _workspace(job.output_dir, job.files.n_bytes()) as folder:
        job.files.write(folder)
        (folder / CARD).write_text(job.card, encoding="utf-8")
        how = describe(job.policy.model)
        loads = {**how, "base": job.record.get("base")}  # how it is loaded below
        (folder / RECORD).write_text(json.dumps(loads), encoding="utf-8")
        proof = prove(job, folder)
        (folder / RECORD).unlink()
        force_tree_to_disk(folder)
        names = sorted(path.name for path in folder.iterdir())
        record = {
            **job.record,
            **how,
            "base_weights_sha256": hash_weights(job.base) if job.base is not None else None,
            "proof": proof,
            "files": {name: sha256_of(folder / name) for name in names},
        }
        _move_in(folder, job.output_dir)
    text = json.dumps(record, indent=2, sort_keys=True, default=str) + "\n"
    write_text(job.output_dir / RECORD, text)
    return job.output_dir


def prove(job: Export, folder: Path) -> dict[str, Any]:
    """The gaps found between ``folder``, loaded again, the trained policy, and its base.

    Every tensor is read back and compared bit by bit; then plain transformers and peft load the
    folder, and its logits are compared with the policy's own.
    """
    require_tensors(folder, job.files.stem, job.files.tensors())
    trained = policy_logits(job.policy, job.prompts)
    base_gap = _require_learned(job, trained)
    if job.base is None and job.files.stem == ADAPTER:
        log.warning("notice: the adapter's base is in no folder; the export was not loaded again")
        return summary(None, base_gap, job.prompts)
    device = next(job.policy.parameters()).device
    written = plain_logits(load_finished(open_finished(folder), device=device), job.prompts)
    gap = require_same(trained, written, job.policy.model.dtype, job.output_dir)
    return summary(gap, base_gap, job.prompts)


def _require_learned(job: Export, trained: list[Tensor]) -> float | None:
    """The gap to the base's logits where the base is at hand (under an adapter it is).

    Raises:
        RunError: exit 5, the result is the base.
    """
    if job.files.stem == ADAPTER:
        with disabled(job.policy.model):
            base = policy_logits(job.policy, job.prompts)
        return require_different(trained, base, job.output_dir, "the model with its adapter")
    if job.base is not None:
        _require_other_tensors(job.output_dir, job.base, job.files)
    return None


def _require_other_tensors(folder: Path, base: Path, files: ModelFiles) -> None:
    """Raise when every tensor that the model shares with its base has the base's values."""
    if not has_weights(base, MODEL):
        raise RunError(
            f"{base} has no weights to compare the result with",
            hint="leave the base model where it is until the run is done",
            where=str(base),
            exit_code=ExitCode.DAMAGED,
        )
    trained = dict(files.tensors())
    n_shared = 0
    for name, tensor in read_weights(base, MODEL):
        if name in trained:
            n_shared += 1
            if not same_tensor(tensor.to(trained[name].dtype), trained[name]):
                return
    if n_shared:
        raise nothing_learned(folder, "the model")


@contextmanager
def _workspace(output_dir: Path, needed: int) -> Iterator[Path]:
    """An empty folder inside ``output_dir`` that is gone afterwards."""
    folder = output_dir / PARTIAL
    shutil.rmtree(folder, ignore_errors=True)
    try:
        with explaining_disk(folder, needed):
            folder.mkdir()
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _move_in(folder: Path, output_dir: Path) -> None:
    """Move the files to the top level; first the mark of an earlier export goes, with its files."""
    names = {path.name for path in folder.iterdir()}
    for name in _earlier_files(output_dir):
        if name not in names:
            (output_dir / name).unlink(missing_ok=True)
    (output_dir / RECORD).unlink(missing_ok=True)
    force_to_disk(output_dir)  # before anything moves: a mark beside other files would lie
    for path in sorted(folder.iterdir()):
        path.replace(output_dir / path.name)
    force_to_disk(output_dir)


def _earlier_files(output_dir: Path) -> Sequence[str]:
    """The files that an earlier export into the same folder wrote."""
    path = output_dir / RECORD
    if not path.is_file():
        return ()
    return tuple(json.loads(path.read_text(encoding="utf-8")).get("files", ()))
