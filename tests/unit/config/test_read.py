import io
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tunesmith.config.environment import named_machine
from tunesmith.config.flat import top_leaves
from tunesmith.config.read import load
from tunesmith.errors import ConfigError, ExitCode

RIGHT = """\
base_model: Qwen/Qwen2.5-0.5B
datasets:
  - path: a.jsonl
    type: alpaca
learning_rate: 1e-4
micro_batch_size: 2
sequence_len: 512
adapter: lora
lora_target_linear: true
"""
VALUES = {"base_model": "m", "learning_rate": 1e-4, "micro_batch_size": 1}


@pytest.fixture
def write(tmp_path):
    def write(text: str | bytes) -> Path:
        path = tmp_path / "run.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def problems(source, **keywords):
    with pytest.raises(ConfigError) as caught:
        load(source, **keywords)
    assert caught.value.exit_code is ExitCode.WRONG_INPUT
    return caught.value.problems


def test_a_file_says_where_each_key_was_set(write):
    path = write(RIGHT)
    loaded = load(path, {"seed": 7})
    assert loaded.config.optim.learning_rate == 1e-4
    assert str(loaded.sources["learning_rate"]) == f"{path}:5:1"
    assert str(loaded.sources["datasets.0.type"]) == f"{path}:4:5"
    assert str(loaded.sources["seed"]) == "python"
    assert str(loaded.sources["lora_r"]) == "default"
    assert set(top_leaves()) <= set(loaded.sources)
    assert (loaded.path, loaded.base_dir) == (path, path.parent)
    assert loaded.notices == []


def test_stdin_is_a_source(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(RIGHT.encode())))
    loaded = load("-")
    assert str(loaded.sources["base_model"]) == "stdin:1:1"
    assert loaded.path is None


def test_a_mapping_with_tuples_is_a_source():
    loaded = load({**VALUES, "datasets": ({"path": "a"},)})
    assert loaded.config.data.datasets[0].path == "a"
    assert loaded.base_dir == Path.cwd()


def test_all_problems_come_at_once_in_the_order_of_the_lines(write):
    text = "learning_rate: -1\nmicro_batch_size: x\nlr: 1\ndatasets: [{typ: a}]\neval_steps: 5\n"
    found = problems(write(text))
    assert [(item.code, item.key, item.line) for item in found] == [
        ("out-of-range", "learning_rate", 1),
        ("wrong-type", "micro_batch_size", 2),
        ("unknown-key", "lr", 3),
        ("missing", "datasets.0.path", 4),
        ("unknown-key", "datasets.0.typ", 4),
        ("conflict", "eval_steps", 5),
        ("missing", "base_model", None),
    ]


@pytest.mark.parametrize(
    ("line", "code", "message"),
    [
        ("learning_rate: 0", "out-of-range", "must be greater than 0, not `0`"),
        ("learning_rate: .nan", "out-of-range", "must be a finite number, not `nan`"),
        ("learning_rate: .inf", "out-of-range", "must be a finite number, not `inf`"),
        ("learning_rate: true", "wrong-type", "must be a number, not `true`"),
        ("seed: 1.5", "wrong-type", "must be a whole number, not `1.5`"),
        ("sample_packing: 1", "wrong-type", "must be true or false, not `1`"),
        ("sample_packing: maybe", "wrong-type", "must be true or false, not `maybe`"),
        ("output_dir: 3", "wrong-type", "must be text, not `3`"),
        ("output_dir: ''", "out-of-range", "must not be empty"),
        ("lora_dropout: 1", "out-of-range", "must be less than 1, not `1`"),
        ("warmup_ratio: 7", "out-of-range", "must be 1 or less, not `7`"),
        ("eval_strategy: stps", "out-of-range", "must be `no`, `steps` or `epoch`, not `stps`"),
        (
            "lora_target_modules: {a: 1}",
            "wrong-type",
            "must be text or a list of text, not a mapping",
        ),
        ("datasets: 7", "wrong-type", "must be a list of mappings, not `7`"),
        ("special_tokens: [a]", "wrong-type", "must be a mapping, not a list"),
        ("eot_tokens: [1]", "wrong-type", "must be text, not `1`"),
        ("bf16: maybe", "out-of-range", "must be true or false or `auto`, not `maybe`"),
        ("max_steps: 99999999999999999999", "out-of-range", "must be 1,000,000,000 or less"),
    ],
)
def test_wrong_values_are_told_in_the_users_words(write, line, code, message):
    text = "\n".join(kept for kept in RIGHT.splitlines() if line.split(":")[0] not in kept)
    if line.startswith("datasets"):
        text = "base_model: m\nlearning_rate: 1e-4\nmicro_batch_size: 1"
    (found,) = problems(write(f"{text}\n{line}\n"))
    assert found.code == code
    assert found.message.startswith(message)
    assert found.line == text.count("\n") + 2


def test_a_wrong_key_of_an_entry_hides_no_other_and_causes_none(write):
    text = RIGHT.replace(
        "    type: alpaca\n",
        "    type: completion\n    field: 7\n    roles_to_train: assistant\n"
        "  - {path: b.jsonl, type: alpacca}\n"
        "  - {path: c.jsonl, type: 3, field: text}\n",
    )
    assert [(item.code, item.key) for item in problems(write(text))] == [
        ("wrong-type", "datasets.0.field"),
        ("wrong-type", "datasets.0.roles_to_train"),
        ("out-of-range", "datasets.1.type"),
        ("wrong-type", "datasets.2.type"),
    ]


def test_quoted_truth_values_of_boolean_keys_are_read_aloud(write):
    path = write(RIGHT + "sample_packing: 'True'\nsave_strategy: \"no\"\noutput_dir: 'true'\n")
    loaded = load(path)
    assert loaded.config.packing.sample_packing is True
    assert loaded.config.checkpoint.strategy == "no"
    assert loaded.config.checkpoint.output_dir == "true"
    assert loaded.notices == [f'{path}:10:1: sample_packing: "True" is read as `true`']


def test_a_mapping_that_holds_itself_is_refused():
    knot: dict = {**VALUES}
    knot["datasets"] = [knot]
    assert problems(knot)[0].message == "nested more than 20 deep"
    assert problems(VALUES, overrides={"datasets": knot})[0].code == "yaml"


def test_overrides_are_not_changed_for_the_caller():
    entry = {"path": "a", "type": "sharegpt"}
    overrides = {"datasets": [entry]}
    assert load(VALUES, overrides).config.data.datasets[0].type == "chat_template"
    assert overrides == {"datasets": [{"path": "a", "type": "sharegpt"}]}


def test_null_means_not_set(write):
    text = RIGHT + "lora_r:\nmax_steps: null\nspecial_tokens:\n  pad_token:\nroles_x: 1\n"
    (found,) = problems(write(text))
    assert found.key == "roles_x"
    loaded = load(write(text.replace("roles_x: 1\n", "")))
    assert loaded.config.adapters.rank == 8
    assert loaded.config.tokenizer.special_tokens.pad_token is None


def test_a_missing_file_a_folder_and_a_url_are_refused(tmp_path):
    assert problems(tmp_path / "none.yaml")[0].message == "No such file or directory"
    assert problems(tmp_path)[0].code == "yaml"
    assert problems("https://example.org/run.yaml")[0].code == "refused"
    assert problems("a\0b")[0].code == "yaml"


@pytest.mark.parametrize("text", ["", "- a\n", "word", "3", "null"])
def test_what_is_no_mapping_is_refused(write, text):
    assert problems(write(text))


def test_one_problem_is_the_message_of_the_error(write):
    path = write(RIGHT + "lora_r: 0\n")
    with pytest.raises(ConfigError, match="lora_r: must be 1 or more") as caught:
        load(path)
    assert caught.value.where == f"{path}:10:1"


def test_a_key_without_effect_is_a_notice_or_with_strict_keys_a_problem(write):
    path = write(RIGHT + "eval_batch_size: 3\n")
    (notice,) = load(path).notices
    assert notice == (f"{path}:10:1: eval_batch_size: `3` has no effect, there is no held-out data")
    (found,) = problems(path, strict_keys=True)
    assert (found.code, found.key, found.line) == ("conflict", "eval_batch_size", 10)


def test_a_dead_key_that_would_change_what_trains_is_a_problem(write):
    chats = "chat_template\n    roles_to_train: [assistant]"
    text = RIGHT.replace("alpaca", chats) + "train_on_inputs: true\n"
    (found,) = problems(write(text))
    assert (found.code, found.key) == ("conflict", "train_on_inputs")


def test_the_machine_is_checked_where_it_is_known_and_deferred_where_not(write):
    path = write(RIGHT + "bf16: true\ntf32: true\n")
    assert [text.split(" ")[0] for text in load(path).deferred] == ["bf16:", "tf32:"]
    assert load(path, environment=named_machine("h100")).deferred == []
    found = problems(path, environment=named_machine("t4"))
    assert {item.key for item in found} == {"bf16", "tf32"}


def test_a_plugin_adds_a_format_by_name(write, tmp_path, monkeypatch):
    (tmp_path / "my_plugin.py").write_text(
        "def register(registries):\n    registries['formats'].add('mine', 'my_plugin:read')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    from tunesmith import registry

    registry.registry.cache_clear()
    text = RIGHT.replace("alpaca", "mine")
    (found,) = problems(write(text))
    assert found.key == "datasets.0.type"
    assert load(write(text + "plugins: [my_plugin]\n")).config.data.datasets[0].type == "mine"
    registry.registry.cache_clear()


def test_a_plugin_that_cannot_be_imported_is_a_problem(write):
    text = RIGHT + "plugins:\n  - json.tool\n  - no_such_module_at_all\n"
    first, second = problems(write(text))
    assert (first.code, first.key, first.line) == ("refused", "plugins.0", 11)
    assert (second.code, second.key, second.line) == ("refused", "plugins.1", 12)


scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(["lora", "yes", "auto", "steps", "alpaca", "sharegpt", "dpo", "(", "best"]),
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)
keys = st.sampled_from(
    [*top_leaves(), "rl", "trl", "fsdp_config", "flash_attention", "bnb_4bit_quant_type", "lr", "x"]
)
entries = st.dictionaries(
    st.sampled_from(["path", "type", "field", "roles", "shards", "conversation", "typ"]), values
)


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.dictionaries(keys, values, max_size=8), st.lists(entries | values, max_size=2))
def test_any_values_give_a_config_or_a_config_error(config, datasets):
    config = {key: value for key, value in config.items() if key != "plugins"}
    try:
        load({**VALUES, "datasets": datasets, **config})
    except ConfigError as error:
        found = error.problems
    else:
        return
    assert found
    assert all(item.code and item.message for item in found)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_damage_to_a_file_gives_a_config_or_a_config_error(write, data):
    raw = bytearray(RIGHT.encode())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(raw) - 1))
        piece = data.draw(
            st.sampled_from([b"\t", b"\xff", b"&a", b"*a", b"!!x ", b"\0", b"{", b"\n", b":"])
        )
        raw[at : at + data.draw(st.integers(0, 2))] = piece
    try:
        load(write(bytes(raw)))
    except ConfigError as error:
        found = error.problems
    else:
        return
    assert found
    assert all(item.code and item.message for item in found)


def test_reading_a_config_imports_no_torch(write):
    code = (
        "import sys; from tunesmith.config.read import load; load(sys.argv[1]);"
        "bad = {'torch', 'transformers', 'datasets', 'numpy', 'rich'} & set(sys.modules);"
        "sys.exit(f'imported {bad}' if bad else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(write(RIGHT))], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
