"""Masks of real chats against renderings of their beginnings by transformers, for every template.

An answer is what a rendering up to it adds to the prompt for it: that is how a server sees it.
Where a template changes what it printed before (the beginning is no prefix of the whole), the first
exchange alone is compared.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pytest
from transformers.utils.chat_template_utils import render_jinja_template

from tests.unit.data.chats import make_tokenizer, settings
from tunesmith.config.data import DataSection, DatasetEntry
from tunesmith.data.encode import Encoder
from tunesmith.data.formats.chat import read_chat
from tunesmith.data.formats.options import FormatOptions
from tunesmith.data.instrument import template_messages
from tunesmith.data.records import Conversation, RowError, Source
from tunesmith.data.render import Renderer
from tunesmith.data.templates import TEMPLATE_NAMES, read_named
from tunesmith.data.tokens import runs_of_weights

SPECIAL = {"bos_token": "<s>", "eos_token": "</s>"}
MARKS = re.compile(r"<[|｜/]?[\w▁｜|]+[|｜]?>|\[/?[A-Z_]+\]|\[\|\w+\|\]")
"""Marks of the templates, which their tokenizers have as single tokens."""

SHAREGPT = {
    "field_messages": "conversations",
    "message_property_mappings": {"role": "from", "content": "value"},
    "roles": {"assistant": ["gpt", "function_call"], "tool": ["observation"]},
}
FILES: dict[str, dict[str, Any]] = {
    "mt_bench_multiturn": {},
    "reasoning_tool_openai": {},
    "retail_agent_openai": {},
    "stock_toolcall_openai": {},
    "think_inline": {},
    "glaive_toolcall_en": SHAREGPT,
    "glaive_toolcall_zh": SHAREGPT,
    "gsm8k_chat_openai": {},
    "sharegpt_dummy": SHAREGPT,
}

TEXT_ALONE = {"llava", "metharme"}
"""Templates that end inner turns with no mark of their own: blanks at the end of an answer cannot
be told from theirs, so that these chats are compared without such blanks."""


def chats(reference: Path, of_each: int | None) -> Iterator[Conversation]:
    """The first rows of each file, or all."""
    for name, keys in FILES.items():
        options = FormatOptions.of(DatasetEntry(path="x", **keys), DataSection())
        lines = (reference / f"data/chat/{name}.jsonl").read_text(encoding="utf-8").splitlines()
        for line in islice(lines, of_each):
            yield read_chat(json.loads(line), options)


def rendered(name: str, record: Conversation, count: int, *, prompt: bool) -> str | None:
    """What transformers prints of the first messages; None where the template refuses them."""
    messages = template_messages([message.fields for message in record.messages[:count]])
    if name in TEXT_ALONE:
        messages = [{**turn, "content": turn.get("content", "").strip()} for turn in messages]
    try:
        found, _ = render_jinja_template(
            conversations=[messages],
            tools=[dict(tool) for tool in record.tools] or None,
            chat_template=read_named(name),
            add_generation_prompt=prompt,
            **SPECIAL,
        )
    except (jinja2.TemplateError, TypeError):
        return None
    return str(found[0])


def answers(name: str, record: Conversation, whole: str) -> list[tuple[int, int]] | None:
    """The characters of each answer; None where some beginning is no prefix of the whole."""
    spans = []
    for number, message in enumerate(record.messages):
        if message.role != "assistant":
            continue
        prompt = rendered(name, record, number, prompt=True) if number else ""
        end = rendered(name, record, number + 1, prompt=False)
        if prompt is None or end is None:
            return None
        end = end.rstrip()
        if not (end.startswith(prompt) and whole.startswith(end)):
            return None
        spans.append((len(prompt), len(end)))
    return spans


def first_exchange(record: Conversation) -> Conversation:
    roles = [message.role for message in record.messages]
    return Conversation(record.messages[: roles.index("assistant") + 1], record.tools)


def outcome(name: str, made: Renderer, encoder: Encoder, record: Conversation) -> str:
    """Compare one chat; says whether it was compared whole, in part, or why it was not."""
    whole = rendered(name, record, len(record.messages), prompt=False)
    spans = whole and answers(name, record, whole)
    done = "whole"
    if not spans:
        record, done = first_exchange(record), "first exchange"
        whole = rendered(name, record, len(record.messages), prompt=False)
        spans = whole and answers(name, record, whole)
    if not whole or not spans:
        with pytest.raises(RowError):
            made.render(record, Source(0, "rows.jsonl", 2000))
        return "refused"
    stripped = [
        replace(m, fields={**m.fields, "content": m.fields.get("content", "").strip()})
        for m in record.messages
    ]
    record = replace(record, messages=tuple(stripped)) if name in TEXT_ALONE else record
    try:
        row = made.render(record, Source(0, "rows.jsonl", 2000))
    except RowError as error:
        return error.message
    (sample,) = row.samples
    encoded = encoder.encode(whole)
    assert sample.input_ids.tolist() == encoded.ids.tolist()
    trained = np.zeros(len(encoded.ids), dtype=bool)
    for start, end in spans:
        trained |= (encoded.offsets[:, 0] >= start) & (encoded.offsets[:, 1] <= end)
    assert sample.runs == runs_of_weights(trained)
    return done


def compared(name: str, reference: Path, home: Path, of_each: int | None) -> Counter[str]:
    """How many chats were compared whole, in part, or not at all, with the reason."""
    marks = sorted({"<s>", "</s>", *MARKS.findall(read_named(name))})
    folder = make_tokenizer(home, specials=marks)
    made = Renderer(settings(folder, name, eos="</s>", now=datetime.now().isoformat()))
    encoder = Encoder(str(folder))
    return Counter(outcome(name, made, encoder, record) for record in chats(reference, of_each))


@pytest.mark.parametrize("name", TEMPLATE_NAMES)
def test_masks_are_those_of_prefix_rendering(name: str, reference: Path, tmp_path: Path) -> None:
    found = compared(name, reference, tmp_path, 1)
    assert found["whole"] + found["first exchange"] >= 4, found


@pytest.mark.slow
@pytest.mark.parametrize("name", TEMPLATE_NAMES)
def test_masks_are_those_of_prefix_rendering_for_a_thousand_chats(
    name: str, reference: Path, tmp_path: Path
) -> None:
    found = compared(name, reference, tmp_path, None)
    assert found.total() >= 1000
    assert found["whole"] + found["first exchange"] >= 600, found
