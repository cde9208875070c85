"""Which chat template a data set uses: the tokenizer's own, a named one, a text, or a file."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Final

from tunesmith.errors import ConfigError, DataError

_FOLDER: Final = Path(__file__).parent / "chat_templates"

TEMPLATE_NAMES: Final = tuple(sorted(path.stem for path in _FOLDER.glob("*.jinja")))
"""The named templates that ship with the package."""

_AS: Final = re.compile(r"\{#- as (\w+) -#\}\n")
"""How a file begins that holds only what stands in front of another template."""

TOKENIZER_DEFAULT: Final = "tokenizer_default"
FALLBACK_PREFIX: Final = "tokenizer_default_fallback_"
JINJA: Final = "jinja"

TokenizerTemplate = str | Mapping[str, str] | None
"""What a tokenizer carries: nothing, one template, or several by name."""


@dataclass(frozen=True, slots=True)
class ChatTemplate:
    """A template's text, the name under which it was chosen, and the SHA-256 of the text."""

    name: str
    text: str
    digest: str


def resolve_template(
    tokenizer_template: TokenizerTemplate, choice: str | None = None, jinja: str | None = None
) -> ChatTemplate:
    """The template for a choice as the config spells it.

    ``choice``: null or ``tokenizer_default``, ``tokenizer_default_fallback_NAME``, ``jinja`` (with
    ``jinja``, a text or a path), or one of ``TEMPLATE_NAMES``. A ``jinja`` without a choice is
    taken. Raises ``ConfigError`` for a wrong choice, ``DataError`` where the tokenizer has none.
    """
    if choice == JINJA or (choice is None and jinja is not None):
        return _template(JINJA, _read_jinja(jinja))
    if choice is None or choice == TOKENIZER_DEFAULT:
        return _template(TOKENIZER_DEFAULT, _own_template(tokenizer_template))
    if choice.startswith(FALLBACK_PREFIX):
        if tokenizer_template:
            return _template(TOKENIZER_DEFAULT, _own_template(tokenizer_template))
        choice = choice.removeprefix(FALLBACK_PREFIX)
    return _template(choice, read_named(choice))


def read_named(name: str) -> str:
    """The text of a named template that ships with the package."""
    if name not in TEMPLATE_NAMES:
        close = get_close_matches(name, TEMPLATE_NAMES, n=1)
        raise ConfigError(
            f"chat_template: there is no template named {name!r}",
            hint=(f"did you mean {close[0]!r}? " if close else "")
            + f"known: {', '.join(TEMPLATE_NAMES)}; or give the text as `chat_template: jinja` "
            "with `chat_template_jinja`",
            where="chat_template",
        )
    text = (_FOLDER / f"{name}.jinja").read_text(encoding="utf-8")
    shared = _AS.match(text)
    return text[shared.end() :] + read_named(shared.group(1)) if shared else text


def _template(name: str, text: str) -> ChatTemplate:
    return ChatTemplate(name, text, hashlib.sha256(text.encode()).hexdigest())


def _own_template(template: TokenizerTemplate) -> str:
    if isinstance(template, str) and template:
        return template
    if isinstance(template, Mapping) and template:
        if "default" in template:
            return template["default"]
        raise DataError(
            f"the tokenizer has several chat templates ({', '.join(sorted(template))}), none of "
            "which is called default",
            hint="name one under `chat_template`, or give its text as `chat_template_jinja`",
            where="chat_template",
        )
    raise DataError(
        "the tokenizer has no chat template of its own",
        hint="set `chat_template`, for example `chat_template: chatml` (a new form of turns that "
        "the model will learn) or `tokenizer_default_fallback_chatml`",
        where="chat_template",
    )


def _read_jinja(source: str | None) -> str:
    """The template itself, or the content of the file that the source names."""
    if not source:
        raise ConfigError(
            "chat_template: jinja needs the template's text or file",
            hint="set `chat_template_jinja` to the text, or to the path of a .jinja file",
            where="chat_template_jinja",
        )
    if "{" in source or "\n" in source:
        return source
    path = Path(source).expanduser()
    if not path.is_file():
        raise ConfigError(
            f"chat_template_jinja: there is no file {source}",
            hint="give the path of a template, or the template's text itself",
            where="chat_template_jinja",
        )
    return path.read_text(encoding="utf-8")
