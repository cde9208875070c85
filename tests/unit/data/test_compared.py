"""Rows of several documents: prepared, stored, found again, laid into batches."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.unit.data.toys import make_tokenizer, request, write_jsonl
from tunesmith.config.data import DatasetEntry
from tunesmith.data.cache import PreparedSplit, SampleWriter
from tunesmith.data.collate import collate
from tunesmith.data.facts import PREPARED, SHARD, write_facts
from tunesmith.data.fitted import fit_sample
from tunesmith.data.known import KnownReference, is_kept, keep
from tunesmith.data.overlong import LengthRule, Loss
from tunesmith.data.prepare import prepare
from tunesmith.data.records import RowError
from tunesmith.data.samples import (
    JudgedSample,
    PairSample,
    StepSample,
    TokenSample,
    TrainedSample,
)
from tunesmith.data.strips import lay_out, pick_up
from tunesmith.errors import DataError

ENTRIES = {
    "dpo": ("pairs", {"type": "dpo"}),
    "kto": ("judged", {"type": "kto"}),
    "steps": ("steps", {"type": "stepwise_supervised"}),
}


def document(prompt: int, answer: int, *, first: int = 5, source: str = "f:1") -> TokenSample:
    ids = np.arange(first, first + prompt + answer, dtype=np.int32)
    return TokenSample(ids, ((prompt, prompt + answer, 1.0),), source)


PAIR = PairSample(document(3, 4), document(3, 2, first=50))
JUDGED = JudgedSample(document(3, 4), is_good=False)
STEPS = StepSample(np.arange(9, dtype=np.int32), ((4, True), (8, False)), "f:1")


@pytest.mark.parametrize(
    ("sample", "kind"),
    [(PAIR, "pairs"), (JUDGED, "judged"), (STEPS, "steps"), (document(2, 2), "tokens")],
)
def test_what_is_laid_out_is_picked_up(sample: TrainedSample, kind: Any) -> None:
    again = pick_up(lay_out(sample), kind)
    assert type(again) is type(sample)
    assert again.verdict == sample.verdict
    for one, other in zip(again.documents, sample.documents, strict=True):
        assert one.input_ids.tolist() == other.input_ids.tolist()
        assert (one.runs, one.source) == (other.runs, other.source)


def split_of(folder: Path, samples: list[Any]) -> PreparedSplit:
    (folder / "shard-0").mkdir(parents=True)
    writer = SampleWriter(folder / "shard-0")
    for sample in samples:
        writer.add(sample, {"answers": 1.0})
    writer.close()
    write_facts(folder / "shard-0", SHARD, writer.facts())
    np.save(folder / "train.npy", np.arange(len(samples)))
    facts = {"shards": ["shard-0"], "totals": ["answers"], "datasets": [0]}
    write_facts(folder, PREPARED, {**facts, "splits": {"train": "content"}})
    return PreparedSplit(folder, "train")


def judged_rows(count: int) -> list[JudgedSample]:
    """Two answers to every prompt."""
    return [
        JudgedSample(document(2 + n // 2, 3, first=10 * (n // 2), source=f"f:{n}"), n % 2 == 0)
        for n in range(count)
    ]


def test_every_stranger_answers_another_prompt_and_is_always_the_same(tmp_path: Path) -> None:
    samples = judged_rows(8)
    split = split_of(tmp_path, samples)
    seen = set()
    for row, sample in enumerate(samples):
        found = split[row]
        assert isinstance(found, JudgedSample)
        stranger = found.stranger
        assert stranger is not None
        start = sample.answer.runs[0][0]
        assert stranger.input_ids[:start].tolist() == sample.answer.input_ids[:start].tolist()
        assert stranger.runs[0][0] == start
        assert int(stranger.source.removeprefix("f:")) // 2 != row // 2
        assert split[row].stranger.source == stranger.source  # type: ignore[union-attr]
        seen.add(stranger.source)
    assert len(seen) > len(samples) // 2


def test_a_stranger_is_no_longer_than_the_longest_row(tmp_path: Path) -> None:
    samples = [
        JudgedSample(document(9, 1, source="f:0"), is_good=True),
        JudgedSample(document(2, 8, first=40, source="f:1"), is_good=False),
    ]
    split = split_of(tmp_path, samples)
    lengths = [len(split[row].stranger) for row in range(2)]  # type: ignore[union-attr, arg-type]
    assert lengths == [10, 3]


def test_documents_lie_in_order_with_their_verdicts() -> None:
    samples = [JudgedSample(document(2, 2), is_good=True, stranger=document(2, 3)), JUDGED]
    batch = collate(samples, index=(0, 0), capacity=16, pad_to=20)
    assert batch.segments.tolist() == [0, 4, 11, 20]
    assert batch.documents["label"].tolist() == [1, -1, 0]
    assert batch.n_documents == 2
    assert batch.strangers is not None
    assert batch.strangers.segments.tolist() == [0, 5]
    pair = collate([PAIR], index=(0, 0), capacity=16)
    assert pair.segments.tolist() == [0, 7, 12]
    assert pair.documents == {}
    steps = collate([STEPS], index=(0, 0), capacity=16)
    assert steps.targets["labels"].tolist() == [0, 0, 0, 0, 1, 0, 0, 0, -1]
    assert not steps.targets["weights"].any()


@pytest.mark.parametrize("sample", [PAIR, JUDGED, STEPS])
def test_what_is_kept_and_lost_is_the_whole_sample(sample: TrainedSample) -> None:
    for longest, policy in itertools.product(range(5, 10), ("drop", "truncate")):
        kept, losses = fit_sample(sample, LengthRule(longest, 2, policy))  # type: ignore[arg-type]
        assert sum(map(len, kept)) + sum(loss.tokens for loss in losses) == len(sample)
        assert all(len(one) <= longest for each in kept for one in each.documents)


def test_a_pair_that_one_side_drops_is_dropped_whole() -> None:
    assert fit_sample(PAIR, LengthRule(6, 2, "drop")) == (
        (),
        [Loss("longer than sequence_len (6)", 12)],
    )
    assert fit_sample(PAIR, LengthRule(9, 6, "drop")) == (
        (),
        [Loss("shorter than min_sample_len (6)", 12)],
    )
    with pytest.raises(RowError, match="has 7 tokens with its prompt"):
        fit_sample(PAIR, LengthRule(6, 2, "split"))


def rows_of(kind: str, count: int = 9) -> list[dict[str, Any]]:
    if kind == "dpo":
        return [
            {
                "prompt": f"Say {n}. ",
                "chosen": f"{n}!" * (1 + n % 3),
                "rejected": "no" * (1 + n % 2),
            }
            for n in range(count)
        ]
    if kind == "kto":
        return [
            {"prompt": f"Say {n}. ", "completion": f"{n}!", "label": n % 3 > 0}
            for n in range(count)
        ]
    return [
        {"prompt": f"{n} + 1", "completions": [f"{n} + 1", f"is {n}"], "labels": [True, False]}
        for n in range(count)
    ]


@pytest.mark.parametrize("method", ENTRIES)
@pytest.mark.parametrize("workers", [0, 1])
def test_rows_are_prepared_held_out_and_found_again(
    tmp_path: Path, method: str, workers: int
) -> None:
    make_tokenizer(tmp_path / "tokenizer")
    kind, fields = ENTRIES[method]
    rows = rows_of(method)
    path = write_jsonl(tmp_path / "rows.jsonl", rows)
    asked = request(
        [DatasetEntry(path=str(path), **fields)],
        tmp_path,
        data={"val_set_size": 2},
        method=None if method == "steps" else method,
        kind=kind,
        weigh=lambda sample: {"samples": 1.0, "trained": float(sample.n_trained)},
        weigh_version="test:1",
        workers=workers,
    )
    found = prepare(asked)
    assert found.held_out is not None
    assert (len(found.train), len(found.held_out)) == (7, 2)
    account = found.ledger.accounts[0]
    assert (account.rows_in, account.rows_trained, account.rows_held_out) == (9, 7, 2)
    assert account.tokens_trained + account.tokens_masked == int(found.train.lengths.sum())
    assert account.tokens_trained == sum(found.train[row].n_trained for row in range(7))
    assert found.train.lengths.tolist() == [len(found.train[row]) for row in range(7)]
    assert prepare(asked).from_cache


def test_broken_rows_are_all_named_by_row_and_field(tmp_path: Path) -> None:
    make_tokenizer(tmp_path / "tokenizer")
    rows = rows_of("dpo")
    rows[1]["rejected"] = rows[1]["chosen"]
    del rows[4]["chosen"]
    path = write_jsonl(tmp_path / "rows.jsonl", rows)
    asked = request(
        [DatasetEntry(path=str(path), type="dpo")],
        tmp_path,
        method="dpo",
        kind="pairs",
        weigh=lambda sample: {"pairs": 1.0},
    )
    with pytest.raises(DataError) as caught:
        prepare(asked)
    told = [(problem.key, problem.line) for problem in caught.value.problems]
    assert told == [("rejected", 2), ("chosen", 5)]


def test_rows_of_another_kind_are_refused(tmp_path: Path) -> None:
    make_tokenizer(tmp_path / "tokenizer")
    path = write_jsonl(tmp_path / "rows.jsonl", rows_of("kto"))
    asked = request([DatasetEntry(path=str(path), type="kto")], tmp_path, kind="pairs")
    with pytest.raises(DataError, match="this run reads a chosen and a rejected answer"):
        prepare(asked)


def test_a_reference_is_found_again_at_the_tokens_that_train(tmp_path: Path) -> None:
    samples = judged_rows(5)
    split = split_of(tmp_path / "data", samples)
    rows = [np.array([3, 1]), np.array([0, 4, 2])]
    said = []
    for number, part in enumerate(rows):
        batch = collate([split[row] for row in part.tolist()], index=(0, number), capacity=32)
        for one in (batch, batch.strangers):
            assert one is not None
            one.targets["reference"] = -one.targets["target_ids"].float()
        said.append((batch, part))
    folder = tmp_path / "reference"
    folder.mkdir()
    assert not is_kept(folder)
    keep(folder, said, len(samples), {"base": "tiny"})
    assert is_kept(folder)
    asked = np.array([2, 3, 0])
    batch = collate([split[row] for row in asked.tolist()], index=(1, 0), capacity=32, pad_to=40)
    filled = KnownReference(folder).fill(batch, asked)
    for one in (filled, filled.strangers):
        assert one is not None
        trained = one.targets["weights"] > 0
        wanted = torch.where(trained, -one.targets["target_ids"].float(), torch.tensor(0.0))
        assert torch.equal(one.targets["reference"], wanted)
