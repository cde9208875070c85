"""One base model and one folder of rows for every whole run."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import smallrun


@pytest.fixture(scope="session")
def ground(tmp_path_factory) -> Path:
    """A folder with ``base`` and, for each format, ``<format>.jsonl``."""
    folder = tmp_path_factory.mktemp("ground")
    smallrun.base(folder)
    for name, (rows, _) in smallrun.ROWS.items():
        smallrun.write_rows(folder / f"{name}.jsonl", rows)
    return folder
