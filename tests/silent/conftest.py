"""A tiny random model, rows in every format, and `train` on them with a defect somewhere below."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.silent.attempts import Attempts
from tests.smallrun import ground
from tunesmith.runs import prepare

__all__ = ["ground"]


@pytest.fixture
def attempts(ground: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Attempts:
    """Runs in an empty folder with a cache of their own; rows are rendered in this process."""
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(prepare, "default_workers", lambda: 0)
    return Attempts(ground, tmp_path)
