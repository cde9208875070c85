"""Every token of the data is accounted for, and every step trains something."""

from __future__ import annotations

import math

from tunesmith.config.flat import to_flat
from tunesmith.errors import ProbeError, TunesmithError
from tunesmith.objectives.objective import TOKENS, TRAINED
from tunesmith.runs.preflight.probe import Subject

STEPS = 20_000

ROWS = 32
"""At each end of the prepared data: their weights are counted again."""


def probe_conservation(subject: Subject) -> str:
    """What the ledger and the first epoch's steps add up to.

    Raises:
        ProbeError: tokens are missing, a step trains nothing, the index is of other rows, or rows
            that are too long were not treated as the config says.
    """
    _balance(subject)
    _require_lengths(subject)
    if subject.run.objective.sample == "tokens":
        _require_index(subject)
        _require_batch(subject)
    stream = subject.stream
    epoch_steps = min(subject.plan.steps_per_epoch.value, stream.steps, STEPS)
    seen = dict.fromkeys(subject.train.totals, 0.0)
    for step in range(epoch_steps):
        weights = stream.weights(step)
        if not any(weights.values()):
            raise ProbeError(
                f"step {step + 1} trains nothing: all its tokens are masked",
                hint="raise micro_batch_size, or leave rows without answers out",
                where=", ".join(stream.rows(step)[:3]),
            )
        for name, weight in weights.items():
            seen[name] += weight
    if epoch_steps == subject.plan.steps_per_epoch.value:
        _compare(subject, seen)
    trained = seen.get(TRAINED, seen.get(TOKENS, 0.0))
    return f"{epoch_steps} steps train {trained:,.0f} tokens; none is lost"


def _balance(subject: Subject) -> None:
    """The ledger must add up, and say what the prepared data holds."""
    try:
        subject.ledger.check()
    except TunesmithError as error:
        raise ProbeError(error.message, hint=error.hint, where=error.where) from error
    accounts = subject.ledger.accounts
    told = sum(account.tokens_trained + account.tokens_masked for account in accounts)
    held = int(subject.train.lengths.sum())
    if told != held:
        raise ProbeError(
            f"the ledger tells of {told:,} tokens to train with, the data holds {held:,}",
            hint="delete the prepared data and prepare it again, and report it",
            where=", ".join(account.name for account in accounts),
        )


def _require_index(subject: Subject) -> None:
    """Raise where the index holds another weight or length for a row than the row has."""
    n_rows = len(subject.train)
    for row in sorted({*range(min(ROWS, n_rows)), *range(max(0, n_rows - ROWS), n_rows)}):
        sample = subject.train[row]
        weighed = subject.run.objective.weights(sample)
        held = {name: float(column[row]) for name, column in subject.train.totals.items()}
        if weighed != held or len(sample) != int(subject.train.lengths[row]):
            raise ProbeError(
                f"the index of the prepared data holds {held} over "
                f"{int(subject.train.lengths[row])} tokens for {sample.source}, which has "
                f"{weighed} over {len(sample)}",
                hint="clear the prepared data and prepare it again; the loss would be divided by "
                "other rows' weights",
                where=sample.source,
            )


def _require_batch(subject: Subject) -> None:
    """Raise where the first step's micro-batches weigh other tokens than its rows do."""
    stream = subject.stream
    found: dict[str, list[Document]] = {}
    for batch in stream.step_batches(0):
        bounds = batch.segments.tolist()
        for source, start, end in zip(batch.sources, bounds, bounds[1:], strict=False):
            ids, weights = batch.inputs["input_ids"], batch.targets["weights"]
            laid = (ids[start:end].tolist(), weights[start : end - 1].tolist())
            found.setdefault(source, []).append(laid)
    for row in stream.global_rows(0).tolist():
        for document in subject.train[row].documents:
            ids, weights = document.input_ids.tolist(), document.target_weights()[1:].tolist()
            if (ids, weights) not in found.get(document.source, []):
                raise ProbeError(
                    f"the first step's batch does not hold {document.source} as it was prepared: "
                    f"{_otherwise(subject, (ids, weights), found.get(document.source, []))}",
                    hint="this is a bug of the collator; report it",
                    where=document.source,
                )


Document = tuple[list[int], list[float]]
"""Ids, and the weight of each but the first as a target."""


def _otherwise(subject: Subject, wanted: Document, found: list[Document]) -> str:
    """Which token weighs something else, in words."""
    for ids, weights in found:
        if ids == wanted[0]:
            at = next(i for i, (a, b) in enumerate(zip(weights, wanted[1], strict=True)) if a != b)
            token = subject.tokenizer.decode([ids[at + 1]])
            return f"token {at + 1}, {token!r}, weighs {weights[at]:g}, not {wanted[1][at]:g}"
    return "its tokens are others" if found else "it is not there"


_LOSSES = {"drop": "longer than", "truncate": "cut off at"}
"""How the ledger begins to tell of tokens that each policy loses; the others lose none."""


def _require_lengths(subject: Subject) -> None:
    """Raise where rows that are too long lost tokens in another way than was asked for."""
    policy = str(to_flat(subject.plan.config, all=True)["excess_length_strategy"])
    for account in subject.ledger.accounts:
        for reason, tokens in account.tokens_dropped.items():
            for name, words in _LOSSES.items():
                if reason.startswith(words) and name != policy:
                    raise ProbeError(
                        f"excess_length_strategy asks for {policy!r}, but {tokens:,} tokens of "
                        f"{account.name} were lost: {reason}",
                        hint="clear the prepared data, prepare it again, and report it",
                        where="excess_length_strategy",
                    )


def _compare(subject: Subject, seen: dict[str, float]) -> None:
    """The steps of a whole epoch must hold the weight of the whole data set."""
    for name, column in subject.train.totals.items():
        expected = math.fsum(column.tolist())
        if not math.isclose(seen[name], expected, rel_tol=1e-9):
            raise ProbeError(
                f"an epoch's steps hold {seen[name]:,.1f} {name}, the data holds {expected:,.1f}",
                hint="this is a bug of the packer; please report it",
            )
