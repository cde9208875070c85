"""Packing a million lengths, and how full the rows are at a hundred thousand.

    python -m benchmarks.data.packing [--axolotl PYTHON]

PYTHON is an interpreter that has axolotl; its first-fit packer then gets the same lengths, in the
same run on the same machine, and the ratio of processor time is printed as well.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from tunesmith.data.packing import PackingRule, plan_epoch

CAPACITY = 4096

THEIRS = """
import json, sys, time
import numpy as np
from axolotl.utils.samplers.multipack import pack_parallel
lengths = np.load(sys.argv[1])
pack = lambda rows: pack_parallel(rows, int(sys.argv[2]), group_size=100000, bin_size=200,
    num_processes=1, safe_mode=True, mp_start_method="fork")
pack(lengths[:1000])  # numba compiles here
start = time.process_time()
bins = pack(lengths)
print(json.dumps({"cpu_seconds": time.process_time() - start, "bins": len(bins)}))
"""


def lengths_of(n_rows: int) -> np.ndarray:
    """Lengths as instruction data has them: many short, few long."""
    draw = np.random.default_rng(0)
    return np.clip(draw.lognormal(5.5, 0.9, n_rows), 8, CAPACITY).astype(np.int32)


def measure(n_rows: int) -> dict[str, float]:
    """One epoch's plan of so many rows."""
    lengths = lengths_of(n_rows)
    start = time.process_time()
    plan = plan_epoch(lengths, PackingRule(CAPACITY), key=1)
    seconds = time.process_time() - start
    fill = float(lengths.sum()) / (len(plan) * CAPACITY)
    return {"cpu_seconds": seconds, "bins": len(plan), "fill": fill}


def measure_theirs(python: Path, n_rows: int) -> dict[str, float]:
    """The same by axolotl's packer."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "lengths.npy"
        np.save(path, lengths_of(n_rows))
        command = [str(python), "-c", THEIRS, str(path), str(CAPACITY)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Print one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--axolotl", type=Path, help="An interpreter that has axolotl.")
    arguments = parser.parse_args()
    found = {"a hundred thousand": measure(100_000), "a million": measure(1_000_000)}
    if arguments.axolotl:
        theirs = measure_theirs(arguments.axolotl, 1_000_000)
        theirs["fill"] = float(lengths_of(1_000_000).sum()) / (theirs["bins"] * CAPACITY)
        theirs["ratio"] = theirs["cpu_seconds"] / found["a million"]["cpu_seconds"]
        found["axolotl, a million"] = theirs
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
