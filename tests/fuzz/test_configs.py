"""Any file is a config or is told what is wrong with it, whatever stands in it.

Every case must end with exit code 0 or 2, each problem with a line (a file that is too large: with
its size), without a traceback, in under a second of CPU and 300 MB; nothing may be executed,
written or asked of a network, and torch stays where it is (`conftest.py` and `worker.py`).
"""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings

from tests.fuzz.conftest import placeless
from tests.fuzz.texts import NASTY, RIGHT, files, key_paths, override_words, with_value
from tunesmith.config.read import load
from tunesmith.errors import ConfigError


def examples(number: int) -> settings:
    return settings(
        max_examples=number,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


@examples(240)
@given(raw=files())
def test_any_file_loads_or_is_refused_with_a_place(judge, raw):
    judge.validate(raw)


@examples(60)
@given(words=override_words())
def test_any_overrides_are_applied_or_refused(judge, words):
    judge.path.write_bytes(RIGHT)
    judge.command("config", "explain", "learning_rate", str(judge.path), *words)


@pytest.mark.slow
@examples(8_000)
@given(raw=files())
def test_thousands_of_files(judge, raw):
    judge.validate(raw)


@pytest.mark.slow
@examples(2_000)
@given(words=override_words())
def test_thousands_of_overrides(judge, words):
    judge.path.write_bytes(RIGHT)
    judge.command("config", "explain", "learning_rate", str(judge.path), *words)


@pytest.mark.slow
@pytest.mark.parametrize("value", NASTY)
def test_every_key_takes_or_refuses_every_value(tmp_path, value):
    path = tmp_path / "run.yaml"
    for key in key_paths():
        text = with_value(RIGHT.decode(), key, value)
        path.write_bytes(text.encode("utf-8", "surrogatepass"))
        try:
            load(path)
        except ConfigError as error:
            problems = error.problems
        else:
            continue
        assert problems
        for problem in problems:
            assert problem.message
            assert problem.line or placeless(problem), (key, problem)
