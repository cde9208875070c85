from __future__ import annotations

from pathlib import Path

import pytest

from tests import smallrun
from tests.security.opens import Opens


@pytest.fixture
def fired(tmp_path: Path) -> Path:
    """The file that a canary makes."""
    return tmp_path / "fired"


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A good model with its tokenizer, for somebody to spoil."""
    return smallrun.base(tmp_path / "ground")


@pytest.fixture
def opens() -> Opens:
    return Opens()
