"""The end of a turn is trained, and the pad token never is."""

from __future__ import annotations

from tunesmith.errors import ProbeError
from tunesmith.runs.preflight.probe import Subject

ROWS = 512


def probe_stops(subject: Subject) -> str:
    """How many trained spans end with a token that ends a turn.

    Raises:
        ProbeError: none does although the formats write one, or a pad token trains that is not
            also the end of turn.
    """
    capacity = subject.plan.sequence_len.value
    spans = ended = 0
    missing = ""
    for sample in subject.samples(ROWS):
        for start, end, _ in sample.runs:
            ids = sample.input_ids[start:end]
            if subject.pad_id not in subject.stop_ids and subject.pad_id in ids:
                raise _pad_trains(subject, sample.source)
            if int(ids[-1]) in subject.stop_ids:
                ended += 1
            elif end == capacity:
                continue  # cut off at sequence_len: its end is in the ledger, not in the row
            else:
                missing = missing or sample.source
            spans += 1
    if subject.stops_expected and spans and not ended:
        raise ProbeError(
            f"no end-of-turn token is trained in {spans} answers: the model would never stop",
            hint="name the template's end of turn in eot_tokens, or set special_tokens.eos_token; "
            "see `tunesmith preprocess CONFIG --show 3`",
            where=missing,
        )
    if not subject.stops_expected:
        return f"{ended} of {spans} trained spans end a turn; this format adds no end by itself"
    return f"{ended} of {spans} trained spans end a turn" + (f", not {missing}" if missing else "")


def _pad_trains(subject: Subject, source: str) -> ProbeError:
    return ProbeError(
        f"the pad token ({subject.pad_id}) is trained in {source}",
        hint="set special_tokens.pad_token to a token that the data does not use",
        where=source,
    )
