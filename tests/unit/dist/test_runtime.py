"""The runtime: what the machine is, and what the environment variables say."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from tunesmith.dist import runtime
from tunesmith.dist.mesh import Mesh
from tunesmith.errors import RunError

ZEN4 = "processor\t: 0\nflags\t\t: fpu sse2 avx512f avx512_bf16 avx512_vnni\n"
SAPPHIRE = "processor\t: 0\nflags\t\t: fpu avx512f amx_bf16 amx_tile\n"
HASWELL = "processor\t: 0\nflags\t\t: fpu sse2 avx2 fma\n"
CASCADE = "processor\t: 0\nflags\t\t: fpu avx512f avx512_vnni\n"
NEOVERSE = "processor\t: 0\nFeatures\t: fp asimd i8mm bf16\n"


@pytest.mark.parametrize(
    ("cpu_info", "has_units"),
    [
        (ZEN4, True),
        (SAPPHIRE, True),
        (HASWELL, False),
        (CASCADE, False),
        (NEOVERSE, True),
        (NEOVERSE.replace(" bf16", ""), False),
        (ZEN4 + HASWELL, False),
        ("", False),
    ],
)
def test_bf16_units_are_read_from_the_flags(cpu_info, has_units):
    assert runtime.has_bf16_units(cpu_info) is has_units


@pytest.fixture
def bare(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "TUNESMITH_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def test_detect_describes_this_machine(bare):
    found = runtime.detect()
    assert found.device == ("cuda" if torch.cuda.is_available() else "cpu")
    assert found.n_devices >= 1
    assert found.cores >= 1
    assert found.device_name
    assert 2**28 < found.host_memory_bytes < 2**50
    assert found.versions["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert "python" in found.versions
    if found.device == "cpu":
        assert found.capability is None
        assert found.memory_bytes == found.host_memory_bytes
        flags = Path("/proc/cpuinfo")
        assert found.bf16_compute is runtime.has_bf16_units(
            flags.read_text() if flags.exists() else ""
        )


def test_a_single_process_starts_nothing(bare):
    mesh = runtime.start(dataclasses.replace(runtime.detect(), device="cpu"))
    assert mesh == Mesh.single("cpu")
    assert not torch.distributed.is_initialized()
    runtime.stop()


def test_ranks_come_from_the_environment(bare):
    assert (runtime.rank(), runtime.world_size(), runtime.local_rank()) == (0, 1, 0)
    for name, value in (("RANK", "5"), ("WORLD_SIZE", "8"), ("LOCAL_RANK", "1")):
        bare.setenv(name, value)
    assert (runtime.rank(), runtime.world_size(), runtime.local_rank()) == (5, 8, 1)


def test_a_variable_that_is_no_number_is_named(bare):
    bare.setenv("WORLD_SIZE", "two")
    with pytest.raises(RunError, match="WORLD_SIZE is 'two'"):
        runtime.world_size()


def test_the_cache_has_a_place(bare, tmp_path):
    assert runtime.cache_dir() == Path.home() / ".cache" / "tunesmith"
    bare.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert runtime.cache_dir() == tmp_path / "xdg" / "tunesmith"
    bare.setenv("TUNESMITH_CACHE", str(tmp_path / "mine"))
    assert runtime.cache_dir() == tmp_path / "mine"
