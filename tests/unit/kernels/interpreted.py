"""Where Triton's kernels can run: on a GPU, or interpreted where TRITON_INTERPRET is set."""

from __future__ import annotations

import os
from importlib.util import find_spec

import pytest
import torch

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1" and find_spec("triton") is not None
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"

triton_runs = pytest.mark.skipif(
    not (torch.cuda.is_available() or INTERPRETED),
    reason="needs a GPU, or triton and TRITON_INTERPRET=1",
)
