"""Bits flipped, files cut, lost and swapped: every damage is found, nothing damaged is loaded."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import smallrun, warm
from tests.faults.events import EXPORT, dying
from tests.faults.runs import assert_ends_as, config
from tests.smallrun import write_yaml
from tests.unit.checkpoint.parts import save_steps
from tunesmith.checkpoint import layout
from tunesmith.checkpoint.load import read
from tunesmith.errors import ExitCode, RunError

FLIPS = 100
FILES = (
    *("model.safetensors", "state/optimizer.safetensors"),
    *("state.json", "config.json", "manifest.json"),
)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved")
    save_steps(folder, 1, 2)
    assert {p.relative_to(folder / "checkpoint-2").as_posix() for p in files(folder)} == set(FILES)
    return folder


def files(folder: Path) -> list[Path]:
    return [path for path in (folder / "checkpoint-2").rglob("*") if path.is_file()]


def damaged(saved: Path, tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """(what was done, the folder in which it was done to checkpoint-2), one after the other."""
    draw, number = random.Random(0), 0

    def fresh() -> Path:
        nonlocal number
        number += 1
        return shutil.copytree(saved, tmp_path / str(number))

    sizes = [(saved / "checkpoint-2" / name).stat().st_size for name in FILES]
    for name in draw.choices(FILES, weights=sizes, k=FLIPS):
        folder = fresh()
        path = folder / "checkpoint-2" / name
        content = bytearray(path.read_bytes())
        place, bit = draw.randrange(len(content)), draw.randrange(8)
        content[place] ^= 1 << bit
        path.write_bytes(content)
        yield f"bit {bit} of byte {place} of {name}", folder
    for name in FILES:
        for share in (0.0, 0.5, 0.99):
            folder = fresh()
            path = folder / "checkpoint-2" / name
            content = path.read_bytes()
            path.write_bytes(content[: min(int(len(content) * share), len(content) - 1)])
            yield f"{name} cut to {share:.0%}", folder
        folder = fresh()
        (folder / "checkpoint-2" / name).unlink()
        yield f"{name} lost", folder
    for first in FILES:
        for second in FILES[FILES.index(first) + 1 :]:
            folder = fresh()
            one, other = (folder / "checkpoint-2" / name for name in (first, second))
            kept = one.read_bytes()
            one.write_bytes(other.read_bytes())
            other.write_bytes(kept)
            yield f"{first} and {second} swapped", folder


def test_every_damage_is_found_and_nothing_of_it_is_loaded(saved, tmp_path, figure):
    n_damages = 0
    for what, folder in damaged(saved, tmp_path):
        n_damages += 1
        with pytest.raises(RunError, match="the checkpoint is damaged") as caught:
            read(folder / "checkpoint-2")
        assert caught.value.exit_code == ExitCode.DAMAGED, what
        assert layout.survey(folder).newest == folder / "checkpoint-1", what
        shutil.rmtree(folder)
    assert n_damages == FLIPS + 4 * len(FILES) + 10
    figure(f"bits, cuts, losses and swaps in a checkpoint: {n_damages} of {n_damages} found")


def unfinished(ground, folder, name="lora", **more):
    """A run of which everything is saved, and nothing exported."""
    path = write_yaml(folder, config(ground, name, **more))
    before = dying(EXPORT, str(folder / "out"), str(folder / "events"), at=1)
    assert warm.run(folder, "train", path, before=before).code < 0
    return path


def test_a_run_takes_the_checkpoint_before_the_damaged_one(ground, whole, tmp_path):
    path = unfinished(ground, tmp_path)
    (tmp_path / "out/checkpoint-12/state/optimizer.safetensors").unlink()
    said = assert_ends_as(tmp_path, path, whole("lora"))
    assert "damaged, not used: checkpoint-12: state/optimizer.safetensors is missing" in said
    assert "going on from checkpoint-9" in said


def test_a_run_does_not_start_anew_over_checkpoints_that_are_all_damaged(ground, tmp_path):
    path = unfinished(ground, tmp_path, save_total_limit=1)
    for checkpoint in layout.checkpoints(tmp_path / "out"):
        (checkpoint / "state.json").write_text("{}")
    before = smallrun.tree(tmp_path / "out")
    again = warm.run(tmp_path, "train", path)
    assert again.code == 5
    assert "no checkpoint in this folder is whole: checkpoint-12: state.json has 2" in again.err
    assert smallrun.tree(tmp_path / "out").keys() == before.keys()


def test_a_named_checkpoint_that_lost_a_part_is_refused(ground, tmp_path):
    path = unfinished(ground, tmp_path)
    named = tmp_path / "out/checkpoint-12"
    (named / "state/optimizer.safetensors").unlink()
    again = warm.run(tmp_path, "train", path, "--resume-from-checkpoint", named)
    assert again.code == 5
    assert "state/optimizer.safetensors is missing" in " ".join(again.err.split())


@pytest.mark.faults
@pytest.mark.parametrize("kind", ["cut", "flipped", "gone", "added"])
@pytest.mark.parametrize("name", ["lora", "full"])
def test_any_damaged_file_of_a_checkpoint_is_noticed(ground, whole, tmp_path, name, kind):
    """Of the newest checkpoint of an unfinished run, each file in turn."""
    newest = whole(name) / "checkpoint-12"
    names = [p.relative_to(newest) for p in sorted(newest.rglob("*")) if p.is_file()]
    for number, file in enumerate(names):
        folder = tmp_path / str(number)
        folder.mkdir()
        path = unfinished(ground, folder, name)
        damage(folder / "out/checkpoint-12" / file, kind)
        said = assert_ends_as(folder, path, whole(name))
        assert "damaged, not used: checkpoint-12: " in said, file
        assert "going on from checkpoint-9" in said, file


def damage(path: Path, kind: str) -> None:
    content = bytearray(path.read_bytes())
    if kind == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif kind == "flipped":
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    elif kind == "gone":
        path.unlink()
    else:
        path.with_name(path.name + ".safetensors").write_bytes(content)
