"""Measured peaks and step times beside what the plan said, over settings drawn by seed.

``python -m benchmarks.memory.measure [--seed 0] [--count 12] [--device cpu] [--only 03]``
prints a line a setting and the errors' summary, and writes ``results/<device>-<seed>.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
import transformers
from ruamel.yaml import YAML

from benchmarks.gpu.material import write_tokenizer
from benchmarks.memory.settings import Setting, draw

STEPS = 3
HELD_OUT = 4
MIB = 2**20


def write_base(setting: Setting, folder: Path) -> None:
    """Random weights in bf16, as hubs have them, and a tokenizer of made-up words."""
    shape = {k: v for k, v in setting.config.items() if k != "model_type"}
    config = transformers.AutoConfig.for_model(setting.config["model_type"], **shape)
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.save_pretrained(folder)
    write_tokenizer(setting.config["vocab_size"], folder)


def write_rows(setting: Setting, path: Path) -> None:
    """Documents of which every step gets as much as any step of a long run: the peak comes soon.

    Packed, four of them fill a row; alone, each is about as long as may be.
    """
    keys, draw_ = setting.keys, np.random.default_rng(0)
    a_step = keys["micro_batch_size"] * keys["gradient_accumulation_steps"]
    longest = keys["sequence_len"] - 2
    if keys["sample_packing"]:
        lengths = [keys["sequence_len"] // 4 - 1] * (4 * a_step * (STEPS + 1) + HELD_OUT)
    else:
        count = a_step * (STEPS + 1) + HELD_OUT
        lengths = [longest, *draw_.integers(0.95 * longest, longest, size=count).tolist()]
    with path.open("w", encoding="utf-8") as file:
        for length in lengths:
            words = draw_.integers(3, setting.config["vocab_size"], size=length)
            file.write(json.dumps({"text": " ".join(f"w{w}" for w in words)}) + "\n")


def config_of(setting: Setting, folder: Path) -> dict[str, Any]:
    """The whole YAML: what was drawn, and what every run has."""
    return {
        "base_model": str(folder / "base"),
        "datasets": [{"path": str(folder / "rows.jsonl"), "type": "completion"}],
        "output_dir": str(folder / "out"),
        "dataset_prepared_path": str(folder / "prepared"),
        "val_set_size": HELD_OUT,
        "max_steps": STEPS,
        "save_steps": 2,
        "eval_steps": 2,
        # A run that ends where it began is refused, and so few steps of SGD are short.
        "learning_rate": 1.0 if setting.keys["optimizer"] == "sgd" else 1e-3,
        "dataset_num_proc": 1,
        **setting.keys,
    }


def measure(setting: Setting, *, phases: bool) -> dict[str, Any]:
    """What one run took, and what its plan had said."""
    with tempfile.TemporaryDirectory(prefix="tunesmith-memory-") as scratch:
        folder = Path(scratch)
        write_base(setting, folder / "base")
        write_rows(setting, folder / "rows.jsonl")
        with (folder / "run.yaml").open("w", encoding="utf-8") as file:
            YAML().dump(config_of(setting, folder), file)
        words = [*(["--phases"] if phases else []), str(folder / "run.yaml")]
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-m", "benchmarks.memory.child", *words],
            capture_output=True,
            text=True,
            check=False,
            env=os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        )
        if done.returncode != 0:
            raise RuntimeError(f"{setting.name}: {done.stderr[-2000:]}{done.stdout[-500:]}")
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        if found["code"] != 0:
            raise RuntimeError(f"{setting.name}: exit {found['code']}\n{done.stderr[-2000:]}")
        values = json.loads((folder / "out/plan.json").read_text())["values"]
        lines = (folder / "out/metrics.jsonl").read_text().splitlines()
        steps = [json.loads(line) for line in lines]
        shutil.rmtree(folder / "out")
    seconds = [step["seconds"] for step in steps if "seconds" in step]
    return {
        "name": setting.name,
        "config": setting.config,
        "keys": setting.keys,
        "measured": found["peak"],
        "estimated": values["memory_gib"]["value"] * 2**30,
        "reason": values["memory_gib"]["reason"],
        "phases": found["phases"],
        "imports": found["imports"],
        "seconds": seconds,
        "cpu_seconds": [found["user"], found["system"]],
    }


def line_of(result: dict[str, Any]) -> str:
    """The setting, both figures, and the error."""
    measured, estimated = result["measured"], result["estimated"]
    told = "no estimate"
    if estimated is not None:
        told = f"{estimated / MIB:8.0f} {(estimated / measured - 1) * 100:+6.1f} %"
    keys = {k: v for k, v in result["keys"].items() if k not in ("adapter", "lora_alpha")}
    shown = " ".join(f"{k}={v}" for k, v in keys.items())
    return f"{result['name']:32} {measured / MIB:8.0f} {told}  {shown}"


def summary(results: list[dict[str, Any]]) -> dict[str, float]:
    """The errors' median, their ninth decile, and the largest amount below what was measured."""
    errors = [r["estimated"] / r["measured"] - 1 for r in results if r["estimated"] is not None]
    sizes = sorted(map(abs, errors))
    return {
        "settings": len(errors),
        "median_error": median(sizes),
        "nine_in_ten_below": sizes[max(0, -(-9 * len(sizes) // 10) - 1)],
        "most_under": max(0.0, -min(errors)),
    }


def main() -> None:
    """Measure all settings, or one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=12)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--only", default="", help="the settings' numbers, separated by commas")
    parser.add_argument("--phases", action="store_true")
    asked = parser.parse_args()
    path = Path(__file__).parent / "results" / f"{asked.device}-{asked.seed}.json"
    results = []
    for setting in draw(asked.seed, asked.count, asked.device):
        if asked.only and setting.name.split()[0] not in asked.only.split(","):
            continue
        results.append(measure(setting, phases=asked.phases))
        print(line_of(results[-1]), flush=True)
        if asked.phases:
            print("    user and system seconds", *results[-1]["cpu_seconds"])
        for name, calls in results[-1]["phases"].items():
            shown = ", ".join(f"{most / MIB:.0f} ({left / MIB:.0f})" for most, left in calls)
            print(f"    {name:14} {shown}", flush=True)
        write_results(path, results)
    print(json.dumps(json.loads(path.read_text())["summary"], indent=2))


def write_results(path: Path, new: list[dict[str, Any]]) -> None:
    """Put new results beside those of the same draw; the newest of each setting counts."""
    path.parent.mkdir(exist_ok=True)
    earlier = json.loads(path.read_text())["results"] if path.exists() else []
    by_name = {result["name"]: result for result in [*earlier, *new]}
    results = [by_name[name] for name in sorted(by_name)]
    report = {"summary": summary(results), "torch": torch.__version__, "results": results}
    path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
