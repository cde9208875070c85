"""The Python face, used as in a notebook."""

from __future__ import annotations

import json
import math

import pytest
import torch
from datasets import Dataset
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2Config, GPT2LMHeadModel

import tunesmith
from tests import smallrun
from tests.smallrun import alpaca_rows, chat_rows, full, keys, random_ids, write_yaml
from tunesmith.config.read import LoadedConfig
from tunesmith.config.read import load as load_config
from tunesmith.errors import ConfigError, DataError, ExitCode, ModelError, RunError
from tunesmith.launch import local
from tunesmith.runs import estimate

# peft asks transformers by a name that transformers 5 has renamed, and is told so.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")


@pytest.fixture
def config(ground, tmp_path, monkeypatch):
    """Makes flat keys of a small run in a folder and a cache of the test's own."""
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return lambda **changes: keys(ground / "base", ground / "chat_template.jsonl", **changes)


def plain(ground):
    return AutoModelForCausalLM.from_pretrained(ground / "base", attn_implementation="eager")


def held_out_loss(model, samples):
    """Over all trained tokens, a row at a time, with plain transformers."""
    total = count = 0
    for sample in samples:
        ids = torch.tensor([sample["input_ids"]])
        labels = torch.tensor([sample["labels"]])
        with torch.no_grad():
            loss = model.eval()(input_ids=ids, labels=labels).loss
        n = int((labels[:, 1:] != -100).sum())
        total, count = total + float(loss) * n, count + n
    return total / count


# --- load -----------------------------------------------------------------------------------------


def test_a_file_and_a_mapping_give_the_same_config(config, tmp_path):
    path = write_yaml(tmp_path, config(lora_r=2))
    from_file = tunesmith.load(path)
    assert tunesmith.load(config(lora_r=2)) == from_file
    assert from_file.adapters.rank == 2


def test_overrides_win(config):
    loaded = tunesmith.load(config(), {"lora_r": 3, "datasets.0.type": "alpaca"})
    assert loaded.adapters.rank == 3
    assert loaded.data.datasets[0].type == "alpaca"


def test_every_problem_is_in_the_error(config):
    with pytest.raises(ConfigError) as caught:
        tunesmith.load({**config(), "learnin_rate": 1, "lora_dropout": 3})
    assert {p.key for p in caught.value.problems} == {"learnin_rate", "lora_dropout"}


def test_every_function_takes_every_form_of_a_config(config, tmp_path):
    path = write_yaml(tmp_path, config())
    forms = [path, str(path), config(), tunesmith.load(path), load_config(path)]
    assert isinstance(forms[-1], LoadedConfig)
    steps = [tunesmith.steps(form, 2) for form in forms]
    assert all(found == steps[0] for found in steps)


# --- plan, preview, steps -------------------------------------------------------------------------


def test_a_plan_is_estimated_until_the_data_is_prepared(config, ground):
    many = smallrun.write_rows(ground / "many.jsonl", chat_rows(1200))
    made = config(
        datasets=[{"path": str(many), "type": "chat_template"}], max_steps=None, num_epochs=1
    )
    guess = tunesmith.plan(made)
    assert guess.rows.estimated
    assert guess.steps.estimated
    assert guess.rows.value == 1200
    tunesmith.steps(made, 1)  # prepares the data
    exact = tunesmith.plan(made)
    assert not exact.rows.estimated
    assert not exact.steps.estimated
    assert exact.rows.value == 1200
    assert exact.steps.value == pytest.approx(guess.steps.value, rel=0.05)
    assert exact.steps.value == len(tunesmith.steps(made, 10_000))


def completions(path, n, *, broken=()):
    """``n`` rows that all differ, of 5 to 64 bytes; those in ``broken`` are no JSON."""
    lines = [json.dumps({"text": f"{i:05d}" + "x" * (i * 7 % 60)}) for i in range(n)]
    for number in broken:
        lines[number] = "{"
    path.write_text("".join(line + "\n" for line in lines))
    return {"path": str(path), "type": "completion"}


def sizes(plan):
    names = ("rows", "tokens", "trained_tokens", "steps_per_epoch", "steps", "warmup_steps")
    return {name: getattr(plan, name).value for name in names}


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("held_out", [0, 0.1, 900, 1500])
def test_an_estimate_is_near_the_truth(config, tmp_path, held_out, packed):
    entry = completions(tmp_path / "r.jsonl", 3000)
    made = config(
        datasets=[entry],
        max_steps=None,
        num_epochs=2,
        val_set_size=held_out,
        sample_packing=packed,
        gradient_accumulation_steps=1,
    )
    guess = tunesmith.plan(made)
    exact = local.draft(tunesmith.load(made), exact=True)[0]
    for name, value in sizes(exact).items():
        assert sizes(guess)[name] == pytest.approx(value, rel=0.1), name
        assert getattr(guess, name).estimated
        assert not getattr(exact, name).estimated
    assert guess.rows.value == exact.rows.value == 3000 - (300 if held_out == 0.1 else held_out)
    assert guess.evaluate.value == exact.evaluate.value
    assert "from the first 1,000 of 3,000 rows" in guess.rows.reason


def test_each_data_set_grows_by_its_own_count(config, tmp_path):
    long = [{"text": f"{i}" + "y" * 200} for i in range(9)]
    entries = [
        completions(tmp_path / "a.jsonl", 2500),
        {"path": str(smallrun.write_rows(tmp_path / "b.jsonl", long)), "type": "completion"},
    ]
    made = config(datasets=entries, max_steps=None, num_epochs=1)
    guess = tunesmith.plan(made)
    exact = local.draft(tunesmith.load(made), exact=True)[0]
    assert guess.rows.value == exact.rows.value == 2509
    assert guess.tokens.value == pytest.approx(exact.tokens.value, rel=0.005)


def test_a_short_data_set_is_estimated_exactly(config, tmp_path):
    made = config(datasets=[completions(tmp_path / "r.jsonl", 900)], val_set_size=800)
    guess = tunesmith.plan(made)
    assert guess.rows.estimated
    assert sizes(guess) == sizes(local.draft(tunesmith.load(made), exact=True)[0])
    assert (guess.rows.value, guess.rows.reason) == (100, "prepared rows to train on")


def test_nothing_is_left_to_estimate(config, tmp_path):
    made = config(datasets=[completions(tmp_path / "r.jsonl", 1500)], val_set_size=1500)
    with pytest.raises(DataError, match="holds out all of about 1,500 rows"):
        tunesmith.plan(made)


def test_broken_rows_are_told_in_the_plan(config, tmp_path):
    entry = completions(tmp_path / "r.jsonl", 2000, broken=(3, 500, 999))
    guess = tunesmith.plan(config(datasets=[entry]))
    assert "3 of the first 1,000 cannot be read" in guess.rows.reason
    assert guess.rows.value == 1994
    assert not guess.steps.estimated  # max_steps


def test_counting_stops(config, tmp_path, monkeypatch):
    monkeypatch.setattr(estimate, "COUNTED_ROWS", 1500)
    entry = completions(tmp_path / "r.jsonl", 3000)
    guess = tunesmith.plan(config(datasets=[entry]))
    assert guess.rows.value == 1500
    assert "counting stopped at 1,500 rows" in guess.rows.reason
    entry = completions(tmp_path / "r.jsonl", 1500)
    assert "stopped" not in tunesmith.plan(config(datasets=[entry])).rows.reason


def test_rows_of_a_saved_data_set_are_counted(config, tmp_path):
    Dataset.from_list([{"text": f"row {i}"} for i in range(2400)]).save_to_disk(tmp_path / "saved")
    entry = {"path": str(tmp_path / "saved"), "type": "completion", "split": "train[:50%]"}
    assert tunesmith.plan(config(datasets=[entry])).rows.value == 1200


def test_a_plan_leaves_nothing_in_the_output_folder(config, tmp_path):
    tunesmith.plan(config())
    assert not (tmp_path / "out").exists()


def test_a_preview_shows_what_trains(config, ground):
    tokenizer = AutoTokenizer.from_pretrained(ground / "base")
    samples = tunesmith.preview(config(), limit=3)
    assert len(samples) == 3
    by_source = {sample["source"].rsplit(":", 1)[1]: sample for sample in samples}
    first = by_source["2"]
    row = chat_rows()[1]["messages"]
    assert tokenizer.decode(first["input_ids"]) == tokenizer.apply_chat_template(
        row, tokenize=False
    )
    trained = [i for i in first["labels"] if i != -100]
    assert tokenizer.decode(trained) == row[1]["content"] + "<|im_end|>"
    assert [w > 0 for w in first["weights"]] == [i != -100 for i in first["labels"]]


@pytest.mark.parametrize("held_out", [0.1, 3, 24])
def test_a_preview_shows_rows_held_out_or_not(config, held_out):
    whole = tunesmith.preview(config(), 4)
    assert tunesmith.preview(config(val_set_size=held_out), 4) == whole
    assert tunesmith.preview(config(val_set_size=held_out), 1) == whole[:1]


def test_steps_name_the_rows_of_each_step(config):
    found = tunesmith.steps(config(max_steps=None, num_epochs=1), 100)
    rows = [row for step in found for row in step]
    assert sorted(int(row.rsplit(":", 1)[1]) for row in rows) == list(range(1, 25))
    assert tunesmith.steps(config(seed=8), 3) != tunesmith.steps(config(), 3)
    assert tunesmith.steps(config(), 2) == tunesmith.steps(config(), 3)[:2]


# --- train ----------------------------------------------------------------------------------------


class Diary:
    """Some of the six methods."""

    def __init__(self):
        self.losses = []
        self.saved_at = []

    def step_finished(self, run, state, report):
        self.losses.append(report.loss)

    def saved(self, run, state):
        self.saved_at.append(state.step)


def test_training_returns_where_the_model_is(config, tmp_path):
    diary = Diary()
    result = tunesmith.train(config(val_set_size=0.25), callbacks=[diary])
    assert result.output_dir.resolve() == tmp_path / "out"
    assert result.state.step == 6
    assert result.evaluation["eval_loss"] > 0
    assert diary.saved_at == [2, 4, 6]
    lines = smallrun.step_lines(tmp_path / "out")
    assert diary.losses == [line["loss"] for line in lines]
    again = tunesmith.train(config(val_set_size=0.25), callbacks=[diary])
    assert again == result
    assert len(diary.losses) == 6


def test_an_object_that_hears_nothing_is_refused(config):
    class Deaf:
        def on_step_end(self):
            """A method of another library's."""

    with pytest.raises(TypeError, match="Deaf has none of the methods"):
        tunesmith.train(config(), callbacks=[Deaf()])


@pytest.mark.parametrize("wrap", [list, Dataset.from_list, iter], ids=["list", "Dataset", "iter"])
def test_rows_in_memory_train_as_the_file_does(config, ground, tmp_path, wrap):
    tunesmith.train(config(output_dir="file"))
    entry = {"path": "ignored", "type": "chat_template"}
    tunesmith.train(config(output_dir="given", datasets=[entry]), data=wrap(chat_rows()))
    # What the rows are called decides nothing but their order, which is keyed by their number.
    assert smallrun.weights(tmp_path / "given") == smallrun.weights(tmp_path / "file")


def test_rows_in_memory_have_the_type_of_the_config(config, tmp_path):
    entry = {"path": "ignored", "type": "alpaca"}
    made = config(datasets=[entry], sequence_len=512, max_steps=2)
    tunesmith.train(made, data=alpaca_rows())
    ledger = json.loads((tmp_path / "out/ledger.json").read_text())
    assert ledger["datasets"][0]["rows"]["trained"] == 12


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_module_is_trained_in_place_as_its_folder_would_be(
    config, ground, tmp_path, method, attention
):
    changes = full() if method == "full" else {}
    tunesmith.train(config(output_dir="folder", **changes))
    model = AutoModelForCausalLM.from_pretrained(ground / "base", attn_implementation=attention)
    tunesmith.train(config(output_dir="given", **changes), model=model)
    assert smallrun.weights(tmp_path / "given") == smallrun.weights(tmp_path / "folder")
    assert model.config._attn_implementation == attention
    before = plain(ground)(input_ids=random_ids()).logits
    assert (model.eval()(input_ids=random_ids()).logits - before).abs().max() > 0.1


@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_module_that_was_interrupted_goes_on(config, ground, tmp_path, method):
    changes = full() if method == "full" else {"lora_dropout": 0.1}

    class Crash:
        def saved(self, run, state):
            raise KeyboardInterrupt

    tunesmith.train(config(output_dir="whole", **changes), model=plain(ground))
    with pytest.raises(KeyboardInterrupt):
        tunesmith.train(config(**changes), model=plain(ground), callbacks=[Crash()])
    tunesmith.train(config(**changes), model=plain(ground))
    assert smallrun.weights(tmp_path / "out") == smallrun.weights(tmp_path / "whole")


def test_a_module_of_another_architecture_is_refused(config):
    other = GPT2LMHeadModel(GPT2Config(vocab_size=259, n_embd=16, n_layer=1, n_head=2))
    with pytest.raises(ModelError, match="is a gpt2, base_model a llama"):
        tunesmith.train(config(), model=other)


def test_a_callback_hears_of_a_failure(config):
    heard = []

    class Breaks:
        def step_finished(self, run, state, report):
            raise ZeroDivisionError

        def run_failed(self, run, state, error):
            heard.append((state.step, type(error)))

    with pytest.raises(ZeroDivisionError):
        tunesmith.train(config(), callbacks=[Breaks()])
    assert heard == [(1, ZeroDivisionError)]


# --- evaluate and merge ---------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["full", "lora"])
def test_an_evaluation_is_the_loss_that_transformers_computes(config, ground, tmp_path, method):
    test_set = smallrun.write_rows(ground / "test.jsonl", chat_rows(9))
    entries = [{"path": str(test_set), "type": "chat_template"}]
    made = config(test_datasets=entries, **(full() if method == "full" else {}))
    trained = tunesmith.train(made)
    found = tunesmith.evaluate(made)
    assert found == trained.evaluation
    samples = tunesmith.preview({**config(), "datasets": entries}, limit=9)
    if method == "lora":
        model = PeftModel.from_pretrained(plain(ground), str(tmp_path / "out"))
    else:
        model = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert found["eval_loss"] == pytest.approx(held_out_loss(model, samples), abs=1e-5)
    assert found["perplexity"] == pytest.approx(math.exp(found["eval_loss"]))
    assert found["eval_loss"] < held_out_loss(plain(ground), samples) - 0.3


@pytest.mark.parametrize("saving", [{"save_strategy": "no"}, {"save_only_model": True}])
@pytest.mark.parametrize("method", ["full", "lora"])
def test_what_cannot_be_resumed_can_be_evaluated(config, method, saving):
    changes = full() if method == "full" else {}
    made = config(val_set_size=0.25, save_steps=None, **saving, **changes)
    trained = tunesmith.train(made)
    assert tunesmith.evaluate(made) == trained.evaluation


def test_without_held_out_data_there_is_nothing_to_evaluate(config):
    tunesmith.train(config(max_steps=1))
    with pytest.raises(RunError) as caught:
        tunesmith.evaluate(config(max_steps=1))
    assert caught.value.exit_code == ExitCode.WRONG_INPUT
    assert "val_set_size" in caught.value.hint


def test_a_merged_folder_is_the_adapter_on_its_base(config, ground, tmp_path):
    result = tunesmith.train(config())
    folder = tunesmith.merge(result.output_dir)
    assert folder.resolve() == tmp_path / "out/merged"
    merged = AutoModelForCausalLM.from_pretrained(folder)
    adapted = PeftModel.from_pretrained(plain(ground), str(result.output_dir))
    with torch.no_grad():
        gap = merged(input_ids=random_ids()).logits - adapted(input_ids=random_ids()).logits
    assert gap.abs().max() < 1e-4
    other = tunesmith.merge(result.output_dir, tmp_path / "elsewhere")
    assert other == tmp_path / "elsewhere"
