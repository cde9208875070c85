"""Whole runs on pairs and judged answers, through the command."""

from __future__ import annotations

import json
import math

import pytest

from tests import smallrun, warm
from tests.smallrun import WORDS, full, keys, step_lines, write_rows, write_yaml

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")

PROBES = ["settings", "order", "isolation", "coverage", "upgrade", "longest", "resume", "export"]
"""Left out where a test is not about them: they take longer than the steps."""

ONE_STEP = {"sequence_len": 96, "max_steps": None, "num_epochs": 3, "save_steps": None}
"""All rows are one step, so that they can be cut in many ways."""


def pair_rows(n=8):
    return [
        {
            "messages": [{"role": "user", "content": f"Say {WORDS[i % 5]}" + "!" * (i % 4)}],
            "chosen": {"role": "assistant", "content": WORDS[i % 5] * (1 + i % 3)},
            "rejected": {"role": "assistant", "content": "no, " * (1 + i % 2) + "never"},
        }
        for i in range(n)
    ]


def judged_rows(n=8):
    return [
        {
            "prompt": f"Say {WORDS[i % 5]}",
            "completion": WORDS[i % 5] if i % 2 else "never",
            "label": bool(i % 2),
        }
        for i in range(n)
    ]


def config_of(folder, ground, method, **changes):
    is_kto = method == "kto"
    path = write_rows(folder / "rows.jsonl", judged_rows() if is_kto else pair_rows())
    kind = "chatml.prompt_pairs" if is_kto else "dpo.chat_template.default"
    settings = {"sample_packing": False, "preflight_skip": PROBES, "rl": method, **changes}
    return keys(ground / "base", path, datasets=[{"path": str(path), "type": kind}], **settings)


def run(folder, ground, method, **changes):
    folder.mkdir(exist_ok=True)
    path = write_yaml(folder, config_of(folder, ground, method, **changes))
    done = warm.run(folder, "train", path)
    said = [line for line in done.err.splitlines() if "asking the reference" not in line]
    assert (done.code, said) == (0, [])
    return folder / "out"


@pytest.mark.parametrize(
    ("method", "first", "changes"),
    [
        ("dpo", math.log(2), {}),
        ("dpo", math.log(2), full(learning_rate=3e-3)),
        ("ipo", 25.0, {}),
        ("orpo", None, {}),
        ("simpo", None, {}),
        ("kto", 0.5, {}),
    ],
    ids=["dpo", "dpo-full", "ipo", "orpo", "simpo", "kto"],
)
def test_every_method_trains_from_where_its_loss_must_begin(
    ground, tmp_path, method, first, changes
):
    batch = {"micro_batch_size": 4, "gradient_accumulation_steps": 2, **ONE_STEP, **changes}
    lines = step_lines(run(tmp_path, ground, method, **batch))
    assert [line["step"] for line in lines] == [1, 2, 3]
    if first is not None:
        assert lines[0]["loss"] == pytest.approx(first, abs=1e-5)
    assert lines[-1]["loss"] < lines[0]["loss"]
    assert lines[0]["trained_tokens"] > 0
    named = {"rewards/chosen", "rewards/rejected", "logps/chosen", "logps/rejected"}
    named |= {"kl"} if method == "kto" else {"rewards/margins", "rewards/accuracies"}
    assert named <= lines[0].keys()


def test_how_pairs_are_packed_and_accumulated_cannot_be_seen(ground, tmp_path):
    cuts = {
        "one": {"micro_batch_size": 8, "gradient_accumulation_steps": 1},
        "two": {"micro_batch_size": 4, "gradient_accumulation_steps": 2},
        "four": {"micro_batch_size": 2, "gradient_accumulation_steps": 4},
        "packed": {
            "micro_batch_size": 4,
            "gradient_accumulation_steps": 2,
            "sample_packing": True,
            "sequence_len": 128,
        },
        "padded": {
            "micro_batch_size": 4,
            "gradient_accumulation_steps": 2,
            "pad_to_sequence_len": True,
        },
    }
    found = {
        name: step_lines(run(tmp_path / name, ground, "dpo", **(ONE_STEP | cut)))
        for name, cut in cuts.items()
    }
    for lines in found.values():
        assert len(lines) == 3
        for line, other in zip(lines, found["one"], strict=True):
            for name in ("loss", "grad_norm", "rewards/margins", "logps/chosen"):
                assert line[name] == pytest.approx(other[name], rel=1e-4, abs=1e-6)


@pytest.mark.parametrize(("method", "kind"), [("dpo", "full"), ("kto", "lora")])
def test_what_a_reference_said_beforehand_is_what_it_says(ground, tmp_path, method, kind):
    changes = full(learning_rate=3e-3) if kind == "full" else {}
    batch = {"micro_batch_size": 2, "gradient_accumulation_steps": 2, "max_steps": 3}
    batch |= {"val_set_size": 2, "eval_steps": 3}
    beforehand = {"precompute_ref_log_probs": True}
    live = run(tmp_path / "live", ground, method, **batch, **changes)
    known = run(tmp_path / "known", ground, method, **batch, **changes, **beforehand)
    for line, other in zip(smallrun.metrics(live), smallrun.metrics(known), strict=True):
        for name in line.keys() & {"loss", "grad_norm", "eval_loss", "rewards/chosen", "kl"}:
            assert line[name] == pytest.approx(other[name], rel=1e-4, abs=1e-5)
    kept = list((tmp_path / "known/cache/references").glob("*/reference.json"))
    assert len(kept) == 2
    again = warm.run(tmp_path / "known", "evaluate", "run.yaml")
    assert (again.code, again.err) == (0, "")
    assert len(list((tmp_path / "known/cache/references").glob("*/*.json"))) == 2


def test_a_second_model_is_the_adapter_switched_off(ground, tmp_path):
    batch = {"micro_batch_size": 4, "gradient_accumulation_steps": 1, "max_steps": 3}
    one = run(tmp_path / "off", ground, "dpo", **batch)
    other = run(tmp_path / "second", ground, "dpo", rl_adapter_ref_model=True, **batch)
    assert smallrun.weights(one) == smallrun.weights(other)


def test_a_resumed_run_and_the_held_out_accuracy(ground, tmp_path):
    batch = {"micro_batch_size": 2, "gradient_accumulation_steps": 1, "val_set_size": 2}
    batch |= {"max_steps": 4, "save_steps": 2, "eval_steps": 2}
    whole = run(tmp_path / "whole", ground, "dpo", **batch)
    half = tmp_path / "half"
    run(half, ground, "dpo", **batch)
    for name in ("checkpoint-4", "adapter_model.safetensors", "tunesmith.json"):
        remove(half / "out" / name)
    run(half, ground, "dpo", **batch)
    assert smallrun.weights(half / "out") == smallrun.weights(whole)
    held_out = [line for line in smallrun.metrics(whole) if "eval_loss" in line]
    assert [line["step"] for line in held_out] == [2, 4]
    assert {"eval_rewards/accuracies", "eval_rewards/margins"} <= held_out[0].keys()
    assert "perplexity" not in held_out[0]


def remove(path):
    if path.is_dir():
        for child in path.iterdir():
            remove(child)
        path.rmdir()
    else:
        path.unlink()


def test_the_preflight_says_what_the_pairs_are(ground, tmp_path):
    folder = run(tmp_path, ground, "dpo", max_steps=1, preflight_skip=["export"])
    found = json.loads((folder / "plan.json").read_text())["preflight"]
    seen = {one["name"]: one["seen"] for one in found}
    assert seen["answers"].startswith("the answers of 8 pairs differ; the reference is the policy")
    assert {"isolation", "invariance", "coverage", "longest", "resume"} <= seen.keys()


BROKEN = {
    "equal answers": ({"rejected": {"role": "assistant", "content": "sun"}}, "rejected"),
    "missing side": ({"rejected": None}, "rejected"),
    "empty answer": ({"chosen": {"role": "assistant", "content": ""}}, "chosen"),
    "no prompt": ({"messages": []}, "messages"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_bad_pair_is_named_by_file_row_and_field(ground, tmp_path, name):
    change, field = BROKEN[name]
    config = config_of(tmp_path, ground, "dpo")
    rows = pair_rows()
    rows[5] = {**rows[0], **change}
    write_rows(tmp_path / "rows.jsonl", rows)
    done = warm.run(tmp_path, "train", write_yaml(tmp_path, config))
    assert done.code == 2
    assert "rows.jsonl:6" in done.err
    assert field in done.err


def test_a_prompt_without_room_for_an_answer_is_named_where_answers_are_cut(ground, tmp_path):
    config = config_of(tmp_path, ground, "dpo", sequence_len=64, excess_length_strategy="truncate")
    rows = pair_rows()
    rows[2]["messages"][0]["content"] = "so long " * 20
    write_rows(tmp_path / "rows.jsonl", rows)
    done = warm.run(tmp_path, "train", write_yaml(tmp_path, config))
    assert done.code == 2
    assert "rows.jsonl:3" in done.err
    assert "prompt alone" in done.err
