"""A packed row and a streamed row beside axolotl 0.19.0's: the layout, not the choice of rows."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.unit.data import toys
from tests.unit.data.test_stream import ONE
from tunesmith.config.data import DatasetEntry
from tunesmith.data.collate import collate
from tunesmith.data.live import WindowStream
from tunesmith.data.packing import PackingRule, pack_shapes, plan_epoch
from tunesmith.data.samples import TokenSample
from tunesmith.data.stream import OrderSettings
from tunesmith.data.windows import StreamRequest, Windows


def records(reference: Path, name: str) -> list[dict]:
    lines = (reference / "goldens" / name).read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def sample(number: int, length: int) -> TokenSample:
    ids = np.arange(length, dtype=np.int32) + 1000 * number
    return TokenSample(ids, ((1, length, 1.0),) if length > 1 else (), f"f:{number}")


def bins_of(record):
    passes = record["epochs"] if "epochs" in record else [record["batches"]]
    return [one for batches in passes for batch in batches for one in batch]


def test_a_row_of_axolotls_choice_has_the_layout_of_its_collator(reference):
    """Its packed row: the documents end to end, positions that restart with each."""
    n_rows = 0
    for record in records(reference, "packing.jsonl"):
        if "lengths" not in record:
            continue  # orders of a random sampler
        lengths = record["lengths"]
        for members in bins_of(record)[:40]:
            documents = [sample(number, lengths[number]) for number in members]
            batch = collate(documents, index=(0, 0), capacity=max(lengths))
            ids = [token for one in documents for token in one.input_ids.tolist()]
            positions = [at for number in members for at in range(lengths[number])]
            assert batch.inputs["input_ids"].tolist() == ids
            assert batch.inputs["position_ids"].tolist() == positions
            ends = np.cumsum([0, *(lengths[number] for number in members)])
            assert batch.segments.tolist() == ends.tolist()
            n_rows += 1
    assert n_rows > 500


def test_no_bin_is_over_full_or_left_out_where_axolotls_are(reference):
    """Of equal lengths and bounds we need as many bins at most, and drop nothing.

    axolotl keeps a document that is longer than the bin, and drops what does not fill a batch.
    """
    compared = 0
    for record in records(reference, "packing.jsonl"):
        lengths = np.asarray(record.get("lengths", ()), dtype=np.int32)
        capacity = record.get("batch_max_len", 0)
        if not len(lengths) or lengths.max() > capacity or record["sequential"]:
            continue
        rule = PackingRule(capacity, max_documents=record["bin_size"], group=record["group_size"])
        plan = plan_epoch(lengths, rule, key=1)
        assert sorted(plan.members.tolist()) == list(range(len(lengths)))
        sizes = [int(lengths[one].sum()) for one in plan.bins(0, len(plan))]
        assert max(sizes) <= capacity
        assert max(map(len, plan.bins(0, len(plan)))) <= record["bin_size"]
        used = {row for one in bins_of(record) for row in one}
        if len(used) == len(lengths) and "epochs" not in record and len(lengths) <= rule.group:
            assert len(plan) <= len(bins_of(record)), record["id"]
            assert len(pack_shapes(lengths, rule).offsets) - 1 == len(plan)
            compared += 1
    assert compared >= 20


# --- streams --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def streams(reference):
    return {one["id"].removeprefix("stream/"): one for one in records(reference, "stream.jsonl")}


def streamed(reference, record, home):
    """Our samples of the record's rows, in the order of the data."""
    config = record["config"]
    (entry,) = config.get("pretraining_dataset") or config["datasets"]
    (lines,) = record["lines"].get("pretraining_dataset") or record["lines"]["datasets"]
    source = reference / "data" / entry.get("data_files", entry["path"])
    kept = source.read_text(encoding="utf-8").splitlines(keepends=True)
    path = home / source.name
    path.write_text("".join(kept[number] for number in lines), encoding="utf-8")
    kind = {"pretrain": "pretrain"}.get(entry["type"], entry["type"])
    tokenizer = reference / "data" / config["base_model"]
    settings = _settings(tokenizer, config["sequence_len"])
    made = toys.request(
        [DatasetEntry(path=str(path), type=kind)],
        home,
        packing={"sequence_len": 4096},
        settings=(settings,),
    )
    found = Windows(StreamRequest(made, window=1000))
    try:
        order = OrderSettings(seed=1, capacity=4096, max_steps=1, shuffle=False, micro_batch=1000)
        split, _ = found.open(0)
        assert WindowStream(found, order, ONE).n_tokens(0) >= split.lengths.sum()
        return [split[number] for number in range(len(split))]
    finally:
        found.close()


def _settings(tokenizer, sequence_len):
    from transformers import AutoTokenizer

    from tunesmith.data.render import RenderSettings

    loaded = AutoTokenizer.from_pretrained(tokenizer)
    return RenderSettings(
        tokenizer_path=str(tokenizer),
        tokenizer_digest="golden",
        sequence_len=sequence_len,
        eos_id=loaded.eos_token_id,
        eos_text=loaded.eos_token,
    )


def spans(one: TokenSample) -> list[list[int]]:
    return [[start, end] for start, end, _ in one.runs]


def rows_of(samples: list[TokenSample]) -> list[list[TokenSample]]:
    """The pieces of each row together."""
    rows: dict[str, list[TokenSample]] = {}
    for one in samples:
        rows.setdefault(one.source, []).append(one)
    return list(rows.values())


def test_streamed_text_begins_as_axolotls_and_loses_nothing(reference, streams, tmp_path):
    """axolotl cuts a row at `sequence_len` - 2 and forgets the rest; we train it, and the end."""
    record = streams["plain-bpe4k_chatml"]
    ours = rows_of(streamed(reference, record, tmp_path))
    assert len(ours) == len(record["out"])
    longest = record["config"]["sequence_len"] - 2
    cut = 0
    for pieces, theirs in zip(ours, record["out"], strict=True):
        ids = [token for piece in pieces for token in piece.input_ids.tolist()]
        kept = theirs["input_ids"][:longest]
        cut += len(ids) - 1 > longest
        assert ids[: len(kept)] == kept or ids[: len(kept) - 1] == kept[:-1]
        assert sum(sum(end - start for start, end in spans(p)) for p in pieces) == len(ids) - len(
            pieces
        )
    assert cut >= 6


def test_streamed_sft_rows_are_axolotls(reference, streams, tmp_path):
    """axolotl cuts a long answer and trains what is left without an end, in a row that may still be
    longer than `sequence_len`; here the length rule decides over the whole row.
    """
    record = streams["sft-alpaca"]
    ours = streamed(reference, record, tmp_path)
    n_equal = 0
    for mine, theirs in zip(ours, record["out"], strict=True):
        ids, ends = mine.input_ids.tolist(), len(theirs["input_ids"])
        assert ids[:ends] == theirs["input_ids"]
        assert spans(mine)[0][0] == theirs["train"][0][0]
        if len(ids) <= record["config"]["sequence_len"]:
            assert len(ids) == ends
            assert spans(mine) == theirs["train"]
            n_equal += 1
    assert n_equal >= 7


def test_packed_streamed_rows_hold_the_same_documents(reference, streams, tmp_path):
    """Which documents share a row is each one's own choice; a document is the same."""
    record = streams["sft-alpaca-packed"]
    ours = {
        tuple(one.input_ids.tolist()): spans(one) for one in streamed(reference, record, tmp_path)
    }
    n_found = 0
    for row in record["out"]:
        starts = [at for at, place in enumerate(row["position_ids"]) if place == 0]
        for start, end in zip(starts, [*starts[1:], len(row["input_ids"])], strict=True):
            document = tuple(row["input_ids"][start:end])
            if len(set(document)) == 1:
                continue  # the padding
            assert document in ours
            trained = [
                [first - start, last - start]
                for first, last in row["train"]
                if start <= first < end
            ]
            assert ours[document] == trained
            n_found += 1
    assert n_found >= 15
