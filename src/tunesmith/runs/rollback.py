"""Going back in the running process: the last good checkpoint, put into the run again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tunesmith.checkpoint import layout
from tunesmith.checkpoint.load import read
from tunesmith.engine.guard import ROLLBACKS, BadStep
from tunesmith.runs.assemble import Assembled, put_back


def roll_back(
    assembled: Assembled, output_dir: Path, error: BadStep, said: Callable[[str], None]
) -> None:
    """Put the newest whole checkpoint from before the bad steps back into the run.

    Afterwards ``assembled.state`` is that checkpoint's, the latch is open, the incident is written
    down, and the bad steps are passed over when the loop comes to them.

    Raises:
        BadStep: the one given: nobody wants to go back, or not once more, or there is nothing to go
            back to.
    """
    run, guard = assembled.run, assembled.run.report.guard
    if guard.answer != "rollback":
        raise error
    if not guard.may_roll_back:
        error.message += f"; the run went back {ROLLBACKS} times already"
        raise error
    found = [p for p in layout.checkpoints(output_dir) if layout.step_of(p) < min(error.steps)]
    whole = next((path for path in found if layout.verify(path) is None), None)
    if whole is None:
        error.message += "; there is no checkpoint from before it to go back to"
        raise error
    assembled.state.become(put_back(run, assembled.files, read(whole)))
    run.latch.reset()
    run.report.forget()
    guard.rolled_back(error, assembled.state.step)
    said(f"{error.message}; going back to {whole.name}, its rows are passed over")
