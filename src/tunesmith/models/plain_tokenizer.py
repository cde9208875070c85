"""The facts of a tokenizer that transformers takes as its files give it, without transformers.

Importing transformers costs a second, and for most folders it changes nothing: their config names
the generic class, which reads ``tokenizer.json`` as it is. Such a folder is read by the tokenizers
library alone. Whatever is not known to be the same is left to transformers.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from tokenizers import AddedToken, Tokenizer
from tokenizers.processors import TemplateProcessing

from tunesmith.config.model import ModelSection
from tunesmith.config.tokenizer import TokenizerSection
from tunesmith.errors import ModelError
from tunesmith.models.screen import read_object, require_no_pickle, screen_model
from tunesmith.models.tokenizer_facts import TokenizerFacts, keep

GENERIC: Final = ("TokenizersBackend", "PreTrainedTokenizerFast")
"""What a config calls the class that takes ``tokenizer.json`` as it is."""

TRUSTED_TYPES: Final = (
    *("cohere", "gemma", "gemma2", "gemma3_text", "glm4", "gpt_neox", "granite", "llama"),
    *("olmo", "olmo2", "olmo3", "qwen3", "qwen3_moe", "smollm3", "stablelm", "starcoder2"),
)
"""Types of model for which transformers takes a generic class at its word; for others it has a
class of its own, or mends what it reads."""

_SPECIAL: Final = tuple(
    f"{name}_token" for name in ("bos", "eos", "unk", "sep", "pad", "cls", "mask")
)
"""The named tokens, in transformers' order."""

_WITHOUT_EFFECT: Final = frozenset(
    {
        *("add_bos_token", "add_eos_token"),  # dropped where there is a tokenizer.json
        *("backend", "clean_up_tokenization_spaces", "is_local", "local_files_only"),
        *("model_max_length", "padding_side", "tokenizer_class"),
    }
)
"""Settings that change neither what the tokenizer does nor its template."""

_READ: Final = frozenset({*_SPECIAL, "added_tokens_decoder", "chat_template"})

_MORE_FILES: Final = (
    *("added_tokens.json", "special_tokens_map.json", "additional_chat_templates"),
    *("tekken.json", "tiktoken.model"),
)
"""What transformers would read beside the two files."""


def read_plain(model: ModelSection, section: TokenizerSection) -> TokenizerFacts | None:
    """The facts of the tokenizer in the base model's folder; None where transformers is needed.

    It is also None for whatever is wrong with the folder: the other way finds it and says so.
    """
    folder = Path(model.base).expanduser()
    asked = (section.path, section.class_name, section.special_tokens, model.remote_code)
    if not folder.is_dir() or any(setting is not None for setting in asked):
        return None
    folder = folder.resolve()
    try:
        require_no_pickle(folder, model.base, "model", "base_model")
        screen_model(folder, model.base)
        if not any(folder.glob("*.safetensors")) or not _is_generic(folder):
            return None
        settings = read_object(folder / "tokenizer_config.json")
        tokenizer = _load(folder / "tokenizer.json")
    except (ModelError, OSError, UnicodeError):
        return None
    if tokenizer is None or not _says_the_same(settings, tokenizer):
        return None
    return _facts(settings, tokenizer, _template(folder, settings))


def _is_generic(folder: Path) -> bool:
    """Whether transformers would read the two files alone, and by the generic class."""
    config = read_object(folder / "config.json")
    named = read_object(folder / "tokenizer_config.json").get("tokenizer_class")
    return (
        named in GENERIC
        and config.get("model_type") in TRUSTED_TYPES
        and "model_name" not in config  # another key by which transformers chooses a class
        and "auto_map" not in (folder / "config.json").read_text(encoding="utf-8")
        and not any((folder / name).exists() for name in _MORE_FILES)
    )


def _load(path: Path) -> Tokenizer | None:
    """The tokenizer with the post-processor that transformers gives one that has none."""
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception:  # the library raises nothing narrower
        return None
    if tokenizer.truncation is not None or tokenizer.padding is not None:
        return None
    if tokenizer.post_processor is None:
        tokenizer.post_processor = TemplateProcessing(
            single="$A:0", pair="$A:0 $B:1", special_tokens=[]
        )
    return tokenizer


def _says_the_same(settings: Mapping[str, Any], tokenizer: Tokenizer) -> bool:
    """Whether the config says nothing of the tokenizer that its own file does not say.

    A tokenizer without a pad is given one by the choice of ``models.tokenizer``.
    """
    if not settings.keys() <= _WITHOUT_EFFECT | _READ or settings.get("pad_token") is None:
        return False
    added = tokenizer.get_added_tokens_decoder()
    special = {token.content for token in added.values() if token.special}
    named = [settings[name] for name in _SPECIAL if settings.get(name) is not None]
    if not all(isinstance(text, str) and text in special for text in named):
        return False
    known = {number: _traits(token) for number, token in added.items()}
    described = settings.get("added_tokens_decoder", {})
    return isinstance(described, dict) and all(
        number.isdecimal() and _described(token) == known.get(int(number), ())
        for number, token in described.items()
    )


def _described(token: object) -> tuple[object, ...] | None:
    """The traits of a token that the config describes; None where it is described otherwise."""
    names = {"content", "lstrip", "rstrip", "normalized", "single_word", "special"}
    if not isinstance(token, dict) or token.keys() != names:
        return None
    return _traits(AddedToken(**token))


def _traits(token: AddedToken) -> tuple[object, ...]:
    flags = (token.lstrip, token.rstrip, token.normalized, token.single_word, token.special)
    return token.content, *flags


def _template(folder: Path, settings: Mapping[str, Any]) -> Any:
    """The chat template; a file of its own comes before the one in the config."""
    path = folder / "chat_template.jinja"
    return path.read_text(encoding="utf-8") if path.is_file() else settings.get("chat_template")


def _facts(
    settings: Mapping[str, Any], tokenizer: Tokenizer, template: Any
) -> TokenizerFacts | None:
    """None where the config holds several templates, for which transformers has a form."""
    if template is not None and not isinstance(template, str):
        return None
    named = {name: settings[name] for name in _SPECIAL if settings.get(name) is not None}
    bos, eos = named.get("bos_token"), named.get("eos_token")
    kept, digest = keep(tokenizer)
    return TokenizerFacts(
        folder=str(kept),
        digest=digest,
        chat_template=template,
        special_tokens_map=named,
        bos_token_id=None if bos is None else tokenizer.token_to_id(bos),
        eos_token_id=None if eos is None else tokenizer.token_to_id(eos),
        eos_token=eos,
    )
