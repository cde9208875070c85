"""Every token of the data is accounted for, and every step trains something."""

from __future__ import annotations

import math

from tunesmith.errors import ProbeError, TunesmithError
from tunesmith.runs.preflight.probe import Subject

STEPS = 20_000


def probe_conservation(subject: Subject) -> str:
    """What the ledger and the first epoch's steps add up to.

    Raises:
        ProbeError: tokens are missing, or a step trains nothing.
    """
    _balance(subject)
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
    return f"{epoch_steps} steps train {seen.get('tokens', 0.0):,.0f} tokens; none is lost"


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


def _compare(subject: Subject, seen: dict[str, float]) -> None:
    """The steps of a whole epoch must hold the weight of the whole data set."""
    for name, column in subject.train.totals.items():
        expected = math.fsum(column.tolist())
        if not math.isclose(seen[name], expected, rel_tol=1e-9):
            raise ProbeError(
                f"an epoch's steps hold {seen[name]:,.1f} {name}, the data holds {expected:,.1f}",
                hint="this is a bug of the packer; please report it",
            )
