import json

import pytest

from tunesmith.config.environment import MACHINES, from_json, named_machine, to_json
from tunesmith.errors import ConfigError


def test_a_name_is_one_device_and_x8_is_eight():
    one, eight = named_machine("h100"), named_machine("h100x8")
    assert (one.n_devices, eight.n_devices) == (1, 8)
    assert one.memory_bytes == eight.memory_bytes
    assert eight.host_memory_bytes == 8 * one.host_memory_bytes
    assert eight.cores == 8 * one.cores


@pytest.mark.parametrize("name", ["a100-80", "A100-80", "rtx4090", "cpu"])
def test_names_hold_dashes_digits_and_an_x_of_their_own(name):
    assert named_machine(name) == MACHINES[name.lower()]


def test_names_with_an_x_may_be_counted_too():
    assert named_machine("rtx4090x2").n_devices == 2


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("a100", "did you mean `a100-80` or `a100-40`?"),
        ("A100x8", "did you mean `a100-80` or `a100-40`?"),
        ("rtx", "did you mean `rtx5090` or `rtx4090` or `rtx3090`?"),
        ("h1000", "one of h200"),
        ("b200", "one of h200"),
        ("toaster", "one of h200"),
        ("", "one of h200"),
        ("x8", "one of h200"),
        ("h100x0", "a machine has 1 to 1024 of them"),
        ("h100x1025", "a machine has 1 to 1024 of them"),
        ("h100x²", "one of h200"),
        ("cpux2", "use `cpu`"),
    ],
)
def test_a_wrong_name_says_the_right_ones(name, words):
    with pytest.raises(ConfigError) as caught:
        named_machine(name)
    assert caught.value.hint.startswith(words)


@pytest.mark.parametrize("name", MACHINES)
def test_json_and_back_is_the_identity(name):
    environment = MACHINES[name]
    assert from_json(json.loads(json.dumps(to_json(environment)))) == environment


def test_a_file_of_doctor_is_a_machine(tmp_path):
    path = tmp_path / "box.json"
    path.write_text(json.dumps({"environment": to_json(MACHINES["l4"]), "kernels": {}}))
    assert named_machine(str(path)) == MACHINES["l4"]
    path.write_text(json.dumps(to_json(MACHINES["l4"])))
    assert named_machine(str(path)) == MACHINES["l4"]


def test_the_file_may_have_any_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my-box").write_text(json.dumps(to_json(MACHINES["t4"])))
    assert named_machine("my-box") == MACHINES["t4"]
    (tmp_path / "l4").write_text("")
    assert named_machine("l4") == MACHINES["l4"], "a name is a name, whatever lies here"


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"device": "tpu"}', "null", '{"environment": 3}']
)
def test_a_wrong_file_is_a_config_error(tmp_path, text):
    path = tmp_path / "box.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match="not a machine's description"):
        named_machine(str(path))


def test_a_missing_file_is_a_config_error(tmp_path):
    with pytest.raises(ConfigError, match="No such file"):
        named_machine(str(tmp_path / "none.json"))
