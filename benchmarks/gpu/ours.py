"""One measured run of ``tunesmith train``, in a process of its own.

``python -m benchmarks.gpu.ours --work lora-8b --base DIR --rows FILE --out DIR [--set key=value]``
trains with the shipped defaults, without the probes, and the keys given, and writes
``steps.jsonl`` as it goes. With ``--profile`` one step's kernels are printed, with ``--syncs`` each
place where the host waited for the device inside a step.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from collections import Counter
from pathlib import Path
from typing import Any, get_args

import torch

from benchmarks.gpu.shapes import WORKS, Work
from tunesmith.config.preflight import ProbeName
from tunesmith.launch.api import train

STARTED = time.time()
LOOKED_AT = 8
"""The step that is profiled or watched for waits: compiled and warm."""


def run_keys(work: Work, base: Path, rows: Path, out: Path, n_steps: int) -> dict[str, Any]:
    """Flat keys of the run; whatever can be left to the defaults is."""
    keys: dict[str, Any] = {
        "base_model": str(base),
        "datasets": [{"path": str(rows), "type": "completion"}],
        "output_dir": str(out / "run"),
        "dataset_prepared_path": str(out / "prepared"),
        "sequence_len": work.sequence_len,
        "sample_packing": True,
        "micro_batch_size": work.micro_batch,
        "gradient_accumulation_steps": 1,
        "max_steps": n_steps,
        "learning_rate": 1e-5,
        "max_grad_norm": 1.0,
        "logging_steps": 1,
        "save_strategy": "no",
        "bf16": True,
        # What is measured is training; ``--set preflight_skip=[]`` brings the probes back.
        "preflight_skip": list(get_args(ProbeName)),
    }
    if work.lora_rank:
        keys |= {
            "adapter": "lora",
            "lora_r": work.lora_rank,
            "lora_alpha": 2 * work.lora_rank,
            "lora_target_linear": True,
            "learning_rate": 2e-4,
        }
    return keys


class Enough(Exception):
    """The measured steps are done: what follows (the export) is not measured."""


class Watcher:
    """A callback that writes one line a step, and looks into one step where that was asked for."""

    def __init__(self, path: Path, n_steps: int, looks: set[str]) -> None:
        self._folder = path.parent
        self._file = path.open("w", encoding="utf-8")
        self._n_steps = n_steps
        self._looks = looks
        self._profiler: Any = None
        self._waits: Any = None

    def run_started(self, run: Any, state: Any) -> None:
        """Print what the plan chose."""
        path = self._folder / "run" / "plan.json"
        for name, choice in json.loads(path.read_text(encoding="utf-8"))["values"].items():
            if name in ("compile", "recompute", "attention", "weights_dtype"):
                print(f"plan: {name}: {choice['value']} ({choice['reason']})", flush=True)

    def step_finished(self, run: Any, state: Any, report: Any) -> None:
        """Write the line; start or end a look; stop after the last step."""
        if state.step == 1 and torch.cuda.is_available():
            torch.cuda.synchronize()
        line: dict[str, Any] = {
            "step": state.step,
            "seconds": report.seconds,
            "tokens": report.tokens,
            "since_start": time.time() - STARTED,
        }
        if state.step in (1, self._n_steps):
            line |= {"loss": report.loss, "grad_norm": report.grad_norm, "peak": _peak()}
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()
        self._look(state.step)
        if state.step >= self._n_steps:
            raise Enough

    def _look(self, step: int) -> None:
        if "profile" in self._looks:
            self._profile(step)
        if "syncs" in self._looks:
            self._count_waits(step)

    def _profile(self, step: int) -> None:
        if step == LOOKED_AT:
            torch.cuda.synchronize()
            self._profiler = torch.profiler.profile()
            self._profiler.__enter__()
        elif step == LOOKED_AT + 1:
            torch.cuda.synchronize()
            self._profiler.__exit__(None, None, None)
            averages = self._profiler.key_averages()
            print(averages.table("self_cuda_time_total", row_limit=45, max_name_column_width=90))

    def _count_waits(self, step: int) -> None:
        if step == LOOKED_AT:
            torch.cuda.set_sync_debug_mode("warn")
            self._waits = warnings.catch_warnings(record=True)
            self._found = self._waits.__enter__()
            warnings.simplefilter("always")
        elif step == LOOKED_AT + 1:
            torch.cuda.set_sync_debug_mode("default")
            self._waits.__exit__(None, None, None)
            places = Counter(
                f"{found.filename}:{found.lineno}"
                for found in self._found
                if "synchroniz" in str(found.message)
            )
            print(f"waits of the host in one step: {sum(places.values())}")
            for place, count in places.most_common(20):
                print(f"  {count:4d} {place}")


def _peak() -> dict[str, float]:
    if not torch.cuda.is_available():
        return {}
    return {
        "allocated_gib": torch.cuda.max_memory_allocated() / 2**30,
        "reserved_gib": torch.cuda.max_memory_reserved() / 2**30,
    }


def main() -> None:
    """Train and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", choices=WORKS, required=True)
    parser.add_argument("--base", type=Path, required=True)
    parser.add_argument("--rows", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--set", action="append", default=[], help="key=value, a flat key")
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--syncs", action="store_true")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    # One more than is measured: the export that follows the last step is not reached.
    keys = run_keys(
        WORKS[arguments.work], arguments.base, arguments.rows, arguments.out, arguments.steps + 1
    )
    for pair in arguments.set:
        name, _, value = pair.partition("=")
        keys[name] = json.loads(value)
    looks = {name for name in ("profile", "syncs") if getattr(arguments, name)}
    watcher = Watcher(arguments.out / "steps.jsonl", arguments.steps, looks)
    try:
        train(keys, callbacks=[watcher])
    except Enough:
        counters = torch._dynamo.utils.counters["stats"].get("unique_graphs", 0)
        print(f"compiled graphs: {counters}")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
