"""Samples that are too long, too short, or train nothing: what is kept of them. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tunesmith.data.records import RowError
from tunesmith.data.samples import TokenSample

Policy = Literal["drop", "truncate", "split", "error", "raise"]


@dataclass(frozen=True, slots=True)
class LengthRule:
    """At most ``longest`` tokens, at least ``shortest``; ``policy`` says what is done to more."""

    longest: int
    shortest: int
    policy: Policy


@dataclass(frozen=True, slots=True)
class Loss:
    """Tokens that are dropped, and why."""

    reason: str
    tokens: int


def fit(sample: TokenSample, rule: LengthRule) -> tuple[list[TokenSample], list[Loss]]:
    """What is kept of a sample and what is lost of it; together they are the whole sample.

    Raises:
        RowError: it is too long and the policy is an error.
    """
    pieces, losses = _shorten(sample, rule)
    kept = []
    for piece in pieces:
        if len(piece) < rule.shortest:
            losses.append(Loss(f"shorter than min_sample_len ({rule.shortest})", len(piece)))
        elif piece.total_weight <= 0:
            losses.append(Loss("nothing to train", len(piece)))
        else:
            kept.append(piece)
    return kept, losses


def _shorten(sample: TokenSample, rule: LengthRule) -> tuple[list[TokenSample], list[Loss]]:
    length = len(sample)
    if length <= rule.longest:
        return [sample], []
    if rule.policy == "drop":
        return [], [Loss(f"longer than sequence_len ({rule.longest})", length)]
    if rule.policy == "truncate":
        cut = Loss(f"cut off at sequence_len ({rule.longest})", length - rule.longest)
        return [piece(sample, 0, rule.longest)], [cut]
    if rule.policy == "split":
        starts = range(0, length, rule.longest)
        return [piece(sample, at, min(at + rule.longest, length)) for at in starts], []
    raise RowError(
        "",
        f"has {length} tokens, more than sequence_len ({rule.longest})",
        "raise `sequence_len`, or set `excess_length_strategy` to drop, truncate or split",
    )


def piece(sample: TokenSample, start: int, end: int) -> TokenSample:
    """Tokens ``start`` to ``end`` as a sample of their own; nothing predicts its first token."""
    runs = []
    for run_start, run_end, weight in sample.runs:
        begin, stop = max(run_start - start, 1), min(run_end, end) - start
        if begin < stop:
            runs.append((begin, stop, weight))
    return TokenSample(sample.input_ids[start:end], tuple(runs), sample.source)
