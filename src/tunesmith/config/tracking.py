"""Section ``tracking``: what is logged, how often, and which trackers are told beside the disk."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import field_validator

from tunesmith.config.section import Section, key

_SERVICES = "tunesmith.tracking.services"

NAMED: Mapping[str, str] = {
    "use_wandb": "wandb_project",
    "use_mlflow": "mlflow_experiment_name",
    "use_comet": "comet_project_name",
    "use_swanlab": "swanlab_project",
    "use_trackio": "trackio_project_name",
}
"""A tracker's switch -> the key that switches it on by being set, as axolotl has it."""

MODES: Mapping[str, str] = {
    "use_wandb": "wandb_mode",
    "use_comet": "comet_mode",
    "use_swanlab": "swanlab_mode",
}
"""A tracker's switch -> the key that can say `disabled`."""


def is_on(*, switch: bool | None, named: str | None, mode: str | None = None) -> bool:
    """Whether a tracker is told: by its switch, or, where that is not given, because something is
    ``named`` for it; never where its ``mode`` is `disabled`.
    """
    return mode != "disabled" and (bool(named) if switch is None else switch)


def _of(switch: str, title: str) -> dict[str, Any]:
    """What the keys of one tracker declare alike: they matter where it is told of the run."""

    def when(config: Any) -> bool:
        section, mode = config.tracking, MODES.get(switch)
        named, said = getattr(section, NAMED[switch]), mode and getattr(section, mode)
        return is_on(switch=getattr(section, switch), named=named, mode=said)

    return {"when": when, "why": f"{title} is not switched on", "readers": _SERVICES}


def _mode_of(switch: str, title: str) -> dict[str, Any]:
    """The same of the key that can itself say `disabled`."""

    def when(config: Any) -> bool:
        section = config.tracking
        return is_on(switch=getattr(section, switch), named=getattr(section, NAMED[switch]))

    return {"when": when, "why": f"{title} is not switched on", "readers": _SERVICES}


_WANDB = ("use_wandb", "Weights & Biases")
_MLFLOW = ("use_mlflow", "MLflow")
_COMET = ("use_comet", "Comet")
_SWANLAB = ("use_swanlab", "SwanLab")
_TRACKIO = ("use_trackio", "Trackio")


class TrackingSection(Section):
    """Numbers out. ``metrics.jsonl`` is always written, a line a step. Each tracker beside it has a
    process of its own: whatever happens to it, the run goes on, and says so once.
    """

    @field_validator("*", mode="before")
    @classmethod
    def _take_blank_for_nothing(cls, value: Any) -> Any:
        """None for an empty text, as which many configs leave what they do not use."""
        return None if isinstance(value, str) and not value.strip() else value

    logging_steps: int = key(
        1,
        "A line on the terminal every so many steps.",
        flat="logging_steps",
        le=1_000_000_000,
        ge=1,
        readers="tunesmith.runs.plan",
    )
    use_tensorboard: bool = key(
        False,
        "Write for TensorBoard, into `runs` in `output_dir`.",
        readers=_SERVICES,
    )
    use_wandb: bool | None = key(
        None,
        "Tell Weights & Biases of the run. By default it is told where `wandb_project` is set. The "
        "login of this machine is used (`WANDB_API_KEY`, or `wandb login`).",
        readers=_SERVICES,
    )
    wandb_project: str | None = key(None, "The project; setting it is enough.", **_of(*_WANDB))
    wandb_entity: str | None = key(None, "The team or user that it belongs to.", **_of(*_WANDB))
    wandb_name: str | None = key(
        None, "The run's name; by default `wandb_run_id`, else one is made up.", **_of(*_WANDB)
    )
    wandb_run_id: str | None = key(
        None,
        "The run's id; a run that is there goes on. A resumed run finds its own by itself.",
        **_of(*_WANDB),
    )
    wandb_mode: Literal["offline", "online", "disabled", "shared"] | None = key(
        None,
        "`online`; `offline`: keep it in `wandb` in `output_dir`, for `wandb sync`; `shared`: "
        "several processes write one run; `disabled`.",
        **_mode_of(*_WANDB),
    )
    use_mlflow: bool | None = key(
        None,
        "Tell MLflow of the run. By default it is told where `mlflow_experiment_name` is set.",
        readers=_SERVICES,
    )
    mlflow_tracking_uri: str | None = key(
        None,
        "The server, or a folder (`file:mlruns`) or database (`sqlite:///mlflow.db`). By default "
        "`MLFLOW_TRACKING_URI`, else what MLflow takes. Name and password belong in "
        "`MLFLOW_TRACKING_USERNAME` and `MLFLOW_TRACKING_PASSWORD`.",
        **_of(*_MLFLOW),
    )
    mlflow_experiment_name: str | None = key(
        None, "The experiment; setting it is enough. By default `tunesmith`.", **_of(*_MLFLOW)
    )
    mlflow_run_name: str | None = key(None, "The run's name.", **_of(*_MLFLOW))
    use_comet: bool | None = key(
        None,
        "Tell Comet of the run. By default it is told where `comet_project_name` is set. The login "
        "of this machine is used (`COMET_API_KEY`, or `comet login`).",
        readers=_SERVICES,
    )
    comet_workspace: str | None = key(None, "The workspace.", **_of(*_COMET))
    comet_project_name: str | None = key(
        None, "The project; setting it is enough. By default `tunesmith`.", **_of(*_COMET)
    )
    comet_experiment_key: str | None = key(
        None, "The experiment's key, 32 to 50 letters and digits.", **_of(*_COMET)
    )
    comet_mode: Literal["get_or_create", "create", "get", "disabled"] | None = key(
        None,
        "Whether the experiment of `comet_experiment_key` is made, gone on with, or either.",
        **_mode_of(*_COMET),
    )
    comet_online: bool | None = key(
        None, "False keeps it in `comet` in `output_dir`, for `comet upload`.", **_of(*_COMET)
    )
    comet_experiment_config: dict[str, Any] | None = key(
        None,
        "Further arguments of `comet_ml.ExperimentConfig`. What it would collect by itself (code, "
        "output, arguments, machine) is off unless it is asked for here.",
        **_of(*_COMET),
    )
    use_swanlab: bool | None = key(
        None,
        "Tell SwanLab of the run. By default it is told where `swanlab_project` is set. The login "
        "of this machine is used (`SWANLAB_API_KEY`, or `swanlab login`).",
        readers=_SERVICES,
    )
    swanlab_project: str | None = key(None, "The project; setting it is enough.", **_of(*_SWANLAB))
    swanlab_experiment_name: str | None = key(None, "The run's name.", **_of(*_SWANLAB))
    swanlab_description: str | None = key(None, "A text about the run.", **_of(*_SWANLAB))
    swanlab_mode: Literal["cloud", "local", "offline", "disabled"] | None = key(
        None,
        "`cloud`; `local` or `offline`: keep it in `swanlog` in `output_dir`; `disabled`.",
        **_mode_of(*_SWANLAB),
    )
    swanlab_workspace: str | None = key(None, "The workspace.", **_of(*_SWANLAB))
    swanlab_web_host: str | None = key(
        None, "The pages of a server of one's own.", **_of(*_SWANLAB)
    )
    swanlab_api_host: str | None = key(None, "Its API.", **_of(*_SWANLAB))
    use_trackio: bool | None = key(
        None,
        "Tell Trackio of the run. By default it is told where `trackio_project_name` is set.",
        readers=_SERVICES,
    )
    trackio_project_name: str | None = key(
        None, "The project; setting it is enough. By default `tunesmith`.", **_of(*_TRACKIO)
    )
    trackio_run_name: str | None = key(None, "The run's name.", **_of(*_TRACKIO))
    trackio_space_id: str | None = key(
        None,
        "The Hugging Face Space that shows it; without one it stays on this machine.",
        **_of(*_TRACKIO),
    )
