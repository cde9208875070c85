"""Files that tell when somebody runs them, under every name that the field gives to pickles."""

from __future__ import annotations

import io
import pickle
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

PICKLE_NAMES = (
    "pytorch_model.bin",
    "weights.pt",
    "weights.pth",
    "model.ckpt",
    "vocab.pkl",
    "rng_state.pth",
    "rng_state_0.pth",
    "training_args.bin",
    "optimizer.pt",
    "optimizer.bin",
    "scheduler.pt",
    "scaler.pt",
    ".metadata",
    "__0_0.distcp",
    "objects.npy",
    "objects.npz",
    "model.joblib",
)


class Canary:
    """Unpickled, it makes the file ``fired``."""

    def __init__(self, fired: Path) -> None:
        self.fired = fired

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.fired,)


def pickled(fired: Path) -> bytes:
    return pickle.dumps(Canary(fired))


def lay(folder: Path, fired: Path, names: tuple[str, ...] = PICKLE_NAMES) -> list[Path]:
    """Canaries under all names, and once more inside a zip and a tar."""
    folder.mkdir(parents=True, exist_ok=True)
    laid = []
    for name in names:
        path = folder / name
        if path.suffix == ".npy":
            np.save(path, np.array([Canary(fired)], dtype=object), allow_pickle=True)
        elif path.suffix == ".npz":
            np.savez(path, np.array([Canary(fired)], dtype=object))
        else:
            path.write_bytes(pickled(fired))
        laid.append(path)
    with zipfile.ZipFile(folder / "archive.zip", "w") as archive:
        archive.writestr("archive/data.pkl", pickled(fired))
        archive.writestr("../escaped.txt", "out")
    with tarfile.open(folder / "shard.tar", "w") as archive:
        member = tarfile.TarInfo("0001.pyd")
        member.size = len(pickled(fired))
        archive.addfile(member, io.BytesIO(pickled(fired)))
    return [*laid, folder / "archive.zip", folder / "shard.tar"]


def code(fired: Path) -> str:
    """Python that makes the file when it is imported, and can stand for any class."""
    return (
        f"import pathlib\npathlib.Path({str(fired)!r}).touch()\n"
        "def __getattr__(name): return type(name, (), {})\n"
    )


def python_names() -> Iterator[str]:
    yield from ("evil.py", "tokenizer.py", "model.py", "__init__.py", "conftest.py", "setup.py")
    yield from ("modeling_llama.py", "configuration_llama.py", "custom_generate/generate.py")
