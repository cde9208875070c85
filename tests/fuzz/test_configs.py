"""Any file is a config or is told what is wrong with it, whatever stands in it.

Every case must end with exit code 0 or 2, each problem with a line (a file that is too large: with
its size), without a traceback, in under a second of CPU and 300 MB; nothing may be executed,
written or asked of a network, and torch stays where it is (`conftest.py` and `worker.py`).
"""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings

from tests.fuzz.texts import RIGHT, files, override_words


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
