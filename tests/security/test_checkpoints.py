"""A checkpoint that somebody else touched: nothing in it runs, and nothing leads out of it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import smallrun, warm
from tests.security import canary
from tests.security.opens import Opens
from tunesmith.checkpoint import layout
from tunesmith.checkpoint.load import read
from tunesmith.checkpoint.weights import read_weights, weight_files
from tunesmith.errors import ExitCode, RunError


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's folder with checkpoints."""
    folder = tmp_path_factory.mktemp("finished")
    data = smallrun.write_rows(folder / "chat.jsonl", smallrun.chat_rows())
    keys = smallrun.keys(smallrun.base(folder), data, max_steps=4, preflight_skip=None)
    done = warm.run(folder, "train", smallrun.write_yaml(folder, keys))
    assert done.code == 0, done.err
    return folder


@pytest.fixture
def saved(finished: Path, tmp_path: Path) -> Path:
    """A copy of the newest checkpoint."""
    (newest, *_) = layout.checkpoints(finished / "out")
    return Path(shutil.copytree(newest, tmp_path / newest.name))


def test_the_checkpoint_is_good(saved: Path) -> None:
    assert read(saved).state.step == 4


def test_pickles_in_a_checkpoint_are_never_opened(saved: Path, fired: Path, opens: Opens) -> None:
    """They are files that the manifest does not know, which is damage."""
    laid = canary.lay(saved, fired)
    with opens.heard() as paths, pytest.raises(RunError) as caught:
        read(saved)
    assert caught.value.exit_code == ExitCode.DAMAGED
    assert not {str(path) for path in laid} & paths
    layout.write_manifest(saved)
    assert read(saved).state.step == 4  # and with a manifest that knows them they are only hashed
    list(read(saved).tensors())
    assert not fired.exists()


def test_a_checkpoint_of_another_trainer_is_refused(tmp_path: Path, fired: Path) -> None:
    """It has no manifest, and all of its state is pickled."""
    folder = tmp_path / "checkpoint-7"
    canary.lay(folder, fired)
    (folder / "trainer_state.json").write_text('{"global_step": 7}')
    with pytest.raises(RunError) as caught:
        read(folder)
    assert caught.value.exit_code == ExitCode.DAMAGED
    assert not fired.exists()


def _link(saved: Path) -> None:
    (weights,) = saved.glob("*.safetensors")
    weights.rename(saved.parent / "elsewhere")
    weights.symlink_to(saved.parent / "elsewhere")


def _broken_link(saved: Path) -> None:
    (weights,) = saved.glob("*.safetensors")
    weights.unlink()
    weights.symlink_to("nowhere")


def _pipe(saved: Path) -> None:
    (saved / "state.json").unlink()
    os.mkfifo(saved / "state.json")
    _list(saved, "state.json", {"bytes": 0, "sha256": "0" * 64})


def _list(saved: Path, name: str, entry: dict[str, object]) -> None:
    path = saved / layout.MANIFEST
    content = json.loads(path.read_text())
    content["files"][name] = entry
    path.write_text(json.dumps(content))


def _outside(name: str) -> Callable[[Path], None]:
    def spoil(saved: Path) -> None:
        (saved.parent / "secret").write_bytes(b"secret")
        entry = {"bytes": 6, "sha256": layout.sha256_of(saved.parent / "secret")}
        _list(saved, name.format(outside=saved.parent / "secret"), entry)

    return spoil


@pytest.mark.parametrize(
    "spoil",
    [_link, _broken_link, _pipe, _outside("../secret"), _outside("{outside}"), _outside("a\0b")],
)
def test_a_manifest_does_not_lead_out(
    spoil: Callable[[Path], None], saved: Path, opens: Opens
) -> None:
    spoil(saved)
    with opens.heard() as paths, pytest.raises(RunError) as caught:
        read(saved)
    assert caught.value.exit_code == ExitCode.DAMAGED
    assert not [path for path in paths if path.endswith(("secret", "elsewhere", "nowhere"))]


@pytest.mark.parametrize("name", ["../secret.safetensors", "/dev/zero", "a\0.safetensors"])
def test_an_index_does_not_lead_out(name: str, tmp_path: Path) -> None:
    content = {"weight_map": {"a": name}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(content))
    with pytest.raises(RunError) as caught:
        list(read_weights(tmp_path))
    assert caught.value.exit_code == ExitCode.UNSAFE
    with pytest.raises(RunError):
        weight_files(tmp_path, "model")
