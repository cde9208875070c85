"""The other program that is compared with."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def axolotl() -> Path:
    """The interpreter that ``TUNESMITH_AXOLOTL_PYTHON`` names; without it the test is skipped.

    benchmarks/data/README.md says how its environment is made.
    """
    named = os.environ.get("TUNESMITH_AXOLOTL_PYTHON")
    if not named:
        pytest.skip("TUNESMITH_AXOLOTL_PYTHON names no interpreter: nothing to compare with")
    python = Path(named)
    if not python.with_name("axolotl").is_file():
        pytest.fail(f"TUNESMITH_AXOLOTL_PYTHON is {python}: there is no program axolotl beside it")
    return python
