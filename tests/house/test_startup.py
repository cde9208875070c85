"""The command line answers at once: it imports neither torch nor anything that does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.house.source import ROOT

N_TRIES = 5
BUDGET_S = 0.15

START = "from tunesmith.cli.main import main; main()"

# Runs the command line in this process, and says on the last line what it has imported.
LOADED = """
import sys
from tunesmith.cli.main import main
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
finally:
    heavy = {"torch", "transformers", "datasets", "peft", "numpy"}
    print("\\nLOADED", *sorted(heavy & sys.modules.keys()))
"""

CONFIG = """
base_model: org/model
datasets:
  - path: data.jsonl
    type: alpaca
output_dir: out
learning_rate: 1e-4
micro_batch_size: 1
gradient_accumulation_steps: 1
num_epochs: 1
"""


def _cpu_seconds(*command: str) -> float:
    """User and system time of the child, the smallest of several runs: the rest is the machine."""
    seconds = []
    for _ in range(N_TRIES):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        assert process.stderr is not None
        message = process.stderr.read()
        process.stderr.close()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0, message.decode()
        seconds.append(usage.ru_utime + usage.ru_stime)
    return min(seconds)


def _loaded(*arguments: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", LOADED, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.rpartition("LOADED")[2].split()


@pytest.fixture
def config(tmp_path: Path) -> str:
    (tmp_path / "data.jsonl").write_text('{"instruction": "a", "input": "", "output": "b"}\n')
    path = tmp_path / "run.yaml"
    path.write_text(CONFIG)
    return str(path)


def test_help_is_quick() -> None:
    nothing = _cpu_seconds(sys.executable, "-c", "pass")
    answer = _cpu_seconds(sys.executable, "-c", START, "--help")
    assert answer - nothing <= BUDGET_S, f"--help takes {answer - nothing:.3f} s of CPU"


def test_help_loads_nothing_heavy() -> None:
    assert _loaded("--help") == []


def test_validate_loads_nothing_heavy(config: str) -> None:
    assert _loaded("config", "validate", config) == []


def test_validate_takes_less_than_a_second(config: str) -> None:
    assert _cpu_seconds(sys.executable, "-c", START, "config", "validate", config) < 1


def test_the_package_itself_is_free() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import tunesmith, sys; print('pydantic' in sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    assert done.stdout.strip() == "False"
