"""How each service is opened, in the process that talks to it alone (`tunesmith.tracking.child`).

The services' own packages are extras; ``accelerate.tracking`` is what speaks to each of them. They
collect a lot by themselves: code, git remotes, arguments, what is printed, packages, the machine.
All of it is off here: a service gets what it is handed, and its own counters of the hardware.

Each function takes the settings of an ``Order`` (with ``resumed_step``, and the ``id`` that the
service gave the run where that goes on) and returns what it opened.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from accelerate import PartialState
from accelerate.tracking import (
    CometMLTracker,
    MLflowTracker,
    SwanLabTracker,
    TensorBoardTracker,
    TrackioTracker,
    WandBTracker,
)

from tunesmith.tracking.order import Opened

Settings = Mapping[str, Any]


def tensorboard(settings: Settings) -> Opened:
    """Event files in a folder; those of steps that are done again count no more."""
    step = settings["resumed_step"]
    purge = step + 1 if step else None
    return Opened(_start(TensorBoardTracker("", settings["folder"], purge_step=purge)))


def wandb(settings: Settings) -> Opened:
    """A run of Weights & Biases."""
    import wandb as package

    quiet = package.Settings(
        console="off", disable_code=True, disable_git=True, x_disable_meta=True, silent=True
    )
    tracker = WandBTracker(
        settings["project"],
        resume="allow",
        dir=settings["folder"],
        settings=quiet,
        **_given(settings, "entity", "name", "id", "mode"),
    )
    is_kept_here = settings.get("mode") == "offline"
    return Opened(_start(tracker), tracker.run.id, "" if is_kept_here else tracker.run.url or "")


def mlflow(settings: Settings) -> Opened:
    """A run of an experiment of MLflow."""
    import mlflow as package

    if "uri" in settings:
        package.set_tracking_uri(settings["uri"])
    id = settings.get("id")
    tracker = MLflowTracker(
        settings["project"], run_id=id, run_name=None if id else settings.get("name")
    )
    return Opened(_start(tracker), tracker.active_run.info.run_id)


def comet(settings: Settings) -> Opened:
    """An experiment of Comet."""
    import comet_ml

    collected = {
        **dict.fromkeys(("log_code", "log_graph", "parse_args"), False),
        **dict.fromkeys(("log_git_metadata", "log_git_patch", "log_env_details"), False),
        **dict.fromkeys(("auto_param_logging", "auto_metric_logging", "auto_log_co2"), False),
        "auto_output_logging": False,
        "display_summary_level": 0,
        "offline_directory": settings["folder"],
    }
    arguments = _given(settings, "workspace", "mode", "online")
    if "id" in settings:
        arguments["experiment_key"] = settings["id"]
    tracker = CometMLTracker(
        settings["project"],
        experiment_config=comet_ml.ExperimentConfig(**collected | settings.get("more", {})),
        **arguments,
    )
    return Opened(_start(tracker), tracker.writer.get_key(), tracker.writer.url or "")


def swanlab(settings: Settings) -> Opened:
    """A run of SwanLab."""
    import swanlab as package

    off = dict.fromkeys(("runtime", "requirements", "conda", "git"), False)
    quiet = package.Settings(
        probe=off, terminal={"proxy_type": "none"}, **_given(settings, "web_host", "api_host")
    )
    mode = settings.get("mode", "cloud")
    tracker = SwanLabTracker(
        settings["project"],
        log_dir=settings["folder"],
        resume="allow",
        settings=quiet,
        mode="online" if mode == "cloud" else mode,
        **_given(settings, "name", "description", "workspace", "id"),
    )
    is_kept_here = mode in ("local", "offline")
    return Opened(_start(tracker), tracker.run.id, "" if is_kept_here else tracker.run.url)


def trackio(settings: Settings) -> Opened:
    """A run of Trackio, on this machine or in a Space."""
    name = settings.get("id") or settings.get("name")
    tracker = TrackioTracker(
        settings["project"],
        name=name,
        space_id=settings.get("space"),
        resume="allow" if "id" in settings else "never",
        embed=False,
        auto_log_gpu=False,
        auto_log_cpu=False,
    )
    return Opened(_start(tracker), tracker.run.name)


def _given(settings: Settings, *names: str) -> dict[str, Any]:
    return {name: settings[name] for name in names if name in settings}


def _start(tracker: Any) -> Any:
    """The tracker, started; accelerate's loggers want its state first, which is that of one process
    on the CPU: no device is touched.
    """
    PartialState(cpu=True)
    tracker.start()
    return tracker
