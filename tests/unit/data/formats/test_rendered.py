"""Records of the further kinds as samples: ids, and what of them trains, by a byte tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer

from tests.unit.data import toys
from tests.unit.data.formats import examples
from tunesmith.data.compared import fit_pair, samples_of
from tunesmith.data.formats.load import load_format
from tunesmith.data.overlong import LengthRule
from tunesmith.data.records import (
    Drawn,
    Preference,
    Record,
    RowError,
    Segment,
    Segments,
    Source,
    Steps,
    Tokens,
)
from tunesmith.data.render import Renderer
from tunesmith.data.samples import (
    JudgedSample,
    PairSample,
    PromptSample,
    Sample,
    StepSample,
    TokenSample,
)
from tunesmith.data.wire import pack_rows, unpack_rows

AT = Source(0, "rows.jsonl", 3)
EOS = 256
USERS = {"role": "user", "content": "x"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toys.make_tokenizer(tmp_path_factory.mktemp("toy"))


@pytest.fixture(scope="module")
def made(folder: Path) -> Renderer:
    return Renderer(toys.settings(folder, sequence_len=64))


@pytest.fixture(scope="module")
def text_of(folder: Path) -> Any:
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    return lambda ids: tokenizer.decode(list(ids), skip_special_tokens=False)


def read(name: str, **change: Any) -> Record:
    return load_format(examples.entry(name))(examples.row(name) | change, examples.options(name))


def one(made: Renderer, record: Record) -> Sample:
    (sample,) = samples_of(made, record, AT, None)
    return sample


def trained(sample: TokenSample) -> list[int]:
    return [int(sample.input_ids[at]) for start, end, _ in sample.runs for at in range(start, end)]


@pytest.mark.parametrize("name", examples.names())
def test_every_formats_row_becomes_samples(made: Renderer, name: str) -> None:
    record = read(name)
    if isinstance(record, Tokens | Drawn):
        return  # their ids are those of a larger vocabulary
    for sample in samples_of(made, record, AT, None):
        parts = (sample.chosen, sample.rejected) if isinstance(sample, PairSample) else [sample]
        parts = [part.answer if isinstance(part, JudgedSample) else part for part in parts]
        for part in parts:
            assert len(part.input_ids) > 0
            assert part.source == "rows.jsonl:3"
            assert not isinstance(part, TokenSample) or part.total_weight > 0


@pytest.mark.parametrize("name", ["dpo", "dpo.chatml.intel", "dpo.chat_template.default"])
def test_a_pair_is_the_prompt_twice_and_its_answers_train(
    made: Renderer, text_of: Any, name: str
) -> None:
    sample = one(made, read(name))
    assert isinstance(sample, PairSample)
    chosen, rejected = sample.chosen, sample.rejected
    assert text_of(trained(chosen)).startswith("42")
    assert text_of(trained(rejected)).startswith("About 40.")
    assert trained(chosen)[-1] == EOS
    starts = {branch.runs[0][0] for branch in (chosen, rejected)}
    assert len(starts) == 1
    start = starts.pop()
    assert chosen.input_ids[:start].tolist() == rejected.input_ids[:start].tolist()
    assert "6 times 7" in text_of(chosen.input_ids[:start])


def test_only_the_last_answer_of_a_longer_pair_trains(made: Renderer, text_of: Any) -> None:
    turns = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "first"},
        {"role": "user", "content": "b"},
    ]
    sample = one(made, read("dpo.chat_template.default", messages=turns))
    assert isinstance(sample, PairSample)
    assert text_of(trained(sample.chosen)) == "42<|end|>"


@pytest.mark.parametrize(
    ("name", "change", "field"),
    [
        ("dpo", {"chosen": " "}, "chosen"),
        ("kto", {"completion": ""}, "completion"),
        ("kto", {"label": "false"}, "label"),
        ("kto", {"label": 1}, "label"),
        ("stepwise_supervised", {"labels": [True]}, "labels"),
        ("stepwise_supervised", {"labels": [0.5, 1.0]}, "labels[0]"),
        ("stepwise_supervised", {"completions": []}, "completions"),
        ("dpo.chat_template.argilla_chat", {"chosen": [USERS]}, "rejected"),
        ("dpo.chat_template.default", {"chosen": USERS}, "chosen"),
        ("dpo.chat_template.default", {"rejected": [USERS | {"role": "x"}]}, "rejected[0].role"),
        ("dpo.chatml.ultra", {"chosen": [{"content": "a"}] * 4}, "chosen"),
        ("dpo.zephyr.nectar", {"answers": [{"answer": "a", "rank": 1}]}, "answers"),
        ("llama2_chat", {"conversations": [{"from": "human", "value": "a"}]}, "conversations"),
        ("pygmalion", {"conversations": [{"role": "me", "value": "a"}]}, "conversations[0].role"),
        ("creative_acr.load_critique", {"scores": [1]}, "scores"),
        ("reflection", {"corrected": ""}, "corrected"),
        ("pretokenized", {"labels": [-100, 6, 9]}, "labels[2]"),
        ("pretokenized", {"labels": [-100, 6]}, "labels"),
        ("pretokenized", {"attention_mask": [1, 0, 1]}, "attention_mask"),
        ("pretokenized", {"attention_mask": [1, 1, 0]}, "labels[2]"),
        ("pretokenized", {"attention_mask": [0, 0, 1]}, "labels[1]"),
        ("pretokenized", {"input_ids": [-1, 6, 7]}, "input_ids[0]"),
    ],
)  # fmt: skip
def test_rows_that_cannot_be_meant(name: str, change: dict[str, Any], field: str) -> None:
    with pytest.raises(RowError) as error:
        read(name, **change)
    assert error.value.field == field
    assert error.value.fix


def test_the_best_ranked_answer_is_chosen() -> None:
    """axolotl takes the worst one: it sorts by rank, 1 for the best, and chooses the last."""
    answers = [
        {"answer": "worst", "rank": 7},
        {"answer": "best", "rank": 1},
        {"answer": "second", "rank": 2},
    ]
    record = read("dpo.zephyr.nectar", answers=answers)
    assert isinstance(record, Preference)
    assert isinstance(record.chosen, Segments)
    assert isinstance(record.rejected, Segments)
    assert (record.chosen.pieces[1].text, record.rejected.pieces[1].text) == ("best", "second")


def test_steps_end_where_their_labels_are(made: Renderer, text_of: Any) -> None:
    sample = one(made, read("stepwise_supervised"))
    assert isinstance(sample, StepSample)
    text = "6 * 7 + 1?6 * 7 = 42\nSo 44.\n"
    assert text_of(sample.input_ids) == text
    assert sample.ends == ((text.index("\n"), True), (len(text) - 1, False))
    opened = samples_of(made, read("stepwise_supervised"), AT, EOS)[0]
    assert isinstance(opened, StepSample)
    assert opened.input_ids[0] == EOS
    assert [end for end, _ in opened.ends] == [end + 1 for end, _ in sample.ends]


def test_steps_cut_short_lose_the_labels_behind_the_cut(made: Renderer) -> None:
    whole = Steps("p", ("ab", "cd"), (True, False), separator="|")
    longer = one(made, whole)
    cut = one(made, Steps("p", ("ab", "cd"), (True, False), separator="|", longest=5))
    last = one(made, Steps("p", ("ab", "cd"), (True, False), separator="|", last_only=True))
    assert isinstance(longer, StepSample)
    assert isinstance(cut, StepSample)
    assert isinstance(last, StepSample)
    assert longer.ends == ((3, True), (6, False))
    assert (len(cut.input_ids), cut.ends) == (6, ((3, True),))
    assert last.ends == ((6, False),)


def test_prompts_end_with_the_opening_of_an_answer(made: Renderer, text_of: Any) -> None:
    sample = one(made, read("prompts"))
    assert isinstance(sample, PromptSample)
    assert text_of(sample.input_ids) == "<|user|>What is 6 times 7?<|end|><|assistant|>"
    assert sample.extras == {"answer": "42"}
    plain = one(made, read("prompts", prompt="2 + 2 ="))
    assert isinstance(plain, PromptSample)
    assert text_of(plain.input_ids) == "2 + 2 ="


TALK = [
    {"role": "user", "content": "a"},
    {"role": "assistant", "content": "<think>hm</think>\n\nb"},
    {"role": "user", "content": "c"},
    {"role": "assistant", "content": "d"},
]


@pytest.mark.parametrize(
    ("form", "asked", "truths"),
    [
        ("chat_multiturn.transform", [1], ["<think>hm</think>\n\nb"]),
        ("chat_multiturn.transform_last_turn", [3], ["d"]),
        ("chat_multiturn.transform_all_turns", [1, 3], ["<think>hm</think>\n\nb", "d"]),
        ("reasoning.transform", [3], ["d"]),
        ("reasoning.transform_answer_only", [3], ["d"]),
    ],
)
def test_which_turns_ebft_asks_for(form: str, asked: list[int], truths: list[str]) -> None:
    record: Any = read(f"ebft.ebft_{form}", messages=TALK)
    assert [len(item.asked.messages) for item in record.items] == asked
    assert [item.extras["ground_truth"] for item in record.items] == truths
    rest = [item.extras.get("remaining_turns") for item in record.items]
    assert rest == ([TALK[2:]] if form.endswith("turn.transform") else [None] * len(asked))


def test_ebft_sets_thinking_apart_or_leaves_it_out() -> None:
    apart: Any = read("ebft.ebft_reasoning.transform_split_thinking", messages=TALK[:2])
    assert apart.items[0].extras["ground_truth"] == "<think>\nhm\n</think>\n\nb"
    alone: Any = read("ebft.ebft_reasoning.transform_answer_only", messages=TALK[:2])
    assert alone.items[0].extras["ground_truth"] == "b"
    with pytest.raises(RowError, match="no answer of the assistant"):
        read("ebft.ebft_chat_multiturn.transform", messages=TALK[:1])


def test_ends_of_pieces_and_of_the_row(made: Renderer) -> None:
    def ids(*pieces: Segment, **how: bool) -> list[int]:
        sample = one(made, Segments(pieces, **how))
        assert isinstance(sample, TokenSample)
        return sample.input_ids.tolist()

    answer = Segment("b", train=True, eos=3)
    assert ids(answer)[1:] == [EOS] * 3
    assert ids(Segment("b<|end|>", train=True, eos=3))[1:] == [EOS] * 3
    assert ids(Segment("b", train=True), closed=False) == ids(answer)[:1]
    assert ids(Segment("b", train=True))[1:] == [EOS]
    both = ids(Segment("é", train=False), Segment("b", train=True, glued=True))
    assert both == ids(Segment("éb", train=True))


def test_tokens_are_taken_as_they_are_and_drawn_ones_are_the_same_again(made: Renderer) -> None:
    known = one(made, Tokens((5, 6, 7), (True, False, True)))
    assert isinstance(known, TokenSample)
    assert (known.input_ids.tolist(), known.runs) == ([5, 6, 7], ((2, 3, 1.0),))
    with pytest.raises(RowError, match="the vocabulary ends before 257"):
        one(made, Tokens((5, 300), (True, True)))
    first, again, other = (
        one(made, Drawn(None, 100, None, seed=1, number=number)) for number in (4, 4, 5)
    )
    assert isinstance(first, TokenSample)
    assert isinstance(again, TokenSample)
    assert isinstance(other, TokenSample)
    assert first.input_ids.tolist() == again.input_ids.tolist() != other.input_ids.tolist()
    assert (len(first), first.total_weight) == (64, 63.0)
    assert 100 <= int(np.min(first.input_ids)) <= int(np.max(first.input_ids)) < 257
    with pytest.raises(RowError, match="from 100 up to 300"):
        one(made, Drawn(8, 100, 300, seed=1, number=1))


def test_padding_at_either_end_is_left_out() -> None:
    padded = {
        "input_ids": [0, 0, 5, 6, 0],
        "labels": [-100, -100, -100, 6, -100],
        "attention_mask": [0, 0, 1, 1, 0],
    }
    assert read("pretokenized", **padded) == Tokens((5, 6), (False, True))
    assert read("untyped", **padded) == Tokens((5, 6), (False, True))


def test_records_travel_between_processes_unchanged() -> None:
    records = [read(name) for name in ("metharme", "llama2_chat", "pygmalion", "pretokenized")]
    rows = [(AT, record) for record in [*records, Drawn(3, 1, None, 0, 9)]]
    assert unpack_rows(pack_rows(rows)) == rows  # type: ignore[arg-type]


def test_a_pair_is_as_long_as_its_longer_branch(made: Renderer) -> None:
    pair = one(made, read("dpo", prompt="12345", chosen="678", rejected="6"))
    assert isinstance(pair, PairSample)
    assert (len(pair.chosen), len(pair.rejected)) == (9, 7)
    assert fit_pair(pair, LengthRule(9, 2, "drop")) is pair
    assert fit_pair(pair, LengthRule(8, 2, "drop")) is None
    with pytest.raises(RowError, match="has 9 tokens, more than sequence_len"):
        fit_pair(pair, LengthRule(8, 2, "error"))
    cut = fit_pair(pair, LengthRule(6, 2, "truncate"))
    assert cut is not None
    assert cut.chosen.input_ids.tolist() == pair.chosen.input_ids.tolist()[:6]
    assert (cut.chosen.runs, cut.rejected.runs) == (((5, 6, 1.0),), ((5, 6, 1.0),))
    assert fit_pair(pair, LengthRule(5, 2, "truncate")) is None
