"""A base and rows for every test of this folder, and the traces that several of them need."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.reference.loop import read_rows
from tests.reference.loop import train as train_by_hand
from tests.reference.parts import Ground, make_ground

PEFT_ASKS_THE_OLD_NAME = "ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"
"""peft looks at this attribute when it wraps a model; transformers warns of it."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The loop by hand wraps models as peft's users do."""
    for item in items:
        if item.path.parent == Path(__file__).parent:
            item.add_marker(pytest.mark.filterwarnings(PEFT_ASKS_THE_OLD_NAME))


@pytest.fixture(scope="session")
def ground(tmp_path_factory) -> Ground:
    return make_ground(tmp_path_factory.mktemp("reference"))


@pytest.fixture(scope="session")
def by_hand():
    """The loop by hand, once for equal steps of equal configs, however they are accumulated."""
    known = {}

    def run(config, folder, steps, adapter):
        varying = ("output_dir", "micro_batch_size", "gradient_accumulation_steps")
        kept = {key: value for key, value in config.items() if key not in varying}
        key = repr((sorted(kept.items(), key=str), steps))
        if key not in known:
            rows = read_rows(config["datasets"][0]["path"])
            held_out = read_rows(config["test_datasets"][0]["path"])
            known[key] = train_by_hand(
                {**config, "folder": str(folder)}, steps, adapter, rows, list(held_out.values())
            )
        return known[key]

    return run
