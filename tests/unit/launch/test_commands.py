"""The commands around a run: their words, and the JSON that scripts read."""

from __future__ import annotations

import json

import pytest

from tests import smallrun, warm
from tests.smallrun import chat_rows, keys, tree, write_rows, write_yaml
from tunesmith.runs.preflight.check import PROBES

NAMES = ["config", "identity", "environment", "patches", "values"]


@pytest.fixture(scope="module")
def folder(ground, tmp_path_factory):
    """A folder with ``run.yaml``, nothing trained yet."""
    folder = tmp_path_factory.mktemp("commands")
    config = keys(ground / "base", ground / "chat_template.jsonl", val_set_size=0.25)
    write_yaml(folder, config)
    return folder


def told(folder, *words, env=None):
    done = warm.run(folder, *words, env=env)
    # `preprocess` says how far it is on stderr, so that its stdout is for scripts.
    assert (done.code, done.err.removeprefix("hashing data\n")) == (0, ""), done
    return done.out


def test_a_plan_as_json_has_every_value_with_its_reason(folder):
    plan = json.loads(told(folder, "plan", "run.yaml", "--json"))
    assert list(plan) == NAMES
    assert plan["config"]["max_steps"] == 6
    assert plan["values"]["steps"]["value"] == 6
    assert plan["values"]["device"]["value"] == "cpu"
    for name, value in plan["values"].items():
        assert value["reason"], name
    assert plan["patches"][0]["why"]


def test_a_plan_for_people_has_a_line_for_each_value(folder):
    plan = json.loads(told(folder, "plan", "run.yaml", "--json"))
    lines = told(folder, "plan", "run.yaml").splitlines()
    assert [line.split("  ")[0] for line in lines] == [
        name.replace("_", " ") for name in plan["values"]
    ]
    for line, value in zip(lines, plan["values"].values(), strict=True):
        assert line.endswith(value["reason"])


def test_an_estimate_is_marked_until_the_data_is_prepared(ground, tmp_path):
    data = write_rows(tmp_path / "many.jsonl", chat_rows(1100))
    path = write_yaml(tmp_path, keys(ground / "base", data, max_steps=None, num_epochs=1))
    before = told(tmp_path, "plan", path)
    assert "~1,100" in before
    assert "from the first 1,000 of 1,100 rows" in before
    exact = told(tmp_path, "plan", path, "--prepare")
    assert "~" not in exact
    assert "1,100" in exact
    assert told(tmp_path, "plan", path) == exact


@pytest.mark.parametrize(
    ("machine", "device", "dtype"),
    [("h100", "cuda", "bfloat16"), ("t4", "cuda", "float16"), ("cpu", "cpu", "float32")],
)
def test_a_plan_can_be_made_for_another_machine(folder, machine, device, dtype):
    words = ("plan", "run.yaml", "--bf16", "auto", "--machine", machine, "--json")
    plan = json.loads(told(folder, *words))
    assert plan["values"]["device"]["value"] == device
    assert plan["values"]["compute_dtype"]["value"] == dtype
    assert plan["environment"]["device"] == device


def test_eight_devices_are_said_to_be_more_than_are_used(folder):
    plan = json.loads(told(folder, "plan", "run.yaml", "--machine", "h100x8", "--json"))
    assert "7 more are not used" in plan["values"]["device"]["reason"]


def test_an_unknown_machine_is_refused_with_the_nearest(folder):
    done = warm.run(folder, "plan", "run.yaml", "--machine", "rtx409")
    assert done.code == 2
    assert "there is no machine called `rtx409`" in done.err
    assert "or `rtx4090`" in done.err


def test_what_doctor_prints_is_a_machine(folder, tmp_path):
    report = json.loads(told(folder, "doctor", "--json"))
    assert set(report) == {"environment", "checks"}
    file = tmp_path / "machine.json"
    environment = {**report["environment"], "device_name": "the machine of a friend", "cores": 77}
    file.write_text(json.dumps({**report, "environment": environment}))
    plan = json.loads(told(folder, "plan", "run.yaml", "--machine", file, "--json"))
    assert plan["environment"] == environment
    assert told(folder, "config", "validate", "run.yaml", "--machine", file).startswith(
        "run.yaml: ok"
    )


def test_doctor_says_what_would_be_used(folder):
    report = json.loads(told(folder, "doctor", "--json"))
    names = {check["name"]: check for check in report["checks"]}
    assert {"bf16 units", "attention in float32", "bitsandbytes", "gguf"} <= set(names)
    assert all(check["meaning"] for check in report["checks"])
    assert names["cache folder"]["works"]
    text = told(folder, "doctor")
    assert "device" in text.splitlines()[0]
    for check in report["checks"]:
        assert check["meaning"] in text


def test_doctor_says_when_the_cache_cannot_be_written(folder, tmp_path):
    blocked = tmp_path / "a file"
    blocked.write_text("")
    env = {"TUNESMITH_CACHE": str(blocked / "cache")}
    report = json.loads(told(folder, "doctor", "--json", env=env))
    (check,) = [c for c in report["checks"] if c["name"] == "cache folder"]
    assert not check["works"]
    assert "TUNESMITH_CACHE" in check["meaning"]


def test_check_probes_and_trains_nothing(folder):
    before = tree(folder)
    text = told(folder, "check", "run.yaml")
    found = [line.split()[1].rstrip(":") for line in text.splitlines() if line.startswith("  ok ")]
    assert found == list(PROBES)
    assert not (folder / "out").exists()
    new = {name for name in tree(folder) if name not in before}
    assert all(name.startswith(("cache/", ".said-")) for name in new)


def test_preprocess_shows_rows_and_ledger_as_json(folder, ground):
    lines = told(folder, "preprocess", "run.yaml", "--show", 1, "--json").splitlines()
    row, ledger = map(json.loads, lines)
    assert row["source"].endswith("chat_template.jsonl:1")
    text = "".join(token["text"] for token in row["tokens"])
    assert text.startswith("<|im_start|>user\nSay sun<|im_end|>\n<|im_start|>assistant\nsun")
    trained = "".join(token["text"] for token in row["tokens"] if token["weight"])
    assert trained == "sun<|im_end|>SUN<|im_end|>"
    (account,) = ledger["datasets"]
    rows, tokens = account["rows"], account["tokens"]
    assert rows["in"] == 24
    assert rows["trained"] + rows["held_out"] == 24
    assert rows["held_out"] > 0
    assert tokens["trained"] + tokens["masked"] + tokens["held_out"] == tokens["in"]


def test_preprocess_for_people_says_where_the_data_came_from(folder):
    told(folder, "preprocess", "run.yaml")
    text = told(folder, "preprocess", "run.yaml", "--show", 1, "--reasons")
    assert text.rstrip().endswith("from the cache")
    assert "Say sun" in text
    assert "24 rows" in text


def test_evaluate_prints_json_of_the_base_and_of_the_trained(folder):
    told(folder, "train", "run.yaml", "--output-dir", "trained")
    words = ("evaluate", "run.yaml", "--output-dir", "trained", "--json")
    trained = json.loads(told(folder, *words))
    base = json.loads(told(folder, *words, "--base"))
    assert set(trained) == set(base) == {"eval_loss", "perplexity"}
    last = [line for line in smallrun.metrics(folder / "trained") if "eval_loss" in line][-1]
    assert trained["eval_loss"] == last["eval_loss"]
    assert trained["eval_loss"] < base["eval_loss"]
    text = told(folder, *words[:-1])
    assert f"{trained['eval_loss']:.6f}" in text


def test_any_key_is_an_option_of_every_command(folder):
    plan = json.loads(told(folder, "plan", "run.yaml", "--lora-r=2", "--max-steps", 3, "--json"))
    assert (plan["config"]["lora_r"], plan["config"]["max_steps"]) == (2, 3)
    done = warm.run(folder, "plan", "run.yaml", "--lora-rr", 2)
    assert done.code == 2
    assert "lora_r" in done.err
