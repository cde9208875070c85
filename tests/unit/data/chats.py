"""Small tokenizers, templates and conversations for the tests of rendering."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers, processors
from tokenizers.models import BPE

from tunesmith.data.records import Conversation, Message, Source
from tunesmith.data.render import RenderedRow, Renderer, RenderSettings
from tunesmith.data.templates import ChatTemplate, read_named

SPECIALS = ("<|im_start|>", "<|im_end|>", "<s>", "</s>", "<|eot_id|>", "<|pad|>")
SOURCE = Source(0, "rows.jsonl", 1)


def make_tokenizer(
    folder: Path,
    *,
    merges: Sequence[tuple[str, str]] = (),
    bos: str | None = None,
    specials: Sequence[str] = SPECIALS,
) -> Path:
    """A folder with a byte-level tokenizer: one token a byte, but for merges and specials."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: number for number, letter in enumerate(alphabet)}
    for left, right in merges:
        vocabulary[left + right] = len(vocabulary)
    tokenizer = Tokenizer(BPE(vocabulary, list(merges)))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(
        [AddedToken(text, special=True, normalized=False) for text in specials]
    )
    trimming = processors.ByteLevel(trim_offsets=True)
    tokenizer.post_processor = trimming
    if bos is not None:
        opening = processors.TemplateProcessing(
            single=f"{bos} $A", special_tokens=[(bos, tokenizer.token_to_id(bos))]
        )
        tokenizer.post_processor = processors.Sequence([trimming, opening])
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def template(text: str, name: str = "jinja") -> ChatTemplate:
    return ChatTemplate(name, text, sha256(text.encode()).hexdigest())


def settings(
    folder: Path, text: str | None = None, *, eos: str = "<|im_end|>", **more: Any
) -> RenderSettings:
    """Settings for a tokenizer of ``make_tokenizer``; ``text`` is a template or a known name."""
    known = None
    if text is not None:
        known = template(text) if "{" in text else template(read_named(text), text)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    values: dict[str, Any] = {
        "sequence_len": 4096,
        "special_tokens": {"bos_token": "<s>", "eos_token": eos},
        "eos_text": eos,
        "eos_id": tokenizer.token_to_id(eos),
    }
    return RenderSettings(str(folder), "digest", template=known, **{**values, **more})


def chat(*turns: tuple[str, str] | Mapping[str, Any], **more: Any) -> Conversation:
    """A conversation of (role, content) pairs, or of whole messages."""
    messages = []
    for turn in turns:
        fields = dict(turn) if isinstance(turn, Mapping) else {"role": turn[0], "content": turn[1]}
        train = fields.pop("train", None)
        messages.append(Message(fields, train))
    return Conversation(tuple(messages), **more)


def shown(renderer: Renderer, record: Conversation) -> list[str]:
    """Each sample's text with what trains in ⟦⟧, as the renderer explains it."""
    texts = []
    for views in renderer.explain(record):
        text = ""
        trains = False
        for view in views:
            if (view.weight > 0) != trains:
                trains = not trains
                text += "⟦" if trains else "⟧"
            text += view.text
        texts.append(text + ("⟧" if trains else ""))
    return texts


def codes(row: RenderedRow) -> list[str]:
    return [lint.code for lint in row.lints]
