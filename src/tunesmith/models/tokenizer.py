"""The tokenizer with the user's special tokens, always one that can fill a row up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import transformers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from tunesmith.config.tokenizer import SpecialTokens, TokenizerSection
from tunesmith.errors import ModelError
from tunesmith.log import get_logger
from tunesmith.models.source import LocatedModel

log = get_logger(__name__)

# Tokens that their makers set aside for filling up, in the order in which they are tried.
RESERVED_PADS = (
    "<|finetune_right_pad_id|>",
    "<|fim_pad|>",
    "<pad>",
    "[PAD]",
    "<|pad|>",
    "<|reserved_special_token_0|>",
    "<|endoftext|>",
)


def load_tokenizer(base: LocatedModel, section: TokenizerSection) -> PreTrainedTokenizerFast:
    """Return the tokenizer, special tokens set and a padding token chosen.

    Nothing is masked by the padding token's id: weights say what trains. A pad that is also the end
    of a sequence is still avoided where another token can do it, for those who load the result.

    Raises:
        ModelError: there is no fast tokenizer, or a special token is not in the vocabulary.
    """
    tokenizer = _read(base, section)
    if section.special_tokens is not None:
        _set_special(tokenizer, section.special_tokens)
    if tokenizer.pad_token is None:
        _choose_pad(tokenizer)
    return tokenizer


def check_vocabulary(tokenizer: PreTrainedTokenizerFast, n_rows: int) -> None:
    """Check that every token has a row in the embedding of ``n_rows`` rows.

    Raises:
        ModelError: the tokenizer has more tokens.
    """
    if len(tokenizer) > n_rows:
        raise ModelError(
            f"the tokenizer has {len(tokenizer)} tokens, the model has rows for {n_rows}",
            hint="use the model's own tokenizer, or special tokens that it already has",
            where="special_tokens",
        )


def save_tokenizer(tokenizer: PreTrainedTokenizerFast, folder: Path, template: str | None) -> None:
    """Write the tokenizer into ``folder``, with the chat template that was trained on.

    The tokenizer itself is left as it was.
    """
    before = tokenizer.chat_template
    if template is not None:
        tokenizer.chat_template = template
    try:
        tokenizer.save_pretrained(folder)
    finally:
        tokenizer.chat_template = before


def _read(base: LocatedModel, section: TokenizerSection) -> PreTrainedTokenizerFast:
    source = section.path or str(base.path)
    reader: Any = AutoTokenizer
    if section.class_name is not None:
        reader = getattr(transformers, section.class_name, None)
        if reader is None:
            raise ModelError(
                f"transformers has no tokenizer class {section.class_name}",
                hint="leave tokenizer_type out: the class is read from the tokenizer's own config",
                where="tokenizer_type",
            )
    try:
        tokenizer = reader.from_pretrained(source, use_fast=True, trust_remote_code=False)
    except (ValueError, OSError, KeyError) as error:
        raise ModelError(
            f"the tokenizer of {source} cannot be read: {str(error).splitlines()[0]}",
            hint="name a folder or hub id with tokenizer.json",
            where="tokenizer_config" if section.path else "base_model",
        ) from error
    if not getattr(tokenizer, "is_fast", False):
        raise ModelError(
            f"{source} has no fast tokenizer, and masks need the places of tokens in the text",
            hint="name a tokenizer that has tokenizer.json",
            where="tokenizer_config",
        )
    fast: PreTrainedTokenizerFast = tokenizer
    return fast


def _set_special(tokenizer: PreTrainedTokenizerFast, special: SpecialTokens) -> None:
    vocabulary = tokenizer.get_vocab()
    wanted = special.model_dump(exclude_none=True)
    more = wanted.pop("additional_special_tokens", [])
    for key, text in [*wanted.items(), *(("additional_special_tokens", t) for t in more)]:
        if text not in vocabulary:
            raise ModelError(
                f"{text!r} is not in the vocabulary, and the model has no row for it",
                hint="choose a token that the tokenizer has",
                where=f"special_tokens.{key}",
            )
    if wanted:
        tokenizer.add_special_tokens(wanted)
    if more:
        tokenizer.add_special_tokens(
            {"additional_special_tokens": more}, replace_extra_special_tokens=False
        )


def _choose_pad(tokenizer: PreTrainedTokenizerFast) -> None:
    vocabulary = tokenizer.get_vocab()
    used = {tokenizer.eos_token, tokenizer.bos_token}
    choice = next((t for t in RESERVED_PADS if t in vocabulary and t not in used), None)
    choice = choice or tokenizer.unk_token or tokenizer.eos_token
    if choice is None:
        raise ModelError(
            "the tokenizer has no token that could fill a row up",
            hint="set special_tokens.pad_token to a token that it has",
            where="special_tokens.pad_token",
        )
    tokenizer.pad_token = choice
    log.warning(
        "notice: the tokenizer has no pad token; %r fills rows up and never trains there", choice
    )
