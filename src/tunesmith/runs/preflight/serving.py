"""The ids that are trained are those that whoever serves the model will make of the same turns."""

from __future__ import annotations

from collections.abc import Sequence

from tunesmith.data.records import Conversation, Segments, Text, TokenRecord
from tunesmith.errors import ProbeError
from tunesmith.runs.preflight.probe import Subject
from tunesmith.runs.preflight.served import Served, serving
from tunesmith.runs.preflight.source_rows import SourceRow, source_rows

ROWS = 8
"""Of each data set."""

_CLOCK = "strftime_now"


def probe_serving(subject: Subject) -> str:
    """How many rows the saved tokenizer and template render to the ids that are trained.

    Raises:
        ProbeError: one renders otherwise; names the row, and where the ids part.
    """
    n_equal = n_opened = 0
    clock = subject.template is not None and _CLOCK in subject.template.text
    with serving(subject) as served:
        for row in source_rows(subject, ROWS):
            if not isinstance(row.record, Conversation):
                n_opened += _opens_as_served(served, row)
            elif row.settings.template == subject.template and not clock:
                for sample in row.samples():
                    _compare(served, row.record, (sample.input_ids.tolist(), str(row.source)))
                    n_equal += 1
    told = [f"{n_equal} samples have the ids that the saved tokenizer and template give"]
    if clock:
        told = ["turns are not compared: the template writes the day on which it is rendered"]
    if n_opened:
        told = [*(told if n_equal or clock else []), f"{n_opened} rows open as the tokenizer does"]
    return "; ".join(told)


def _opens_as_served(served: Served, row: SourceRow) -> int:
    """1 where a text begins as the tokenizer begins it for a server; 0 where it opens nothing."""
    opening = _opening(served)
    text = _first_text(row.record)
    if text is None or not opening:
        return 0
    expected = list(served.tokenizer(text)["input_ids"])[: 2 * len(opening)]
    for sample in row.samples()[:1]:
        ids = sample.input_ids[: len(expected)].tolist()
        if ids != expected:
            raise ProbeError(
                f"{row.source} begins with {served.tokenizer.decode(ids)!r}, a server begins it "
                f"with {served.tokenizer.decode(expected)!r}",
                hint="look at special_tokens.bos_token, and report it",
                where=str(row.source),
            )
    return 1


def _first_text(record: TokenRecord) -> str | None:
    """The text that a row without turns begins with; None where nothing is put before it."""
    if isinstance(record, Text):
        return record.text
    if isinstance(record, Segments) and record.special_tokens and record.pieces:
        return record.pieces[0].text
    return None


def _opening(served: Served) -> list[int]:
    """The ids that the tokenizer puts before a text."""
    whole = list(served.tokenizer("a")["input_ids"])
    bare = list(served.tokenizer("a", add_special_tokens=False)["input_ids"])
    starts = (at for at in range(len(whole)) if whole[at : at + len(bare)] == bare)
    return whole[: next(starts, 0)]


def _compare(served: Served, record: Conversation, sample: tuple[Sequence[int], str]) -> None:
    """Raise unless the sample is what the whole conversation, or its beginning, renders to."""
    ids, source = list(sample[0]), sample[1]
    if served.n_turns(record, ids) is not None:
        return
    closest = served.turns(record, len(record.messages)) or []
    at = next((i for i, (a, b) in enumerate(zip(ids, closest, strict=False)) if a != b), None)
    at = min(len(ids), len(closest)) if at is None else at
    decode = served.tokenizer.decode
    raise ProbeError(
        f"{source} is trained with other ids than a server makes of it: from token {at} on "
        f"{decode(ids[at : at + 8])!r} is trained, {decode(closest[at : at + 8])!r} is served",
        hint="look at chat_template and special_tokens; the model would be asked in another way "
        "than it was taught",
        where=source,
    )
