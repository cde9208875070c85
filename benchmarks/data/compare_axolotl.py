"""Preparing data here and in axolotl: the same YAML and machine, one after the other.

    python -m benchmarks.data.compare_axolotl --axolotl PYTHON --reference FOLDER

PYTHON is the interpreter of an environment of its own with axolotl (README.md beside this file says
how it is made); FOLDER holds data/instruct. Prints a table of ratios, axolotl over
ours, and writes every single measurement to a JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.data import packing
from benchmarks.data.corpora import alpaca_rows, chat_rows, write_rows
from benchmarks.data.process_cost import Cost, measure
from tunesmith.config.model import ModelSection
from tunesmith.models.source import locate
from tunesmith.runs.quickstart import find_model

RESULTS = Path(__file__).parent / "results"
SECONDS = 1800.0
TARGETS = {"alpaca": 1.5, "chat": 5.0, "packing": 5.0}
"""Times less processor time than axolotl that we hold ourselves to."""


@dataclass(frozen=True, slots=True)
class Job:
    """One corpus prepared with so many workers; ``name`` is also that of its target."""

    name: str
    workers: int
    data: dict[str, Any]

    @property
    def label(self) -> str:
        """As the table calls it."""
        return f"{self.name}, {self.workers} worker{'s' if self.workers > 1 else ''}"


def jobs_of(folder: Path, reference: Path, sizes: tuple[int, int]) -> list[Job]:
    """The corpora, written, and who prepares them how."""
    alpaca = write_rows(folder / "alpaca.jsonl", alpaca_rows(reference, sizes[0]))
    chats = write_rows(folder / "chats.jsonl", chat_rows(reference, sizes[1]))
    given: dict[str, dict[str, Any]] = {
        "alpaca": {"datasets": [{"path": str(alpaca), "type": "alpaca", "ds_type": "json"}]},
        "chat": {
            "datasets": [{"path": str(chats), "type": "chat_template", "ds_type": "json"}],
            "chat_template": "tokenizer_default",
        },
    }
    return [Job(name, workers, data) for name, data in given.items() for workers in (1, 2)]


def write_config(job: Job, base: Path, folder: Path) -> Path:
    """The YAML that both read."""
    config = {
        "base_model": str(base),
        **job.data,
        "sequence_len": 1024,
        "dataset_num_proc": job.workers,
        "dataset_prepared_path": str(folder / "prepared"),
        "output_dir": str(folder / "out"),
        "micro_batch_size": 4,
        "gradient_accumulation_steps": 1,
        "num_epochs": 1,
        "learning_rate": 1e-4,
        "optimizer": "adamw_torch",
        "lr_scheduler": "cosine",
        "bf16": False,
    }
    path = folder / "config.yaml"
    # JSON is YAML of every version: an unquoted `no` is a text to one and false to the other.
    path.write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
    return path


def environment(folder: Path) -> dict[str, str]:
    """Offline, on the processor, no telemetry, every cache under the folder."""
    return os.environ | {
        "HF_HOME": str(folder / "hf"),
        "TUNESMITH_CACHE": str(folder / "cache"),
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        "DO_NOT_TRACK": "1",
        "AXOLOTL_DO_NOT_TRACK": "1",
        "WANDB_MODE": "disabled",
        "CUDA_VISIBLE_DEVICES": "",
        "ACCELERATE_USE_CPU": "true",
        "TOKENIZERS_PARALLELISM": "false",
        "OMP_NUM_THREADS": "1",
    }


def prepare(who: Sequence[str], job: Job, base: Path, scratch: Path) -> Cost:
    """One preparation from nothing: no cache of earlier runs is left."""
    folder = Path(tempfile.mkdtemp(dir=scratch))
    config = write_config(job, base, folder)
    command = [*who, "preprocess", str(config)]
    cost = measure(command, environment(folder), scratch / "last.log", SECONDS)
    if not any((folder / "prepared").iterdir()):
        msg = f"{' '.join(command)} left nothing in dataset_prepared_path"
        raise RuntimeError(msg)
    shutil.rmtree(folder)
    return cost


def compare_preparing(theirs: Path, base: Path, job: Job, scratch: Path) -> dict[str, Any]:
    """One job by both, one right after the other, so that a busy machine slows both."""
    commands = {
        "ours": [str(Path(sys.executable).with_name("tunesmith"))],
        "axolotl": [str(theirs.with_name("axolotl"))],
    }
    record: dict[str, Any] = {"job": job.name, "workers": job.workers, "label": job.label}
    for who, command in commands.items():
        record[who] = asdict(prepare(command, job, base, scratch))
    return record


def compare_packing(theirs: Path) -> dict[str, Any]:
    """A million lengths packed by both; axolotl's kernels are compiled before."""
    return {
        "job": "packing",
        "label": "a million lengths packed",
        "ours": packing.measure(1_000_000),
        "axolotl": packing.measure_theirs(theirs, 1_000_000),
    }


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the table: medians over the repeats, memory left out where it was not measured."""

    label: str
    cpu_ours: float
    cpu_axolotl: float
    ratio: float
    target: float
    memory_ours: float | None = None
    memory_axolotl: float | None = None

    @property
    def holds(self) -> bool:
        """Whether the target is met, and in less memory."""
        less = self.memory_ours is None or self.memory_ours < (self.memory_axolotl or 0.0)
        return self.ratio >= self.target and less


def line_of(label: str, target: float, records: Sequence[dict[str, Any]]) -> Line:
    """The medians of one job's repeats; the ratio is the median of the repeats' ratios."""

    def middle(who: str, what: str) -> float | None:
        values = [record[who].get(what) for record in records]
        return None if None in values else round(median(values), 2)

    ratios = [r["axolotl"]["cpu_seconds"] / r["ours"]["cpu_seconds"] for r in records]
    return Line(
        label=label,
        cpu_ours=middle("ours", "cpu_seconds") or 0.0,
        cpu_axolotl=middle("axolotl", "cpu_seconds") or 0.0,
        ratio=round(median(ratios), 2),
        target=target,
        memory_ours=middle("ours", "peak_mib"),
        memory_axolotl=middle("axolotl", "peak_mib"),
    )


def summarise(records: Sequence[dict[str, Any]]) -> list[Line]:
    """One line a job, in the order of the jobs."""
    labels = dict.fromkeys((record["label"], record["job"]) for record in records)
    return [
        line_of(label, TARGETS[job], [r for r in records if r["label"] == label])
        for label, job in labels
    ]


def show(lines: Sequence[Line]) -> None:
    """Print the table."""
    table = Table("", "CPU s, ours", "axolotl", "ratio", "target", "MiB, ours", "axolotl", "holds")
    for line in lines:
        memory = ["" if m is None else f"{m:.0f}" for m in (line.memory_ours, line.memory_axolotl)]
        ratio, target = f"{line.ratio:.2f}", f"{line.target:.1f}"
        cpu = (f"{line.cpu_ours:.2f}", f"{line.cpu_axolotl:.2f}")
        table.add_row(line.label, *cpu, ratio, target, *memory, "yes" if line.holds else "no")
    Console(width=110).print(table)


def versions(theirs: Path) -> dict[str, str]:
    """Who was compared; ends the program clearly where axolotl is missing.

    Raises:
        SystemExit: the interpreter is not there, or has no axolotl.
    """
    names = ["axolotl", "torch", "transformers", "tokenizers", "datasets"]
    code = "import importlib.metadata as m, json, sys; print(json.dumps(" + (
        "{name: m.version(name) for name in sys.argv[1:]}))"
    )
    hint = "see benchmarks/data/README.md for how its environment is made"
    if not theirs.is_file():
        msg = f"--axolotl {theirs}: there is no such interpreter; {hint}"
        raise SystemExit(msg)
    done = subprocess.run([str(theirs), "-c", code, *names], capture_output=True, text=True)
    if done.returncode != 0 or not theirs.with_name("axolotl").is_file():
        reason = done.stderr.strip().splitlines()[-1:] or ["no program axolotl beside it"]
        msg = f"--axolotl {theirs}: axolotl is not installed there ({reason[0]}); {hint}"
        raise SystemExit(msg)
    mine = subprocess.run([sys.executable, "-c", code, *names[1:]], capture_output=True, text=True)
    ours = {f"ours: {name}": version for name, version in json.loads(mine.stdout).items()}
    named: dict[str, str] = json.loads(done.stdout)
    return named | ours


def read_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--axolotl", type=Path, required=True, help="An interpreter with axolotl.")
    parser.add_argument(
        "--reference", type=Path, default=os.environ.get("TUNESMITH_REFERENCE"), help="Its data/."
    )
    parser.add_argument("--base", type=Path, help="A model's folder in place of SmolLM2-135M.")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--alpaca-rows", type=int, default=52_002)
    parser.add_argument("--chats", type=int, default=10_000)
    parser.add_argument("--only", choices=["alpaca", "chat", "packing"], nargs="*")
    parser.add_argument("--out", type=Path, default=RESULTS / "compare_axolotl.json")
    arguments = parser.parse_args()
    if arguments.reference is None:
        parser.error("--reference FOLDER (or TUNESMITH_REFERENCE) must name the reference folder")
    return arguments


def run(arguments: argparse.Namespace, scratch: Path) -> Iterator[dict[str, Any]]:
    """Every measurement, repeat by repeat."""
    only = arguments.only or list(TARGETS)
    base = arguments.base or locate(ModelSection(base=find_model()[0])).path
    jobs = jobs_of(scratch, arguments.reference, (arguments.alpaca_rows, arguments.chats))
    for turn in range(arguments.repeats):
        for job in jobs:
            if job.name in only:
                yield {"turn": turn, **compare_preparing(arguments.axolotl, base, job, scratch)}
        if "packing" in only:
            yield {"turn": turn, **compare_packing(arguments.axolotl)}


def main() -> None:
    """Measure, write the JSON as it grows, print the table; status 1 where a target is missed."""
    arguments = read_arguments()
    record = {
        "versions": versions(arguments.axolotl),
        "machine": {"cores": os.cpu_count(), "python": platform.python_version()},
        "rows": {"alpaca": arguments.alpaca_rows, "chat": arguments.chats},
    }
    found: list[dict[str, Any]] = []
    lines: list[Line] = []
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        for measured in run(arguments, Path(folder)):
            found.append(measured)
            print(json.dumps(measured), file=sys.stderr, flush=True)
            lines = summarise(found)
            summary = [asdict(line) | {"holds": line.holds} for line in lines]
            text = json.dumps({**record, "summary": summary, "measured": found}, indent=1)
            arguments.out.write_text(text + "\n", encoding="utf-8")
    show(lines)
    print(f"written to {arguments.out}")
    sys.exit(0 if all(line.holds for line in lines) else 1)


if __name__ == "__main__":
    main()
