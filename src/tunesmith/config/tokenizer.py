"""Section ``tokenizer``: tokenizer, special tokens, chat template."""

from __future__ import annotations

from typing import Any

from tunesmith.config.section import Section, key


class SpecialTokens(Section):
    """Texts of the special tokens; what is left out stays as the tokenizer has it."""

    bos_token: str | None = key(None, "Begins a sequence.", readers="tunesmith.models.tokenizer")
    eos_token: str | None = key(None, "Ends a sequence.", readers="tunesmith.models.tokenizer")
    pad_token: str | None = key(None, "Fills a sequence up.", readers="tunesmith.models.tokenizer")
    unk_token: str | None = key(
        None, "Stands for the unknown.", readers="tunesmith.models.tokenizer"
    )
    additional_special_tokens: list[str] | None = key(
        None, "More special tokens.", readers="tunesmith.models.tokenizer"
    )


class TokenizerSection(Section):
    """How text becomes tokens."""

    path: str | None = key(
        None,
        "The tokenizer, when it is not the base model's.",
        flat="tokenizer_config",
        readers="tunesmith.models.tokenizer",
    )
    class_name: str | None = key(
        None,
        "The tokenizer's class; `AutoTokenizer` when left out.",
        flat="tokenizer_type",
        readers="tunesmith.models.tokenizer",
    )
    special_tokens: SpecialTokens | None = key(
        None, "Special tokens to set.", flat="special_tokens", readers="tunesmith.models.tokenizer"
    )
    chat_template: str | None = key(
        None,
        "`tokenizer_default`, `jinja` (with `chat_template_jinja`), or a known template's name.",
        flat="chat_template",
        readers="tunesmith.runs.prepare",
    )
    chat_template_jinja: str | None = key(
        None,
        "The template's text, or a path to a jinja file.",
        flat="chat_template_jinja",
        readers="tunesmith.runs.prepare",
    )
    chat_template_kwargs: dict[str, Any] | None = key(
        None,
        "Extra variables for the template.",
        flat="chat_template_kwargs",
        readers="tunesmith.runs.preflight.serving tunesmith.runs.prepare",
    )
    eot_tokens: list[str] | None = key(
        None,
        "Tokens that end a turn beside the tokenizer's eos.",
        flat="eot_tokens",
        readers="tunesmith.runs.prepare",
    )
