"""A thread that collates and fails or hangs is told of, with the row."""

from __future__ import annotations

import threading
import time

import pytest

from tests.unit.engine.parts import make_rows, order
from tunesmith.data import ahead
from tunesmith.data.stream import MapStream
from tunesmith.dist.mesh import Mesh
from tunesmith.errors import DataError, ExitCode


class Odd:
    """Rows of which one does something else."""

    def __init__(self, row, action):
        self._rows, self._row, self._action = make_rows(24), row, action

    def __getattr__(self, name):
        return getattr(self._rows, name)

    def __len__(self):
        return len(self._rows)

    def __getitem__(self, row):
        if row == self._row:
            self._action()
        return self._rows[row]


def broken():
    raise OSError("Input/output error")


@pytest.mark.parametrize("workers", [0, 2])
def test_a_row_that_cannot_be_read_is_named(workers):
    made = MapStream(Odd(5, broken), order(workers=workers), Mesh.single("cpu"))
    with pytest.raises(DataError, match="prepared row 5 cannot be read: Input/output error"):
        list(made.from_step(0))
    for thread in threading.enumerate():
        if thread.name.startswith("collate"):
            thread.join(5)
            assert not thread.is_alive()


def test_a_thread_that_hangs_is_named_with_its_row(monkeypatch):
    monkeypatch.setattr(ahead, "STALLED_SECONDS", 0.2)
    monkeypatch.setattr(ahead, "LAST_SECONDS", 0.2)
    release = threading.Event()
    made = MapStream(Odd(5, lambda: release.wait(30)), order(workers=2), Mesh.single("cpu"))
    started = time.monotonic()
    with pytest.raises(DataError, match=r"prepared rows being read: (\d+, )*5") as caught:
        list(made.from_step(0))
    assert time.monotonic() - started < 5
    assert caught.value.exit_code == ExitCode.OUTSIDE_FAILED
    release.set()
