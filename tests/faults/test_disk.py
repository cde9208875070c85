"""A disk that is full, or fails: what was there stays, and what comes is exact once it works."""

from __future__ import annotations

import errno
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests import warm
from tests.faults.runs import assert_ends_as, config
from tests.smallrun import write_yaml
from tests.unit.checkpoint.parts import save_steps, small_model, store
from tunesmith.checkpoint import layout
from tunesmith.checkpoint.durable import SPARE_BYTES
from tunesmith.checkpoint.state import TrainState
from tunesmith.errors import ExitCode, RunError

CALLS = ("open", "fsync", "replace", "mkdir")


class Broken:
    """From call ``at`` on, once: the error that a disk gives."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, code: int, at: int) -> None:
        self.n_calls = 0
        self._code, self._at = code, at
        for name in CALLS:
            monkeypatch.setattr(os, name, self._failing(getattr(os, name), name))

    def _failing(self, real: Any, name: str) -> Any:
        def call(*arguments: Any, **more: Any) -> Any:
            if name != "open" or arguments[1] & os.O_WRONLY or arguments[1] == os.O_RDONLY:
                self.n_calls += 1
                if self.n_calls == self._at:
                    raise OSError(self._code, os.strerror(self._code))
            return real(*arguments, **more)

        return call


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EROFS])
def test_an_error_at_any_call_leaves_the_checkpoint_before(tmp_path, monkeypatch, code, figure):
    """Every call of a save that can fail, in turn."""
    at, n_failed = 0, 0
    while True:
        at += 1
        folder = tmp_path / str(at)
        folder.mkdir()
        save_steps(folder, 1)
        with monkeypatch.context() as patch:
            writer, disk = store(folder, small_model(1), keep=1), Broken(patch, code, at)
            failed = fails(writer)
        if disk.n_calls < at:
            break
        if failed is None:
            continue  # while the old one was removed, or the folder was looked for
        n_failed += 1
        assert failed.exit_code == ExitCode.NO_ROOM
        assert "free now" in failed.message
        newest = layout.find_newest_valid(folder)
        assert newest is not None
        assert not list(folder.glob(".checkpoint-*.partial"))
        assert store(folder, keep=1).save(TrainState(step=3)).is_dir()
    assert n_failed >= 10
    figure(f"{errno.errorcode[code]} at each of {n_failed} calls of a save: exit 3, all recover")


def fails(writer: Any) -> RunError | None:
    try:
        writer.save(TrainState(step=2))
    except RunError as error:
        return error
    return None


def test_what_safetensors_says_of_a_full_disk_is_understood(tmp_path, monkeypatch):
    from safetensors import SafetensorError

    def full(*arguments: Any, **more: Any) -> None:
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    save_steps(tmp_path, 1)
    writer = store(tmp_path)
    monkeypatch.setattr("tunesmith.checkpoint.weights.save_file", full)
    with pytest.raises(RunError, match="filled up") as caught:
        writer.save(TrainState(step=2))
    assert caught.value.exit_code == ExitCode.NO_ROOM
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint-1"]


LIMIT = """
import resource
from tunesmith.checkpoint import save
real = save.CheckpointStore.write
calls = [0]
def limited(self, snapshot):
    calls[0] += 1
    if calls[0] != 3:
        return real(self, snapshot)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
    try:
        return real(self, snapshot)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
save.CheckpointStore.write = limited
"""


@pytest.mark.parametrize("background", [False, True])
def test_a_run_whose_files_may_not_grow_ends_with_3_and_goes_on(
    ground, whole, tmp_path, background
):
    path = write_yaml(tmp_path, config(ground, "lora", save_async=background))
    done = warm.run(tmp_path, "train", path, before=LIMIT)
    assert done.code == 3, done
    said = " ".join(done.err.split())
    assert re.search(r"while checkpoint-6 was written: [\d,]+ bytes are needed and [\d,]+", said)
    assert "Traceback" not in done.err
    assert [p.name for p in layout.checkpoints(tmp_path / "out")] == ["checkpoint-3"]
    assert not list((tmp_path / "out").glob(".checkpoint*"))
    assert_ends_as(tmp_path, path, whole("lora"))


SMALL = """
import shutil
real = shutil.disk_usage
shutil.disk_usage = lambda path: real(path)._replace(free={free})
"""


def test_a_run_that_will_not_fit_is_refused_before_its_first_step(ground, whole, tmp_path):
    path = write_yaml(tmp_path, config(ground, "full"))
    done = warm.run(tmp_path, "train", path, before=SMALL.format(free=1000))
    assert done.code == 3
    said = re.search(r"no room left: ([\d,]+) bytes are needed and 1,000 are free", done.err)
    assert said is not None
    assert not (tmp_path / "out/metrics.jsonl").exists()
    # Two stay, one comes, and the best one; the model beside them.
    out = whole("full")
    one = sum(p.stat().st_size for p in (out / "checkpoint-12").rglob("*.safetensors"))
    real = 4 * one + (out / "model.safetensors").stat().st_size
    needed = int(said.group(1).replace(",", "")) - SPARE_BYTES
    assert needed == pytest.approx(real, rel=0.1)


ON_A_SMALL_DISK = """
import json, shutil, sys
from pathlib import Path
from types import SimpleNamespace
from tests.unit.checkpoint.parts import store
from tunesmith.checkpoint import durable, layout
from tunesmith.checkpoint.state import TrainState
from tunesmith.errors import RunError
import torch
durable.SPARE_BYTES = 0
shutil.disk_usage = lambda path: SimpleNamespace(free=1 << 40)  # or nothing would be tried
disk = Path(sys.argv[1])
model = torch.nn.Sequential(torch.nn.Linear(4, 400), torch.nn.Linear(400, 400))
writer = store(disk, model)
said = []
for step in (1, 2, 3):
    try:
        writer.save(TrainState(step=step))
        said.append("saved")
    except RunError as error:
        said.append([int(error.exit_code), error.message])
        (disk / "filler").unlink()
        writer.save(TrainState(step=step))
    if step == 1:
        one = sum(p.stat().st_size for p in disk.rglob("*") if p.is_file())
        (disk / "filler").write_bytes(bytes(6 * 2**20 - one - one // 2))
left = [p.name for p in disk.iterdir()]
print(json.dumps([said, left, str(layout.find_newest_valid(disk))]))
"""


def test_a_disk_that_is_really_full(tmp_path):
    """A tmpfs with room for one and a half checkpoints, in a namespace of its own."""
    script = tmp_path / "script.py"
    script.write_text(ON_A_SMALL_DISK)
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = f"mount -t tmpfs -o size=6m tmpfs {disk} && exec {sys.executable} {script} {disk}"
    done = subprocess.run(
        ["unshare", "-Urm", "sh", "-c", mount],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
    )
    if "unshare" in done.stderr or "mount" in done.stderr:
        pytest.skip(f"no namespaces of one's own here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    said, left, newest = json.loads(done.stdout)
    assert said[0] == "saved"
    assert said[1][0] == 3
    assert "the disk filled up while checkpoint-2 was written" in said[1][1]
    assert said[2] == "saved"
    assert sorted(left) == ["checkpoint-1", "checkpoint-2", "checkpoint-3"]
    assert newest.endswith("checkpoint-3")
