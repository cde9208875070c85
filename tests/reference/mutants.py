"""Changed copies of our package, each trained in turn; a program, so that nothing else is touched.

usage: python -m tests.reference.mutants SOURCE FOLDER SET

SOURCE is ``src/tunesmith``, SET a name in ``SETS``. Prints ``{mutant: verdict}`` as JSON: what the
comparison with the loop by hand found first, "equal" where it found nothing, or "raised ..." where
there was no comparison.
"""

from __future__ import annotations

import importlib
import json
import os
import shutil
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path

from tests.reference.loop import read_rows
from tests.reference.loop import train as train_by_hand
from tests.reference.parts import PROBES, make_config, make_ground, mismatches, run_ours

UNCHANGED = "unchanged"


@dataclass(frozen=True)
class Mutant:
    """What is wrong; the file below ``src/tunesmith``; the text that becomes another; the run."""

    name: str
    file: str
    old: str
    new: str
    kind: str = "lora"
    layout: str = "packed, accumulation 4"


USUAL = [
    Mutant(
        "no shift",
        "data/collate.py",
        "targets[start : end - 1] = sample.input_ids[1:]",
        "targets[start : end - 1] = sample.input_ids[:-1]",
    ),
    Mutant(
        "eos not trained",
        "data/pieces.py",
        "[(token, last) for token in self._closing(tokens)]",
        "[(token, False) for token in self._closing(tokens)]",
    ),
    Mutant(
        "prompt trained too",
        "data/formats/prompted.py",
        "pieces = [Segment(prompt, train_on_inputs)]",
        "pieces = [Segment(prompt, True)]",
    ),
    Mutant(
        "neighbours in a pack attend to each other",
        "engine/step.py",
        "self.shard(batch.to(self.device))",
        'self.shard(__import__("dataclasses").replace(batch, segments=batch.segments[[0, -1]]))',
    ),
    Mutant(
        "mean of the micro-batches' means",
        "engine/step.py",
        "self.scale.grow(mean(loss, totals)).backward()",
        'self.scale.grow(mean(loss, {"tokens": len(microbatches) * float('
        'batch.targets["weights"].sum())})).backward()',
    ),
    Mutant(
        "no clipping",
        "engine/step.py",
        "clip(run.policy.parameters(), run.mesh, run.max_norm,",
        "clip(run.policy.parameters(), run.mesh, 0.0,",
    ),
    Mutant(
        "schedule off by one",
        "engine/step.py",
        "set_rates(run.optimizer, run.schedule, state.step)",
        "set_rates(run.optimizer, run.schedule, state.step + 1)",
    ),
    Mutant(
        "decay on norms",
        "optim/groups.py",
        "return not name.startswith(norms) and UNDECAYED_NAMES.search(name.lower()) is None",
        "return True",
        kind="full",
    ),
    Mutant(
        "betas swapped",
        "optim/build.py",
        '"betas": (self.section.beta1, self.section.beta2),',
        '"betas": (self.section.beta2, self.section.beta1),',
    ),
    Mutant(
        "adapter scaled by 1, not alpha / r",
        "models/adapters.py",
        "lora_alpha=section.alpha,",
        "lora_alpha=section.rank,",
    ),
    Mutant(
        "held-out mean of means",
        "engine/evaluate.py",
        """\
            totals[name] = totals.get(name, 0.0) + weight
        for batch in microbatches:
            run.report.look_up()
            add(sums, run.objective.loss(run.policy, run.shard(batch.to(run.device))))
""",
        """\
            totals[name] = totals.get(name, 0.0) + 1.0
        for batch in microbatches:
            loss = run.objective.loss(run.policy, run.shard(batch.to(run.device)))
            sums.losses["tokens"] = sums.losses.get("tokens", 0) + loss.sums["tokens"] / weight
""",
        layout="unpacked, accumulation 1",
    ),
    Mutant(
        "fp4 for nf4",
        "models/quantize.py",
        '"bnb_4bit_quant_type": "nf4",',
        '"bnb_4bit_quant_type": "fp4",',
        kind="qlora",
    ),
]

FURTHER = [
    Mutant(
        "weights not shifted with their tokens",
        "data/collate.py",
        "return sample.target_weights()[1:]",
        "return sample.target_weights()[:-1]",
    ),
    Mutant(
        "eos not appended",
        "data/render.py",
        "return [*closing, eos]",
        "return closing",
    ),
    Mutant(
        "accumulation not divided",
        "engine/step.py",
        "value / (totals[name] or 1.0)",
        "4 * value / (totals[name] or 1.0)",
    ),
    Mutant(
        "only the last micro-batch",
        "engine/step.py",
        "for batch in microbatches:",
        "for batch in microbatches[-1:]:",
    ),
    Mutant(
        "gradients of the step before stay",
        "engine/step.py",
        "run.optimizer.zero_grad()",
        "pass",
    ),
    Mutant(
        "warm-up starts above 0",
        "optim/schedules.py",
        "return step / max(1, self.warmup) if step < self.warmup else None",
        "return (step + 1) / max(1, self.warmup) if step < self.warmup else None",
    ),
    Mutant(
        "no decay on the embedding",
        "optim/groups.py",
        "embeddings.parameters[name] = parameter",
        "plain.parameters[name] = parameter",
        kind="full",
    ),
    Mutant(
        "eps is Adam's usual one, not the config's",
        "optim/build.py",
        '"eps": self.section.epsilon,',
        '"eps": 1e-8,',
    ),
    Mutant(
        "scales of the 4-bit base not quantised",
        "models/quantize.py",
        '"bnb_4bit_use_double_quant": True,',
        '"bnb_4bit_use_double_quant": False,',
        kind="qlora",
    ),
]

SETS = {"usual": USUAL, "further": FURTHER}
"""Positions that do not restart in a pack are in none: rotary attention sees distances alone, so
that such a mutant computes the same."""


def apply(mutant, package):
    """Change the copy; the text must be there once, or the mutant would be another."""
    path = package / mutant.file
    text = path.read_text(encoding="utf-8")
    if text.count(mutant.old) != 1:
        raise LookupError(f"{mutant.file} holds {mutant.old!r} {text.count(mutant.old)} times")
    path.write_text(text.replace(mutant.old, mutant.new), encoding="utf-8")


def load_copy(folder):
    """Let ``import tunesmith`` mean the package in ``folder``."""
    for name in [name for name in sys.modules if name.split(".")[0] == "tunesmith"]:
        del sys.modules[name]
    sys.path[:] = [str(folder), *(p for p in sys.path if not (Path(p) / "tunesmith").is_dir())]
    importlib.invalidate_caches()
    found = Path(importlib.import_module("tunesmith").__file__)
    if found.parent != folder / "tunesmith":
        raise ImportError(f"{found} was imported")


class Trials:
    """Trains copies of the package and compares each with what the unchanged one should give."""

    def __init__(self, source, folder) -> None:
        self.source, self.folder = source, folder
        self.ground = make_ground(folder)
        self.reference = {}

    def run(self, mutant, kind, layout):
        """Our trace in a copy of the package, with prepared data and an output of its own."""
        home = self.folder / (mutant.name if mutant else f"{UNCHANGED} {kind} {layout}")
        shutil.copytree(self.source, home / "tunesmith", ignore=shutil.ignore_patterns("*.pyc"))
        if mutant:
            apply(mutant, home / "tunesmith")
        load_copy(home)
        os.environ["TUNESMITH_CACHE"] = str(home / "cache")
        config = make_config(
            self.ground, home / "out", kind=kind, layout=layout, preflight_skip=PROBES
        )
        return config, *run_ours(config)

    def check_unchanged(self, kind, layout):
        """The verdict on the package as it is; its rows and adapter start the loop by hand."""
        config, ours, steps, adapter = self.run(None, kind, layout)
        self.reference[kind, layout] = train_by_hand(
            {**config, "folder": str(self.ground.base)},
            steps,
            adapter,
            read_rows(self.ground.train),
            list(read_rows(self.ground.held_out).values()),
        )
        return self.verdict(ours, kind, layout)

    def check(self, mutant):
        """What gives the mutant away."""
        try:
            _, ours, _, _ = self.run(mutant, mutant.kind, mutant.layout)
        except Exception as error:
            return f"raised {error!r}"
        return self.verdict(ours, mutant.kind, mutant.layout)

    def verdict(self, ours, kind, layout):
        found = mismatches(ours, self.reference[kind, layout])
        return found[0] if found else "equal"


def main(source, folder, name):
    warnings.simplefilter("ignore")
    trials = Trials(Path(source).resolve(), Path(folder).resolve())
    mutants = SETS[name]
    runs = dict.fromkeys((mutant.kind, mutant.layout) for mutant in mutants)
    verdicts = {f"{UNCHANGED}, {', '.join(run)}": trials.check_unchanged(*run) for run in runs}
    verdicts |= {mutant.name: trials.check(mutant) for mutant in mutants}
    print(json.dumps(verdicts, indent=1))


if __name__ == "__main__":
    main(*sys.argv[1:])
