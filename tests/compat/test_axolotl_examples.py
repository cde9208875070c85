"""axolotl's own example configs, where `TUNESMITH_AXOLOTL_EXAMPLES` names a folder with them."""

import os
from pathlib import Path

import pytest

from tunesmith.config.read import load
from tunesmith.errors import ConfigError

FOLDER = os.environ.get("TUNESMITH_AXOLOTL_EXAMPLES", "")

# Keys in its examples that mean nothing in axolotl either; each is refused.
MISTAKES = {"context_parapllel_size", "test_value", "torch_dtype"}


@pytest.fixture(scope="module")
def examples() -> list[Path]:
    if not FOLDER:
        pytest.skip("TUNESMITH_AXOLOTL_EXAMPLES names no folder")
    found = sorted(Path(FOLDER).rglob("*.y*ml"))
    assert len(found) > 200
    return found


def test_every_example_loads_or_is_refused_with_a_reason_and_a_place(examples):
    for path in examples:
        try:
            load(path)
        except ConfigError as error:
            problems = error.problems
        else:
            continue
        assert problems
        for problem in problems:
            assert problem.code != "yaml", path
            assert problem.message, path
            assert problem.line or problem.code == "missing", (path, problem)
            if problem.code == "unknown-key":
                assert problem.key in MISTAKES, (path, problem)


def test_the_examples_of_what_is_built_load(examples):
    assert sum(_loads(path) for path in examples) >= 59


def _loads(path: Path) -> bool:
    try:
        load(path)
    except ConfigError:
        return False
    return True
