from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tunesmith.checkpoint.lock import owning
from tunesmith.errors import ExitCode, RunError

HOLDER = """
import sys, time
from pathlib import Path
from tunesmith.checkpoint.lock import owning
with owning(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_process_is_refused_until_the_first_died(tmp_path):
    source = Path(__file__).parents[3] / "src"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, tmp_path],
        stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": str(source)},
    )  # fmt: skip
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with (
            pytest.raises(RunError, match=f"in use by process {holder.pid}") as caught,
            owning(tmp_path),
        ):
            pass
        assert caught.value.exit_code == ExitCode.IN_USE
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        holder.stdout.close()
    with owning(tmp_path):
        pass


def test_the_same_process_cannot_own_a_folder_twice(tmp_path):
    with owning(tmp_path), pytest.raises(RunError, match=str(os.getpid())), owning(tmp_path):
        pass
    with owning(tmp_path):
        pass


def test_the_folder_is_made(tmp_path):
    with owning(tmp_path / "a" / "b"):
        assert (tmp_path / "a" / "b").is_dir()


RACERS = """
import os, sys, time
from pathlib import Path
from tunesmith.checkpoint.lock import owning
from tunesmith.errors import RunError
for number in range(20):
    folder, ends = Path(sys.argv[1], str(number)), []
    for delay in (0.0, number * 0.0025):
        child = os.fork()
        if child == 0:
            time.sleep(delay)
            try:
                with owning(folder):
                    time.sleep(0.15)
            except RunError as error:
                os._exit(int(error.exit_code))
            os._exit(0)
        ends.append(child)
    print(*sorted(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in ends))
"""


def test_of_two_that_start_at_once_one_runs(tmp_path):
    """Twenty tries, 0 to 50 ms apart."""
    source = Path(__file__).parents[3] / "src"
    done = subprocess.run(
        [sys.executable, "-c", RACERS, tmp_path],
        stdout=subprocess.PIPE, text=True, check=True, env=os.environ | {"PYTHONPATH": str(source)},
    )  # fmt: skip
    assert done.stdout.split("\n")[:-1] == ["0 6"] * 20
