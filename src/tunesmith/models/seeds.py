"""Values of new parameters: a pure function of (seed, name), whatever the order or the rank."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor


def generator(seed: int, name: str) -> torch.Generator:
    """Return a CPU generator keyed by the seed and a parameter's name."""
    digest = hashlib.sha256(f"parameter:{seed}:{name}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def draw_uniform(parameter: Tensor, bound: float, *, seed: int, name: str) -> None:
    """Fill a parameter with float32 values from [-bound, bound), drawn on the CPU."""
    values = torch.empty(parameter.shape, dtype=torch.float32)
    values.uniform_(-bound, bound, generator=generator(seed, name))
    with torch.no_grad():
        parameter.copy_(values)
