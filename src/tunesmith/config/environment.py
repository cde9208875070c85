"""``Environment``: what the machine is, as plain data; and the machines that have a name."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from tunesmith.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Environment:
    """The devices of one host, its processor and its versions.

    ``memory_bytes`` is of one device (0 on a CPU), ``capability`` is CUDA's (None on a CPU),
    ``bf16_compute`` is true only where bfloat16 products run at full speed.
    """

    device: Literal["cpu", "cuda"]
    n_devices: int
    device_name: str
    memory_bytes: int
    capability: tuple[int, int] | None
    bf16_compute: bool
    cores: int
    host_memory_bytes: int
    versions: Mapping[str, str] = field(default_factory=dict)


_GIB = 1024**3


def _cuda(name: str, gib: float, capability: tuple[int, int]) -> Environment:
    return Environment(
        device="cuda",
        n_devices=1,
        device_name=name,
        memory_bytes=int(gib * _GIB),
        capability=capability,
        bf16_compute=capability >= (8, 0),
        cores=16,
        host_memory_bytes=128 * _GIB,
    )


# Memory is what the driver offers, a little less than what the name promises.
MACHINES: Mapping[str, Environment] = {
    "h200": _cuda("NVIDIA H200", 139.8, (9, 0)),
    "h100": _cuda("NVIDIA H100 80GB HBM3", 79.1, (9, 0)),
    "a100-80": _cuda("NVIDIA A100 80GB", 79.2, (8, 0)),
    "a100-40": _cuda("NVIDIA A100 40GB", 39.4, (8, 0)),
    "l40s": _cuda("NVIDIA L40S", 44.5, (8, 9)),
    "a10": _cuda("NVIDIA A10", 22.5, (8, 6)),
    "l4": _cuda("NVIDIA L4", 22.0, (8, 9)),
    "t4": _cuda("Tesla T4", 14.6, (7, 5)),
    "v100": _cuda("Tesla V100 32GB", 31.7, (7, 0)),
    "rtx5090": _cuda("NVIDIA GeForce RTX 5090", 31.4, (12, 0)),
    "rtx4090": _cuda("NVIDIA GeForce RTX 4090", 23.5, (8, 9)),
    "rtx3090": _cuda("NVIDIA GeForce RTX 3090", 23.6, (8, 6)),
    "cpu": Environment("cpu", 1, "CPU", 0, None, False, 8, 32 * _GIB),
}
"""What ``--machine`` names; ``x8`` behind a name means eight of them."""

MAX_DEVICES = 1024
_COUNTED = re.compile("(.+)x([0-9]{1,6})")


def named_machine(name: str) -> Environment:
    """The environment of a ``--machine`` word: a name, a name with ``x8``, or a file of any name
    that ``tunesmith doctor --json`` wrote. Of other words only beginnings are answered with a name:
    two machines whose names differ by a digit are not alike.

    Raises:
        ConfigError: there is no such machine or file.
    """
    wanted = name.lower()
    counted = _COUNTED.fullmatch(wanted)
    if wanted in MACHINES:
        return MACHINES[wanted]
    if counted and counted[1] in MACHINES:
        return _several(name, MACHINES[counted[1]], int(counted[2]))
    if name.endswith(".json") or "/" in name or Path(name).is_file():
        return _from_file(Path(name))
    known = f"one of {', '.join(MACHINES)}, with `x8` for eight, or a file of `doctor --json`"
    stem = counted[1] if counted else wanted
    alike = [f"`{machine}`" for machine in MACHINES if machine.startswith(stem)]
    raise ConfigError(
        f"there is no machine called `{name}`",
        hint=f"did you mean {' or '.join(alike)}?" if alike and stem else known,
        where="--machine",
    )


def _several(name: str, one: Environment, count: int) -> Environment:
    """The environment of one host with so many of a machine's devices."""
    if one.device == "cpu" and count > 1:
        raise ConfigError(f"`{name}`: a CPU is one device", hint="use `cpu`", where="--machine")
    if not 1 <= count <= MAX_DEVICES:
        raise ConfigError(
            f"`{name}`: {count} devices",
            hint=f"a machine has 1 to {MAX_DEVICES} of them",
            where="--machine",
        )
    return replace(
        one,
        n_devices=count,
        cores=one.cores * count,
        host_memory_bytes=one.host_memory_bytes * count,
    )


def to_json(environment: Environment) -> dict[str, Any]:
    """The environment as plain data, which ``from_json`` reads back."""
    return asdict(environment)


def from_json(data: Mapping[str, Any]) -> Environment:
    """The environment that ``to_json`` described; what else stands there is left alone.

    Raises:
        KeyError, TypeError, ValueError: something is missing or of another kind.
    """
    device = data["device"]
    if device not in ("cpu", "cuda"):
        raise ValueError(f"device is {device!r}, neither cpu nor cuda")
    capability = data["capability"]
    return Environment(
        device=device,
        n_devices=int(data["n_devices"]),
        device_name=str(data["device_name"]),
        memory_bytes=int(data["memory_bytes"]),
        capability=None if capability is None else (int(capability[0]), int(capability[1])),
        bf16_compute=bool(data["bf16_compute"]),
        cores=int(data["cores"]),
        host_memory_bytes=int(data["host_memory_bytes"]),
        versions={str(name): str(value) for name, value in dict(data["versions"]).items()},
    )


def _from_file(path: Path) -> Environment:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        return from_json(data.get("environment", data))
    except OSError as error:
        reason = error.strerror or str(error)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        reason = f"not a machine's description ({type(error).__name__}: {error})"
    raise ConfigError(
        f"{path}: {reason}",
        hint="write it with `tunesmith doctor --json` on that machine",
        where="--machine",
    )
