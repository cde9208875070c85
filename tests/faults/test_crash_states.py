"""A power cut at any moment of a save or an export, what was not yet fsynced lost.

One checkpoint is whole; a final folder that says that it is finished is.
"""

from __future__ import annotations

import json
import shutil
from contextlib import nullcontext
from pathlib import Path
from unittest.mock import patch

import pytest

from tests.faults.crash import Tree, recording
from tests.unit.checkpoint.parts import save_steps, small_model, small_optimizer, store
from tests.unit.export.parts import make_base, make_export
from tunesmith.checkpoint import durable, layout
from tunesmith.checkpoint.state import TrainState
from tunesmith.export import final
from tunesmith.export.final import PARTIAL, RECORD, export


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def crash_everywhere(folder: Path, scratch: Path, action) -> list[str]:
    """Run the action; the states in which no checkpoint, a wrong one or a damaged one is chosen."""
    before = {path.name: contents(path) for path in layout.checkpoints(folder)}
    seen: list[tuple[str, list[Tree]]] = []
    with recording(folder, seen):
        action()
    after = {path.name: contents(path) for path in layout.checkpoints(folder)}
    wrong = []
    n_states = 0
    for number, (call, states) in enumerate(seen):
        for which, tree in enumerate(states):
            n_states += 1
            where = scratch / f"{number}-{which}"
            tree.write(where)
            layout.sweep(where)
            newest = layout.survey(where).newest
            found = contents(newest) if newest is not None else None
            # The newest of before stays in use until the new one is whole.
            allowed = [known for known in (after.get(max(after)), before.get(max(before))) if known]
            if found is None or found not in allowed:
                wrong.append(f"{number} {call}: {newest}")
    assert n_states > 100
    return wrong


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "out"
    path.mkdir()
    save_steps(path, 2, 4)
    return path


@pytest.mark.parametrize("keep", [None, 1, 2])
def test_after_a_crash_at_any_moment_of_a_save_the_newest_or_the_one_before_is_whole(
    folder: Path, tmp_path: Path, keep: int | None
) -> None:
    writer = store(folder, small_model(1), keep=keep)
    assert crash_everywhere(folder, tmp_path, lambda: writer.save(TrainState(step=6))) == []


def test_a_save_over_one_of_the_same_step(folder: Path, tmp_path: Path) -> None:
    writer = store(folder, small_model(1))
    assert crash_everywhere(folder, tmp_path, lambda: writer.save(TrainState(step=4))) == []


@pytest.mark.parametrize("lost", ["force_tree_to_disk", "force_to_disk"])
def test_without_the_fsyncs_a_crash_costs_a_checkpoint(
    folder: Path, tmp_path: Path, lost: str
) -> None:
    """What the states are worth: a save that forces nothing onto the disk fails in some of them."""
    optimizer = small_optimizer(small_model(1))
    writer = store(folder, small_model(1), keep=1, optimizer=optimizer)
    forgets = patch.object(durable, lost, lambda path: None)
    elsewhere = patch.object(layout, lost, lambda path: None) if hasattr(layout, lost) else None
    with forgets, elsewhere or nullcontext():
        assert crash_everywhere(folder, tmp_path, lambda: writer.save(TrainState(step=6)))


def lies(folder: Path) -> list[str]:
    """What a folder that says that its run is finished does not hold as it was written."""
    if not (folder / RECORD).is_file():
        return []
    record = json.loads((folder / RECORD).read_text())
    return [
        name
        for name, digest in record["files"].items()
        if not (folder / name).is_file() or layout.sha256_of(folder / name) != digest
    ]


def crash_the_export(tmp_path: Path, adapter: str | None, *, over_another: bool) -> list[str]:
    """The crash states of an export that say more than is so."""
    base, out = make_base(tmp_path / "base"), tmp_path / "out"
    out.mkdir()
    if over_another:
        export(make_export(out, base, adapter=adapter, learned=0.2))
    job = make_export(out, base, adapter=adapter)
    seen: list[tuple[str, list[Tree]]] = []
    with recording(out, seen, n_drawn=2):
        export(job)
    assert lies(out) == []
    wrong, n_states = [], 0
    for number, (call, states) in enumerate(seen):
        for tree in states:
            n_states += 1
            where = tmp_path / "state"
            tree.write(where)
            wrong += [f"{number} {call}: {name}" for name in lies(where)]
            shutil.rmtree(where)
    assert n_states > 100
    return wrong


@pytest.mark.parametrize("adapter", ["lora", None])
@pytest.mark.parametrize("over_another", [False, True])
def test_after_a_crash_in_the_export_a_finished_folder_is_whole(
    tmp_path: Path, adapter: str | None, over_another: bool
) -> None:
    assert crash_the_export(tmp_path, adapter, over_another=over_another) == []


@pytest.mark.parametrize(
    ("lost", "over_another"), [("force_tree_to_disk", False), ("force_to_disk", True)]
)
def test_an_export_that_forgets_an_fsync_lies_after_a_crash(
    tmp_path: Path, lost: str, over_another: bool
) -> None:
    with patch.object(final, lost, lambda folder: None):
        assert crash_the_export(tmp_path, "lora", over_another=over_another)


def test_what_a_crash_left_of_an_export_is_gone_after_the_next(tmp_path: Path) -> None:
    base, out = make_base(tmp_path / "base"), tmp_path / "out"
    (out / PARTIAL).mkdir(parents=True)
    (out / PARTIAL / "adapter_model.safetensors").write_bytes(b"half")
    export(make_export(out, base))
    assert lies(out) == []
    assert not (out / PARTIAL).exists()
