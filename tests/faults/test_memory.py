"""Memory that is short: told before step 1, with the row."""

from __future__ import annotations

import re

import pytest

from tests import warm
from tests.faults.runs import config
from tests.smallrun import write_rows, write_yaml

# The address space may grow by so much from the first call of {part} on: a machine that is smaller.
SHORT = """
import importlib, resource
module, _, name = {part!r}.partition(":")
owner = importlib.import_module(module)
real = getattr(owner, name)
def on_a_small_machine(*arguments, **more):
    with open("/proc/self/statm") as file:
        now = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + {room}, resource.RLIM_INFINITY))
    return real(*arguments, **more)
setattr(owner, name, on_a_small_machine)
"""
LONG = {"sequence_len": 2200, "micro_batch_size": 4, "val_set_size": None, "eval_steps": None}
BATCH = "tunesmith.runs.preflight.longest:_batch"


@pytest.fixture
def rows(tmp_path):
    """Twelve conversations; the seventh is the longest."""

    def conversation(number):
        n_words = 500 if number == 6 else 400 + number
        return {
            "messages": [
                {"role": "user", "content": f"Say sun {number}"},
                {"role": "assistant", "content": "sun " * n_words},
            ]
        }

    return write_rows(tmp_path / "rows.jsonl", map(conversation, range(12)))


def test_a_batch_that_does_not_fit_is_told_with_its_row_before_step_1(ground, rows, tmp_path):
    data = [{"path": str(rows), "type": "chat_template"}]
    path = write_yaml(tmp_path, config(ground, "lora", datasets=data, **LONG))
    done = warm.run(tmp_path, "train", path, before=SHORT.format(part=BATCH, room=8 << 20))
    assert done.code == 3, done
    said = " ".join(done.err.split())
    assert re.search(r"does not fit into memory: [\d,]+ tokens, the longest row 2,0\d\d", said)
    assert "rows.jsonl:7" in said
    assert "lower micro_batch_size" in said
    assert not (tmp_path / "out/metrics.jsonl").exists()


# From the longest batch on, the optimizer's state is a petabyte.
HUGE = """
from tunesmith.optim.optimizer import Optimizer
from tunesmith.runs.preflight import longest
real = longest._batch
def on(*arguments):
    Optimizer.expected_bytes = lambda optimizer: 1 << 50
    return real(*arguments)
longest._batch = on
"""


def test_the_optimizers_state_counts_although_it_is_made_later(ground, tmp_path):
    path = write_yaml(tmp_path, config(ground, "lora"))
    done = warm.run(tmp_path, "train", path, before=HUGE)
    assert done.code == 3, done
    assert "the largest micro-batch does not fit into memory" in " ".join(done.err.split())
