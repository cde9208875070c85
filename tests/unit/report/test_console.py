from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console as Screen

from tunesmith.checkpoint.state import TrainState
from tunesmith.report.console import Console, Held, last_lines, plan_lines


@dataclass
class Choice:
    value: object
    reason: str
    estimated: bool = False


@dataclass
class Finding:
    name: str
    seen: str
    seconds: float
    skipped: bool = False


class Plan:
    def chosen(self):
        yield "device", Choice("cpu", "there is no GPU")
        yield "micro_batch", Choice(2, "micro_batch_size")
        yield "steps", Choice(1200, "num_epochs: 3", estimated=True)
        yield "packing", Choice(True, "")


def test_a_plan_is_a_table_of_values_and_reasons():
    assert plan_lines(Plan()) == [
        "device       cpu     there is no GPU",
        "micro batch  2       micro_batch_size",
        "steps        ~1,200  num_epochs: 3",
        "packing      yes",
    ]


def held(*evaluations: tuple[int, float]) -> Held:
    made = Held()
    for step, loss in evaluations:
        made.evaluated(None, TrainState(step=step), {"eval_loss": loss})
    return made


def test_the_loss_before_and_after():
    assert held().line() is None
    assert held((8, 1.5)).line() == "held-out loss  1.5000 after step 8"
    assert held((0, 2.0), (4, 1.8), (8, 1.5)).line() == (
        "held-out loss  2.0000 before, 1.5000 at the end"
    )
    assert held((4, 1.8), (8, 1.5)).line() == (
        "held-out loss  1.8000 after step 4, 1.5000 at the end"
    )


def test_the_last_lines_say_where_and_what_next(tmp_path):
    kept = held((0, 2.0), (8, 1.5))
    kept.run_finished(None, TrainState(step=8, tokens=12345))
    lines = last_lines(tmp_path, kept, 75.0)
    assert lines[0] == "done in 1 min 15 s: 8 steps, 12,345 tokens"
    assert f"the model is in  {tmp_path}" in lines
    assert not any("merge" in line for line in lines)
    (tmp_path / "adapter_config.json").write_text("{}")
    lines = last_lines(tmp_path, kept, 75.0)
    assert f"the adapter is in  {tmp_path}" in lines
    assert lines[-1].endswith(f"tunesmith merge {tmp_path}")


def test_a_console_prints_everything_as_it_is():
    out = io.StringIO()
    console = Console(Screen(file=out, width=40, force_terminal=False))
    console.preparing("reading", 0, None)
    console.planned(Plan())
    console.stage("preflight")
    console.probed(
        Finding("isolation", "documents [a] and [b] do not meet in one row of 512", 0.25)
    )
    console.probed(Finding("stops", "no chat format", 0.0, skipped=True))
    console.finished(Path("nowhere"))
    text = out.getvalue()
    assert "checking the run on its own data\n" in text
    # Not wrapped, and brackets are no markup.
    assert (
        "  ok        isolation: documents [a] and [b] do not meet in one row of 512 (0.2 s)\n"
        in text
    )
    assert "  left out  stops: no chat format\n" in text
    assert text.splitlines()[0] == "reading"
