"""``train``: look at the folder, assemble, preflight, fit, export."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import PreTrainedModel

from tunesmith.checkpoint import layout
from tunesmith.checkpoint.load import Saved, read
from tunesmith.checkpoint.lock import owning
from tunesmith.checkpoint.state import TrainState
from tunesmith.data.stream import MapStream
from tunesmith.dist.mesh import Mesh
from tunesmith.engine.guard import BadStep
from tunesmith.engine.loop import fit
from tunesmith.engine.origin import explained
from tunesmith.engine.run import Run
from tunesmith.engine.signals import StopFlag, listening
from tunesmith.errors import ExitCode, RunError
from tunesmith.patches.patch import applied
from tunesmith.runs.assemble import Assembled, assemble
from tunesmith.runs.finish import finish
from tunesmith.runs.folder import look, of_checkpoint, read_record, refuse_other_run
from tunesmith.runs.handed import lent
from tunesmith.runs.material import Material
from tunesmith.runs.plan import RunPlan
from tunesmith.runs.preflight.check import check as probe
from tunesmith.runs.preflight.probe import Finding, Subject
from tunesmith.runs.record import Recorder, write_records
from tunesmith.runs.rollback import roll_back
from tunesmith.runs.watchers import Watchers


@dataclass(frozen=True, slots=True)
class Result:
    """What a run leaves: the folder, the final state, and the last evaluation (empty without)."""

    output_dir: Path
    state: TrainState
    evaluation: dict[str, float]


def train(
    plan: RunPlan,
    material: Material,
    mesh: Mesh,
    watchers: Watchers,
    *,
    accepted: Collection[str] = (),
    model: PreTrainedModel | None = None,
) -> Result:
    """The finished run. An unfinished run of the same plan in the folder is gone on with.

    Raises:
        RunError: the folder is in use (6), holds another run (2) or a damaged checkpoint (5); a
            number is not finite (4); there is no room (3); a signal stopped the run (75).
        ProbeError: the preflight found something (2).
    """
    output_dir = Path(plan.config.checkpoint.output_dir)
    with owning(output_dir), listening(StopFlag()) as stop, applied(plan.patches.patches):
        found = look(output_dir, plan.to_json())
        refuse_other_run(output_dir, found, accepted)
        for name, was, is_ in found.noted:
            watchers.said(f"note: {name} was {was}, is {is_}; the run goes on with it")
        if plan.config.checkpoint.auto_resume and found.is_done:
            watchers.said(f"this run is finished already: {output_dir} holds the model")
            return _of_earlier_run(output_dir)
        saved = find_checkpoint(plan, watchers, accepted)
        recorder = Recorder(plan, output_dir)
        watchers.stage("load")
        with switched(plan), lent(model, plan):
            assembled = assemble(
                plan,
                material,
                mesh,
                saved=saved,
                callbacks=(recorder, *watchers.callbacks),
                stop=stop,
                model=model,
            )
            require_room(assembled.run)
            proven = saved is not None and not (accepted or plan.config.checkpoint.resume_from)
            findings = [] if proven else preflight(assembled, plan, material, watchers)
            write_records(plan, material, findings, output_dir)
            watchers.stage("train")
            stop.end_if_asked()
            state = _fit(assembled, output_dir, watchers)
            watchers.stage("export")
            with stop.patiently():  # where nothing was saved, this is all that there is
                finish(assembled, plan, material, state, recorder.last_evaluation)
    watchers.finished(output_dir)
    return Result(output_dir, state, recorder.last_evaluation)


def check(plan: RunPlan, material: Material, mesh: Mesh, watchers: Watchers) -> list[Finding]:
    """The preflight's findings; nothing is written.

    Raises:
        ProbeError: the first probe that failed.
    """
    with applied(plan.patches.patches), switched(plan):
        watchers.stage("load")
        assembled = assemble(plan, material, mesh)
        return preflight(assembled, plan, material, watchers)


def preflight(
    assembled: Assembled, plan: RunPlan, material: Material, watchers: Watchers
) -> list[Finding]:
    """Every probe on the assembled run, in no other state afterwards."""
    watchers.stage("preflight")
    subject = Subject(
        run=assembled.run,
        plan=plan,
        train=material.train,
        stream=MapStream(material.train, plan.train_order, assembled.run.mesh),
        ledger=material.ledger,
        files=assembled.files,
        stop_ids=material.stop_ids,
        pad_id=material.pad_id,
        stops_expected=material.stops_expected,
        tokenizer=material.tokenizer,
        template=material.template,
        base=material.base if assembled.from_base else None,
        given=material.given,
    )
    return probe(subject, skip=plan.config.preflight.skip, tell=watchers.probed)


def require_room(run: Run) -> None:
    """Raise unless the disk holds all checkpoints that will lie there at once, and the model.

    Raises:
        RunError: exit 3, with the bytes needed and the bytes free.
    """
    evaluates = run.cadence.evaluations.unit != "never"
    run.checkpoints.require_room(run.cadence.saves_after(0), has_best=evaluates)


def find_checkpoint(plan: RunPlan, watchers: Watchers, accepted: Collection[str]) -> Saved | None:
    """The checkpoint to go on from: the one named, else the newest that is whole, else none.

    Raises:
        RunError: exit 2, the one named is of another run, and not every change was accepted;
            exit 5, the one named is damaged, or all that are there.
    """
    section = plan.config.checkpoint
    if section.resume_from:
        named = read(Path(section.resume_from))
        refuse_other_run(named.path, of_checkpoint(named, plan.to_json()), accepted)
        left = plan.steps.value - named.state.step
        watchers.said(
            f"going on from {named.path}: {max(0, left)} of {plan.steps.value} steps left"
        )
        return named
    if not section.auto_resume:
        return None
    output_dir = Path(section.output_dir)
    layout.sweep(output_dir)
    survey = layout.survey(output_dir)
    for damage in survey.damaged:
        watchers.said(f"damaged, not used: {damage}")
    if survey.newest is None:
        _refuse_all_damaged(output_dir, survey.damaged)
        return None
    saved = read(survey.newest)
    watchers.said(f"going on from {survey.newest.name}")
    return saved


def _refuse_all_damaged(output_dir: Path, damaged: Sequence[layout.Damage]) -> None:
    """Raise where there are checkpoints and not one is whole: a new start is not what was meant.

    Raises:
        RunError: exit 5, naming the newest.
    """
    if not damaged:
        return
    raise RunError(
        f"no checkpoint in this folder is whole: {damaged[0]}",
        hint="bring one back from a copy, or delete them to train from the start",
        where=str(output_dir),
        exit_code=ExitCode.DAMAGED,
    )


def _of_earlier_run(output_dir: Path) -> Result:
    """What the finished run in the folder had returned."""
    record = read_record(output_dir)
    return Result(output_dir, TrainState.from_json(record["state"]), record["results"])


def _fit(assembled: Assembled, output_dir: Path, watchers: Watchers) -> TrainState:
    """The loop, again after each rollback; who listens hears of a failure before it goes up."""
    run, state = assembled.run, assembled.state
    try:
        while True:
            try:
                with explained(run):
                    return fit(run, state)
            except BadStep as error:
                roll_back(assembled, output_dir, error, watchers.said)
    except BaseException as error:
        run.events.run_failed(run, state, error)
        raise


@contextmanager
def switched(plan: RunPlan) -> Iterator[None]:
    """Torch's switches as the plan wants them, put back afterwards."""
    tf32 = plan.config.precision.tf32
    before = torch.get_float32_matmul_precision()
    deterministic = torch.are_deterministic_algorithms_enabled()
    if tf32 is True or (tf32 == "auto" and plan.device.value == "cuda"):
        torch.set_float32_matmul_precision("high")
    if plan.config.precision.deterministic:
        torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
        torch.use_deterministic_algorithms(deterministic)
