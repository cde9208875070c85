from __future__ import annotations

import io
from pathlib import Path

import pytest
import torch
from rich.console import Console as Screen

from tests.unit.engine.parts import build_run, make_rows
from tunesmith.checkpoint.state import TrainState
from tunesmith.dist.mesh import Mesh
from tunesmith.engine.loop import fit
from tunesmith.engine.report import Reporter, StepFacts, StepSums
from tunesmith.report.progress import Pace, Preparing, StepProgress, in_words, step_line


def screen(*, terminal: bool) -> tuple[Screen, io.StringIO]:
    out = io.StringIO()
    return Screen(file=out, force_terminal=terminal, width=160, legacy_windows=False), out


def make_report(step: int = 3, seconds: float = 2.0):
    facts = StepFacts(step, 0.25, 1.5e-4, 1000, {"tokens": 10.0})
    sums = StepSums({"tokens": torch.tensor(12.5)}, {})
    report = Reporter(Mesh.single("cpu"))(facts, sums, torch.tensor(0.5))
    report.seconds = seconds
    return report


def test_a_line_holds_every_fact():
    assert step_line(make_report(), 40, 75.0) == (
        "step 3/40  loss 1.2500  lr 1.50e-04  norm 0.500  500 tokens/s  epoch 0.25  left 1 min 15 s"
    )


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.2, "0 s"),
        (59.4, "59 s"),
        (185, "3 min 05 s"),
        (3599.7, "1 h 00 min"),
        (7620, "2 h 07 min"),
    ],
)
def test_durations(seconds, words):
    assert in_words(seconds) == words


def test_the_pace_forgets_the_first_step():
    pace = Pace()
    assert pace.left(make_report(), 10) is None
    pace.add(make_report(1, seconds=60.0))
    pace.add(make_report(2, seconds=2.0))
    pace.add(make_report(3, seconds=2.0))
    assert pace.left(make_report(3), 13) == pytest.approx(20.0)


def run_with(tmp_path: Path, *, terminal: bool, log_every: int = 1) -> str:
    shown, out = screen(terminal=terminal)
    run = build_run(
        tmp_path,
        rows=make_rows(16),
        held_out=make_rows(3, seed=1),
        save={"steps": 4},
        evaluation={"steps": 2},
        callbacks=[StepProgress(shown)],
        log_every=log_every,
    )
    fit(run, TrainState())
    return out.getvalue()


def test_lines_where_there_is_no_terminal(tmp_path):
    lines = run_with(tmp_path, terminal=False).splitlines()
    kinds = [line.split("  ")[0].split(":")[0] for line in lines]
    assert kinds == [
        *("step 1/4", "step 2/4", "held-out loss after step 2", "step 3/4", "step 4/4"),
        *("held-out loss after step 4", "saved checkpoint-4"),
    ]
    assert all("tokens/s" in line and "left" in line for line in lines if line.startswith("step"))
    assert "perplexity" in lines[2]


def test_logging_steps_thins_the_lines(tmp_path):
    lines = run_with(tmp_path, terminal=False, log_every=3).splitlines()
    shown = [line.split("  ")[0] for line in lines if line.startswith("step")]
    assert shown == ["step 1/4", "step 3/4", "step 4/4"]


def test_a_bar_on_a_terminal(tmp_path):
    text = run_with(tmp_path, terminal=True)
    assert "training" in text
    assert "4/4" in text
    assert "tokens/s" in text
    assert "held-out loss after step 4" in text
    assert "\nstep 1/4" not in text


def test_a_failure_takes_the_bar_down(tmp_path):
    shown, _ = screen(terminal=True)
    progress = StepProgress(shown)
    run = build_run(tmp_path)
    progress.run_started(run, TrainState())
    progress.run_failed(run, TrainState(), ValueError())
    assert not shown._live_stack


def test_preparation_as_lines_comes_every_few_seconds():
    shown, out = screen(terminal=False)
    now = [0.0]
    preparing = Preparing(shown, clock=lambda: now[0])
    preparing("rendering rows", 0, 1000)
    preparing("rendering rows", 100, 1000)
    now[0] = 6.0
    preparing("rendering rows", 600, 1000)
    preparing("waiting", 0, None)
    preparing("reading", 5, None)
    preparing.close()
    assert out.getvalue().splitlines() == [
        "rendering rows",
        "rendering rows: 600 of 1,000",
        "waiting",
        "reading: 5",
    ]


def test_preparation_as_a_bar():
    shown, out = screen(terminal=True)
    preparing = Preparing(shown)
    preparing("rendering rows", 600, 1000)
    preparing.close()
    preparing.close()
    assert "rendering rows" in out.getvalue()
    assert "600/1000" in out.getvalue()
    assert not shown._live_stack
