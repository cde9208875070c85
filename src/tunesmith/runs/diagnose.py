"""What this machine is, and what would be used on it and why: found by trying, not by asking."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from importlib.util import find_spec
from typing import Any

import torch

from tunesmith.config.environment import Environment
from tunesmith.dist import runtime
from tunesmith.kernels.attention import pick_attention
from tunesmith.kernels.documents import Scoring

EXTRAS = {
    "bitsandbytes": "4- and 8-bit bases, 8-bit and paged optimizers (extra `bnb`)",
    "gguf": "base models in .gguf files (extra `gguf`)",
    "zstandard": "data in .zst files",
    "sentencepiece": "tokenizers that come as SentencePiece files only",
}
"""Optional packages and what they are for."""


@dataclass(frozen=True, slots=True)
class Check:
    """One line: what was looked at, whether it is there, and what that means."""

    name: str
    works: bool
    meaning: str


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """The machine and every check."""

    environment: Environment
    checks: tuple[Check, ...]

    def to_json(self) -> list[dict[str, Any]]:
        """The checks as plain data."""
        return [asdict(check) for check in self.checks]

    def lines(self) -> list[str]:
        """Machine, versions, checks, for people."""
        env = self.environment
        memory = f"{env.memory_bytes / 2**30:.0f} GiB, " if env.memory_bytes else ""
        lines = [
            f"device      {env.n_devices} x {env.device_name} ({memory}{env.device})",
            f"host        {env.cores} cores, {env.host_memory_bytes / 2**30:.0f} GiB",
            "versions    " + ", ".join(f"{name} {v}" for name, v in sorted(env.versions.items())),
        ]
        width = max(len(check.name) for check in self.checks)
        lines += [
            f"{'yes' if check.works else 'no ':<4}{check.name:<{width}}  {check.meaning}"
            for check in self.checks
        ]
        return lines


def diagnose() -> Diagnosis:
    """The machine as it is now; each device feature is tried with a small product."""
    environment = runtime.detect()
    checks = [_bf16(environment), *_attention(environment), _writable_cache()]
    checks += [
        Check(name, find_spec(name) is not None, meaning) for name, meaning in EXTRAS.items()
    ]
    return Diagnosis(environment, tuple(checks))


def _bf16(environment: Environment) -> Check:
    meaning = (
        "`bf16: auto` means bf16"
        if environment.bf16_compute
        else "`bf16: auto` means fp32: bf16 products are slow or missing here"
    )
    return Check("bf16 units", environment.bf16_compute, meaning)


def _attention(environment: Environment) -> list[Check]:
    """Which kernel attends to packed documents, for each dtype."""
    checks = []
    for dtype in (torch.bfloat16, torch.float32):
        choice = pick_attention(environment.device, dtype, 128, scoring=Scoring(128**-0.5))
        name = str(dtype).removeprefix("torch.")
        meaning = f"{choice.way.value}: {choice.reason}"
        checks.append(Check(f"attention in {name}", True, meaning))
    return checks


def _writable_cache() -> Check:
    folder = runtime.cache_dir()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        return Check("cache folder", False, f"{folder}: {error.strerror}; set TUNESMITH_CACHE")
    return Check("cache folder", True, str(folder))
