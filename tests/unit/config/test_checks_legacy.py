"""Old and foreign keys that cannot be read as they stand: each problem's edit ends it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.unit.config.broken import QLORA, RIGHT
from tests.unit.config.edits import edited
from tests.unit.config.test_checks import problems_of, said
from tunesmith.config.legacy import REFUSED
from tunesmith.config.read import load
from tunesmith.errors import ConfigError

HOME = "axolotl.integrations"

CASES: list[tuple[dict[str, Any], str, str]] = [
    *(({key: True}, "refused", key) for key in REFUSED if key != "rope_scaling"),
    ({"max_packed_sequence_len": 2048}, "refused", "max_packed_sequence_len"),
    ({"rope_scaling": {"type": "linear", "factor": 2.0}}, "refused", "rope_scaling"),
    ({"eta_min": 1e-6}, "refused", "eta_min"),
    ({"eta_min": 1}, "refused", "eta_min"),
    ({"tokens": {"pad_token": "<pad>"}}, "refused", "tokens"),
    ({"warmup_steps": 0.1}, "wrong-type", "warmup_steps"),
    ({"save_safetensors": False}, "refused", "save_safetensors"),
    ({"flash_attention": True, "sdp_attention": True}, "conflict", "flash_attention"),
    ({"attn_implementation": "sdpa", "flash_attention": True}, "conflict", "flash_attention"),
    (
        {"evaluation_strategy": "no", "eval_strategy": "epoch", "val_set_size": 0.1},
        "conflict",
        "evaluation_strategy",
    ),
    ({"bf16": True, "float32": True}, "conflict", "float32"),
    (
        {
            **QLORA,
            "bnb_4bit_quant_type": "fp4",
            "bnb_config_kwargs": {"bnb_4bit_quant_type": "nf4"},
        },
        "conflict",
        "bnb_4bit_quant_type",
    ),
    ({"plugins": [f"{HOME}.lieger.LigerPlugin"]}, "out-of-range", "plugins.0"),
    ({"plugins": ["axolotl.nothing.AtAll"]}, "out-of-range", "plugins.0"),
    ({"sequence_length": 512}, "unknown-key", "sequence_length"),
    ({"nothing_like_it": 512}, "unknown-key", "nothing_like_it"),
]


@pytest.mark.parametrize(("broken", "code", "key"), CASES)
def test_the_edit_of_an_old_key_ends_its_problem(
    broken: dict[str, Any], code: str, key: str
) -> None:
    found = problems_of(RIGHT | broken)
    assert said(found, unbuilt=False) == [(code, key)]
    (problem,) = [p for p in found if p.key == key]
    assert problem.fix
    assert problem.edit
    assert said(problems_of(edited(RIGHT | broken, problem.edit)), unbuilt=False) == []


@pytest.mark.parametrize(
    ("old", "today"),
    [
        ({"eta_min": 1e-6}, {"cosine_min_lr_ratio": 0.01}),
        ({"max_packed_sequence_len": 64}, {"sequence_len": 64, "sample_packing": True}),
        ({"warmup_steps": 0.1}, {"warmup_ratio": 0.1}),
        ({"tokens": {"pad_token": "<p>"}}, {"special_tokens": {"pad_token": "<p>"}}),
    ],
)
def test_the_edit_says_today_what_was_meant(old: dict[str, Any], today: dict[str, Any]) -> None:
    (problem,) = problems_of(RIGHT | old)
    assert edited(RIGHT | old, problem.edit) == RIGHT | today


def test_weights_in_one_type_of_number_are_read_as_their_products() -> None:
    for old, key in (("float16", "fp16"), ("bfloat16", "bf16")):
        loaded = load(RIGHT | {old: True, "bf16": False, "fp16": False})
        assert getattr(loaded.config.precision, key) is True
        assert any(f"{old} is read as `{key}: true`" in notice for notice in loaded.notices)


def test_a_plugin_and_the_keys_of_its_capability_are_one_problem() -> None:
    plugins = [f"{HOME}.liger.LigerPlugin", f"{HOME}.swanlab.SwanLabPlugin"]
    (problem,) = problems_of(
        RIGHT | {"plugins": plugins, "use_swanlab": True, "swanlab_project": "p"}
    )
    assert (problem.code, problem.key) == ("not-built", "use_swanlab")
    assert set(problem.edit) == {"plugins.1", "use_swanlab", "swanlab_project"}
    mended = edited(RIGHT | {"plugins": plugins}, {"plugins.1": None})
    assert mended["plugins"] == plugins[:1]
    assert problems_of(mended) == []


@pytest.mark.parametrize("name", ["kd.KDPlugin", "diffusion.plugin.DiffusionPlugin"])
def test_a_plugin_alone_switches_its_capability_on(name: str) -> None:
    (problem,) = problems_of(RIGHT | {"plugins": [f"{HOME}.{name}"]})
    assert (problem.code, problem.key) == ("not-built", "plugins.0")


def test_the_plugin_of_kernels_is_left_out_aloud() -> None:
    (notice,) = load(RIGHT | {"plugins": [f"{HOME}.kernels.KernelsPlugin"]}).notices
    assert "KernelsPlugin is left out" in notice


def test_a_launchers_file_is_told_from_a_config(tmp_path: Path) -> None:
    file = tmp_path / "cloud.yaml"
    file.write_text("project_name:\ngpu: h100\ngpu_count: 8\nsecrets: [HF_TOKEN]\n")
    with pytest.raises(ConfigError) as caught:
        load(file)
    (problem,) = caught.value.problems
    assert (problem.code, problem.line) == ("refused", 1)
    assert "no training config" in problem.message
    assert said(problems_of(RIGHT | {"gpu": "h100"}), unbuilt=True) == [("not-built", "gpu")]
