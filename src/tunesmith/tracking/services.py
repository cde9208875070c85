"""The services that a run can be told to: which are switched on, and with which settings.

Torch-free and without the services' own packages: those are imported in the process that talks to
a service (`tunesmith.tracking.clients`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tunesmith.config.tracking import NAMED, TrackingSection, is_on
from tunesmith.errors import ConfigError
from tunesmith.tracking.order import Order

PROJECT = "tunesmith"
"""The project where a service needs one and none is named."""

CLIENTS = "tunesmith.tracking.clients"

_STORES = ("http:", "https:", "databricks", "sqlite:", "postgresql:", "mysql:", "mssql:")
"""How an address of MLflow begins that is no folder."""


@dataclass(frozen=True, slots=True)
class Service:
    """One tracker: its name for people, the package that it needs and the extra that brings it, and
    its settings for a run, None where the run is not told to it.
    """

    title: str
    package: str
    extra: str
    settings: Callable[[TrackingSection, Path], dict[str, Any] | None]

    @property
    def switch(self) -> str:
        """The key that switches it on and off."""
        return f"use_{self.extra}"


def orders(section: TrackingSection, output_dir: Path) -> list[Order]:
    """One for each tracker that is switched on; files of theirs lie below ``output_dir``."""
    found = []
    for service in SERVICES:
        settings = service.settings(section, output_dir)
        if settings is not None:
            given = {name: value for name, value in settings.items() if value not in (None, "")}
            env = _environment(given) if service.extra == "mlflow" else {}
            client = f"{CLIENTS}:{service.extra}"
            found.append(Order(service.title, client, given, env))
    return found


def require_packages(section: TrackingSection) -> None:
    """Raise unless the package of every tracker that is switched on is installed.

    Raises:
        ConfigError: one or more are not; it says what brings them.
    """
    missing = [
        service
        for service in SERVICES
        if service.settings(section, Path()) is not None and find_spec(service.package) is None
    ]
    if not missing:
        return
    keys = [_asked_by(service, section) for service in missing]
    extras = ",".join(service.extra for service in missing)
    packages = ", ".join(service.package for service in missing)
    asked = ", ".join(f"`{key}`" for key in keys)
    raise ConfigError(
        f"not installed: {packages} (asked for by {asked})",
        hint=f"pip install 'tunesmith[{extras}]', or take out {', '.join(keys)}",
        where=keys[0],
    )


def _asked_by(service: Service, section: TrackingSection) -> str:
    """The key that asks for a service."""
    return service.switch if getattr(section, service.switch) else NAMED[service.switch]


def _environment(mlflow: Mapping[str, Any]) -> dict[str, str]:
    """MLflow refuses folders as a store unless it is told that one is meant."""
    uri = mlflow.get("uri") or os.environ.get("MLFLOW_TRACKING_URI", "sqlite:")
    return {} if str(uri).startswith(_STORES) else {"MLFLOW_ALLOW_FILE_STORE": "true"}


def _tensorboard(section: TrackingSection, output_dir: Path) -> dict[str, Any] | None:
    return {"folder": str(output_dir / "runs")} if section.use_tensorboard else None


def _wandb(section: TrackingSection, output_dir: Path) -> dict[str, Any] | None:
    if not is_on(switch=section.use_wandb, named=section.wandb_project, mode=section.wandb_mode):
        return None
    return {
        "folder": str(output_dir),
        "project": section.wandb_project or PROJECT,
        "entity": section.wandb_entity,
        "name": section.wandb_name or section.wandb_run_id,
        "id": section.wandb_run_id,
        "mode": section.wandb_mode,
    }


def _mlflow(section: TrackingSection, output_dir: Path) -> dict[str, Any] | None:
    if not is_on(switch=section.use_mlflow, named=section.mlflow_experiment_name):
        return None
    return {
        "uri": section.mlflow_tracking_uri,
        "project": section.mlflow_experiment_name or PROJECT,
        "name": section.mlflow_run_name,
    }


def _comet(section: TrackingSection, output_dir: Path) -> dict[str, Any] | None:
    if not is_on(
        switch=section.use_comet, named=section.comet_project_name, mode=section.comet_mode
    ):
        return None
    return {
        "folder": str(output_dir / "comet"),
        "project": section.comet_project_name or PROJECT,
        "workspace": section.comet_workspace,
        "id": section.comet_experiment_key,
        "mode": section.comet_mode,
        "online": section.comet_online,
        "more": section.comet_experiment_config,
    }


def _swanlab(section: TrackingSection, output_dir: Path) -> dict[str, Any] | None:
    if not is_on(
        switch=section.use_swanlab, named=section.swanlab_project, mode=section.swanlab_mode
    ):
        return None
    return {
        "folder": str(output_dir / "swanlog"),
        "project": section.swanlab_project or PROJECT,
        "name": section.swanlab_experiment_name,
        "description": section.swanlab_description,
        "mode": section.swanlab_mode,
        "workspace": section.swanlab_workspace,
        "web_host": section.swanlab_web_host,
        "api_host": section.swanlab_api_host,
    }


def _trackio(section: TrackingSection, output_dir: Path) -> dict[str, Any] | None:
    if not is_on(switch=section.use_trackio, named=section.trackio_project_name):
        return None
    return {
        "project": section.trackio_project_name or PROJECT,
        "name": section.trackio_run_name,
        "space": section.trackio_space_id,
    }


SERVICES: tuple[Service, ...] = (
    Service("TensorBoard", "tensorboard", "tensorboard", _tensorboard),
    Service("Weights & Biases", "wandb", "wandb", _wandb),
    Service("MLflow", "mlflow", "mlflow", _mlflow),
    Service("Comet", "comet_ml", "comet", _comet),
    Service("SwanLab", "swanlab", "swanlab", _swanlab),
    Service("Trackio", "trackio", "trackio", _trackio),
)
