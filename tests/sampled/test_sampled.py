"""What validation accepts runs: no config that was found right dies of itself later.

Each seed is a config over the whole schema; what `load` refuses is drawn again. The run is the
command's own, in this process.
"""

from __future__ import annotations

import contextlib
import io
import re
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests import smallrun
from tests.effects.ground import make_ground
from tests.sampled import pools, sampler
from tunesmith.cli.train import train
from tunesmith.config import read
from tunesmith.config.flat import leaves
from tunesmith.dist.runtime import detect
from tunesmith.errors import ConfigError, TunesmithError
from tunesmith.runs import prepare

FEW = 40
MANY = 1000
SEEDS_A_RUN = 20
"""Draws after which a valid config must have been among them."""

DECLARED: Mapping[str, str] = {
    r"nothing is left to train on": "every row is longer, shorter or trains nothing",
    r"`val_set_size: .*` holds out all": "there are fewer rows than are held out",
    r"the chat template refuses this row": "the rows have turns that the template does not know",
    r"the turn is opened by": "the template opens its turns in two ways",
    r"the chat template '.*' cannot be used": "the template wants what this tokenizer lacks",
    r"more than sequence_len": "`excess_length_strategy: error` does what it says",
}
"""Errors about data or machine that no rule on the config can foresee, and what they mean."""


@dataclass(frozen=True)
class Outcome:
    """How a run ended: None, or the error."""

    seed: int
    keys: Mapping[str, Any]
    error: BaseException | None

    @property
    def declared(self) -> str | None:
        """The reason that explains the error, if one is named."""
        if not isinstance(self.error, TunesmithError) or isinstance(self.error, ConfigError):
            return None
        return next(
            (why for text, why in DECLARED.items() if re.search(text, str(self.error))), None
        )


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = make_ground(tmp_path_factory.mktemp("sampled"))
    smallrun.write_rows(folder / "segments.jsonl", smallrun.ROWS["input_output"][0])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TUNESMITH_CACHE", str(folder / "cache"))
        patch.setattr(prepare, "default_workers", lambda: 0)  # render in this process
        patch.chdir(folder)
        yield folder


def valid(number: int, ground: Path) -> tuple[int, dict[str, Any], int]:
    """The first valid config of the run's own seeds, and how many were drawn for it."""
    for turn in range(SEEDS_A_RUN):
        seed = number * SEEDS_A_RUN + turn
        keys = sampler.draw(seed, ground)
        with contextlib.suppress(ConfigError):
            read.load(keys, environment=detect())
            return seed, keys, turn + 1
    raise AssertionError(f"none of {SEEDS_A_RUN} configs was valid")


def run(seed: int, keys: Mapping[str, Any], ground: Path) -> Outcome:
    """Train the config as the command does."""
    folder = ground / f"run-{seed}"
    folder.mkdir()
    path = smallrun.write_yaml(folder, {**keys, "output_dir": str(folder / "out")})
    error: BaseException | None = None
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            train.main([str(path)], standalone_mode=False)
    except (Exception, SystemExit) as raised:
        error = raised
    shutil.rmtree(folder)
    return Outcome(seed, keys, error)


def check(first: int, count: int, ground: Path) -> None:
    """Run so many valid configs, and complain of all that ended for no declared reason."""
    outcomes, drawn = [], 0
    for number in range(first, first + count):
        seed, keys, turns = valid(number, ground)
        drawn += turns
        outcomes.append(run(seed, keys, ground))
    ends = Counter("done" if o.error is None else o.declared or "WRONG" for o in outcomes)
    print(f"{count} valid configs of {drawn} drawn: {dict(ends)}")
    wrong = [o for o in outcomes if o.error is not None and o.declared is None]
    told = "\n\n".join(f"seed {o.seed}: {o.error!r}\n  {dict(o.keys)}" for o in wrong)
    assert not wrong, f"{len(wrong)} of {count}:\n{told}"


def test_each_key_can_be_drawn_or_says_why_not(ground: Path) -> None:
    with_their_entry = ("test_datasets[]", "datasets[].type.")
    for flat, leaf in leaves().items():
        if flat not in {*pools.LEFT_OUT, *pools.FIXED} and not flat.startswith(with_their_entry):
            value = sampler.draw_value(sampler.Random(0), leaf)
            assert value is not None, flat
    assert {*pools.LEFT_OUT, *pools.FIXED} <= set(leaves())


@pytest.mark.parametrize("chunk", range(4))
def test_few_valid_configs_run(chunk: int, ground: Path) -> None:
    check(chunk * FEW // 4, FEW // 4, ground)


@pytest.mark.slow
@pytest.mark.parametrize("chunk", range(FEW, FEW + MANY, 50))
def test_many_valid_configs_run(chunk: int, ground: Path) -> None:
    check(chunk, 50, ground)
