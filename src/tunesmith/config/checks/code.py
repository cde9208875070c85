"""Rules for code that a model's repository brings."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tunesmith.config.checks.rule import Rule, conflict, out_of_range
from tunesmith.config.schema import RunConfig
from tunesmith.errors import REMOVE, Problem

_COMMIT = re.compile("[0-9a-f]{40}")
_SHA256 = re.compile("[0-9a-f]{64}")


def approved_code_is_exact(config: RunConfig) -> Iterator[Problem]:
    """Code is approved by a whole commit and whole hashes: a branch can hold anything tomorrow.

    Whether a commit is there at all is told when the model is found: a folder here has none.
    """
    approved = config.model.remote_code
    if approved is None:
        return
    block = {"remote_code": REMOVE}
    again = "take `remote_code` out: `train` then prints the block to add"
    if approved.repo != config.model.base:
        said = f"`{approved.repo}` is not what `base_model` names, `{config.model.base}`"
        yield conflict("remote_code.repo", said, block, again)
    if approved.commit is not None and not _COMMIT.fullmatch(approved.commit):
        said = f"`{approved.commit}` is no commit of 40 hex digits"
        yield out_of_range("remote_code.commit", said, block, again)
    for name, digest in approved.sha256.items():
        if not _SHA256.fullmatch(digest):
            said = f"the SHA-256 of {name} is 64 hex digits"
            yield out_of_range("remote_code.sha256", said, block, again)


RULES: tuple[Rule, ...] = (Rule(("remote_code", "base_model"), approved_code_is_exact),)
