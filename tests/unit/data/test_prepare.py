import dataclasses
import json
import multiprocessing
import os
import signal
import time
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.data import toys
from tests.unit.data.toys import alpaca_rows, request, weigh, write_jsonl
from tunesmith.config.data import DataSection, DatasetEntry
from tunesmith.data.formats.lint import lint_record
from tunesmith.data.formats.load import load_format
from tunesmith.data.formats.options import FormatOptions
from tunesmith.data.prepare import prepare
from tunesmith.data.records import RowError
from tunesmith.data.render import Renderer
from tunesmith.data.samples import TokenSample
from tunesmith.data.sources import open_rows
from tunesmith.errors import ConfigError, DataError


def alpaca(path, **keys):
    return DatasetEntry(path=str(path), type="alpaca", **keys)


def chat_rows(count):
    return [
        {
            "messages": [
                {"role": "user", "content": f"Say {number}."},
                {"role": "assistant", "content": f"{number}"},
            ]
        }
        for number in range(count)
    ]


def texts(split):
    """Each sample's bytes as text (the toy tokenizer has one token a byte; 256 ends a text)."""
    return [bytes(int(one) for one in split[n].input_ids if one < 256) for n in range(len(split))]


# --- what is prepared -----------------------------------------------------------------------------


def test_rows_of_several_data_sets_in_order(tmp_path):
    first = write_jsonl(tmp_path / "a.jsonl", alpaca_rows(30))
    second = write_jsonl(tmp_path / "b.jsonl", chat_rows(20))
    prepared = prepare(request([alpaca(first), DatasetEntry(path=str(second))], tmp_path))
    assert len(prepared.train) == 50
    assert prepared.held_out is None
    assert not prepared.from_cache
    sources = [prepared.train[n].source for n in range(50)]
    assert sources[0] == f"{first}:1"
    assert sources[-1] == f"{second}:20"
    # Each sample is what the renderer alone makes of the row.
    toy = toys.settings(tmp_path / "tokenizer")
    entry = DatasetEntry(path=str(second))
    source, row = next(iter(open_rows(entry, 1)))
    record = load_format(entry)(row, FormatOptions.of(entry, DataSection()))
    (expected,) = Renderer(toy).render(record, source).samples
    np.testing.assert_array_equal(prepared.train[30].input_ids, expected.input_ids)
    assert prepared.train[30].runs == expected.runs
    totals = [prepared.train[n].total_weight for n in range(50)]
    assert prepared.train.totals["tokens"].tolist() == totals
    assert json.loads((prepared.path / "ledger.json").read_text()) == prepared.ledger.to_json()


def test_workers_give_the_same_bytes_as_this_process(tmp_path):
    path = write_jsonl(tmp_path / "a.jsonl", chat_rows(300))
    entries = [DatasetEntry(path=str(path))]
    here = prepare(request(entries, tmp_path, data={"val_set_size": 0.1}))
    there = prepare(
        request(
            entries,
            tmp_path,
            data={"val_set_size": 0.1},
            workers=2,
            cache_dir=tmp_path / "other",
        )
    )
    assert not there.from_cache
    names = sorted(path.name for path in here.path.iterdir())
    assert names == sorted(path.name for path in there.path.iterdir())
    for name in names:
        assert (here.path / name).read_bytes() == (there.path / name).read_bytes(), name


def test_length_rules_and_their_ledger_lines(tmp_path):
    rows = [*alpaca_rows(5), {"instruction": "a", "input": "", "output": "x" * 400}]
    path = write_jsonl(tmp_path / "a.jsonl", rows)

    def run(**packing):
        return prepare(request([alpaca(path)], tmp_path, packing={"sequence_len": 300, **packing}))

    dropped = run()
    account = dropped.ledger.accounts[0]
    assert (len(dropped.train), account.rows_trained) == (5, 5)
    assert account.rows_dropped == {"longer than sequence_len (300)": 1}
    assert account.examples["longer than sequence_len (300)"] == [f"{path}:6"]
    cut = run(excess_length="truncate")
    assert cut.train.lengths.max() == 300
    assert cut.ledger.accounts[0].rows_dropped == {}
    assert sum(cut.ledger.accounts[0].tokens_dropped.values()) > 0
    split = run(excess_length="split")
    assert len(split.train) == 7
    assert split.ledger.accounts[0].tokens_dropped == {}
    with pytest.raises(DataError, match=r"a\.jsonl:6: has \d+ tokens, more than"):
        run(excess_length="error")
    short = run(min_sample_len=int(dropped.train.lengths.max()))
    assert short.train.lengths.min() == dropped.train.lengths.max()


def test_long_text_is_cut_into_pieces_that_keep_their_row_together(tmp_path):
    rows = [{"text": str(number) * 1000} for number in range(10)]
    path = write_jsonl(tmp_path / "a.jsonl", rows)
    entry = DatasetEntry(path=str(path), type="completion")
    prepared = prepare(request([entry], tmp_path, data={"val_set_size": 3}))
    train = {prepared.train[n].source for n in range(len(prepared.train))}
    held = {prepared.held_out[n].source for n in range(len(prepared.held_out))}
    assert (len(train), len(held)) == (7, 3)
    assert not train & held
    assert len(prepared.held_out) == 6
    account = prepared.ledger.accounts[0]
    assert (account.rows_in, account.rows_trained, account.rows_held_out) == (10, 7, 3)
    assert account.samples == 20


def test_rows_that_train_nothing_are_dropped_and_listed(tmp_path):
    rows = chat_rows(3)
    rows[1]["messages"].pop()
    path = write_jsonl(tmp_path / "a.jsonl", rows)
    prepared = prepare(request([DatasetEntry(path=str(path))], tmp_path))
    account = prepared.ledger.accounts[0]
    assert account.rows_dropped == {"nothing to train": 1}
    assert account.examples == {"nothing to train": [f"{path}:2"]}
    assert [lint.source for lint in prepared.lint if lint.code == "no-answer"] == [f"{path}:2"]
    for row in rows:
        del row["messages"][1:]
    write_jsonl(path, rows)
    with pytest.raises(DataError, match="nothing is left to train on: all 3 rows") as error:
        prepare(request([DatasetEntry(path=str(path))], tmp_path))
    assert "nothing to train: 3 rows" in error.value.message
    assert error.value.exit_code == 2
    assert not list((tmp_path / "cache").rglob("*.unfinished"))


def test_held_out_rows_and_test_data_sets(tmp_path):
    path = write_jsonl(tmp_path / "a.jsonl", alpaca_rows(40))
    test = write_jsonl(tmp_path / "t.jsonl", alpaca_rows(5, start=100))
    shared = prepare(request([alpaca(path)], tmp_path, data={"val_set_size": 0.1}))
    assert (len(shared.train), len(shared.held_out)) == (36, 4)
    assert shared.train.fingerprint != shared.held_out.fingerprint
    assert not set(texts(shared.train)) & set(texts(shared.held_out))
    apart = prepare(request([alpaca(path)], tmp_path, data={"test_datasets": (alpaca(test),)}))
    assert (len(apart.train), len(apart.held_out)) == (40, 5)
    assert apart.ledger.accounts[1].rows_held_out == 5
    # The order of files and the machine's folders do not change which rows are held out.
    moved = write_jsonl(tmp_path / "z.jsonl", alpaca_rows(40)[::-1])
    again = prepare(request([alpaca(moved)], tmp_path, data={"val_set_size": 0.1}))
    assert sorted(texts(again.held_out)) == sorted(texts(shared.held_out))
    other = prepare(request([alpaca(path)], tmp_path, data={"val_set_size": 0.1}, seed=8))
    assert sorted(texts(other.held_out)) != sorted(texts(shared.held_out))
    both = {"val_set_size": 0.1, "test_datasets": (alpaca(test),)}
    with pytest.raises(ConfigError, match="`test_datasets` and `val_set_size`"):
        prepare(request([alpaca(path)], tmp_path, data=both))


def test_held_out_data_may_be_longer(tmp_path):
    path = write_jsonl(tmp_path / "a.jsonl", alpaca_rows(3))
    rows = [{"instruction": "a", "input": "", "output": "x" * 400}]
    data = {"test_datasets": (alpaca(write_jsonl(tmp_path / "t.jsonl", rows)),)}
    packing = {"sequence_len": 300}
    assert prepare(request([alpaca(path)], tmp_path, data=data, packing=packing)).held_out is None
    longer = {**packing, "eval_sequence_len": 1000}
    prepared = prepare(request([alpaca(path)], tmp_path, data=data, packing=longer))
    assert len(prepared.held_out) == 1


def test_copies(tmp_path):
    path = write_jsonl(tmp_path / "a.jsonl", [*alpaca_rows(5), *alpaca_rows(2)])
    told = prepare(request([alpaca(path)], tmp_path))
    assert len(told.train) == 7
    assert told.ledger.lint["duplicate-row"].count == 2
    dropped = prepare(request([alpaca(path)], tmp_path, data={"exact_deduplication": True}))
    assert len(dropped.train) == 5
    assert dropped.ledger.accounts[0].examples["equal to an earlier row"] == [
        f"{path}:6",
        f"{path}:7",
    ]


def test_rows_in_memory(tmp_path):
    entry = DatasetEntry(path="mine", type="alpaca")
    prepared = prepare(request([entry], tmp_path, given=(alpaca_rows(5),)))
    assert prepared.train[4].source == "mine:5"
    assert prepare(request([entry], tmp_path, given=(alpaca_rows(5),))).from_cache
    assert not prepare(request([entry], tmp_path, given=(alpaca_rows(6),))).from_cache
    broken = [*alpaca_rows(2), RowError("", "is no JSON", "correct it")]
    with pytest.raises(DataError, match="mine:3: is no JSON"):
        prepare(request([entry], tmp_path, given=(broken,)))


def test_progress_is_told(tmp_path):
    path = write_jsonl(tmp_path / "a.jsonl", alpaca_rows(600))
    told = []
    prepare(request([alpaca(path)], tmp_path), lambda *what: told.append(what))
    assert (str(path), 256, None) in told
    assert told[0] == ("hashing data", 0, 1)


def test_nothing_named(tmp_path):
    with pytest.raises(ConfigError, match="no data set is named"):
        prepare(request([], tmp_path))


# --- broken rows ----------------------------------------------------------------------------------


def test_broken_rows_are_told_together_in_order(tmp_path):
    rows = alpaca_rows(300)
    rows[280]["output"] = None
    rows[3] = {"instruction": "a", "ouput": "b"}
    path = write_jsonl(tmp_path / "a.jsonl", rows)
    with path.open("a") as file:
        file.write('{"instruction": "cut')
    second = write_jsonl(tmp_path / "b.jsonl", [*chat_rows(1), {"messages": "x"}])
    with pytest.raises(DataError) as error:
        prepare(request([alpaca(path), DatasetEntry(path=str(second))], tmp_path))
    problems = error.value.problems
    assert [(problem.place, problem.key) for problem in problems] == [
        (f"{path}:4", "output"),
        (f"{path}:281", "output"),
        (f"{path}:301", ""),
        (f"{second}:2", "messages"),
    ]
    assert all(problem.fix for problem in problems)
    assert error.value.message.startswith(f"4 rows cannot be used; the first is {path}:4: `output`")
    assert error.value.exit_code == 2
    left = [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    assert {path.suffix for path in left} == {".lock"}


def test_rows_that_the_template_refuses_are_broken_rows(tmp_path):
    template = toys.TEMPLATE.replace(
        "{% for",
        "{% if 'bad' in messages[0]['content'] %}{{ raise_exception('no bad words') }}{% endif %}"
        "{% for",
        1,
    )
    rows = chat_rows(5)
    rows[2]["messages"][0]["content"] = "bad"
    path = write_jsonl(tmp_path / "a.jsonl", rows)
    made = request([DatasetEntry(path=str(path))], tmp_path)
    toy = toys.settings(tmp_path / "tokenizer", template=template)
    with pytest.raises(DataError, match=r"a\.jsonl:3: .*no bad words"):
        prepare(dataclasses.replace(made, settings=(toy,)))


def test_equal_problems_of_a_file_are_told_once(tmp_path):
    path = write_jsonl(tmp_path / "a.jsonl", [{"a": 1}] * 50)
    with pytest.raises(DataError) as error:
        prepare(request([alpaca(path)], tmp_path))
    (problem,) = error.value.problems
    assert problem.line == 1
    assert problem.message.endswith("(as in 49 more rows of this file)")


def test_only_so_many_broken_rows_are_read(tmp_path):
    rows = [{"instruction": str(number), "input": "", "output": number} for number in range(5000)]
    path = write_jsonl(tmp_path / "a.jsonl", rows)
    with pytest.raises(DataError, match=r"^at least 1,000 rows cannot be used") as error:
        prepare(request([alpaca(path)], tmp_path))
    assert len(error.value.problems) == 20


# --- the cache ------------------------------------------------------------------------------------


def test_the_same_request_is_found_again(tmp_path):
    path = write_jsonl(tmp_path / "a.jsonl", alpaca_rows(30))
    made = request([alpaca(path)], tmp_path, data={"val_set_size": 0.2})
    first, again = prepare(made), prepare(made)
    assert (first.from_cache, again.from_cache) == (False, True)
    assert again.fingerprint == first.fingerprint
    assert again.ledger == first.ledger
    assert again.lint == first.lint
    # What does not matter to the bytes does not matter to the key.
    path.touch()
    assert prepare(dataclasses.replace(made, workers=1)).from_cache
    unsplit = request([alpaca(path)], tmp_path)
    assert not prepare(unsplit).from_cache
    assert prepare(dataclasses.replace(unsplit, seed=99)).from_cache


def _changes(made, path, tmp_path):
    """Requests that differ in one thing each, by the name of the thing."""
    toy = made.settings[0]
    copy = path.with_name("copy.jsonl")
    copy.write_bytes(path.read_bytes())
    replace = dataclasses.replace
    changed = {
        "tokenizer": replace(made, settings=(replace(toy, tokenizer_digest="other"),)),
        "template": replace(made, settings=(toys.settings(path, template=toys.TEMPLATE + " "),)),
        "roles": replace(made, settings=(replace(toy, roles_to_train=("user",)),)),
        "weigh": replace(made, weigh_version="2"),
        "seed": replace(made, seed=8),
        "place": replace(made, data=DataSection(datasets=(alpaca(copy),), val_set_size=0.2)),
    }
    for name, keys in {
        "type": {"datasets": (DatasetEntry(path=str(path), type={"field_input": "x"}),)},
        "split": {"datasets": (alpaca(path, split="train[:20]"),)},
        "twice": {"datasets": (alpaca(path), alpaca(path))},
        "train_on_inputs": {"train_on_inputs": True},
        "dedup": {"exact_deduplication": True},
        "val_set_size": {"val_set_size": 0.3},
    }.items():
        section = {"datasets": (alpaca(path),), "val_set_size": 0.2, **keys}
        n_sets = len(section["datasets"])
        changed[name] = replace(made, data=DataSection(**section), settings=(toy,) * n_sets)
    for name, keys in {
        "sequence_len": {"sequence_len": 511},
        "min_sample_len": {"min_sample_len": 3},
        "excess_length": {"excess_length": "truncate"},
    }.items():
        base = {"sequence_len": 512, **keys}
        changed[name] = request([alpaca(path)], tmp_path, data={"val_set_size": 0.2}, packing=base)
    return changed


def test_whatever_changes_the_bytes_misses_the_cache(tmp_path):
    path = write_jsonl(tmp_path / "a.jsonl", alpaca_rows(30))
    made = request([alpaca(path)], tmp_path, data={"val_set_size": 0.2})
    keys = {"": prepare(made).fingerprint}
    for name, changed in _changes(made, path, tmp_path).items():
        if name == "template":
            toy = toys.settings(tmp_path / "tokenizer", template=toys.TEMPLATE + " ")
            changed = dataclasses.replace(changed, settings=(toy,))
        prepared = prepare(changed)
        assert not prepared.from_cache, name
        keys[name] = prepared.fingerprint
    data = path.read_bytes()
    path.write_bytes(data.replace(b"Say 7.", b"Say 8."))
    keys["one byte"] = prepare(made).fingerprint
    assert len(set(keys.values())) == len(keys)
    path.write_bytes(data)
    assert prepare(made).from_cache


def test_a_change_of_our_code_misses_the_cache(tmp_path, monkeypatch):
    path = write_jsonl(tmp_path / "a.jsonl", alpaca_rows(3))
    made = request([alpaca(path)], tmp_path)
    prepare(made)
    monkeypatch.setattr("tunesmith.data.fingerprint.code_digest", lambda: "other")
    assert not prepare(made).from_cache


def test_a_damaged_entry_is_built_again(tmp_path):
    path = write_jsonl(tmp_path / "a.jsonl", alpaca_rows(30))
    made = request([alpaca(path)], tmp_path)
    first = prepare(made)
    content = first.train.fingerprint
    files = [path for path in (tmp_path / "cache").rglob("*") if path.suffix not in (".lock", "")]
    assert {path.name for path in files} >= {"samples.arrow", "rows.npy", "train.npy", "set.json"}
    for path in files:
        whole = path.read_bytes()
        middle = len(whole) // 2
        flipped = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
        for damage in (b"", whole[:-1], flipped):
            path.write_bytes(damage)
            again = prepare(made)
            assert again.train.fingerprint == content, path
            # `set.json` is read only while the prepared folder is made.
            assert again.from_cache == (path.name == "set.json"), path
            assert path.name == "set.json" or path.read_bytes() == whole, path


def test_the_content_has_the_same_name_wherever_it_lies(tmp_path):
    rows = alpaca_rows(30)
    one = prepare(request([alpaca(write_jsonl(tmp_path / "a.jsonl", rows))], tmp_path))
    two = prepare(request([alpaca(write_jsonl(tmp_path / "b.jsonl", rows))], tmp_path))
    other = prepare(request([alpaca(write_jsonl(tmp_path / "b.jsonl", rows[::-1]))], tmp_path))
    assert one.fingerprint != two.fingerprint
    assert one.train.fingerprint == two.train.fingerprint
    assert one.train.fingerprint != other.train.fingerprint


def test_a_file_that_changes_while_it_is_read(tmp_path):
    path = write_jsonl(tmp_path / "a.jsonl", alpaca_rows(600))

    def write_more(what, done, total):
        if done:
            with path.open("a") as file:
                file.write("\n")

    with pytest.raises(DataError, match="was written to while it was read"):
        prepare(request([alpaca(path)], tmp_path), write_more)
    assert prepare(request([alpaca(path)], tmp_path)).from_cache is False


_PROCESSES = multiprocessing.get_context("spawn")


def weigh_slowly(sample: TokenSample) -> dict[str, float]:
    time.sleep(0.002)
    return weigh(sample)


def prepare_slowly(path, home, answers):
    prepared = prepare(request([alpaca(path)], home, weigh=weigh_slowly))
    answers.put((prepared.from_cache, prepared.train.fingerprint))


def test_two_processes_prepare_once_and_a_killed_one_leaves_nothing(tmp_path):
    path = write_jsonl(tmp_path / "a.jsonl", alpaca_rows(800))
    request([alpaca(path)], tmp_path)  # makes the tokenizer
    answers = _PROCESSES.Queue()
    arguments = (path, tmp_path, answers)
    killed = _PROCESSES.Process(target=prepare_slowly, args=arguments)
    killed.start()
    deadline = time.monotonic() + 60
    while not list((tmp_path / "cache").glob("sets/*.unfinished/*/samples.arrow")):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    time.sleep(0.2)
    os.kill(killed.pid, signal.SIGKILL)
    killed.join(30)
    assert not list((tmp_path / "cache").glob("*/prepared.json"))
    both = [_PROCESSES.Process(target=prepare_slowly, args=arguments) for _ in range(2)]
    for process in both:
        process.start()
    found = [answers.get(timeout=60) for _ in both]
    for process in both:
        process.join(30)
    assert sorted(from_cache for from_cache, _ in found) == [False, True]
    assert len({fingerprint for _, fingerprint in found}) == 1
    assert not list((tmp_path / "cache").rglob("*.unfinished"))


# --- conservation ---------------------------------------------------------------------------------

ROWS = st.lists(
    st.tuples(st.integers(0, 5), st.sampled_from([0, 1, 30, 120]), st.booleans()),
    min_size=1,
    max_size=25,
)


@settings(deadline=None, max_examples=25)  # each example is a whole preparation
@given(
    rows=ROWS,
    policy=st.sampled_from(["drop", "truncate", "split"]),
    drop_copies=st.booleans(),
    size=st.sampled_from([0.0, 0.3, 2]),
    shortest=st.sampled_from([2, 40]),
)
def test_every_token_is_trained_masked_held_out_or_dropped(
    tmp_path_factory, rows, policy, drop_copies, size, shortest
):
    home = tmp_path_factory.mktemp("home")
    turns = [
        {
            "messages": [
                {"role": "user", "content": f"{number}"},
                {"role": "assistant" if answered else "user", "content": "x" * length},
            ]
        }
        for number, length, answered in rows
    ]
    entry = DatasetEntry(path=str(write_jsonl(home / "a.jsonl", turns)))
    data = {"exact_deduplication": drop_copies, "val_set_size": size}
    packing = {"sequence_len": 100, "excess_length": policy, "min_sample_len": shortest}
    try:
        prepared = prepare(request([entry], home, data=data, packing=packing))
    except DataError as error:
        told = error.message
    else:
        told = ""
    if told:
        assert "nothing is left" in told or "holds out all" in told
        return
    (account,) = prepared.ledger.accounts
    train, held = prepared.train, prepared.held_out
    n_held = int(held.lengths.sum()) if held is not None else 0
    assert account.rows_in == len(rows)
    assert account.tokens_trained == train.totals["tokens"].sum()
    assert account.tokens_trained + account.tokens_masked == train.lengths.sum()
    assert account.tokens_held_out == n_held
    dropped = sum(account.tokens_dropped.values())
    assert account.tokens_in == train.lengths.sum() + n_held + dropped
    if drop_copies and policy == "drop":
        assert max(Counter(texts(train)).values()) == 1


# --- the folder of reference data -----------------------------------------------------------------

FORMS = {
    "alpaca": {"type": "alpaca"},
    "mixed": {"type": "alpaca"},
    "any": {"type": "alpaca"},
    "messages": {"type": "chat_template"},
    "messages+tools": {"type": "chat_template"},
    "sharegpt": {
        "type": "chat_template",
        "field_messages": "conversations",
        "message_property_mappings": {"role": "from", "content": "value"},
    },
}

READ_ALL_THE_SAME = {
    # Refused or read whole: the table leaves the choice.
    "bytes_cr_only.jsonl": 6,
    "file_gzip_under_jsonl_name.jsonl": 6,
    # axolotl reads turns that are JSON in a text, and so do we.
    "chat_messages_as_string.jsonl": 5,
    # Refused or warned about: the table leaves the choice.
    "tool_result_without_call.jsonl": 4,
}

NOTED_ELSEWHERE = {
    "json_big_int.jsonl",  # the column is not read
    "json_array_under_jsonl_name.jsonl",  # read as the array that it is
    "row_duplicates.jsonl",  # noted when all rows are known
    "row_huge_2mb.jsonl",  # the length rule's business
    "chat_1000_turns.jsonl",  # the same
}


def read_all(path, keys):
    """The records of a file, what was odd, and what was wrong: (row, words) each."""
    entry = DatasetEntry(path=str(path), **keys)
    options, read = FormatOptions.of(entry, DataSection()), load_format(entry)
    records, odd, wrong = [], [], []
    try:
        for source, row in open_rows(entry, 0):
            try:
                if isinstance(row, RowError):
                    raise row
                records.append(read(row, options))
            except RowError as error:
                wrong.append((source.row, str(error) if error.fix else "without a fix"))
            else:
                odd += [(source.row, lint.code) for lint in lint_record(records[-1])]
    except DataError as error:
        wrong.append((0, error.message if error.hint else "without a fix"))
    assert all("without a fix" not in told and "\n" not in told for _, told in wrong), path
    return records, odd, wrong


def test_every_broken_file_is_handled_as_its_table_says(reference):
    folder = reference / "data" / "dirty"
    n_files = 0
    for line in (folder / "manifest.jsonl").read_text().splitlines():
        case = json.loads(line)
        if case["form"] not in FORMS:
            continue  # preference, stepwise and multimodal rows: not read yet
        n_files += 1
        name = case["file"]
        records, odd, wrong = read_all(folder / name, FORMS[case["form"]])
        if name in READ_ALL_THE_SAME:
            assert (len(records), wrong) == (READ_ALL_THE_SAME[name], []), name
        elif case["expect"] == "accept":
            assert (len(records), wrong) == (case["good_rows"], []), name
        elif case["expect"] == "error":
            assert wrong, name
            if wrong[0][0]:
                assert len(records) == case["good_rows"], name
                _check_place(case, wrong)
        elif name not in NOTED_ELSEWHERE:
            assert odd or wrong, name
            if case["where"].startswith("line "):
                assert int(case["where"].split()[1]) in [row for row, _ in [*odd, *wrong]], name
    assert n_files == 91


def _check_place(case, wrong):
    name, where = case["file"], case["where"]
    if name == "csv_no_header.csv":
        return  # its first line is taken for the header: every row after it is wrong
    if where.startswith("line "):
        assert wrong[0][0] == int(where.split()[1]), name
    unparsed = any(words in wrong[0][1] for words in ("not UTF-8", "control", "nested"))
    if case["field"] and wrong[0][0] and not unparsed:
        assert case["field"] in wrong[0][1], name


def test_the_same_twenty_rows_from_every_container(reference):
    folder = reference / "data" / "formats"
    expected = {
        stem: [row for _, row in open_rows(DatasetEntry(path=str(folder / f"{stem}.jsonl")), 0)]
        for stem in ("alpaca20", "chat20")
    }
    n_files = 0
    for path in sorted(folder.iterdir()):
        if path.name == "alpaca20.txt":
            continue  # one line a row, without the answers
        rows = [row for _, row in open_rows(DatasetEntry(path=str(path)), 0)]
        stem = path.name.split(".")[0]
        assert rows == expected["chat20" if stem == "chat20" else "alpaca20"], path.name
        assert len(rows) == 20
        n_files += 1
    assert n_files == 18


GOLDENS = [
    "alpaca-bpe4k_chatml",
    "alpaca-zh-bpe4k_llama3",
    "alpaca-edge-bpe4k_chatml",
    "alpaca-train_on_inputs",
    "completion-bpe4k_gemma",
    "completion-field-128",
    "input_output-bpe4k_llama3",
    "input_output-train_on_inputs",
    "long-drop-256",
    "long-truncate-64",
    "long-user-drop-128",
    "min_sample_len-120",
    "user-defaults",
    "user-no-input",
    "user-train_on_inputs",
    "split-slice",
    "dedup",
]


@pytest.fixture(scope="module")
def goldens(reference):
    lines = (reference / "goldens" / "render.jsonl").read_text(encoding="utf-8").splitlines()
    return {(record := json.loads(line))["id"].removeprefix("render/"): record for line in lines}


def _golden_request(record, reference, home):
    """What axolotl was given, as a request of ours."""
    config = record["config"]
    tokenizer = reference / "data" / config["base_model"]
    (entry,), (numbers,) = config["datasets"], record["lines"]["datasets"]
    folder = "goldens" if entry["path"].startswith("derived") else "data"
    lines = (reference / folder / entry["path"]).read_text(encoding="utf-8").split("\n")
    path = home / "rows.jsonl"
    path.write_text("".join(lines[number] + "\n" for number in numbers), encoding="utf-8")
    eos_text = json.loads((tokenizer / "tokenizer_config.json").read_text())["eos_token"]
    added = json.loads((tokenizer / "tokenizer.json").read_text())["added_tokens"]
    toy = dataclasses.replace(
        toys.settings(tokenizer, sequence_len=config["sequence_len"]),
        eos_id=next(token["id"] for token in added if token["content"] == eos_text),
        eos_text=eos_text,
    )
    data = {
        "train_on_inputs": config.get("train_on_inputs", False),
        "exact_deduplication": config.get("dataset_exact_deduplication", False),
    }
    packing = {
        "sequence_len": config["sequence_len"],
        "excess_length": config.get("excess_length_strategy", "drop"),
        "min_sample_len": config.get("min_sample_len", 2),
    }
    entries = [DatasetEntry(**{**entry, "path": str(path)})]
    return request(entries, home, data=data, packing=packing, settings=(toy,))


@pytest.mark.parametrize("name", GOLDENS)
def test_tokens_and_masks_are_those_of_axolotl(name, goldens, reference, tmp_path):
    record = goldens[name]
    train = prepare(_golden_request(record, reference, tmp_path)).train
    found = [(train[n].input_ids.tolist(), train[n].runs) for n in range(len(train))]
    expected = []
    for row in record["out"]:
        # Nothing predicts the first token, which axolotl marks as trained nevertheless.
        runs = tuple((max(start, 1), end, 1.0) for start, end in row["train"] if end > 1)
        if runs:
            expected.append((row["input_ids"], runs))
    assert expected
    assert found == expected
