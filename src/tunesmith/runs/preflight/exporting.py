"""The export is rehearsed: what would be written is loaded by others and compared."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from tunesmith.checkpoint.finished import RECORD
from tunesmith.errors import ProbeError, RunError
from tunesmith.export.compare import make_prompts
from tunesmith.export.final import Export, export
from tunesmith.models.state import trainable_state
from tunesmith.runs.preflight.coverage import nudged
from tunesmith.runs.preflight.probe import REHEARSED_BYTES, Subject

PROMPTS = 2

NUDGE = 0.05
"""Large enough that half precision does not round it away."""


def probe_export(subject: Subject) -> str:
    """How far the written and loaded model is from the one in memory, each a nudge from the base.

    Raises:
        ProbeError: it cannot be written, loaded, or told from the base, or it is another model.
    """
    if subject.base is None:
        return "not rehearsed: the model was handed in, no folder holds its base"
    base = sum(path.stat().st_size for path in subject.base.path.glob("*.safetensors"))
    size = max(base, subject.files.n_bytes())
    if size > REHEARSED_BYTES:
        return f"not rehearsed: {size / 2**30:.0f} GiB to load; `coverage` has looked at the names"
    parameters = list(trainable_state(subject.run.policy).values())
    with (
        tempfile.TemporaryDirectory(prefix="tunesmith-") as folder,
        nudged(parameters, NUDGE),
        _moved(parameters[0]),
        subject.run.served_weights(),
    ):
        job = Export(
            output_dir=Path(folder),
            files=subject.files,
            policy=subject.run.policy,
            base=subject.base.path,
            prompts=make_prompts(subject.tokenizer)[:PROMPTS],
            record={"base": subject.base.to_json()},
            card="",
        )
        try:
            proof = json.loads((export(job) / RECORD).read_text(encoding="utf-8"))["proof"]
        except RunError as error:
            raise ProbeError(error.message, hint=error.hint, where=error.where) from error
    return (
        f"written, loaded by transformers and compared: logits differ by {proof['logit_gap']:.2g}"
    )


@contextmanager
def _moved(parameter: Tensor) -> Iterator[None]:
    """A parameter a little from where it is inside, so that the model is not its own base."""
    before = parameter.detach().clone()
    with torch.no_grad():
        parameter.mul_(1.01)
    try:
        yield
    finally:
        with torch.no_grad():
            parameter.copy_(before)
