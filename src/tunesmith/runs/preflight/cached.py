"""The prepared rows are what the data's rows render to now: no stale cache, no other tokenizer."""

from __future__ import annotations

import numpy as np

from tunesmith.data.overlong import piece
from tunesmith.data.samples import TokenSample
from tunesmith.errors import ProbeError
from tunesmith.runs.preflight.probe import Subject
from tunesmith.runs.preflight.source_rows import source_rows

ROWS = 16
"""Of each data set."""

SAMPLES = 256
"""Of each data set's prepared samples, in which those rows are looked for."""


def probe_cache(subject: Subject) -> str:
    """How many prepared samples are, bit by bit, what their rows render to now.

    Raises:
        ProbeError: one is not; names the row and the token from which on it differs.
    """
    prepared = {
        number: _first_samples(subject, number)
        for number in np.unique(subject.train.datasets).tolist()
    }
    n_equal = 0
    for row in source_rows(subject, ROWS):
        kept = prepared.get(row.number, {}).get(str(row.source), [])
        if not kept:
            continue  # held out, dropped, a copy of another one, or not drawn yet
        rendered = row.samples()
        for sample in kept:
            if not any(_holds(whole, sample, subject) for whole in rendered):
                raise _other(subject, sample, rendered)
            n_equal += 1
    digest = subject.train.fingerprint[:12]
    return f"{n_equal} samples are what their rows render to now; the data is {digest}"


def _first_samples(subject: Subject, number: int) -> dict[str, list[TokenSample]]:
    """The first prepared samples of a data set, by the row that they come from."""
    found: dict[str, list[TokenSample]] = {}
    for at in np.flatnonzero(subject.train.datasets == number)[:SAMPLES].tolist():
        sample = subject.train[at]
        if isinstance(sample, TokenSample):
            found.setdefault(sample.source, []).append(sample)
    return found


def _holds(whole: TokenSample, sample: TokenSample, subject: Subject) -> bool:
    """Whether the sample is the whole, or a piece that a row that is too long is cut into."""
    for start in range(0, len(whole), subject.plan.sequence_len.value):
        end = start + len(sample)
        if end > len(whole):
            return False
        part = whole if len(sample) == len(whole) else piece(whole, start, end)
        if np.array_equal(part.input_ids, sample.input_ids) and part.runs == sample.runs:
            return True
    return False


def _other(subject: Subject, sample: TokenSample, rendered: tuple[TokenSample, ...]) -> ProbeError:
    ids, weights = sample.input_ids, sample.target_weights()
    told = "its row renders to nothing now"
    if rendered:
        now, now_weights = rendered[0].input_ids, rendered[0].target_weights()
        n = min(len(ids), len(now))
        moved = (ids[:n] != now[:n]) | (weights[:n] != now_weights[:n])
        at = int(np.argmax(moved)) if moved.any() else n
        then, text = (subject.tokenizer.decode(part[at : at + 8].tolist()) for part in (ids, now))
        same = then == text and at < n
        told = (
            f"from token {at} on {then!r} trains otherwise than it was prepared"
            if same
            else f"from token {at} on {then!r} is prepared, the row renders to {text!r}"
        )
    return ProbeError(
        f"the prepared data is not what {sample.source} renders to: {told}",
        hint="clear the prepared data (`tunesmith cache gc --older-than 0s`), prepare it again, "
        "and report that it was taken for this config's",
        where=sample.source,
    )
