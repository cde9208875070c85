"""Old keys of streams: ``pretraining_dataset``, which is a stream of ``datasets``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tunesmith.config.draft import Draft
from tunesmith.config.legacy_data import SINCE
from tunesmith.errors import REMOVE

STREAM_KEYS: Mapping[str, tuple[str, str]] = {
    "pretraining_dataset": ("`datasets` with `streaming: true`", "datasets"),
    "pretraining_sample_concatenation": ("`sample_packing: true`", "sample_packing"),
}
"""Old key -> (how it is read, the key that stands for it or "")."""

_TYPE = "pretrain"
_USUAL_GROUP = 100_000


def upgrade_stream(draft: Draft) -> None:
    """Turn the old keys into today's, in place, each with its notice or problem."""
    _group(draft)
    _corpus(draft)
    _concatenation(draft)
    _attention(draft)


def _corpus(draft: Draft) -> None:
    """One entry or a list of them, whose rows are plain text where no type is named."""
    given = draft.values.get("pretraining_dataset")
    if not given:
        draft.drop(("pretraining_dataset",))
        return
    if draft.values.get("datasets"):
        draft.problem(
            "conflict",
            ("pretraining_dataset",),
            "is a stream of `datasets`, and those are given as well",
            "keep one of the two; both kinds of data stand under `datasets`",
            {"pretraining_dataset": REMOVE},
        )
        draft.drop(("pretraining_dataset",))
        return
    listed = given if isinstance(given, list) else [given]
    draft.replace(
        ("pretraining_dataset",),
        {("datasets",): [_entry(entry) for entry in listed], ("streaming",): True},
        "pretraining_dataset is read as `datasets` of `type: pretrain` with `streaming: true` "
        f"({SINCE})",
    )


def _group(draft: Draft) -> None:
    """Axolotl's own value of ``sample_packing_group_size`` asks for nothing."""
    if draft.values.get("sample_packing_group_size") == _USUAL_GROUP:
        draft.drop(("sample_packing_group_size",))


def _entry(entry: Any) -> Any:
    if isinstance(entry, str):
        return {"path": entry, "type": _TYPE}
    if isinstance(entry, dict) and entry.get("type") is None:
        return {**entry, "type": _TYPE}
    return entry


def _concatenation(draft: Draft) -> None:
    """Short texts that share a row, which is packing."""
    name = "pretraining_sample_concatenation"
    if not draft.values.get(name):
        draft.drop((name,))
        return
    text = f"{name} is read as `sample_packing: true` ({SINCE})"
    draft.replace((name,), {("sample_packing",): True}, text)


def _attention(draft: Draft) -> None:
    """``pretrain_multipack_attn``: off, it would let documents of a row see each other."""
    if draft.drop(("pretrain_multipack_attn",)) is False:
        draft.problem(
            "refused",
            ("pretrain_multipack_attn",),
            "documents that share a row never see each other here",
            "take it out",
            {"pretrain_multipack_attn": REMOVE},
        )
