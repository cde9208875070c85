"""Weights in Hugging Face layout: one writer for checkpoints and for what leaves the building."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from tunesmith.errors import ExitCode, RunError

MODEL = "model"
ADAPTER = "adapter_model"
SHARD_BYTES = 5_000_000_000

NamedTensors = Iterable[tuple[str, Tensor]]


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """Everything that a loadable folder holds, as recipes: nothing is copied before it is written.

    ``tensors`` gives (Hugging Face name, tensor) pairs, anew at each call, each storage once (no
    tied head beside its embedding). ``stem`` is ``MODEL`` or ``ADAPTER``. ``write_companions``
    puts configuration, tokenizer and chat template into the folder that it is given.
    """

    tensors: Callable[[], NamedTensors]
    stem: str
    write_companions: Callable[[Path], None]
    shard_bytes: int = SHARD_BYTES

    def write(self, folder: Path) -> list[Path]:
        """The weight files written, beside them the companions."""
        self.write_companions(folder)
        return write_weights(folder, self.tensors(), stem=self.stem, shard_bytes=self.shard_bytes)

    def n_bytes(self) -> int:
        """How many bytes the weights take on disk."""
        return sum(n_bytes(tensor) for _, tensor in self.tensors())


def n_bytes(tensor: Tensor) -> int:
    """How many bytes the tensor's values take."""
    return tensor.numel() * tensor.element_size()


def write_weights(
    folder: Path, tensors: NamedTensors, *, stem: str = MODEL, shard_bytes: int = SHARD_BYTES
) -> list[Path]:
    """The files that now hold ``tensors``: one, or shards of at most ``shard_bytes`` and an index.

    One shard at a time is held in host memory. A tensor larger than ``shard_bytes`` is a shard of
    its own.
    """
    written: list[tuple[Path, list[str]]] = []
    total = 0
    for number, shard in enumerate(_shards(tensors, shard_bytes), start=1):
        path = folder / f".{stem}-{number:05d}.safetensors"
        save_tensors(path, shard)
        written.append((path, list(shard)))
        total += sum(n_bytes(tensor) for tensor in shard.values())
    if not written:
        raise ValueError("there are no tensors to write")
    return _name_shards(folder, stem, written, total)


def save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write one safetensors file that holds exactly ``tensors``.

    Raises:
        TypeError: a value is not a tensor. Other writers pickle it into the file in silence.
    """
    require_tensors(tensors)
    plain = {name: tensor.detach().to("cpu").contiguous() for name, tensor in tensors.items()}
    save_file(plain, path, metadata={"format": "pt"})


def require_tensors(tensors: Mapping[str, object]) -> None:
    """Raise ``TypeError``, with the name, where a value is not a tensor."""
    for name, tensor in tensors.items():
        if not isinstance(tensor, Tensor):
            raise TypeError(f"{name} is {type(tensor).__name__}, and only tensors are saved")


def weight_files(folder: Path, stem: str) -> list[Path]:
    """The files in ``folder`` that hold the weights, in the order of their shards.

    Raises:
        RunError: exit 5, there are none, or the index names one that is missing.
    """
    single = folder / f"{stem}.safetensors"
    if single.is_file():
        return [single]
    index = folder / f"{stem}.safetensors.index.json"
    if not index.is_file():
        raise _incomplete(folder, single.name)
    names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    for name in names:
        if not (folder / name).is_file():
            raise _incomplete(folder, name)
    return [folder / name for name in names]


def read_weights(folder: Path, stem: str = MODEL) -> Iterator[tuple[str, Tensor]]:
    """Every (name, tensor) of the folder's weights, on the CPU, one at a time."""
    for path in weight_files(folder, stem):
        yield from read_tensors(path)


def read_tensors(path: Path) -> Iterator[tuple[str, Tensor]]:
    """Every (name, tensor) of one safetensors file, on the CPU, one at a time."""
    with safe_open(path, framework="pt", device="cpu") as file:
        for name in file.keys():  # noqa: SIM118 - not a mapping
            yield name, file.get_tensor(name)


def has_weights(folder: Path, stem: str) -> bool:
    """Whether ``folder`` holds weights under this stem."""
    names = (f"{stem}.safetensors", f"{stem}.safetensors.index.json")
    return any((folder / name).is_file() for name in names)


def same_tensor(first: Tensor, second: Tensor) -> bool:
    """Whether the two hold the same bits, in the same dtype and shape; NaN equals itself."""
    if first.dtype != second.dtype or first.shape != second.shape:
        return False
    left = first.detach().to("cpu").contiguous().flatten().view(torch.uint8)
    return torch.equal(left, second.detach().to("cpu").contiguous().flatten().view(torch.uint8))


def differing(folder: Path, stem: str, wanted: NamedTensors) -> list[str]:
    """The names under which the folder does not hold exactly the wanted bits, sorted."""
    expected = dict(wanted)
    wrong = [
        name
        for name, tensor in read_weights(folder, stem)
        if name not in expected or not same_tensor(tensor, expected.pop(name))
    ]
    return sorted({*wrong, *expected})


def _shards(tensors: NamedTensors, shard_bytes: int) -> Iterator[dict[str, Tensor]]:
    """The tensors in their order, cut into dicts of at most ``shard_bytes``."""
    shard: dict[str, Tensor] = {}
    held = 0
    for name, tensor in tensors:
        size = n_bytes(tensor)
        if shard and held + size > shard_bytes:
            yield shard
            shard, held = {}, 0
        shard[name] = tensor
        held += size
    if shard:
        yield shard


def _name_shards(
    folder: Path, stem: str, written: list[tuple[Path, list[str]]], total: int
) -> list[Path]:
    """The files under their final names, with the index that several of them need."""
    if len(written) == 1:
        return [written[0][0].replace(folder / f"{stem}.safetensors")]
    files: list[Path] = []
    weight_map: dict[str, str] = {}
    for number, (path, names) in enumerate(written, start=1):
        final = folder / f"{stem}-{number:05d}-of-{len(written):05d}.safetensors"
        files.append(path.replace(final))
        weight_map.update(dict.fromkeys(names, final.name))
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    text = json.dumps(index, indent=2, sort_keys=True) + "\n"
    (folder / f"{stem}.safetensors.index.json").write_text(text, encoding="utf-8")
    return files


def _incomplete(folder: Path, name: str) -> RunError:
    return RunError(
        f"{folder} is incomplete: {name} is missing",
        hint="use another checkpoint, or make this one again",
        where=str(folder),
        exit_code=ExitCode.DAMAGED,
    )
