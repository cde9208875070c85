"""What a data set's ``type`` names: a format of the catalog, or a module of the user's.

The same word means other formats under other objectives: ``chatml.intel`` is a pair of answers with
``rl: dpo`` and a judged answer with ``rl: kto``. Nothing is imported here.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Final

from tunesmith.catalog import PROMPT_STYLES, STYLED_FORMATS
from tunesmith.config.inline import InlineFormat
from tunesmith.registry import registry

_FAMILIES: Final = {
    "dpo": "dpo",
    "ipo": "dpo",
    "simpo": "dpo",
    "grpo": "dpo",
    "gdpo": "dpo",
    "orpo": "orpo",
    "kto": "kto",
    "ebft": "ebft",
}
"""``rl`` -> the family in which a type is looked for first."""

_UNTYPED: Final = {**_FAMILIES, "grpo": "prompts", "gdpo": "prompts", "ebft": "prompts"}
"""``rl`` -> the format of rows whose entry names no type."""

_INLINE: Final = frozenset({"inline", "dpo.inline", "kto.inline"})
_PAIR_KEYS: Final = ("field_chosen", "field_rejected", "chosen_format", "rejected_format")
_JUDGED_KEYS: Final = ("field_completion", "field_label", "completion_format")
_PROMPT_KEYS: Final = ("field_prompt", "prompt_format")

TEMPLATED: Final = (
    *("chat_template", "untyped", "messages", "dpo.chat_template", "orpo.chat_template"),
    *("bradley_terry.chat_template", "prompts", "ebft."),
)
"""How the names of formats begin whose rows are turns for a chat template."""

_UNTURNED: Final = (*("ebft.ebft_strided_structured.transform", "ebft.ebft_pretrain.transform"),)

_COMPARED: Final = (
    *("dpo", "orpo", "kto", "bradley_terry", "stepwise_supervised", "prompts"),
    *("ebft.ebft_chat_multiturn", "ebft.ebft_opencode", "ebft.ebft_reasoning.transform"),
)


def format_name(kind: str | InlineFormat | None, method: str | None = None) -> str:
    """The catalog's name of a ``type``, or the type itself where the catalog has none.

    ``method`` is the config's ``rl``; None for supervised training.
    """
    if isinstance(kind, InlineFormat):
        return _inline_name(kind, method)
    if not kind:
        return _UNTYPED.get(method or "", "untyped")
    known = registry("formats")
    family = _FAMILIES.get(method or "")
    candidates = [f"{family}.{kind}", f"{family}.{kind}.default"] if family else []
    candidates += [kind, f"{kind}.default", kind.removesuffix(".load"), _without_style(kind)]
    return next((name for name in candidates if name in known), kind)


def _inline_name(kind: InlineFormat, method: str | None) -> str:
    """Which of the inline formats has the keys that the mapping sets."""
    asked = {name for name in (*_PAIR_KEYS, *_JUDGED_KEYS, *_PROMPT_KEYS) if getattr(kind, name)}
    if method == "kto" or asked & {*_JUDGED_KEYS}:
        return "kto.inline"
    return "dpo.inline" if method in _FAMILIES or asked else "inline"


def _without_style(kind: str) -> str:
    """``alpaca`` for ``alpaca:chat``."""
    name, colon, style = kind.partition(":")
    return name if colon and name in STYLED_FORMATS and style in PROMPT_STYLES else kind


def family(method: str) -> str:
    """The family of formats in which a type is looked for first under ``rl: method``, or ""."""
    return _FAMILIES.get(method, "")


def methods_of(kind: str) -> list[str]:
    """The values of ``rl`` under which a type that is none by itself names a format."""
    known = registry("formats")
    return [
        method
        for method, own in _FAMILIES.items()
        if f"{own}.{kind}" in known or f"{own}.{kind}.default" in known
    ]


def is_templated(name: str) -> bool:
    """Whether the format's rows are turns for a chat template; False for one that is not known."""
    return name.startswith(TEMPLATED) and name not in _UNTURNED


def type_names() -> list[str]:
    """The names that ``type`` can have, without those that only a mapping stands for."""
    return [name for name in registry("formats") if name not in {*_INLINE, "untyped"}]


def is_compared(name: str) -> bool:
    """Whether rows of the format are compared, judged or asked: no supervised objective reads them.

    The strided forms of EBFT are conversations and texts like others.
    """
    return name.startswith(_COMPARED) and not name.endswith("_strided")


def is_own(name: str) -> bool:
    """Whether the type can be a module of the user's: it is installed, or lies in this folder.

    Only the first part of a dotted name is looked up, so that nothing is imported.
    """
    first = name.partition(".")[0]
    if not all(part.isidentifier() for part in name.split(".")):
        return False
    if first in {known.partition(".")[0] for known in registry("formats")}:
        return False  # a misspelt name of ours
    here = Path.cwd() / first
    return here.with_suffix(".py").is_file() or here.is_dir() or find_spec(first) is not None
