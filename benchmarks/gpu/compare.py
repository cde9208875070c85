"""Ours beside plain transformers and peft, on one GPU, in one command.

``python -m benchmarks.gpu.compare --works lora-8b,full-1.7b --out DIR --budget 540`` prints a line
when a run is done and the table at the end; the raw steps and logs are under DIR. A run is
``name:key=value;...``: ``ours`` takes flat config keys, ``hf`` takes ``compile``, ``recompute`` and
``attention``. A ratio counts only within one call, on one card.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmarks.gpu.material import write_base, write_rows
from benchmarks.gpu.shapes import WORKS, Work, document_lengths, mean_keys

WARM = 5
"""Steps before the first that is timed: compiling, allocator."""

PEAK_FLOPS = 989e12
"""Dense bf16 operations a second of an H100 SXM or H200, by their datasheets."""


@dataclass(frozen=True, slots=True)
class Spec:
    """One run: who, with which settings."""

    text: str

    @property
    def who(self) -> str:
        """``ours`` or ``hf``."""
        return self.text.partition(":")[0]

    @property
    def settings(self) -> dict[str, str]:
        """What stands behind the colon."""
        rest = self.text.partition(":")[2]
        return dict(pair.partition("=")[::2] for pair in rest.split(";") if pair)

    def command(self, work: Work, base: Path, rows: Path, out: Path, n_steps: int) -> list[str]:
        """The command of its process."""
        common = ["--work", work.name, "--rows", str(rows), "--out", str(out)]
        common += ["--steps", str(n_steps)]
        if self.who == "ours":
            extra: list[str] = []
            for name, value in self.settings.items():
                extra += (
                    [f"--{name}"] if name in ("profile", "syncs") else ["--set", f"{name}={value}"]
                )
            module = "benchmarks.gpu.ours"
            return [sys.executable, "-m", module, *common, "--base", str(base), *extra]
        extra = [
            f"--{name}" if name in ("compile", "recompute") else f"--{name}={value}"
            for name, value in self.settings.items()
        ]
        return [sys.executable, "-m", "benchmarks.gpu.hf_loop", *common, *extra]


def measure(
    spec: Spec, work: Work, paths: tuple[Path, Path, Path], limits: tuple[int, float]
) -> dict[str, Any]:
    """Run the process, and what its steps show; ``limits`` are steps and seconds."""
    base, rows, out = paths
    n_steps, seconds = limits
    out.mkdir(parents=True, exist_ok=True)
    command = spec.command(work, base, rows, out, n_steps)
    started = time.time()
    with (out / "log.txt").open("w", encoding="utf-8") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=subprocess.STDOUT, env=_environment()
        )
        try:
            code: int | str = process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            code = "time limit"
    result = {"run": spec.text, "work": work.name, "exit": code, "wall": time.time() - started}
    return result | summary(work, out / "steps.jsonl")


def summary(work: Work, path: Path) -> dict[str, Any]:
    """Median step, tokens a second, share of the card's peak, memory, time to the first step."""
    if not path.exists():
        return {}
    steps = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    timed = [step for step in steps if step["step"] > WARM]
    if not timed:
        return {"steps": len(steps)}
    seconds = median(step["seconds"] for step in timed)
    rate = median(step["tokens"] / step["seconds"] for step in timed)
    keys = mean_keys(document_lengths(50 * work.tokens, work.sequence_len, seed=1234))
    return {
        "steps": len(steps),
        "step_ms": 1e3 * seconds,
        "spread_ms": 1e3 * (max(s["seconds"] for s in timed) - min(s["seconds"] for s in timed)),
        "tokens_per_second": rate,
        "mfu": rate * work.flops(keys) / PEAK_FLOPS,
        "first_step_s": steps[0]["since_start"],
        "first_loss": steps[0].get("loss"),
        "first_grad_norm": steps[0].get("grad_norm"),
        "peak": steps[-1].get("peak", steps[0].get("peak")),
    }


def show(result: dict[str, Any]) -> str:
    """One line of the table."""
    if "step_ms" not in result:
        steps = result.get("steps", 0)
        return f"{result['work']:<12} {result['run']:<44} FAILED: {result['exit']}, {steps} steps"
    peak = (result["peak"] or {}).get("allocated_gib", 0.0)
    return (
        f"{result['work']:<12} {result['run']:<44} {result['step_ms']:8.1f} ms "
        f"(+-{result['spread_ms'] / 2:.1f}) {result['tokens_per_second']:9.0f} tok/s "
        f"MFU {result['mfu']:.3f} {peak:6.1f} GiB, first step {result['first_step_s']:.0f} s"
    )


def _environment() -> dict[str, str]:
    fixed = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    return os.environ | fixed | {"PYTHONUNBUFFERED": "1"}


def main() -> None:
    """Measure every run of every work until the budget is spent."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--works", default="lora-8b,full-1.7b,full-0.6b")
    parser.add_argument("--runs", default="ours hf hf:compile", help="apart by spaces")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--scratch", type=Path, default=Path("/tmp/tunesmith-bench"))
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--budget", type=float, default=540.0, help="seconds for everything")
    parser.add_argument("--tail", type=int, default=15, help="lines of a failed run's log")
    arguments = parser.parse_args()
    end = time.time() + arguments.budget
    results: list[dict[str, Any]] = []
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    print(f"{name}, torch {torch.__version__}", flush=True)
    for work in (WORKS[name] for name in arguments.works.split(",")):
        began = time.time()
        base = write_base(work.shape, arguments.scratch / work.shape.name)
        rows = arguments.scratch / f"{work.name}.jsonl"
        write_rows(work, arguments.steps + 3, rows)
        torch.cuda.empty_cache()
        print(f"{work.name}: base and rows in {time.time() - began:.0f} s", flush=True)
        for spec in map(Spec, arguments.runs.split()):
            left = end - time.time()
            if left < 20:
                print(f"{work.name} {spec.text}: not run, the budget is spent", flush=True)
                continue
            out = arguments.out / f"{work.name}-{len(results)}-{spec.who}"
            result = measure(spec, work, (base, rows, out), (arguments.steps, left))
            results.append(result)
            print(show(result), flush=True)
            _say(out / "log.txt", failed="step_ms" not in result, spec=spec, tail=arguments.tail)
            (arguments.out / "results.json").write_text(json.dumps(results, indent=1))
    print("\n".join(map(show, results)))


def _say(log: Path, *, failed: bool, spec: Spec, tail: int) -> None:
    """What of a run's own words belongs beside its line."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    if failed:
        print("\n".join(f"    {line}" for line in lines[-tail:]), flush=True)
        return
    wanted = [line for line in lines if line.startswith(("plan: ", "compiled graphs"))]
    if spec.settings.keys() & {"profile", "syncs"}:
        wanted = [line for line in lines if line.strip()][-80:]
    print("\n".join(f"    {line}" for line in wanted), flush=True)


if __name__ == "__main__":
    main()
