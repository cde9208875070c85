"""What a run writes about itself: config, plan, ledger, and a line a step in ``metrics.jsonl``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from io import StringIO
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from tunesmith.checkpoint.durable import explaining_disk, write_text
from tunesmith.checkpoint.state import TrainState
from tunesmith.config.flat import to_flat
from tunesmith.config.schema import RunConfig
from tunesmith.data.merge import LEDGER
from tunesmith.engine.report import StepReport
from tunesmith.engine.run import Run
from tunesmith.runs.folder import PLAN
from tunesmith.runs.guarding import write_ledger
from tunesmith.runs.material import Material
from tunesmith.runs.plan import RunPlan
from tunesmith.runs.preflight.probe import Finding
from tunesmith.tracking.build import METRICS_FILE, build_trackers
from tunesmith.tracking.trackers import Tracker

CONFIG = "config.yaml"


def write_records(
    plan: RunPlan, material: Material, findings: Sequence[Finding], output_dir: Path
) -> None:
    """Write ``config.yaml``, ``ledger.json`` and, last, ``plan.json``: the folder is this run's."""
    write_text(output_dir / CONFIG, as_yaml(plan.config))
    write_ledger(output_dir / LEDGER, material.ledger.to_json())
    preflight = [
        {"name": f.name, "seen": f.seen, "seconds": round(f.seconds, 3), "skipped": f.skipped}
        for f in findings
    ]
    content = plan.to_json()
    content["preflight"] = preflight or _earlier_preflight(output_dir)
    write_text(output_dir / PLAN, _json(content))


def as_yaml(config: RunConfig) -> str:
    """The keys that differ from their defaults, as a YAML that trains the same."""
    yaml = YAML()
    yaml.default_flow_style = False
    out = StringIO()
    yaml.dump(to_flat(config), out)
    return out.getvalue()


class Recorder:
    """A callback that writes ``metrics.jsonl``; with a device that runs ahead, one step late.

    Nothing is touched before the run starts. ``last_evaluation`` is that of the run before the
    interruption until a resumed run has one of its own.
    """

    def __init__(self, plan: RunPlan, output_dir: Path) -> None:
        self.last_evaluation: dict[str, float] = {}
        self._tracking = plan.config.tracking
        self._output_dir = output_dir
        self._trackers: list[Tracker] = []
        self._late = plan.device.value != "cpu"
        self._unwritten: StepReport | None = None

    def run_started(self, run: Run, state: TrainState) -> None:
        """Open the trackers at this step; once more where the run went back to it."""
        self._close()
        self._trackers = build_trackers(self._tracking, self._output_dir, resumed_step=state.step)
        self.last_evaluation = _earlier_evaluation(self._output_dir / METRICS_FILE)

    def step_finished(self, run: Run, state: TrainState, report: StepReport) -> None:
        """Write this step's line, or the one before it."""
        previous, self._unwritten = self._unwritten, report
        if not self._late:
            self._flush()
        elif previous is not None:
            self._write(previous.step, previous.to_metrics())

    def evaluated(self, run: Run, state: TrainState, result: Mapping[str, float]) -> None:
        """Write what the held-out data gave."""
        self._flush()
        self.last_evaluation = dict(result)
        self._write(state.step, result)

    def saved(self, run: Run, state: TrainState) -> None:
        """Let no line of a saved step be missing."""
        self._flush()

    def run_finished(self, run: Run, state: TrainState) -> None:
        """Write the last line and close."""
        self._close()

    def run_failed(self, run: Run, state: TrainState, error: BaseException) -> None:
        """Write what there is and close."""
        self._close()

    def _flush(self) -> None:
        report, self._unwritten = self._unwritten, None
        if report is not None:
            self._write(report.step, report.to_metrics())

    def _close(self) -> None:
        self._flush()
        trackers, self._trackers = self._trackers, []
        with explaining_disk(self._output_dir / METRICS_FILE):
            for tracker in trackers:
                tracker.close()

    def _write(self, step: int, metrics: Mapping[str, Any]) -> None:
        with explaining_disk(self._output_dir / METRICS_FILE):
            for tracker in self._trackers:
                tracker.log(step, metrics)


def _earlier_evaluation(path: Path) -> dict[str, float]:
    """The last evaluation among the lines that a resumed run keeps; empty where there is none."""
    found: dict[str, float] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        if "eval_loss" in record:
            found = {name: float(v) for name, v in record.items() if name != "step"}
    return found


def _earlier_preflight(output_dir: Path) -> list[Any]:
    """What the run's first start found: a resumed run does not probe again."""
    path = output_dir / PLAN
    if not path.exists():
        return []
    found: list[Any] = json.loads(path.read_text(encoding="utf-8")).get("preflight", [])
    return found


def _json(content: Any) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False, default=str) + "\n"
