"""No secret stands in a config: it would be copied into the model's card, plan and checkpoints.

Secrets come from the environment, or from the login that the services' own tools keep. What looks
like one here is refused before anything else is said of the config, and the message never holds it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tunesmith.config.draft import Draft, dotted_path, path_of, put_at
from tunesmith.config.overrides import Override
from tunesmith.config.tree import Path, Place
from tunesmith.errors import REMOVE, Problem

HIDDEN = "***"
"""Stands for a secret in values that are judged further."""

_NAME = re.compile(
    r"api_?key|access_?key|private_?key|secret|passwo?r?d|passphrase|credential|webhook_url"
    r"|(auth|hub|hf|access|api|bearer|refresh|session|wandb|github)_?token",
    re.IGNORECASE,
)
_NO_SECRETS = frozenset(
    {"special_tokens", "tokens", "added_tokens_overrides", "chat_template_kwargs", "secrets"}
)
"""Blocks of other tokens, and the list of names under which a cloud keeps its secrets."""

_TOKEN = re.compile(
    r"(?<![\w-])(hf_[A-Za-z0-9]{30,}|sk-[A-Za-z0-9]{32,}"
    r"|sk-(proj|svcacct|admin|ant|or)-(?=[\w-]*[0-9])(?=[\w-]*[A-Za-z])[\w-]{40,}"
    r"|gh[pousr]_[A-Za-z0-9]{36,}|github_pat_\w{40,}|glpat-[\w-]{20,}|A[KS]IA[0-9A-Z]{16}\b"
    r"|xox[abprs]-[\w-]{10,}|AIza[\w-]{30,}|eyJ[\w-]{10,}\.eyJ[\w-]{10,}\.)"
)
"""As long as the services make them: names of models and data sets begin alike, and are shorter."""

_USER = re.compile(r"\b([a-z][a-z0-9+.-]*)://([^/?#\s@]*)@", re.IGNORECASE)
_NAMED = frozenset(
    {"abfs", "abfss", "wasb", "wasbs", "az", "adl", "ssh", "git+ssh", "sftp", "rsync", "hdfs"}
)
"""Here a container's or a user's name stands before the @; elsewhere it may be a token."""

_SIGNED = re.compile(
    r"://\S*[?&](x-amz-signature|x-goog-signature|sig|signature|token|access_token|api_?key|key"
    r"|password)=",
    re.IGNORECASE,
)

_VARIABLES = {
    "comet_api_key": "COMET_API_KEY",
    "hub_token": "HF_TOKEN",
    "hf_token": "HF_TOKEN",
    "hf_use_auth_token": "HF_TOKEN",
    "swanlab_api_key": "SWANLAB_API_KEY",
    "wandb_api_key": "WANDB_API_KEY",
}


@dataclass(frozen=True, slots=True)
class Found:
    """Where a secret stands, and what it is; ``is_key`` where the key's name says it."""

    path: Path
    what: str
    is_key: bool


def refuse_secrets(draft: Draft) -> None:
    """Make a problem of every secret among the draft's values, and take it out of them."""
    for found in list(_secrets(draft.values, ())):
        draft.problems.append(put_at(_problem(found), draft.place(found.path)))
        if found.is_key:
            draft.drop(found.path)
            draft.removed.add(str(found.path[0]))
        else:
            draft.put(found.path, HIDDEN, draft.place(found.path))


def without_secrets(draft: Draft, overrides: Sequence[Override]) -> list[Override]:
    """The overrides but for those that hold a secret, each of which is a problem of the draft."""
    kept = []
    for override in overrides:
        found = list(_secrets(override.value, path_of(override.key)))
        draft.problems += [put_at(_problem(one), Place(override.source)) for one in found]
        kept += [] if found else [override]
    return kept


def _secrets(value: Any, path: Path) -> Iterator[Found]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _secrets(inner, (*path, str(name)))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _secrets(inner, (*path, number))
    elif path and value and isinstance(value, str):
        if _is_named(path):
            yield Found(path, "a secret", is_key=isinstance(path[-1], str))
        elif (what := _what(value)) is not None:
            yield Found(path, what, is_key=False)


def _is_named(path: Path) -> bool:
    name = next((part for part in reversed(path) if isinstance(part, str)), "")
    return path[0] not in _NO_SECRETS and _NAME.search(name) is not None


def _what(text: str) -> str | None:
    """What kind of secret a text holds; None for none."""
    if _TOKEN.search(text):
        return "an access token"
    for scheme, user in _USER.findall(text):
        if ":" in user or scheme.lower() not in _NAMED:
            return "an address with a name or password in it"
    return "an address with a signature in it" if _SIGNED.search(text) else None


def _problem(found: Found) -> Problem:
    key = dotted_path(found.path)
    variable = _VARIABLES.get(str(found.path[-1]).lower())
    instead = f"set the environment variable {variable}" if variable else "give it in the variable"
    if not variable:
        instead += " of the environment that the service's library reads"
    return Problem(
        "refused",
        f"{found.what} is not written in a config: it would be copied into the model's card, its "
        "plan and its checkpoints",
        f"take it out, and {instead}",
        key=key,
        edit={key: REMOVE},
    )
