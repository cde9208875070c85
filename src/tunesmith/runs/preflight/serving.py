"""The ids that are trained are those that whoever serves the model will make of the same turns."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from tunesmith.data.formats.load import load_format
from tunesmith.data.formats.options import FormatOptions
from tunesmith.data.records import Conversation, RowError, Source
from tunesmith.data.render import Renderer
from tunesmith.data.sources import given_rows, locate, open_rows
from tunesmith.errors import ProbeError
from tunesmith.models.tokenizer import save_tokenizer
from tunesmith.runs.preflight.probe import Subject
from tunesmith.runs.prepare import keep_tokenizer, render_settings

ROWS = 8
"""Of each data set of turns."""

_CLOCK = "strftime_now"


def probe_serving(subject: Subject) -> str:
    """How many conversations the saved tokenizer and template render to the ids that are trained.

    Raises:
        ProbeError: one renders otherwise; names the row, and where the ids part.
    """
    if subject.template is None:
        return "no data set of this run uses a chat template"
    if _CLOCK in subject.template.text:
        return "not compared: the template writes the day on which it is rendered"
    n_equal = 0
    with tempfile.TemporaryDirectory(prefix="tunesmith-") as folder:
        save_tokenizer(subject.tokenizer, Path(folder), subject.template.text)
        served = AutoTokenizer.from_pretrained(folder)
        for renderer, source, record in _conversations(subject):
            for sample in renderer.render(record, source).samples:
                _compare(subject, served, record, (sample.input_ids.tolist(), str(source)))
                n_equal += 1
    return f"{n_equal} samples have the ids that the saved tokenizer and template give"


def _conversations(subject: Subject) -> Iterator[tuple[Renderer, Source, Conversation]]:
    """The first rows of each data set that is rendered by the template that is saved."""
    config, tokenizer = subject.plan.config, subject.tokenizer
    kept = keep_tokenizer(tokenizer)
    for number, entry in enumerate(config.data.datasets):
        settings = render_settings(config, entry, tokenizer, kept)
        if settings.template != subject.template:
            continue
        read, options = load_format(entry), FormatOptions.of(entry, config.data)
        renderer = Renderer(settings)
        is_given = number == 0 and subject.given is not None
        location = given_rows(subject.given or ()) if is_given else locate(entry, config.batch.seed)
        for source, row in islice(open_rows(entry, number, location), ROWS):
            if isinstance(row, RowError):
                continue  # preparation has refused or dropped it by name
            record = read(row, options)
            if isinstance(record, Conversation):
                yield renderer, source, record


def _compare(
    subject: Subject,
    served: PreTrainedTokenizerBase,
    record: Conversation,
    sample: tuple[Sequence[int], str],
) -> None:
    """Raise unless the sample is what the whole conversation, or its beginning, renders to."""
    ids, source = sample
    closest: Sequence[int] = ()
    for length in range(len(record.messages), 0, -1):
        rendered = _rendered(subject, served, record, length)
        if rendered == list(ids):
            return
        closest = closest or rendered
    at = next((i for i, (a, b) in enumerate(zip(ids, closest, strict=False)) if a != b), None)
    at = min(len(ids), len(closest)) if at is None else at
    raise ProbeError(
        f"{source} is trained with other ids than a server makes of it: from token {at} on "
        f"{served.decode(ids[at : at + 8])!r} is trained, {served.decode(closest[at : at + 8])!r} "
        "is served",
        hint="look at chat_template and special_tokens; the model would be asked in another way "
        "than it was taught",
        where=source,
    )


def _rendered(
    subject: Subject, served: PreTrainedTokenizerBase, record: Conversation, length: int
) -> list[int]:
    """The ids of the first turns, as a server renders them."""
    variables = {**(subject.plan.config.tokenizer.chat_template_kwargs or {}), **record.variables}
    text = served.apply_chat_template(
        [dict(message.fields) for message in record.messages[:length]],
        tools=[dict(tool) for tool in record.tools] or None,
        tokenize=False,
        **variables,
    )
    return list(served(text, add_special_tokens=False)["input_ids"])
