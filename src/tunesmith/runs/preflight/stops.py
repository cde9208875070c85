"""The end of a turn is trained, and no pad token in its place."""

from __future__ import annotations

from tunesmith.config.flat import to_flat
from tunesmith.data.samples import TokenSample
from tunesmith.errors import ProbeError
from tunesmith.runs.preflight.probe import Subject
from tunesmith.runs.prepare import UNENDED

ROWS = 512


def probe_stops(subject: Subject) -> str:
    """How many trained spans end with a token that ends a turn.

    Raises:
        ProbeError: none does although the formats write one; one stands behind an answer and does
            not train; a pad token that ends no turn trains where the end of one is due.
    """
    capacity = subject.plan.sequence_len.value
    spans = ended = 0
    missing = ""
    for sample in (one for row in subject.samples(ROWS) for one in row.documents):
        for start, end, _ in sample.runs:
            ids = sample.input_ids[start:end]
            if int(ids[-1]) in subject.stop_ids:
                ended += 1
            elif _is_left_out(subject, sample, end):
                raise _end_is_masked(subject, sample, end)
            elif end == capacity:
                continue  # cut off at sequence_len: its end is in the ledger, not in the row
            elif int(ids[-1]) == subject.pad_id and subject.stops_expected:
                raise _pad_trains(subject, sample.source)
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


def _is_left_out(subject: Subject, sample: TokenSample, end: int) -> bool:
    """Whether a token that ends turns stands behind a trained span, and was to train with it."""
    if not subject.stops_expected or not _ends_train(subject):
        return False
    return end < len(sample) and int(sample.input_ids[end]) in subject.stop_ids


def _ends_train(subject: Subject) -> bool:
    """Whether every data set trains the end of each trained turn, by its format and its keys."""
    entries = to_flat(subject.plan.config)["datasets"]
    wishes = (entry.get(key) for entry in entries for key in ("train_on_eos", "train_on_eot"))
    if any(entry.get("type") in (None, *UNENDED) for entry in entries):
        return False  # rows that say themselves what of them trains
    return all(wish in (None, "turn", "all") for wish in wishes)


def _end_is_masked(subject: Subject, sample: TokenSample, end: int) -> ProbeError:
    text = subject.tokenizer.decode([int(sample.input_ids[end])])
    return ProbeError(
        f"the end of an answer does not train in {sample.source}: {text!r} at token {end} stands "
        "behind trained text and is masked, so that the model is not taught to stop",
        hint="see `tunesmith preprocess CONFIG --show 3`; report it if no key asks for this",
        where=sample.source,
    )


def _pad_trains(subject: Subject, source: str) -> ProbeError:
    return ProbeError(
        f"the pad token ({subject.pad_id}) is trained in {source} where the end of a turn is due",
        hint="set special_tokens.pad_token to a token that the template does not end turns with, "
        "or name it in eot_tokens",
        where=source,
    )
