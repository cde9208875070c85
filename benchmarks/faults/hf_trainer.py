"""Four faults in runs of transformers' ``Trainer``: what is left of each, as JSON.

A tiny random Llama, 12 steps, a save every second, two kept, on one thread of a CPU. Each run is a
process of its own, as a user's is. ``python -m benchmarks.faults.hf_trainer``
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

SAVE = ("model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json")
"""What a save writes, in its order: a kill follows each of these names' first appearance."""


def train(folder: Path, die_after: str, poison_at: int, *, resume: bool) -> None:
    """One run, in this process; prints a JSON line with its last logged loss."""
    import torch
    from transformers import (
        LlamaConfig,
        LlamaForCausalLM,
        Trainer,
        TrainerCallback,
        TrainingArguments,
        set_seed,
    )

    torch.set_num_threads(1)
    set_seed(0)
    config = LlamaConfig(
        vocab_size=64, hidden_size=32, intermediate_size=32, num_hidden_layers=2,
        num_attention_heads=2, max_position_embeddings=32, attention_dropout=0.1,
    )  # fmt: skip
    draw = torch.Generator().manual_seed(1)
    rows = [torch.randint(0, 64, (16,), generator=draw) for _ in range(64)]

    class Poison(TrainerCallback):
        def on_step_begin(self, args: Any, state: Any, control: Any, model: Any, **_: Any) -> None:
            if state.global_step == poison_at:
                with torch.no_grad():
                    next(model.parameters()).fill_(float("nan"))

    arguments = TrainingArguments(
        output_dir=str(folder), max_steps=12, save_steps=2, save_total_limit=2, logging_steps=1,
        per_device_train_batch_size=4, report_to=[], use_cpu=True, disable_tqdm=True, seed=0,
    )  # fmt: skip
    trainer = Trainer(
        model=LlamaForCausalLM(config),
        args=arguments,
        train_dataset=[{"input_ids": row, "labels": row} for row in rows],
        callbacks=[Poison()] if poison_at >= 0 else [],
    )
    if die_after:
        _die_after(folder / "checkpoint-8" / die_after)
    trainer.train(resume_from_checkpoint=True if resume else None)
    trainer.save_model(str(folder / "final"))
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    print(json.dumps({"loss": losses[-1]}))


def _die_after(path: Path) -> None:
    """SIGKILL from an audit hook, at the first event after ``path`` has appeared."""
    armed = [True]

    def hear(event: str, arguments: tuple[Any, ...]) -> None:
        if event in ("open", "os.mkdir", "os.rename") and armed[0]:
            armed[0] = False
            if path.exists():
                os.kill(os.getpid(), signal.SIGKILL)
            armed[0] = True

    sys.addaudithook(hear)


def run(folder: Path, *, resume: bool = False, die_after: str = "", poison_at: int = -1) -> Any:
    """The finished process."""
    words = [str(folder), str(int(resume)), die_after, str(poison_at)]
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "benchmarks.faults.hf_trainer", *words],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
    )


def digest(folder: Path) -> str:
    """The SHA-256 of the final weights."""
    return hashlib.sha256((folder / "final/model.safetensors").read_bytes()).hexdigest()


def outcome(done: Any, folder: Path, whole: str) -> str:
    """How a resumed run ended."""
    if done.returncode != 0:
        return "ends with a traceback: " + done.stderr.strip().splitlines()[-1][:100]
    return "bit-identical" if digest(folder) == whole else "resumes, other weights, no word"


def measure(scratch: Path) -> dict[str, str]:
    """Fault -> what came of it."""
    assert run(scratch / "whole").returncode == 0
    whole, found = digest(scratch / "whole"), {}
    for name in SAVE[:-1]:
        folder = scratch / f"killed-{name}"
        assert run(folder, die_after=name).returncode == -signal.SIGKILL
        found[f"SIGKILL inside a save, after {name}"] = outcome(
            run(folder, resume=True), folder, whole
        )
    for name in ("optimizer.pt", "model.safetensors"):
        folder = scratch / f"damaged-{name}"
        assert run(folder, die_after="trainer_state.json").returncode == -signal.SIGKILL
        path = folder / "checkpoint-8" / name
        if name == "optimizer.pt":
            path.unlink()
        else:
            content = bytearray(path.read_bytes())
            content[len(content) // 2] ^= 1
            path.write_bytes(content)
        what = f"{name} missing" if name == "optimizer.pt" else f"a bit of {name} flipped"
        found[what] = outcome(run(folder, resume=True), folder, whole)
    folder = scratch / "poisoned"
    done = run(folder, poison_at=7)
    loss = json.loads(done.stdout.splitlines()[-1])["loss"]
    found["NaN weights before step 8"] = (
        f"exit {done.returncode}, last logged loss {loss}, "
        f"kept checkpoints with NaN: {_poisoned(folder)} of 2"
    )
    return found


def _poisoned(folder: Path) -> int:
    import torch
    from safetensors.torch import load_file

    kept = [load_file(path) for path in folder.glob("checkpoint-*/model.safetensors")]
    return sum(any(torch.isnan(t).any() for t in tensors.values()) for tensors in kept)


def main() -> None:
    """Measure, or be one of the processes that are measured."""
    if len(sys.argv) > 1:
        resume = bool(int(sys.argv[2]))
        train(Path(sys.argv[1]), sys.argv[3], int(sys.argv[4]), resume=resume)
        return
    with tempfile.TemporaryDirectory() as scratch:
        print(json.dumps(measure(Path(scratch)), indent=2))


if __name__ == "__main__":
    main()
