"""What the length rule leaves of samples of any kind. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from tunesmith.data.overlong import LengthRule, Loss, fit, piece
from tunesmith.data.records import RowError
from tunesmith.data.samples import (
    JudgedSample,
    PairSample,
    StepSample,
    TokenSample,
    TrainedSample,
)

_FIX = "raise `sequence_len`, or set `excess_length_strategy` to drop or truncate"


def fit_sample(
    sample: TrainedSample, rule: LengthRule
) -> tuple[Sequence[TrainedSample], list[Loss]]:
    """What is kept of a sample and what is lost of it; together they are the whole sample.

    Raises:
        RowError: it is too long, and that is an error or its documents cannot be cut.
    """
    if isinstance(sample, TokenSample):
        return fit(sample, rule)
    if isinstance(sample, StepSample):
        return _fit_steps(sample, rule)
    fitted = [_fit_answer(document, rule, field) for field, document in _answers(sample)]
    if all(kept is not None for kept, _ in fitted):
        answers = [kept for kept, _ in fitted if kept is not None]
        return (_with(sample, answers),), [loss for _, lost in fitted for loss in lost]
    reason = next(lost[0].reason for kept, lost in fitted if kept is None)
    return (), [Loss(reason, len(sample))]


def _answers(sample: PairSample | JudgedSample) -> list[tuple[str, TokenSample]]:
    if isinstance(sample, PairSample):
        return [("chosen", sample.chosen), ("rejected", sample.rejected)]
    return [("completion", sample.answer)]


def _with(
    sample: PairSample | JudgedSample, answers: Sequence[TokenSample]
) -> PairSample | JudgedSample:
    if isinstance(sample, PairSample):
        return PairSample(*answers)
    return JudgedSample(answers[0], sample.is_good)


def _fit_answer(
    document: TokenSample, rule: LengthRule, field: str
) -> tuple[TokenSample | None, list[Loss]]:
    """A prompt with an answer: the answer may be cut, never the prompt.

    Raises:
        RowError: the prompt alone is too long to cut anything, or too long is an error.
    """
    length = len(document)
    if length < rule.shortest:
        return None, [Loss(f"shorter than min_sample_len ({rule.shortest})", length)]
    if length <= rule.longest:
        return document, []
    if rule.policy == "drop":
        return None, [Loss(f"longer than sequence_len ({rule.longest})", length)]
    if rule.policy != "truncate":
        raise _too_long(field, length, rule)
    prompt = document.runs[0][0]
    if prompt >= rule.longest:
        message = f"its prompt alone has {prompt} tokens, sequence_len is {rule.longest}"
        raise RowError(field, message, "raise `sequence_len`, or remove the row")
    lost = Loss(f"cut off at sequence_len ({rule.longest})", length - rule.longest)
    return piece(document, 0, rule.longest), [lost]


def _fit_steps(sample: StepSample, rule: LengthRule) -> tuple[Sequence[StepSample], list[Loss]]:
    length = len(sample)
    if length < rule.shortest:
        return (), [Loss(f"shorter than min_sample_len ({rule.shortest})", length)]
    if not sample.ends:
        return (), [Loss("no step ends within its limit", length)]
    if length <= rule.longest:
        return (sample,), []
    if rule.policy == "drop":
        return (), [Loss(f"longer than sequence_len ({rule.longest})", length)]
    if rule.policy != "truncate":
        raise _too_long("completions", length, rule)
    ends = tuple((end, right) for end, right in sample.ends if end < rule.longest)
    if not ends:
        message = f"no step ends within sequence_len ({rule.longest})"
        raise RowError("completions", message, "raise `sequence_len`, or remove the row")
    lost = Loss(f"cut off at sequence_len ({rule.longest})", length - rule.longest)
    return (StepSample(sample.input_ids[: rule.longest], ends, sample.source),), [lost]


def _too_long(field: str, length: int, rule: LengthRule) -> RowError:
    message = f"has {length} tokens with its prompt, more than sequence_len ({rule.longest})"
    return RowError(field, message, _FIX)
