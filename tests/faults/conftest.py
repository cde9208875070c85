"""The base model and the rows of small whole runs, and a summary of what the faults left behind."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests import warm
from tests.faults.runs import config
from tests.smallrun import (
    ground,  # noqa: F401 - a fixture
    write_yaml,
)

FIGURES: list[str] = []


@pytest.fixture
def figure() -> Callable[[str], None]:
    """Takes a line for the end of the report: how many of how many."""
    return FIGURES.append


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the figures."""
    if FIGURES:
        terminalreporter.section("faults")
        for line in FIGURES:
            terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def whole(ground, tmp_path_factory):  # noqa: F811
    """Makes the output folder of an uninterrupted run, once for each method."""
    made = {}

    def of(name):
        if name not in made:
            folder = tmp_path_factory.mktemp(name)
            done = warm.run(folder, "train", write_yaml(folder, config(ground, name)))
            assert (done.code, done.err) == (0, "")
            made[name] = folder / "out"
        return made[name]

    return of
