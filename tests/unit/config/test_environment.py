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
        ("h1000", "did you mean `h100`?"),
        ("toaster", "one of h200"),
        ("h100x0", "one of|did you mean"),
        ("cpux2", "use `cpu`"),
    ],
)
def test_a_wrong_name_says_the_right_ones(name, words):
    with pytest.raises(ConfigError) as caught:
        named_machine(name)
    assert any(word in caught.value.hint for word in words.split("|"))


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
