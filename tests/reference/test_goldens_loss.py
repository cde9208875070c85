"""The recorded fine-tunings of axolotl, through our engine: equal where axolotl is right.

``tests/unit/optim/test_goldens.py`` steps some of them through the plain model, to test the
optimizers; here the batches, the policy, the objective and the step are ours as well.
"""

from __future__ import annotations

import importlib.util
import json
from itertools import groupby

import pytest
import torch
from transformers import AutoModelForCausalLM

from tests.reference.loop import evaluate as evaluate_by_hand
from tests.reference.loop import fit as fit_by_hand
from tests.reference.recorded import documents, recorded_run, step_through
from tunesmith.config.read import load
from tunesmith.engine.evaluate import evaluate
from tunesmith.errors import ConfigError

EQUAL = [
    "opt_adamw_torch_fused",
    "opt_paged_adamw_8bit",
    "sched_linear_default_warmup",
    "sched_one_cycle",
    "sched_polynomial",
    "sched_rex",
    "sft_full_pack",
    "sft_full_pack_real",
    "sft_full_pack_seq",
    "sft_lora_targets_qv",
    "sft_order_seed7",
    "sft_pad_to_multiple",
    "sft_train_on_inputs",
    "sft_val_pack",
]

MEAN_OF_MEANS = ["sft_full_ga2", "sft_full_ga4_micro1"]
"""Axolotl's defect: every micro-batch's own mean counts the same, however few tokens it trains."""

NOT_BUILT = {
    "dpo_ct": "rl",
    "dpo_hinge": "rl",
    "dpo_lora": "rl",
    "ipo": "rl",
    "kto": "rl",
    "kto_lora_micro4": "rl",
    "kto_weights": "rl",
    "opt_ao_adamw_8bit": "optimizer",
    "opt_came_pytorch": "optimizer",
    "opt_muon": "optimizer",
    "opt_schedule_free_adamw": "optimizer",
    "orpo": "rl",
    "reward": "reward_model",
    "sft_embedding_lr_scale": "embedding_lr_scale",
    "sft_lora_plus": "loraplus_lr_ratio",
    "sft_lr_groups_mlp": "lr_groups",
    "sft_relora": "relora",
    "sft_unfrozen": "unfrozen_parameters",
    "simpo": "rl",
}
"""Record -> the key of its config that says so."""


@pytest.fixture(scope="module")
def records(reference):
    lines = (reference / "goldens" / "loss.jsonl").read_text().splitlines()
    return {record["id"].removeprefix("loss/"): record for record in map(json.loads, lines)}


@pytest.fixture(scope="module")
def expand(reference):
    spec = importlib.util.spec_from_file_location("expand", reference / "goldens" / "expand.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.expand


def micro_batches(record, expand):
    """The documents of every micro-batch, by step."""
    steps = groupby(record["micro_batches"], key=lambda batch: batch["step"])
    return [
        [documents(expand(batch["inputs"]), f"step {step}") for batch in batches]
        for step, batches in steps
    ]


def training_log(record):
    return [entry for entry in record["log"] if "loss" in entry]


def test_every_record_has_its_place(records):
    assert sorted([*EQUAL, *MEAN_OF_MEANS, *NOT_BUILT]) == sorted(records)


@pytest.mark.parametrize("name", NOT_BUILT)
def test_what_is_not_built_is_refused_by_its_key(records, tmp_path, name):
    with pytest.raises(ConfigError) as caught:
        load({**records[name]["config"], "output_dir": str(tmp_path)})
    refused = [problem.key for problem in caught.value.problems if problem.code == "not-built"]
    assert NOT_BUILT[name] in refused


@pytest.mark.parametrize("name", EQUAL)
def test_steps_are_those_of_axolotl(reference, records, expand, tmp_path, name):
    record = records[name]
    steps = micro_batches(record, expand)
    log = training_log(record)
    assert len(steps) == len(log) == record["config"]["max_steps"]
    with recorded_run(record, reference, steps, tmp_path) as run:
        for report, entry in zip(step_through(run), log, strict=True):
            assert report.loss == pytest.approx(entry["loss"], abs=2e-4)
            assert report.learning_rate == pytest.approx(entry["learning_rate"], rel=1e-6)
            assert report.grad_norm == pytest.approx(entry["grad_norm"], rel=2e-3)
        named = run.policy.model.named_parameters()
        norms = {n: float(p.detach().norm()) for n, p in named if p.requires_grad}
    final = {n.removeprefix("base_model.model."): v[0] for n, v in record["final"].items()}
    assert norms == pytest.approx(final, rel=1e-4)


@pytest.mark.parametrize("name", MEAN_OF_MEANS)
def test_accumulation_weighs_tokens_where_axolotl_weighs_micro_batches(
    reference, records, expand, tmp_path, name
):
    record = records[name]
    steps = micro_batches(record, expand)
    model = AutoModelForCausalLM.from_pretrained(
        reference / "goldens" / "loss" / "model", dtype=torch.float32
    )
    rows = [[as_row(sample) for samples in step for sample in samples] for step in steps]
    defaults = {"adam_beta1": 0.9, "adam_beta2": 0.999, "adam_epsilon": 1e-8, "max_grad_norm": 1.0}
    by_hand = fit_by_hand(model, {**defaults, **record["config"]}, rows, [], {})
    with recorded_run(record, reference, steps, tmp_path) as run:
        reports = list(step_through(run))
    assert [r.loss for r in reports] == pytest.approx(by_hand.losses, abs=1e-4)
    assert [r.learning_rate for r in reports] == pytest.approx(by_hand.rates, rel=1e-6)
    assert [r.grad_norm for r in reports] == pytest.approx(by_hand.norms, rel=2e-3)
    gaps = [abs(r.loss - e["loss"]) for r, e in zip(reports, training_log(record), strict=True)]
    assert max(gaps) > 2e-3


def test_held_out_loss_is_a_mean_over_tokens_where_axolotl_takes_batches(
    reference, records, expand, tmp_path
):
    record = records["sft_val_pack"]
    logged = {e["step"]: e["eval_loss"] for e in record["log"] if "eval_loss" in e}
    by_step = {
        step: [(documents(expand(b["inputs"]), "held out"), b["loss"]) for b in batches]
        for step, batches in groupby(record["eval_batches"], key=lambda b: b["after_step"])
    }
    held_out = [samples for samples, _ in by_step[0]]
    plain = AutoModelForCausalLM.from_pretrained(
        reference / "goldens" / "loss" / "model", dtype=torch.float32
    )

    def check(run, step):
        plain.load_state_dict(run.policy.model.state_dict())
        rows = [[as_row(sample) for sample in samples] for samples in held_out]
        for samples, (_, recorded) in zip(rows, by_step[step], strict=True):
            assert evaluate_by_hand(plain, samples) == pytest.approx(recorded, abs=2e-4)
        ours = evaluate(run)["eval_loss"]
        assert ours == pytest.approx(
            evaluate_by_hand(plain, [r for part in rows for r in part]), abs=1e-5
        )
        means = [recorded for _, recorded in by_step[step]]
        assert logged[step] == pytest.approx(sum(means) / len(means), abs=1e-5)
        gaps.append(abs(ours - logged[step]))

    gaps = []
    steps = micro_batches(record, expand)
    with recorded_run(record, reference, steps, tmp_path, held_out=[[s] for s in held_out]) as run:
        check(run, 0)
        for step, _ in enumerate(step_through(run), start=1):
            if step in logged:
                check(run, step)
    assert sorted(logged) == [0, 4, 8]
    assert max(gaps) > 2e-4  # the defect is there


def as_row(sample):
    """Ids and labels as the loop by hand takes them."""
    ids = torch.from_numpy(sample.input_ids).long()
    trained = torch.from_numpy(sample.target_weights()) > 0
    return ids[None], torch.where(trained, ids, -100)[None]
