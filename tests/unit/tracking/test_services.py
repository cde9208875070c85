"""Each key of a tracker reaches it, as the setting that it stands for; and what is never sent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tunesmith.config.flat import from_flat, leaves
from tunesmith.config.read import load
from tunesmith.errors import ConfigError
from tunesmith.tracking import services
from tunesmith.tracking.services import orders, require_packages

RIGHT: dict[str, Any] = {
    "base_model": "m",
    "learning_rate": 1e-4,
    "micro_batch_size": 1,
    "datasets": [{"path": "a"}],
}
ON: dict[str, Any] = {
    "use_wandb": True,
    "use_mlflow": True,
    "use_comet": True,
    "use_swanlab": True,
    "use_trackio": True,
}

# Key -> value, the tracker that it reaches, the setting there, and the setting's value.
REACHES: dict[str, tuple[Any, str, str, Any]] = {
    "wandb_project": ("p", "wandb", "project", "p"),
    "wandb_entity": ("team", "wandb", "entity", "team"),
    "wandb_name": ("n", "wandb", "name", "n"),
    "wandb_run_id": ("abc", "wandb", "id", "abc"),
    "wandb_mode": ("offline", "wandb", "mode", "offline"),
    "mlflow_tracking_uri": ("http://host:5000", "mlflow", "uri", "http://host:5000"),
    "mlflow_experiment_name": ("e", "mlflow", "project", "e"),
    "mlflow_run_name": ("n", "mlflow", "name", "n"),
    "comet_workspace": ("w", "comet", "workspace", "w"),
    "comet_project_name": ("p", "comet", "project", "p"),
    "comet_experiment_key": ("k" * 32, "comet", "id", "k" * 32),
    "comet_mode": ("get", "comet", "mode", "get"),
    "comet_online": (False, "comet", "online", False),
    "comet_experiment_config": ({"tags": ["a"]}, "comet", "more", {"tags": ["a"]}),
    "swanlab_project": ("p", "swanlab", "project", "p"),
    "swanlab_experiment_name": ("n", "swanlab", "name", "n"),
    "swanlab_description": ("d", "swanlab", "description", "d"),
    "swanlab_mode": ("offline", "swanlab", "mode", "offline"),
    "swanlab_workspace": ("w", "swanlab", "workspace", "w"),
    "swanlab_web_host": ("https://a.example", "swanlab", "web_host", "https://a.example"),
    "swanlab_api_host": ("https://b.example", "swanlab", "api_host", "https://b.example"),
    "trackio_project_name": ("p", "trackio", "project", "p"),
    "trackio_run_name": ("n", "trackio", "name", "n"),
    "trackio_space_id": ("me/space", "trackio", "space", "me/space"),
}


def ordered(**keys: Any) -> dict[str, dict[str, Any]]:
    section = from_flat(RIGHT | keys).tracking
    return {order.name: dict(order.settings) for order in orders(section, Path("out"))}


def test_every_key_of_a_tracker_is_looked_at_here():
    tracked = {flat for flat, leaf in leaves().items() if leaf.section == "tracking"}
    assert tracked == {*REACHES, *ON, "use_tensorboard", "logging_steps"}


@pytest.mark.parametrize("key", REACHES)
def test_a_key_changes_its_setting_and_no_other(key):
    value, tracker, setting, wanted = REACHES[key]
    before, after = ordered(**ON), ordered(**ON, **{key: value})
    assert before[tracker].get(setting) != wanted
    assert after[tracker].pop(setting) == wanted
    before[tracker].pop(setting, None)
    if key == "wandb_run_id":
        assert after["wandb"].pop("name") == value  # it names the run, too
    assert before == after


@pytest.mark.parametrize("key", [key for key in REACHES if REACHES[key][0] is not False])
def test_a_key_without_its_tracker_is_said_to_do_nothing(key):
    value, tracker, _, _ = REACHES[key]
    off = {f"use_{tracker}": False, key: value}
    assert ordered(**off) == {}
    (notice,) = load(RIGHT | off).notices
    assert f"{key}: " in notice
    assert "is not switched on" in notice


@pytest.mark.parametrize(
    ("keys", "names"),
    [
        ({}, set()),
        ({"use_tensorboard": True}, {"tensorboard"}),
        ({"wandb_project": "p"}, {"wandb"}),
        ({"use_wandb": True}, {"wandb"}),
        ({"wandb_project": "p", "use_wandb": False}, set()),
        ({"wandb_project": "p", "wandb_mode": "disabled"}, set()),
        ({"wandb_project": "", "wandb_entity": "", "wandb_name": ""}, set()),
        ({"mlflow_experiment_name": "e"}, {"mlflow"}),
        ({"mlflow_tracking_uri": "file:m"}, set()),
        ({"comet_project_name": "p"}, {"comet"}),
        ({"comet_project_name": "p", "comet_mode": "disabled"}, set()),
        ({"swanlab_project": "p"}, {"swanlab"}),
        ({"swanlab_project": "p", "swanlab_mode": "disabled"}, set()),
        ({"trackio_project_name": "p"}, {"trackio"}),
        (ON | {"swanlab_project": "p"}, {"wandb", "mlflow", "comet", "swanlab", "trackio"}),
    ],
)
def test_what_switches_a_tracker_on(keys, names):
    assert set(ordered(**keys)) == names
    assert not [n for n in load(RIGHT | keys).notices if "unknown" in n]


def test_a_folder_of_mlflow_is_allowed_and_a_server_needs_nothing(monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)

    def env(**keys):
        (order,) = orders(from_flat(RIGHT | {"use_mlflow": True} | keys).tracking, Path("out"))
        return dict(order.env)

    allowed = {"MLFLOW_ALLOW_FILE_STORE": "true"}
    assert env(mlflow_tracking_uri="file:mlruns") == allowed
    assert env(mlflow_tracking_uri="./mlruns") == allowed
    assert env(mlflow_tracking_uri="https://host") == env() == {}
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "file:mlruns")
    assert env() == allowed


def test_what_is_not_installed_is_told_in_one_block(monkeypatch):
    monkeypatch.setattr(services, "find_spec", lambda name: None)
    require_packages(from_flat(RIGHT).tracking)
    with pytest.raises(ConfigError) as caught:
        require_packages(from_flat(RIGHT | {"wandb_project": "p", "use_mlflow": True}).tracking)
    assert caught.value.message == (
        "not installed: wandb, mlflow (asked for by `wandb_project`, `use_mlflow`)"
    )
    assert caught.value.hint == (
        "pip install 'tunesmith[wandb,mlflow]', or take out wandb_project, use_mlflow"
    )
    monkeypatch.setattr(services, "find_spec", lambda name: object())
    require_packages(from_flat(RIGHT | ON).tracking)


def test_the_extras_are_those_of_the_package():
    import tomllib

    project = Path(__file__).parents[3] / "pyproject.toml"
    extras = tomllib.loads(project.read_text())["project"]["optional-dependencies"]
    for service in services.SERVICES:
        wanted = service.package.replace("_", "-")
        assert any(item.startswith(f"{wanted}>=") for item in extras[service.extra]), service


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("wandb_log_model", "end", "models stay in `output_dir`"),
        ("hf_mlflow_log_artifacts", True, "models stay in `output_dir`"),
        ("wandb_watch", "gradients", "grad_norm"),
    ],
)
def test_what_is_not_sent_is_said(key, value, words):
    (notice,) = load(RIGHT | {key: value}).notices
    assert key in notice
    assert words in notice
    assert load(RIGHT | {key: "false"}).notices == []


def test_axolotls_plugin_for_swanlab_is_its_switch():
    plugin = "axolotl.integrations.swanlab.SwanLabPlugin"
    loaded = load(RIGHT | {"plugins": [plugin], "swanlab_project": "p"})
    assert loaded.config.tracking.use_swanlab is True
    assert loaded.config.plugins.names == ()
    (notice,) = loaded.notices
    assert "is read as `use_swanlab: true`" in notice
    off = load(RIGHT | {"plugins": [plugin], "use_swanlab": False})
    assert off.config.tracking.use_swanlab is False
