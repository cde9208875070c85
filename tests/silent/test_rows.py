"""Rows 11 to 16: templates, tokenizers and masks that teach something else than they seem to."""

from __future__ import annotations

import shutil
from typing import get_args

import numpy as np
import pytest
from tokenizers import processors
from transformers import AutoTokenizer

from tests.silent.attempts import PREPARE, wrap
from tests.smallrun import write_rows
from tests.unit.export.parts import CHATML
from tunesmith.config.preflight import ProbeName
from tunesmith.data import collate
from tunesmith.data.encode import Encoder
from tunesmith.data.masking import Masker
from tunesmith.data.pieces import PieceEncoder
from tunesmith.data.render import RenderedRow, Renderer
from tunesmith.data.samples import TokenSample
from tunesmith.runs import assemble

SKIPPED = [name for name in get_args(ProbeName) if name != "conservation"]


def change_samples(monkeypatch, change):
    """Let the renderer give ``change(renderer, record, sample)`` in place of each sample."""

    def around(real, self, record, source):
        row = real(self, record, source)
        samples = (change(self, record, sample) for sample in row.samples)
        return RenderedRow(tuple(samples), row.lints)

    wrap(monkeypatch, Renderer, "render", around)


def masked(sample, keeps):
    """The sample with the trained positions for which ``keeps(position)`` is true."""
    positions = {at for start, end, _ in sample.runs for at in range(start, end) if keeps(at)}
    return with_runs(sample, positions)


def with_runs(sample, positions):
    runs = []
    for at in sorted(positions):
        if runs and runs[-1][1] == at:
            runs[-1][1] = at + 1
        else:
            runs.append([at, at + 1])
    return TokenSample(sample.input_ids, tuple((a, b, 1.0) for a, b in runs), sample.source)


def chat(path, template=None, **more):
    entry = {"path": str(path), "type": "chat_template", **more}
    return {**entry, **({"chat_template_jinja": template} if template else {})}


# --- row 11: the end of turn is never trained -----------------------------------------------------


def test_a_template_that_writes_no_end_of_turn(attempts):
    template = CHATML.replace("<|im_end|>", "")
    data = [chat(attempts.ground / "chat_template.jsonl", template)]
    attempts.refused("stops", "no end-of-turn token is trained", "jsonl:", datasets=data)


def test_an_end_of_turn_that_the_mask_leaves_out(attempts, monkeypatch):
    """The span of an answer ends with its text: as for Gemma's `<end_of_turn>`."""

    def without_stops(real, self, text, turns, messages, part):
        ends = {(stop.start, stop.end) for turn in turns for stop in turn.stops}
        return [s for s in real(self, text, turns, messages, part) if (s[0], s[1]) not in ends]

    wrap(monkeypatch, Masker, "_trained_spans", without_stops)
    attempts.refused("stops", "the end of an answer does not train", "'<|im_end|>'", "jsonl:")


def test_an_end_that_trains_in_the_last_turn_only(attempts, monkeypatch):
    def last_alone(renderer, record, sample):
        ends = sorted(renderer.end_ids)
        stops = np.flatnonzero(np.isin(sample.input_ids, ends)).tolist()
        return masked(sample, lambda at: at not in stops[:-1])

    change_samples(monkeypatch, last_alone)
    attempts.refused("stops", "the end of an answer does not train", "jsonl:")


def test_a_pad_token_that_masks_the_real_end(attempts, monkeypatch):
    """pad == eos, and the collator masks every label that equals the pad token."""
    eos = 258

    def pads_masked(real, sample):
        weights = real(sample).copy()
        weights[sample.input_ids[1:] == eos] = 0.0
        return weights

    wrap(monkeypatch, collate, "_shifted_weights", pads_masked)
    attempts.refused(
        "conservation",
        "'<|im_end|>', weighs 0, not 1",
        "jsonl:",
        special_tokens={"pad_token": "<|im_end|>"},
    )


# --- row 12: the wrong span trains ----------------------------------------------------------------


def text_positions(renderer, sample, text):
    """The tokens of the first place at which a text stands, as a search for it finds them."""
    pieces = renderer.encoder.texts_of(sample.input_ids.tolist())
    starts = np.cumsum([0, *map(len, pieces)])
    first = "".join(pieces).find(text)
    return {
        at for at in range(len(pieces)) if starts[at] >= first and starts[at] < first + len(text)
    }


def test_a_span_that_is_found_by_searching_for_its_text(attempts, monkeypatch):
    """An answer that repeats the question is found in the question."""

    def searched(renderer, record, sample):
        positions = set()
        for message in record.messages:
            if message.role == "assistant":
                positions |= text_positions(renderer, sample, message.fields["content"])
        ends = np.flatnonzero(np.isin(sample.input_ids, sorted(renderer.end_ids))).tolist()
        return with_runs(sample, positions | set(ends[1::2]))

    change_samples(monkeypatch, searched)
    said = ["Say sun", "moon", "rain"]
    rows = [
        {"messages": [{"role": "user", "content": t}, {"role": "assistant", "content": t}]}
        for t in said
    ]
    data = [chat(write_rows(attempts.folder / "echo.jsonl", rows))]
    told = attempts.train(datasets=data, val_set_size=0)
    assert told.by in ("stops", "turns")
    assert not told.trained
    assert "echo.jsonl:1" in told.text or "echo.jsonl:2" in told.text
    attempts.refused(
        "turns",
        "the wrong tokens train in",
        "echo.jsonl:1",
        datasets=data,
        preflight_skip=["stops"],
    )


def test_a_span_that_begins_with_the_header(attempts, monkeypatch):
    """The difference of two prefixes, one without the generation prompt: headers train too."""

    def with_header(renderer, record, sample):
        header = len("<|im_start|>assistant\n") - len("<|im_start|>") + 1
        positions = {at for start, end, _ in sample.runs for at in range(start - header, end)}
        return with_runs(sample, positions)

    change_samples(monkeypatch, with_header)
    attempts.refused("turns", "the wrong tokens train in", "'<|im_start|>assis", "jsonl:1")


def test_a_span_that_loses_its_first_tokens(attempts, monkeypatch):
    """The prefix with its prompt was tokenized by itself and is longer than it is in the row."""

    def late(renderer, record, sample):
        starts = {start for start, _, _ in sample.runs}
        return masked(sample, lambda at: at not in starts and at - 1 not in starts)

    change_samples(monkeypatch, late)
    attempts.refused("turns", "with which an answer begins, does not train", "jsonl:1")


# --- row 13: everything is masked -----------------------------------------------------------------


def test_masks_that_are_all_zero(attempts, monkeypatch):
    change_samples(monkeypatch, lambda renderer, record, sample: with_runs(sample, ()))
    attempts.refused(PREPARE, "nothing is left to train on", "nothing to train")


def test_a_role_that_no_row_has(attempts):
    path = attempts.ground / "chat_template.jsonl"
    attempts.refused(
        PREPARE,
        "has the role `model`",
        "the rows have assistant, user",
        datasets=[chat(path, roles_to_train=["model"])],
    )


def test_answers_that_are_all_cut_off(attempts):
    """Prompts are longer than the row: what is left of each trains nothing."""
    attempts.refused(
        PREPARE,
        "nothing is left to train on",
        sequence_len=24,
        excess_length_strategy="truncate",
    )


def test_some_rows_that_are_all_masked_are_counted_and_named(attempts, monkeypatch):
    def half(renderer, record, sample):
        return sample if int(sample.source.rsplit(":", 1)[1]) > 12 else with_runs(sample, ())

    change_samples(monkeypatch, half)
    told = attempts.train(max_steps=1, preflight_skip=SKIPPED)
    assert "dropped, nothing to train: 12 rows" in told.text
    assert "(rows 1, 2, 3, ...)" in told.text


# --- row 14: two BOS, or none ---------------------------------------------------------------------


@pytest.fixture
def opening_base(ground, tmp_path):
    """The base with a tokenizer that opens every text with `<|endoftext|>`."""
    folder = shutil.copytree(ground / "base", tmp_path / "opening")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", 256)]
    )
    tokenizer.bos_token = "<|endoftext|>"
    tokenizer.chat_template = "{{ bos_token }}" + CHATML
    tokenizer.save_pretrained(folder)
    return str(folder)


def test_a_bos_of_the_template_and_one_of_the_tokenizer(attempts, monkeypatch, opening_base):
    """The template writes it, and the rendered text is encoded with special tokens added."""

    def with_special(real, self, text):
        encoded = real(self, text)
        if not text.startswith("<|endoftext|>"):
            return encoded
        ids = np.concatenate([np.array(self.opening, np.int32), encoded.ids])
        offsets = np.concatenate([np.zeros((len(self.opening), 2), np.int64), encoded.offsets])
        return type(encoded)(ids, offsets)

    wrap(monkeypatch, Encoder, "encode", with_special)
    told = attempts.refused(
        "serving",
        "trained with other ids than a server makes of it",
        "jsonl:1",
        base_model=opening_base,
    )
    assert "which opens texts, twice" in told.text


def test_a_bos_that_only_the_server_writes(attempts, monkeypatch, opening_base):
    def bare(real, self, tokens, *, first, last):
        framed = real(self, tokens, first=first, last=last)
        return framed[len(self._encoder.opening) :]

    wrap(monkeypatch, PieceEncoder, "_framed", bare)
    attempts.refused(
        "serving",
        "a server begins it with '<|endoftext|>",
        "alpaca.jsonl:1",
        rows="alpaca",
        base_model=opening_base,
    )


# --- row 15: the template at inference is another one ---------------------------------------------


def test_a_template_that_does_not_travel_with_the_model(attempts, monkeypatch):
    """`chat_template` of the config trains, the tokenizer's own is saved."""
    wrap(
        monkeypatch,
        assemble,
        "save_tokenizer",
        lambda real, tokenizer, folder, template: real(tokenizer, folder, None),
    )
    other = CHATML.replace("<|im_start|>{{", "<|im_start|>the {{")
    data = [chat(attempts.ground / "chat_template.jsonl", other)]
    attempts.refused("serving", "'the user", "is trained", "jsonl:1", datasets=data)


# --- row 16: a template drops tool calls, or prints them otherwise --------------------------------

TOOL_ROWS = [
    {
        "messages": [
            {"role": "user", "content": f"Weather in {city}?"},
            {
                "role": "assistant",
                "content": "",
                "tool_calls": [
                    {
                        "type": "function",
                        "function": {"name": "weather", "arguments": {"city": city}},
                    }
                ],
            },
        ]
    }
    for city in ("Bern", "Chur", "Genf", "Thun")
]


@pytest.mark.parametrize(
    ("printed", "by", "words"),
    [
        ("", PREPARE, "the template printed nothing of this assistant turn"),
        ("{{ call.function.name }}", "turns", "tool_calls[0].arguments.city ('Bern')"),
    ],
    ids=["the call", "its arguments"],
)
def test_a_template_that_drops(attempts, printed, by, words):
    template = CHATML.replace(
        "{{ m['content'] }}",
        "{{ m['content'] }}{% for call in m.tool_calls or [] %}" + printed + "{% endfor %}",
    )
    data = [chat(write_rows(attempts.folder / "tools.jsonl", TOOL_ROWS), template)]
    attempts.refused(by, words, "tools.jsonl:1", datasets=data)


# --- what no server would be asked ----------------------------------------------------------------

SHAREGPT = {
    "field_messages": "conversations",
    "message_property_mappings": {"role": "from", "content": "value"},
}
USER_FIRST = (
    "{% if messages[0]['role'] != 'user' and messages|length == 1 %}"
    "{{ raise_exception('no user') }}{% endif %}"
)


@pytest.mark.parametrize("refuses", [False, True])
def test_rows_that_no_prompt_begins(attempts, tmp_path, refuses):
    """The first turn is the assistant's, or its beginning is one that the template refuses."""
    opening = {"from": "system", "value": "Be brief."} if refuses else None
    said = [{"from": "gpt", "value": "Hello."}, {"from": "human", "value": "Say sun"}]
    turns = [*([opening] if opening else []), *said, {"from": "gpt", "value": "sun"}]
    path = write_rows(tmp_path / "greets.jsonl", [{"conversations": turns}] * 4)
    data = [chat(path, USER_FIRST + CHATML if refuses else None, **SHAREGPT)]
    skip = [name for name in get_args(ProbeName) if name not in ("turns", "serving")]
    told = attempts.train(datasets=data, preflight_skip=skip, max_steps=1)
    assert told.trained, told.text
    assert "turns: not compared" in told.text
    assert "serving: 4 samples" in told.text
