"""All rows of a data set read, rendered and booked, and none kept: for what nothing trains yet."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256

from tunesmith.data.broken import BrokenRows
from tunesmith.data.build import Dataset, Progress
from tunesmith.data.compared import fit_pair, samples_of
from tunesmith.data.formats.lint import lint_record
from tunesmith.data.formats.load import Format
from tunesmith.data.formats.options import FormatOptions
from tunesmith.data.ledger import Account, Ledger
from tunesmith.data.overlong import LengthRule, fit
from tunesmith.data.records import (
    Conversation,
    Judged,
    Lint,
    Preference,
    Record,
    RowError,
    Segments,
    Source,
)
from tunesmith.data.render import Renderer
from tunesmith.data.samples import (
    JudgedSample,
    PairSample,
    PromptSample,
    Sample,
    StepSample,
    TokenSample,
)
from tunesmith.data.sources import note_of, open_rows
from tunesmith.data.token_lint import lint_tokens

_PROGRESS_ROWS = 256


@dataclass(frozen=True, slots=True)
class Reading:
    """How the rows of a data set become records and samples."""

    dataset: Dataset
    number: int
    read: Format
    options: FormatOptions
    renderer: Renderer
    bos_id: int | None


def records(reading: Reading, broken: BrokenRows) -> Iterator[tuple[Source, Record]]:
    """The records of all rows; what is none is added to ``broken``.

    Raises:
        DataError: a file cannot be read.
    """
    dataset = reading.dataset
    for source, row in open_rows(dataset.entry, reading.number, dataset.location):
        if broken.is_enough:
            return
        try:
            if isinstance(row, RowError):
                raise row
            yield source, reading.read(row, reading.options)
        except RowError as error:
            broken.add(source, error)


def survey(reading: Reading, broken: BrokenRows, progress: Progress) -> Ledger:
    """The account of one data set. A pair counts as two samples, a step's label as one token.

    Raises:
        DataError: a file cannot be read.
    """
    entry = reading.dataset.entry
    ledger = Ledger([Account(entry.path)])
    if (note := note_of(reading.dataset.location, entry.path)) is not None:
        ledger.note(note)
    seen: dict[bytes, Source] = {}
    classes: dict[bool, int] = {}
    for number, (source, record) in enumerate(records(reading, broken), 1):
        if number % _PROGRESS_ROWS == 0:
            progress(entry.path, number, None)
        try:
            samples = samples_of(reading.renderer, record, source, reading.bos_id)
            _book(ledger.accounts[0], samples, reading, source)
        except RowError as error:
            broken.add(source, error)
            continue
        for lint in findings(reading.renderer, record, samples):
            ledger.note(replace(lint, source=str(source)))
        if isinstance(record, Judged):
            classes[record.is_good] = classes.get(record.is_good, 0) + 1
        earlier = seen.setdefault(_digest(samples), source)
        if earlier is not source:
            message = f"equals an earlier row ({earlier})"
            ledger.note(Lint("duplicate-row", message, str(source)))
    if len(classes) == 1 and not len(broken):
        ledger.note(_one_class(classes, entry.path))
    ledger.check()
    return ledger


def findings(renderer: Renderer, record: Record, samples: Sequence[Sample]) -> Iterator[Lint]:
    """What is odd about a row that is compared, judged or asked, and about its tokens."""
    yield from lint_record(record)
    found: dict[str, Lint] = {}
    for branch, sample in _branches(record, samples):
        for lint in lint_tokens(branch, (sample,), renderer.rules):
            found.setdefault(lint.code, lint)
    yield from found.values()


def _branches(
    record: Record, samples: Sequence[Sample]
) -> Iterator[tuple[Segments | Conversation, TokenSample]]:
    """The answers of a record, each with its tokens."""
    for sample in samples:
        if isinstance(record, Preference) and isinstance(sample, PairSample):
            yield record.chosen, sample.chosen
            yield record.rejected, sample.rejected
        elif isinstance(record, Judged) and isinstance(sample, JudgedSample):
            yield record.answer, sample.answer


def _one_class(classes: dict[bool, int], path: str) -> Lint:
    ((is_good, count),) = classes.items()
    kind, other = ("wanted", "unwanted") if is_good else ("unwanted", "wanted")
    message = f"all {count:,} answers are {kind}: without {other} ones there is nothing to compare"
    return Lint("one-class", message, path)


def _book(account: Account, samples: tuple[Sample, ...], reading: Reading, source: Source) -> None:
    """Book a row's tokens: trained, masked, or dropped by the length rule."""
    rule = reading.dataset.rule
    kept: list[tuple[int, int, int]] = []  # samples, tokens, those that train
    dropped: dict[str, int] = {}
    for sample in samples:
        account.tokens_in += _tokens(sample)
        left, reason = _fitted(sample, rule)
        if left is not None:
            kept.append((_n_samples(left), _tokens(left), _trained(left)))
        lost = _tokens(sample) - (0 if left is None else _tokens(left))
        if lost:
            dropped[reason] = dropped.get(reason, 0) + lost
    account.rows_in += 1
    for reason, tokens in dropped.items():
        account.drop_tokens(reason, tokens)
    if not kept:
        account.drop_row(next(iter(dropped), "no tokens"), str(source))
        return
    account.rows_trained += 1
    for n_samples, n_tokens, trained in kept:
        account.samples += n_samples
        account.tokens_trained += trained
        account.tokens_masked += n_tokens - trained


def _fitted(sample: Sample, rule: LengthRule) -> tuple[Sample | None, str]:
    """What the length rule leaves of a sample, and why something of it is lost."""
    too_long = f"longer than sequence_len ({rule.longest})"
    if isinstance(sample, PairSample):
        return fit_pair(sample, rule), too_long
    if isinstance(sample, JudgedSample):
        pieces, losses = fit(sample.answer, rule)
        if len(pieces) > 1:
            message = f"has {len(sample.answer)} tokens, and a judged answer cannot be split"
            raise RowError("", message, "set `excess_length_strategy` to drop or truncate")
        reason = losses[0].reason if losses else ""
        return (JudgedSample(pieces[0], sample.is_good) if pieces else None), reason
    if isinstance(sample, StepSample) and len(sample.input_ids) > rule.longest:
        return None, too_long
    return sample, ""


def _parts(sample: Sample) -> tuple[bytes, ...]:
    if isinstance(sample, PairSample):
        return sample.chosen.input_ids.tobytes(), sample.rejected.input_ids.tobytes()
    if isinstance(sample, JudgedSample):
        return sample.answer.input_ids.tobytes(), bytes([sample.is_good])
    extra = repr(sample.extras).encode() if isinstance(sample, PromptSample) else b""
    return sample.input_ids.tobytes(), extra


def _digest(samples: tuple[Sample, ...]) -> bytes:
    text = b"".join(len(part).to_bytes(8) + part for one in samples for part in _parts(one))
    return sha256(text).digest()


def _tokens(sample: Sample) -> int:
    if isinstance(sample, PairSample):
        return len(sample.chosen) + len(sample.rejected)
    return len(sample.answer if isinstance(sample, JudgedSample) else sample.input_ids)


def _trained(sample: Sample) -> int:
    if isinstance(sample, PairSample):
        return _trained(sample.chosen) + _trained(sample.rejected)
    if isinstance(sample, JudgedSample):
        return _trained(sample.answer)
    if isinstance(sample, StepSample):
        return len(sample.ends)
    if isinstance(sample, PromptSample):
        return 0
    return sample.n_trained


def _n_samples(sample: Sample) -> int:
    return 2 if isinstance(sample, PairSample) else 1
