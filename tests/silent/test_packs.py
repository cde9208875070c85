"""Rows 17 to 21, 29, 30 and 39: packing, length, order and caches that change what trains."""

from __future__ import annotations

import numpy as np
import pytest

from tests.silent.attempts import CHECK, wrap
from tests.unit.export.parts import CHATML
from tunesmith.data import fingerprint, overlong, stream
from tunesmith.data.cache import PreparedSplit
from tunesmith.data.packing import EpochPlan
from tunesmith.data.render import RenderSettings
from tunesmith.data.stream import MapStream
from tunesmith.kernels.attention import masked_attention
from tunesmith.models import facts
from tunesmith.patches import attention
from tunesmith.runs import assemble

# --- row 17: packed documents attend to each other ------------------------------------------------


def test_an_attention_that_does_not_know_where_documents_begin(attempts, monkeypatch):
    """As where the patch of the backend was inert: one long causal row."""

    def across(query, key, value, segments, longest, *, scoring):
        return masked_attention(query, key, value, None, scoring=scoring)

    monkeypatch.setattr(attention, "varlen_attention", across)
    attempts.refused(
        "isolation", "packed documents see each other", "chat_template.jsonl:", "LlamaForCausalLM"
    )


def test_a_convolution_that_runs_across_documents(attempts, monkeypatch, family_base):
    """Positions restart, attention is kept apart, and the layers between are not."""
    monkeypatch.setattr(facts, "_against_isolation", lambda text, model_class: "")
    attempts.refused(
        "isolation",
        "packed documents see each other",
        "Lfm2ForCausalLM",
        base_model=family_base("Lfm2"),
    )


# --- row 18: packing throws data away -------------------------------------------------------------


def test_a_packer_that_keeps_one_document_of_a_row(attempts, monkeypatch):
    def first_of_each(real, *given, **named):
        plan = real(*given, **named)
        firsts = plan.members[plan.offsets[:-1]]
        return EpochPlan(np.arange(len(firsts) + 1), firsts)

    wrap(monkeypatch, stream, "plan_epoch", first_of_each)
    told = attempts.train()
    assert not told.trained
    assert told.by in ("conservation", "order")
    attempts.refused(
        "order", "leaves out", "the first such row is", "jsonl:", preflight_skip=["conservation"]
    )


def test_a_packer_whose_loss_a_short_run_would_not_see(attempts, monkeypatch):
    """The run ends before its first epoch: what is lost lies beyond the last step."""

    def without_the_last(real, *given, **named):
        plan = real(*given, **named)
        return EpochPlan(plan.offsets[:-1], plan.members[: plan.offsets[-2]])

    wrap(monkeypatch, stream, "plan_epoch", without_the_last)
    monkeypatch.setattr(MapStream, "_constant_bins", lambda self: None)
    attempts.refused("order", "leaves out", "jsonl:", max_steps=1)


# --- row 19: the option for long rows does nothing ------------------------------------------------


def test_long_rows_that_are_dropped_where_they_should_be_cut(attempts, monkeypatch):
    def drops(real, sample, rule):
        return real(sample, overlong.LengthRule(rule.longest, rule.shortest, "drop"))

    wrap(monkeypatch, overlong, "_shorten", drops)
    attempts.refused(
        "conservation",
        "excess_length_strategy asks for 'truncate'",
        "chat_template.jsonl",
        excess_length_strategy="truncate",
        sequence_len=64,
    )


# --- row 21: a stale cache ------------------------------------------------------------------------


@pytest.mark.parametrize("part", ["template", "weights"])
def test_prepared_data_of_another_config_is_reused(attempts, monkeypatch, part):
    """The key of the cache leaves out what the rows were rendered with."""
    monkeypatch.setattr(RenderSettings, "digest", property(lambda self: "one for all"))
    monkeypatch.setattr(fingerprint, "_render_parts", lambda settings: {})
    real = fingerprint.set_recipe

    def without_keys(entry, *given):
        return {**real(entry, *given), "entry": {"path": entry.path}}

    monkeypatch.setattr("tunesmith.data.prepare.set_recipe", without_keys)
    path = str(attempts.ground / "chat_template.jsonl")
    entry = {"path": path, "type": "chat_template"}
    first = attempts.train(datasets=[entry], max_steps=1, preflight_skip=["export", "resume"])
    assert first.trained
    other = {
        "template": {"chat_template_jinja": CHATML.replace("<|im_end|>\n", "<|im_end|>")},
        "weights": {"train_on_eos": "none"},
    }[part]
    words = {
        "template": "is prepared, the row renders to",
        "weights": "trains otherwise than it was prepared",
    }[part]
    attempts.refused(
        "cache", words, "chat_template.jsonl:", datasets=[{**entry, **other}], output_dir="second"
    )


# --- rows 29 and 30: the order after a resume -----------------------------------------------------


def test_a_resume_that_begins_the_epoch_again(attempts, monkeypatch):
    wrap(monkeypatch, MapStream, "from_step", lambda real, self, step: real(self, 0))
    attempts.refused("order", "would not go on with the rows of step", "jsonl:")


def test_an_order_that_another_process_draws_otherwise(attempts, monkeypatch):
    """The key comes from a generator that is global, not from the seed."""
    draws = np.random.default_rng(0)
    wrap(monkeypatch, stream, "derive_key", lambda real, *given: int(draws.integers(1 << 62)))
    attempts.refused("order", "two streams of the same data and seed draw other rows", "jsonl:")


@pytest.mark.parametrize("counted", ["micro-batches", "nothing"])
def test_a_resume_that_goes_on_from_another_step(attempts, monkeypatch, counted):
    """What was saved as a step is read as a micro-batch, or not at all: rows are skipped."""

    def other(real, *given, **named):
        state = real(*given, **named)
        state.step = {"micro-batches": 2 * state.step, "nothing": 0}[counted]
        return state

    wrap(monkeypatch, assemble, "restore", other)
    attempts.refused("resume", "goes on elsewhere: `step` was 1")


# --- row 39: what is trained on is not what was sampled -------------------------------------------


def test_rows_that_are_weighed_by_other_rows_weights(attempts, monkeypatch):
    """An index that is off by one row, as where rewards met the answers of others."""
    real = PreparedSplit.__getitem__
    monkeypatch.setattr(
        PreparedSplit, "__getitem__", lambda self, row: real(self, (row + 1) % len(self))
    )
    attempts.refused("conservation", "the index of the prepared data holds", "jsonl:")


def test_rollouts_are_refused_by_name(attempts):
    attempts.refused(CHECK, "rl", "grpo", rl="grpo")


def test_the_rows_of_these_runs_hold_what_the_defects_need(attempts):
    """Rows that are too long for 64 tokens, and packs of several: else nothing was tested."""
    told = attempts.train(
        sequence_len=64,
        excess_length_strategy="truncate",
        max_steps=1,
        preflight_skip=["export", "resume", "invariance", "isolation"],
    )
    assert told.trained
    assert "cut off at sequence_len (64)" in told.text
