"""What an output directory is found to hold."""

from __future__ import annotations

import json

import pytest

from tunesmith.errors import ExitCode, RunError
from tunesmith.runs.folder import DONE, Holds, default_of, look, read_record, refuse_other_run

PLAN = {
    "config": {"base_model": "a", "learning_rate": 1e-4, "lora_r": 4, "save_steps": 5},
    "identity": {
        "data_fingerprint": "d",
        "base_digest": "b",
        "seed": 42,
        "steps": 10,
        "global_batch": 8,
    },
}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "plan.json").write_text(json.dumps(PLAN))
    return tmp_path


def changed(config=(), **identity):
    return {
        "config": {**PLAN["config"], **dict(config)},
        "identity": {**PLAN["identity"], **identity},
    }


def test_an_empty_folder_holds_nothing(tmp_path):
    assert look(tmp_path, PLAN).holds is Holds.NOTHING
    assert look(tmp_path / "missing", PLAN).holds is Holds.NOTHING


def test_the_same_plan_is_the_same_run(folder):
    found = look(folder, PLAN)
    assert (found.holds, found.changed, found.is_done) == (Holds.UNFINISHED, (), False)
    refuse_other_run(folder, found, ())


def test_a_run_is_done_where_its_record_and_its_files_are(folder):
    (folder / DONE).write_text(json.dumps({"files": {"model.safetensors": "hash"}}))
    assert not look(folder, PLAN).is_done
    (folder / "model.safetensors").write_text("")
    assert look(folder, PLAN).is_done
    assert read_record(folder) == {"files": {"model.safetensors": "hash"}}
    more = look(folder, changed({"max_steps": 20}, steps=20))
    assert more.holds is Holds.FINISHED
    assert not more.is_done


@pytest.mark.parametrize(
    "config", [{"save_steps": 7}, {"base_model": "moved/a"}, {"logging_steps": 5}]
)
def test_what_changes_no_result_may_change(folder, config):
    assert look(folder, changed(config)).changed == ()


def test_a_key_that_is_left_out_has_its_default(folder):
    left_out = changed()
    del left_out["config"]["lora_r"]
    assert default_of("lora_r") == 8
    assert look(folder, left_out).changed == (("lora_r", 4, 8),)
    assert default_of("a key of another version") is None


def test_what_follows_from_a_change_is_not_told_twice(folder):
    assert look(folder, changed({"max_steps": 20}, steps=20)).changed == (("max_steps", None, 20),)
    found = look(folder, changed(steps=12, data_fingerprint="e"))
    assert found.changed == (("data_fingerprint", "d", "e"),)
    # Another packer, say: nothing else tells of it.
    assert look(folder, changed(steps=12)).changed == (("steps", 10, 12),)


def test_another_run_is_refused_until_every_change_is_accepted(folder):
    found = look(folder, changed({"learning_rate": 1e-3, "lora_r": 16}))
    with pytest.raises(RunError) as caught:
        refuse_other_run(folder, found, ("lora_r",))
    assert caught.value.exit_code == ExitCode.WRONG_INPUT
    assert caught.value.message == (
        "the output directory holds another run: learning_rate was 0.0001, is 0.001"
    )
    assert caught.value.hint.endswith("on purpose: --accept-change learning_rate")
    refuse_other_run(folder, found, ("learning_rate", "lora_r"))


def test_several_changes_are_listed(folder):
    found = look(folder, changed({"learning_rate": 1e-3, "lora_r": 16}))
    with pytest.raises(RunError) as caught:
        refuse_other_run(folder, found, ())
    assert caught.value.message.splitlines() == [
        "the output directory holds another run:",
        "  learning_rate was 0.0001, is 0.001",
        "  lora_r was 4, is 16",
    ]
    assert "--accept-change learning_rate --accept-change lora_r" in caught.value.hint


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"config": 1, "identity": {}}'])
def test_a_plan_that_cannot_be_read_is_damage(tmp_path, text):
    (tmp_path / "plan.json").write_text(text)
    with pytest.raises(RunError) as caught:
        look(tmp_path, PLAN)
    assert caught.value.exit_code == ExitCode.DAMAGED
    assert caught.value.where == str(tmp_path / "plan.json")


@pytest.mark.parametrize("text", ["", "{", "[]", "{}"])
def test_a_record_that_cannot_be_read_is_damage(folder, text):
    (folder / DONE).write_text(text)
    with pytest.raises(RunError) as caught:
        look(folder, PLAN)
    assert caught.value.exit_code == ExitCode.DAMAGED
    assert caught.value.where == str(folder / DONE)
    assert DONE in caught.value.hint
