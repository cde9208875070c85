"""What this machine is, and the start and end of the process group.

Environment variables are read here and nowhere else; `launch` is the only one that writes them.
"""

from __future__ import annotations

import os
import platform
import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from tunesmith.config.environment import Environment
from tunesmith.dist.mesh import AxisSizes, Mesh
from tunesmith.errors import RunError
from tunesmith.log import get_logger

logger = get_logger(__name__)

WATCHED_PACKAGES = (
    "tunesmith",
    "torch",
    "transformers",
    "peft",
    "datasets",
    "tokenizers",
    "safetensors",
    "numpy",
    "bitsandbytes",
    "gguf",
)
"""Packages whose versions a run depends on."""

CPU_BF16_FLAGS = frozenset({"avx512_bf16", "amx_bf16"})
"""x86 units that multiply bf16; without one of them it is emulated, about 70 times slower."""


def detect() -> Environment:
    """The machine as plain data; no CUDA context is made."""
    is_cuda = torch.cuda.is_available()
    properties = torch.cuda.get_device_properties(local_rank()) if is_cuda else None
    host_memory = _host_memory()
    return Environment(
        device="cuda" if is_cuda else "cpu",
        n_devices=torch.cuda.device_count() if is_cuda else 1,
        device_name=properties.name if properties else _cpu_name(),
        memory_bytes=int(properties.total_memory) if properties else host_memory,
        capability=(int(properties.major), int(properties.minor)) if properties else None,
        bf16_compute=properties.major >= 8 if properties else has_bf16_units(_cpu_info()),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else _cores(),
        host_memory_bytes=host_memory,
        versions=installed_versions() | {"python": platform.python_version()},
    )


def has_bf16_units(cpu_info: str) -> bool:
    """Whether every processor that ``cpu_info`` (as in ``/proc/cpuinfo``) lists multiplies bf16."""
    flags = re.findall(r"^(?:flags|Features)\s*:(.*)$", cpu_info, flags=re.MULTILINE)
    # ARM says "bf16" among its features; on x86 that word alone does not exist.
    units = CPU_BF16_FLAGS | {"bf16"}
    return bool(flags) and all(units & set(line.split()) for line in flags)


def installed_versions() -> dict[str, str]:
    """Version of each watched package that is installed."""
    found = {}
    for name in WATCHED_PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def rank() -> int:
    """This process's number among all, 0 where there is only one."""
    return _integer("RANK", 0)


def world_size() -> int:
    """How many processes the launcher started."""
    return _integer("WORLD_SIZE", 1)


def local_rank() -> int:
    """This process's number on its host: the index of its device."""
    return _integer("LOCAL_RANK", 0)


def cache_dir() -> Path:
    """Where data and models are kept: ``TUNESMITH_CACHE``, or the user's own cache."""
    given = os.environ.get("TUNESMITH_CACHE")
    if given:
        return Path(given).expanduser()
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "tunesmith"


def start(environment: Environment, sizes: AxisSizes | None = None) -> Mesh:
    """This process's place in the mesh; with several processes, their group is started first.

    ``sizes`` left out means plain data parallelism over all processes.
    """
    world = world_size()
    index = local_rank()
    if environment.device == "cuda":
        if index >= environment.n_devices:
            raise RunError(
                f"process {index} of this host has no device: there are {environment.n_devices}",
                hint="start as many processes as there are devices",
            )
        torch.cuda.set_device(index)
    device = torch.device("cuda", index) if environment.device == "cuda" else torch.device("cpu")
    if world == 1:
        return Mesh.single(device)
    if not torch.distributed.is_initialized():
        # Small objects and the stop signal travel by gloo, so that they never wait for a kernel.
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
        torch.distributed.init_process_group(
            backend, device_id=device if device.type == "cuda" else None
        )
        logger.info("rank %d of %d on %s", rank(), world, device)
    return Mesh.build(device, sizes or AxisSizes(replicate=world))


def stop() -> None:
    """End the process group, if one was started."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def _integer(name: str, default: int) -> int:
    text = os.environ.get(name, "")
    if not text:
        return default
    if not text.isdecimal():
        raise RunError(
            f"the environment variable {name} is {text!r}, not a number",
            hint="let torchrun set it, or unset it",
        )
    return int(text)


def _cores() -> int:
    return os.cpu_count() or 1


def _cpu_info() -> str:
    path = Path("/proc/cpuinfo")
    return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""


def _cpu_name() -> str:
    found = re.search(r"^model name\s*:\s*(.+)$", _cpu_info(), flags=re.MULTILINE)
    return found[1].strip() if found else platform.processor() or platform.machine()


def _host_memory() -> int:
    """Bytes that this host's processes may use: the machine's memory or the container's limit."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = Path("/sys/fs/cgroup/memory.max")
    if limit.exists() and (text := limit.read_text().strip()).isdecimal():
        return min(total, int(text))
    return total
