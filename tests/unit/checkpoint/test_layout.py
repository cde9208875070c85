from __future__ import annotations

import json
import logging
import random
from pathlib import Path

import pytest

from tests.unit.checkpoint.parts import save_steps
from tunesmith.checkpoint import layout
from tunesmith.checkpoint.load import read
from tunesmith.errors import ExitCode, RunError


@pytest.mark.parametrize(
    "name",
    [
        "model.safetensors",
        "config.json",
        "state.json",
        "state/optimizer.safetensors",
        "manifest.json",
    ],
)
def test_any_flipped_bit_is_found(tmp_path, name):
    save_steps(tmp_path, 1)
    path = tmp_path / "checkpoint-1" / name
    whole = path.read_bytes()
    draw = random.Random(name)
    for place in [0, len(whole) - 1, *(draw.randrange(len(whole)) for _ in range(20))]:
        bit = 1 << draw.randrange(8)
        path.write_bytes(whole[:place] + bytes([whole[place] ^ bit]) + whole[place + 1 :])
        damage = layout.verify(tmp_path / "checkpoint-1")
        assert damage is not None, f"bit {bit} of byte {place}"
        if name != "manifest.json":
            assert name in str(damage)
    path.write_bytes(whole)
    assert layout.verify(tmp_path / "checkpoint-1") is None


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda folder: (folder / "config.json").unlink(), "config.json is missing"),
        (lambda folder: (folder / "extra.py").write_text(""), "extra.py is not in manifest.json"),
        (lambda folder: (folder / "state.json").write_text("{}"), "state.json has 2 bytes"),
        (lambda folder: (folder / "manifest.json").unlink(), "manifest.json cannot be read"),
        (
            lambda folder: (folder / "manifest.json").write_text("[]"),
            "manifest.json cannot be read",
        ),
        (
            lambda folder: (folder / "manifest.json").write_text('{"version": 2, "files": {}}'),
            "version 2 is not 1",
        ),
    ],
)
def test_every_damage_has_words(tmp_path, spoil, words):
    save_steps(tmp_path, 1)
    spoil(tmp_path / "checkpoint-1")
    assert words in str(layout.verify(tmp_path / "checkpoint-1"))
    with pytest.raises(RunError, match="the checkpoint is damaged") as caught:
        read(tmp_path / "checkpoint-1")
    assert caught.value.exit_code == ExitCode.DAMAGED


def test_a_missing_checkpoint_is_the_users_mistake(tmp_path):
    with pytest.raises(RunError, match="there is no checkpoint") as caught:
        read(tmp_path / "checkpoint-1")
    assert caught.value.exit_code == ExitCode.WRONG_INPUT


def test_damaged_checkpoints_are_named_and_skipped(tmp_path, caplog):
    save_steps(tmp_path, 2, 10, 9)
    (tmp_path / "checkpoint-10" / "state.json").unlink()
    (tmp_path / "checkpoint-100.bak").mkdir()
    (tmp_path / "checkpoint-11").write_text("a file")
    with caplog.at_level(logging.WARNING):
        assert layout.find_newest_valid(tmp_path) == tmp_path / "checkpoint-9"
    assert caplog.messages == [
        "skipping a damaged checkpoint: checkpoint-10: state.json is missing"
    ]


def test_an_empty_or_missing_folder_has_none(tmp_path):
    assert layout.find_newest_valid(tmp_path) is None
    assert layout.find_newest_valid(tmp_path / "none") is None


def test_the_manifest_lists_every_file_with_its_hash(tmp_path):
    save_steps(tmp_path, 1)
    folder = tmp_path / "checkpoint-1"
    files = json.loads((folder / "manifest.json").read_text())["files"]
    assert files.keys() == {
        *("config.json", "model.safetensors", "state.json", "state/optimizer.safetensors")
    }
    config = folder / "config.json"
    assert files["config.json"] == {
        "bytes": config.stat().st_size,
        "sha256": layout.sha256_of(config),
    }


@pytest.mark.parametrize(
    ("keep", "best", "gone"),
    [
        (None, None, []),
        (1, None, [1, 2, 3, 4]),
        (1, 2, [1, 3, 4]),
        (2, 5, [1, 2, 3]),
        (9, None, []),
    ],
)
def test_which_ones_are_surplus(tmp_path, keep, best, gone):
    for step in range(1, 6):
        (tmp_path / f"checkpoint-{step}").mkdir()
        (tmp_path / f"checkpoint-{step}" / layout.MANIFEST).touch()
    surplus = layout.surplus(tmp_path, keep=keep, best_step=best)
    assert [layout.step_of(path) for path in surplus] == gone


def test_sweeping_finishes_what_was_interrupted(tmp_path):
    save_steps(tmp_path, 1, 2)
    (tmp_path / ".checkpoint-3.partial").mkdir()
    (tmp_path / "checkpoint-1").rename(tmp_path / ".checkpoint-1.removed")
    (tmp_path / "checkpoint-2").rename(tmp_path / ".checkpoint-2.superseded")
    layout.sweep(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-2"]
    assert layout.verify(tmp_path / "checkpoint-2") is None


def test_other_names_have_no_step():
    with pytest.raises(ValueError, match="is not named"):
        layout.step_of(Path("run", "checkpoint-x"))
