"""axolotl's own example configs, where `TUNESMITH_AXOLOTL_EXAMPLES` names a folder with them.

Of its 252 configs axolotl 0.19 refuses twenty, each of which is refused here for the same reason
or a better one. The others load, or name what is not built, or hold a key that is a mistake.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from tunesmith.config.read import load
from tunesmith.errors import ConfigError, Problem

DOCUMENT = Path(__file__).parents[2] / "docs" / "from-axolotl.md"
FOLDER = os.environ.get("TUNESMITH_AXOLOTL_EXAMPLES", "")

# File that axolotl refuses -> code, key and words of the problem that must be among its own.
REFUSED: Mapping[str, tuple[str, str, str]] = {
    **{
        f"expert_parallel/qwen3_30ba3b_ep_{kind}_4gpu.yaml": (
            "wrong-type",
            "warmup_steps",
            "use `warmup_ratio: 0.1`",
        )
        for kind in ("fft", "fsdp_fft", "lora")
    },
    "archived/jeopardy-bot/config.yml": ("refused", "tokens", "`special_tokens`"),
    "archived/mpt-7b/config.yml": ("refused", "tokens", "`special_tokens`"),
    "archived/redpajama/config-3b.yml": ("refused", "tokens", "`special_tokens`"),
    "archived/pythia-12b/config.yml": ("refused", "max_packed_sequence_len", "`sequence_len`"),
    "archived/stablelm-2/1.6b/fft.yml": ("refused", "flash_attn_rms_norm", "removed"),
    "archived/stablelm-2/1.6b/lora.yml": ("refused", "flash_attn_rms_norm", "removed"),
    "archived/falcon/config-7b-qlora.yml": (
        "missing",
        "early_stopping_patience",
        "`eval_steps` and `save_steps`",
    ),
    "archived/xgen-7b/xgen-7b-8k-qlora.yml": (
        "missing",
        "early_stopping_patience",
        "`eval_steps` and `save_steps`",
    ),
    "cloud/baseten.yaml": ("refused", "provider", "no training config"),
    "cloud/modal.yaml": ("refused", "project_name", "no training config"),
    "mistral-medium-3_5/qlora-text.yml": ("missing", "output_dir", "no value"),
    "mistral-medium-3_5/qlora-vision.yml": ("missing", "output_dir", "no value"),
    "mistral4/fft-text.yml": ("conflict", "optimizer", "use `optimizer: adamw_torch_8bit`"),
    "mistral4/fft-vision.yml": ("conflict", "optimizer", "use `optimizer: adamw_torch_8bit`"),
    "llama-4/scout-vision-qlora-fsdp2-flex.yaml": (
        "conflict",
        "fsdp_config.fsdp_cpu_ram_efficient_loading",
        "`load_in_4bit`",
    ),
    "llama-3/diffusion/sft-1b.yaml": ("missing", "metric_for_best_model", "save_strategy: best"),
    "ebft/llama-3b-ebft-strided-fft.yaml": ("conflict", "torch_compile", "gradient_checkpointing"),
}

# Keys that axolotl drops without a word, or that are misspelt: refused in whatever file.
MISTAKES = {"context_parapllel_size", "test_value", "torch_dtype", "eta_min"}

# Keys that vanish without a word in axolotl: what is said of them here.
SAID: Mapping[str, str] = {
    "limit_all_gathers": "left out",
    "sharding_strategy": "left out",
    "backward_prefetch": "left out",
    "forward_prefetch": "left out",
    "adam_eps": "is called `adam_epsilon`",
    "full_finetune": "left out",
    "message_field_role": "is read as",
    "message_field_content": "is read as",
}


@dataclass(frozen=True)
class Verdict:
    """What is said of one file."""

    text: str
    problems: tuple[Problem, ...] = ()
    notices: tuple[str, ...] = ()


@pytest.fixture(scope="module")
def verdicts() -> dict[str, Verdict]:
    if not FOLDER:
        pytest.skip("TUNESMITH_AXOLOTL_EXAMPLES names no folder")
    root = next(path for path in (Path(FOLDER) / "examples", Path(FOLDER)) if path.is_dir())
    return {str(path.relative_to(root)): judge(path) for path in sorted(root.rglob("*.y*ml"))}


def judge(path: Path) -> Verdict:
    text = path.read_text(encoding="utf-8")
    try:
        return Verdict(text, notices=tuple(load(path).notices))
    except ConfigError as error:
        return Verdict(text, tuple(error.problems), tuple(error.notices))


def test_all_of_them_are_there(verdicts: dict[str, Verdict]) -> None:
    assert len(verdicts) == 252
    assert len(REFUSED) == 20
    assert set(REFUSED) <= set(verdicts)


def test_what_axolotl_refuses_is_refused_with_what_to_change(verdicts: dict[str, Verdict]) -> None:
    for name, (code, key, words) in REFUSED.items():
        problems = verdicts[name].problems
        (problem,) = [p for p in problems if (p.code, p.key) == (code, key)]
        assert words in f"{problem.message} {problem.fix}", name
        if not name.startswith("cloud/"):
            assert problem.edit, name
        others = {p.code for p in problems if p is not problem and p.key not in MISTAKES}
        assert others <= {"not-built", "wrong-type"}, name


def test_what_axolotl_accepts_loads_or_is_not_built_or_holds_a_mistake(
    verdicts: dict[str, Verdict],
) -> None:
    for name, verdict in verdicts.items():
        for problem in verdict.problems if name not in REFUSED else ():
            assert problem.code == "not-built" or problem.key in MISTAKES, (name, problem)
            assert problem.message, (name, problem)
            assert problem.fix, (name, problem)
            assert problem.line, (name, problem)


def test_each_capability_is_named_once(verdicts: dict[str, Verdict]) -> None:
    for name, verdict in verdicts.items():
        named = [p.message for p in verdict.problems if p.code == "not-built"]
        assert len(named) == len(set(named)), name


def test_no_key_vanishes_without_a_word(verdicts: dict[str, Verdict]) -> None:
    seen = set()
    for name, verdict in verdicts.items():
        for line in verdict.text.splitlines():
            key, _, value = line.strip().removeprefix("- ").partition(":")
            plain = key.removeprefix("fsdp_")
            word = value.partition("#")[0].strip()
            if plain not in SAID or not word or line.startswith("#"):
                continue
            seen.add(plain)
            said = [notice for notice in verdict.notices if key in notice]
            assert said or word == "false", (name, key)
            assert all(SAID[plain] in notice for notice in said), (name, said)
    assert seen == set(SAID)


def test_the_documents_say_how_many_load(verdicts: dict[str, Verdict]) -> None:
    words = re.search(r"(\d+) load as they are", " ".join(DOCUMENT.read_text().split()))
    assert words is not None
    assert sum(not verdict.problems for verdict in verdicts.values()) == int(words[1])
