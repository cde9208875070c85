"""Small faults put into copies of our package: each must show in the comparison by hand."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import tunesmith
from tests.reference.mutants import SETS, UNCHANGED

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", ["usual", pytest.param("further", marks=pytest.mark.slow)])
def test_every_mutant_is_seen_and_the_package_as_it_is_passes(tmp_path, name):
    mutants = SETS[name]
    # One process for all: half of what a run costs is the import of torch and its kin.
    source = Path(tunesmith.__file__).parent
    done = subprocess.run(
        [sys.executable, "-m", "tests.reference.mutants", str(source), str(tmp_path), name],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    verdicts = json.loads(done.stdout[done.stdout.index("{") :])
    unchanged = {name: verdicts.pop(name) for name in [*verdicts] if name.startswith(UNCHANGED)}
    assert len(unchanged) == len({(mutant.kind, mutant.layout) for mutant in mutants})
    assert set(unchanged.values()) == {"equal"}, unchanged
    assert list(verdicts) == [mutant.name for mutant in mutants]
    lives = {name: verdict for name, verdict in verdicts.items() if verdict == "equal"}
    broken = {name: verdict for name, verdict in verdicts.items() if verdict.startswith("raised")}
    assert not lives, f"not seen: {lives}"
    assert not broken, f"not compared: {broken}"


def test_there_are_ten_mutants_at_least():
    names = [mutant.name for mutants in SETS.values() for mutant in mutants]
    assert len(SETS["usual"]) >= 10
    assert len({*names}) == len(names)
