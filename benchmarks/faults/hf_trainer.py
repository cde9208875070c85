"""Faults in runs of transformers' ``Trainer``: what is left of each, as JSON.

A tiny random Llama, 12 steps, a save every second, two kept, on one thread of a CPU. Each run is a
process of its own, as a user's is. ``python -m benchmarks.faults.hf_trainer [NAME ...]`` tries all
faults, or those whose names begin so, and puts what came of them into ``hf_trainer.json``.
"""

from __future__ import annotations

import hashlib
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

Whole = Callable[[], str]
"""Gives the digest of the weights of a run that nothing happened to."""

RESULTS = Path(__file__).with_name("hf_trainer.json")
SAVE = ("model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json")
"""What a save writes, in its order: a kill follows each of these names' first appearance."""


@dataclass(frozen=True)
class Wish:
    """What is asked of one run, beside its folder."""

    resume: bool = False
    die_after: str = ""
    poison_at: int = -1
    batch: int = 4
    masked: bool = False
    full_at: int = -1
    steps: int = 12


def train(folder: Path, wish: Wish) -> None:
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
    labels = [torch.full_like(row, -100) if wish.masked else row for row in rows]

    class Faults(TrainerCallback):
        def on_step_begin(self, args: Any, state: Any, control: Any, model: Any, **_: Any) -> None:
            if state.global_step == wish.poison_at:
                with torch.no_grad():
                    next(model.parameters()).fill_(float("nan"))
            if state.global_step == wish.full_at:
                resource.setrlimit(resource.RLIMIT_FSIZE, (8000, resource.RLIM_INFINITY))

    arguments = TrainingArguments(
        output_dir=str(folder), max_steps=wish.steps, save_steps=2, save_total_limit=2,
        logging_steps=1, per_device_train_batch_size=wish.batch, report_to=[], use_cpu=True,
        disable_tqdm=True, seed=0,
    )  # fmt: skip
    trainer = Trainer(
        model=LlamaForCausalLM(config),
        args=arguments,
        train_dataset=[
            {"input_ids": row, "labels": label} for row, label in zip(rows, labels, strict=True)
        ],
        callbacks=[Faults()],
    )
    if wish.die_after:
        _die_after(folder / "checkpoint-8" / wish.die_after)
    trainer.train(resume_from_checkpoint=True if wish.resume else None)
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


def start(folder: Path, **wishes: Any) -> subprocess.Popen[str]:
    """A running process."""
    words = ["--run", str(folder), json.dumps(asdict(Wish(**wishes)))]
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "benchmarks.faults.hf_trainer", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
    )


@dataclass(frozen=True)
class Done:
    """How a process ended."""

    code: int
    out: str
    err: str

    def last_line(self) -> str:
        """What a user sees last."""
        return self.err.strip().splitlines()[-1][:100]

    def loss(self) -> float:
        """The loss that was logged last."""
        return float(json.loads(self.out.splitlines()[-1])["loss"])


def finish(process: subprocess.Popen[str]) -> Done:
    """How it ended."""
    out, err = process.communicate()
    return Done(process.returncode, out, err)


def run(folder: Path, **wishes: Any) -> Done:
    """A finished process."""
    return finish(start(folder, **wishes))


def digest(folder: Path) -> str:
    """The SHA-256 of the final weights."""
    return hashlib.sha256((folder / "final/model.safetensors").read_bytes()).hexdigest()


def outcome(done: Done, folder: Path, whole: str) -> str:
    """How a resumed run ended."""
    if done.code != 0:
        return "ends with a traceback: " + done.last_line().split(": '")[0]
    return "bit-identical" if digest(folder) == whole else "resumes, other weights, no word"


def killed_inside_a_save(folder: Path, whole: Whole, name: str) -> str:
    """A kill once the file ``name`` of the save is there."""
    assert run(folder, die_after=name).code == -signal.SIGKILL
    return outcome(run(folder, resume=True), folder, whole())


def damaged(folder: Path, whole: Whole, name: str, damage: Callable[[Path], None]) -> str:
    """The newest checkpoint of a killed run is whole, but for this."""
    assert run(folder, die_after="trainer_state.json").code == -signal.SIGKILL
    damage(folder / "checkpoint-8" / name)
    return outcome(run(folder, resume=True), folder, whole())


def flip(path: Path) -> None:
    """Change one bit in the middle."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def poisoned(folder: Path) -> str:
    """The weights are NaN before step 8."""
    done = run(folder, poison_at=7)
    kept = _with_nan(folder)
    return f"exit {done.code}, last logged loss {done.loss()}, kept checkpoints with NaN: {kept}"


def _with_nan(folder: Path) -> str:
    import torch
    from safetensors.torch import load_file

    kept = [load_file(path) for path in folder.glob("checkpoint-*/model.safetensors")]
    bad = sum(any(torch.isnan(t).any() for t in tensors.values()) for tensors in kept)
    return f"{bad} of {len(kept)}"


def batch_doubled(folder: Path, whole: Whole) -> str:
    """The run goes on with twice as many rows a step."""
    assert run(folder, die_after="trainer_state.json").code == -signal.SIGKILL
    return outcome(run(folder, resume=True, batch=8), folder, whole())


def all_masked(folder: Path) -> str:
    """No token trains."""
    done = run(folder, masked=True)
    return f"exit {done.code}, last logged loss {done.loss()}"


def disk_full(folder: Path) -> str:
    """No file may grow beyond 8 kB from step 7 on."""
    done = run(folder, full_at=6)
    left = sorted(path.name for path in folder.glob("checkpoint-*"))
    says = "says disk" if "space" in done.err or "File too large" in done.err else "no word of disk"
    return f"exit {done.code}, {says}: {done.last_line()}; left: {', '.join(left)}"


def terminated(folder: Path) -> str:
    """SIGTERM once the first checkpoint is there."""
    process = start(folder, steps=4000)
    while not (folder / "checkpoint-2/trainer_state.json").exists():
        time.sleep(0.01)
    time.sleep(1)
    before = _newest(folder)
    process.send_signal(signal.SIGTERM)
    done = finish(process)
    saved = "nothing saved" if _newest(folder) <= before + 2 else "saved"
    return f"exit {done.code}, {saved}"


def _newest(folder: Path) -> int:
    return max(int(path.name.rpartition("-")[2]) for path in folder.glob("checkpoint-*"))


def two_at_once(folder: Path) -> str:
    """The same command twice, at once."""
    both = [start(folder, steps=400) for _ in range(2)]
    ends = [finish(process) for process in both]
    told = [f"exit {done.code}" + (f" ({done.last_line()})" if done.code else "") for done in ends]
    return "no lock: " + ", ".join(told)


def faults(scratch: Path, whole: Whole) -> Iterator[tuple[str, Callable[[], str]]]:
    """(name, what tries it) of every fault."""

    def folder(name: str) -> Path:
        return scratch / name.replace("/", "-").replace(" ", "-")

    for name in SAVE[:-1]:
        what = f"SIGKILL inside a save, after {name}"
        yield what, partial(killed_inside_a_save, folder(what), whole, name)
    for name in SAVE[1:-1]:
        what = f"{name} missing"
        yield what, partial(damaged, folder(what), whole, name, Path.unlink)
    what = "a bit of model.safetensors flipped"
    yield what, partial(damaged, folder(what), whole, "model.safetensors", flip)
    yield "batch size doubled on resume", partial(batch_doubled, folder("batch"), whole)
    yield "NaN weights before step 8", partial(poisoned, folder("nan"))
    yield "every label masked", partial(all_masked, folder("masked"))
    yield "files may not grow (RLIMIT_FSIZE)", partial(disk_full, folder("full"))
    yield "SIGTERM", partial(terminated, folder("term"))
    yield "two runs, one output_dir", partial(two_at_once, folder("two"))


def main() -> None:
    """Measure, or be one of the processes that are measured."""
    if sys.argv[1:2] == ["--run"]:
        train(Path(sys.argv[2]), Wish(**json.loads(sys.argv[3])))
        return
    found = json.loads(RESULTS.read_text()) if RESULTS.exists() and sys.argv[1:] else {}
    digests: list[str] = []
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)

        def whole() -> str:
            if not digests:
                assert run(scratch / "whole").code == 0
                digests.append(digest(scratch / "whole"))
            return digests[0]

        for what, attempt in faults(scratch, whole):
            if sys.argv[1:] and not any(what.startswith(word) for word in sys.argv[1:]):
                continue
            found[what] = attempt().replace(name, "DIR")
            print(f"{what}: {found[what]}", flush=True)
            RESULTS.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
