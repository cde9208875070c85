"""What looks odd in a row's tokens but may be meant: counted and shown, never refused."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from tunesmith.data.records import Conversation, Drawn, Lint, Segments, Text, TokenRecord
from tunesmith.data.samples import TokenSample


@dataclass(frozen=True, slots=True)
class TokenRules:
    """What the tokenizer and the masks of a data set lead one to expect.

    ``opening``: the ids that the tokenizer puts before every text. ``bos_id`` opens a text, whoever
    writes it. ``stop_ids`` end a turn, and ``stops_train`` says whether each trained turn should
    have one. ``pad_id`` is None where it also ends turns. ``special`` finds the tokenizer's special
    tokens in a text.
    """

    opening: tuple[int, ...]
    bos_id: int | None
    stop_ids: frozenset[int]
    stops_train: bool
    pad_id: int | None
    special: re.Pattern[str] | None

    @property
    def first_id(self) -> int | None:
        """The id that should open a sample."""
        return self.opening[0] if self.opening else None


def pattern_of(special: Collection[str]) -> re.Pattern[str] | None:
    """What finds any of the special tokens in a text, the longest first."""
    words = sorted(filter(None, special), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, words))) if words else None


_CAUSES: Final = {
    "no-stop": {"end-of-turn-text", "no-end-of-turn"},
    "all-masked": {"empty-turn", "empty-answer", "empty-text", "no-answer"},
}
"""Findings that say more than the one about the tokens, which is left out beside them."""


def lint_tokens(
    record: TokenRecord,
    samples: Sequence[TokenSample],
    rules: TokenRules,
    told: Collection[str] = (),
) -> Iterator[Lint]:
    """The findings in the samples of a record, each code once a row.

    ``told`` are the codes of what was found in the record already.
    """
    if isinstance(record, Drawn) or not samples:
        return
    yield from _opening(samples[0], rules)
    for lint in _masks(record, samples, rules):
        if not _CAUSES.get(lint.code, set()) & set(told):
            yield lint
    yield from _special(record, rules)


def _opening(sample: TokenSample, rules: TokenRules) -> Iterator[Lint]:
    """Whether the text opens as the tokenizer opens texts, and only once."""
    first = sample.input_ids[:2].tolist()
    if rules.bos_id is not None and first == [rules.bos_id] * 2:
        yield Lint("double-bos", f"begins with the token {rules.bos_id}, which opens texts, twice")
    elif rules.first_id is not None and first[:1] != [rules.first_id]:
        message = f"does not begin with the token {rules.first_id}, with which the tokenizer opens"
        yield Lint("no-bos", f"{message} every text")


def _masks(
    record: TokenRecord, samples: Sequence[TokenSample], rules: TokenRules
) -> Iterator[Lint]:
    """Whether anything trains, an end among it, and nothing that pads."""
    targets = [_targets(sample) for sample in samples]
    if not any(targets):
        yield Lint("all-masked", "no token trains")
        return
    # The pieces of a long text end together, with the last of them.
    joint = [set().union(*targets)] if isinstance(record, Text) else [t for t in targets if t]
    if rules.stops_train and rules.stop_ids and not all(t & rules.stop_ids for t in joint):
        message = "no token that ends a text trains: the model is not taught to stop"
        yield Lint("no-stop", message)
    if rules.pad_id is not None and any(rules.pad_id in found for found in targets):
        yield Lint("trained-padding", f"the padding token {rules.pad_id} trains")


def _targets(sample: TokenSample) -> set[int]:
    ids: list[int] = sample.input_ids.tolist()
    return {token for start, end, _ in sample.runs for token in ids[start:end]}


def _special(record: TokenRecord, rules: TokenRules) -> Iterator[Lint]:
    """Whether the row's own words hold what the tokenizer reads as a special token."""
    if rules.special is None:
        return
    for place, text in _own_words(record):
        if found := rules.special.search(text):
            message = f"{place} holds {found.group()!r}, which becomes a special token"
            yield Lint("special-token", message)
            return


def _own_words(record: TokenRecord) -> Iterator[tuple[str, str]]:
    """The texts of a row that nobody expects special tokens in."""
    if isinstance(record, Conversation):
        for number, message in enumerate(record.messages, 1):
            for name, part in message.fields.items():
                yield from ((f"turn {number}, {name}", text) for text in _strings(part))
    elif isinstance(record, Segments) and record.special_tokens and not record.has_markup:
        yield from (("the text", piece.text) for piece in record.pieces)
    elif isinstance(record, Text):
        yield "the text", record.text


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for part in value.values():
            yield from _strings(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _strings(part)
