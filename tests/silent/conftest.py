"""A tiny random model, rows in every format, and `train` on them with a defect somewhere below."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.tiny import build
from tests.silent.attempts import Attempts
from tests.silent.cells import MORE_FAMILIES
from tests.smallrun import ground
from tests.unit.export.parts import byte_tokenizer
from tunesmith.runs import request

__all__ = ["ground"]


@pytest.fixture
def attempts(ground: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Attempts:
    """Runs in an empty folder with a cache of their own; rows are rendered in this process."""
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(request, "default_workers", lambda: 0)
    return Attempts(ground, tmp_path)


@pytest.fixture
def family_base(ground: Path, tmp_path: Path) -> Callable[..., str]:
    """Makes the folder of a tiny random model of a family, with the tokenizer of the others."""

    def make(name: str, **changes: Any) -> str:
        folder = tmp_path / name
        sizes = {"vocab_size": 259, "pad_token_id": 256, "bos_token_id": 257, "eos_token_id": 258}
        wanted = {**sizes, **MORE_FAMILIES.get(name, {}), **changes}
        build(name, attention="eager", **wanted).save_pretrained(folder)
        byte_tokenizer().save_pretrained(folder)
        return str(folder)

    return make
