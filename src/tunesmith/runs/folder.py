"""What an output directory holds: nothing, this run unfinished or done, or another run."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from tunesmith.checkpoint.load import Saved
from tunesmith.config.flat import top_leaves
from tunesmith.errors import ExitCode, RunError

PLAN = "plan.json"
DONE = "tunesmith.json"

HARMLESS = frozenset(
    {
        "output_dir",
        "logging_steps",
        "dataloader_num_workers",
        "dataset_num_proc",
        "dataset_prepared_path",
        "save_steps",
        "saves_per_epoch",
        "save_strategy",
        "save_total_limit",
        "save_async",
        "eval_steps",
        "evals_per_epoch",
        "eval_strategy",
        "eval_first",
        "eval_batch_size",
        "micro_batch_size",
        "gradient_accumulation_steps",
        "batch_size",
        "gradient_checkpointing",
        "torch_compile",
        "resume_from_checkpoint",
        "auto_resume_from_checkpoints",
        "preflight_skip",
        "on_nonfinite",
        "loss_watchdog_threshold",
        "loss_watchdog_patience",
        "base_model",
        "base_model_config",
        "tokenizer_config",
        "datasets",
        "test_datasets",
    }
)
"""Keys that may change between a run and its resumption.

Model and data are compared by content (``IDENTITY``), not by the path that names them.
"""

UNTOLD = frozenset({"output_dir", "resume_from_checkpoint", "auto_resume_from_checkpoints"})
"""Harmless keys whose change is the user's way to go on elsewhere: nobody need hear of it."""

FOREIGN = ("config.json", "adapter_config.json", "*.safetensors", "*.bin", "checkpoint-*")
"""What a run would overwrite, or mix with its own."""

IDENTITY = ("data_fingerprint", "base_digest")
"""What of a plan must stay for the same run to go on, beside the flat keys."""

DERIVED = ("seed", "steps", "global_batch")
"""What must stay too, and follows from keys and data: told where none of those tells it."""


class Holds(Enum):
    """What was found."""

    NOTHING = "nothing"
    UNFINISHED = "unfinished"
    FINISHED = "finished"


Change = tuple[str, Any, Any]
"""What changed: its name, the old value and the new one."""


@dataclass(frozen=True, slots=True)
class Found:
    """What the directory holds, and what changed since that run was planned.

    ``changed`` makes another run of it, ``noted`` does not, but people should hear of it.
    """

    holds: Holds
    changed: tuple[Change, ...] = ()
    noted: tuple[Change, ...] = ()

    @property
    def is_done(self) -> bool:
        """Whether there is nothing left to do: the same run, finished."""
        return self.holds is Holds.FINISHED and not self.changed


def look(output_dir: Path, plan: Mapping[str, Any]) -> Found:
    """Compare the directory with a plan (as ``RunPlan.to_json`` gives it).

    Raises:
        RunError: ``plan.json`` or ``tunesmith.json`` is there and cannot be read (exit 5); there is
            no plan, but a model or checkpoints of somebody else (exit 2).
    """
    path = output_dir / PLAN
    if not path.exists():
        _refuse_foreign(output_dir)
        return Found(Holds.NOTHING)
    try:
        earlier = json.loads(path.read_text(encoding="utf-8"))
        changed, noted = tuple(_changes(earlier, plan)), tuple(_notes(earlier, plan))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunError(
            f"the plan of the run in this folder cannot be read: {error}",
            hint="choose another output_dir, or delete this folder if the run in it is worthless",
            where=str(path),
            exit_code=ExitCode.DAMAGED,
        ) from error
    holds = Holds.FINISHED if _is_finished(output_dir) else Holds.UNFINISHED
    return Found(holds, changed, noted)


def of_checkpoint(saved: Saved, plan: Mapping[str, Any]) -> Found:
    """What changed since the run that wrote a checkpoint, by its plan where that lies beside it."""
    beside = saved.path.parent / PLAN
    if beside.is_file():
        return look(saved.path.parent, plan)
    earlier = {"config": plan["config"], "identity": saved.identity}
    return Found(Holds.UNFINISHED, tuple(_changes(earlier, plan)))


def _refuse_foreign(output_dir: Path) -> None:
    """Raise where a run would overwrite what it did not make (the base model's own folder, too)."""
    found = sorted(path.name for glob in FOREIGN for path in output_dir.glob(glob))
    if not found:
        return
    raise RunError(
        f"the output directory holds a model that no run of tunesmith made: {', '.join(found[:3])}",
        hint="choose another output_dir, or move these files away",
        where=str(output_dir),
        exit_code=ExitCode.WRONG_INPUT,
    )


def read_record(output_dir: Path) -> dict[str, Any]:
    """What a finished run says about itself.

    Raises:
        RunError: ``tunesmith.json`` cannot be read (exit 5).
    """
    path = output_dir / DONE
    try:
        record = dict(json.loads(path.read_text(encoding="utf-8")))
        record["files"] = dict(record["files"])
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(
            f"the record of the finished run in this folder cannot be read: {error}",
            hint=f"delete {DONE} to have the model written again from the last checkpoint",
            where=str(path),
            exit_code=ExitCode.DAMAGED,
        ) from error
    return record


def _is_finished(output_dir: Path) -> bool:
    """Whether the export was completed, and every file of it is still there."""
    if not (output_dir / DONE).exists():
        return False
    return all((output_dir / name).is_file() for name in read_record(output_dir)["files"])


def _changes(earlier: Mapping[str, Any], now: Mapping[str, Any]) -> list[Change]:
    """Everything that differs and matters."""
    changed = [change for change in _changed_keys(earlier, now) if change[0] not in HARMLESS]
    changed += _differences(earlier, now, IDENTITY)
    return changed or _differences(earlier, now, DERIVED)


def _notes(earlier: Mapping[str, Any], now: Mapping[str, Any]) -> list[Change]:
    """Everything that differs and may: harmless keys, and the versions of libraries."""
    noted = [change for change in _changed_keys(earlier, now) if change[0] in HARMLESS - UNTOLD]
    was, is_ = (dict(one.get("environment", {}).get("versions", {})) for one in (earlier, now))
    names = sorted(was.keys() & is_.keys())
    return noted + [(name, was[name], is_[name]) for name in names if was[name] != is_[name]]


def _changed_keys(earlier: Mapping[str, Any], now: Mapping[str, Any]) -> list[Change]:
    """The flat keys whose values differ; a key left out has its default."""
    before, after = earlier["config"], now["config"]
    pairs = [
        (key, before.get(key, default_of(key)), after.get(key, default_of(key)))
        for key in sorted(set(before) | set(after))
    ]
    return [(key, was, is_) for key, was, is_ in pairs if was != is_]


def _differences(
    earlier: Mapping[str, Any], now: Mapping[str, Any], names: Collection[str]
) -> list[Change]:
    was, is_ = earlier["identity"], now["identity"]
    return [(n, was.get(n), is_.get(n)) for n in names if was.get(n) != is_.get(n)]


def default_of(key: str) -> Any:
    """A flat key's default as ``plan.json`` would hold it; None for a key of another version."""
    leaf = top_leaves().get(key)
    return json.loads(json.dumps(leaf.default, default=str)) if leaf is not None else None


def refuse_other_run(output_dir: Path, found: Found, accepted: Collection[str]) -> None:
    """Say aloud that the folder holds another run, unless every change was accepted.

    Raises:
        RunError: something changed that was not accepted (exit 2).
    """
    refused = [change for change in found.changed if change[0] not in accepted]
    if not refused:
        return
    kind = "checkpoint" if output_dir.name.startswith("checkpoint-") else "output directory"
    what = f"the {kind} holds another run"
    told = [f"{name} was {old!r}, is {new!r}" for name, old, new in refused]
    accept = " ".join(f"--accept-change {name}" for name, _, _ in refused)
    raise RunError(
        f"{what}: {told[0]}" if len(told) == 1 else "\n  ".join([f"{what}:", *told]),
        hint=f"choose another output_dir, undo the change, or go on with it on purpose: {accept}",
        where=str(output_dir / PLAN),
        exit_code=ExitCode.WRONG_INPUT,
    )
