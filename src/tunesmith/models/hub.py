"""A model repository of the hub as one folder here: every file from the one commit."""

from __future__ import annotations

import re
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub import utils as hub_utils
from huggingface_hub.errors import HFValidationError

from tunesmith.errors import ModelError

READ = ("*.json", "*.safetensors", "*.model", "*.txt", "*.jinja", "*.tiktoken")
"""What is fetched of a model; never a pickle, and no code."""

SETTINGS = ("*.json", "*.model", "*.txt", "*.jinja", "*.tiktoken")
"""The same without weights."""

CODE = ("*.py",)

_HTTP_ERROR: type[Exception] = hub_utils.httpx.HTTPError  # type: ignore[attr-defined]
"""Exported for whichever client library the hub's is built on; mypy sees no such export."""

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


def fetch(
    name: str, revision: str | None, patterns: tuple[str, ...] = READ, *, where: str = "base_model"
) -> Path:
    """The folder of a repository's files; its name is the commit that they are of.

    The revision is made into a commit once, before any file is asked for, so that a branch that
    moves meanwhile changes nothing. Whoever reads the folder later needs no connection.

    Raises:
        ModelError: it is no hub id, or the hub does not give it.
    """
    if not _HUB_ID.fullmatch(name):
        raise missing(name, "no such folder, and it is no hub id either", where)
    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=list(patterns)))
    except (_HTTP_ERROR, HFValidationError, OSError) as error:
        first_line = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
        reason = f"no such folder, and the hub does not give it: {first_line}"
        raise missing(name, reason, where) from error


def missing(name: str, reason: str, where: str = "base_model") -> ModelError:
    """The error of a model, config or tokenizer that is nowhere."""
    what = "the base model" if where == "base_model" else where
    return ModelError(
        f"{what} {name} cannot be found: {reason}",
        hint="give a folder with config.json and safetensors, a .gguf file, or a hub id "
        "(with a connection, and `hf auth login` where the repository is gated)",
        where=where,
    )
