import csv
import json
import logging
import sys

import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.data.toys import write_jsonl
from tunesmith.config.data import DatasetEntry
from tunesmith.data import sources
from tunesmith.data.records import RowError
from tunesmith.data.sources import given_rows, locate, note_of, open_rows
from tunesmith.data.splits import parse_split
from tunesmith.errors import DataError

ROWS = [{"q": f"q{number}", "a": f'line {number}\nnext, "x"'} for number in range(20)]


def read(path, **keys):
    return [row for _, row in open_rows(DatasetEntry(path=str(path), **keys), 0)]


def places(path, **keys):
    return [str(source) for source, _ in open_rows(DatasetEntry(path=str(path), **keys), 3)]


def write_csv(path, rows=ROWS, delimiter=","):
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0], delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)
    return path


def write_arrow_stream(path, rows=ROWS):
    table = pa.Table.from_pylist(rows)
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table, max_chunksize=3)
    return path


def test_the_same_rows_from_every_kind_of_file(tmp_path):
    table = pa.Table.from_pylist(ROWS)
    (tmp_path / "rows.json").write_text(json.dumps(ROWS))
    write_jsonl(tmp_path / "rows.jsonl", ROWS)
    write_csv(tmp_path / "rows.csv")
    write_csv(tmp_path / "rows.tsv", delimiter="\t")
    pq.write_table(table, tmp_path / "rows.parquet", row_group_size=3)
    write_arrow_stream(tmp_path / "rows.arrow")
    pyarrow.feather.write_feather(table, tmp_path / "rows.feather", compression="lz4", chunksize=3)
    files = sorted(tmp_path.iterdir())
    assert len(files) == 7
    for path in files:
        assert read(path) == ROWS, path.name


def test_rows_are_numbered_as_a_person_would_count(tmp_path):
    jsonl = tmp_path / "rows.jsonl"
    jsonl.write_text('\n{"a": 1}\n\n{"a": 2}\n')
    assert places(jsonl) == [f"{jsonl}:2", f"{jsonl}:4"]
    # A csv row has the line at which it starts; each of these takes two.
    assert places(write_csv(tmp_path / "rows.csv"))[:3] == [
        f"{tmp_path}/rows.csv:{line}" for line in (2, 4, 6)
    ]
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "rows.parquet")
    assert places(tmp_path / "rows.parquet")[-1] == f"{tmp_path}/rows.parquet:20"
    source, _ = next(open_rows(DatasetEntry(path=str(jsonl)), 3))
    assert source.dataset == 3


def test_text_files(tmp_path):
    path = tmp_path / "rows.txt"
    path.write_bytes(b" one\r\n\n two \nb\xff")
    rows = read(path)
    assert rows[:2] == [{"text": " one"}, {"text": " two "}]
    assert "not UTF-8" in str(rows[2])


def test_a_csv_cell_too_many_and_an_unclosed_quote(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text('a,b\n1,2\n1,2,3\n"x\ny",\n"1\n')
    rows = list(open_rows(DatasetEntry(path=str(path)), 0))
    assert rows[0][1] == {"a": "1", "b": "2"}
    assert rows[2][1] == {"a": "x\ny", "b": ""}
    assert [(source.row, str(row)) for source, row in rows if isinstance(row, RowError)] == [
        (3, "has 3 cells, the header has 2"),
        (6, "is no csv: unexpected end of data"),
    ]


def test_a_csv_header_that_names_a_column_twice(tmp_path):
    (tmp_path / "rows.csv").write_text("a,a\n1,2\n")
    with pytest.raises(DataError, match="names `a` twice"):
        read(tmp_path / "rows.csv")


def test_large_csv_cells(tmp_path):
    rows = [{"a": "x" * 300_000}]
    assert read(write_csv(tmp_path / "rows.csv", rows)) == rows


@pytest.mark.parametrize("name", ["rows.parquet", "rows.arrow", "rows.csv", "rows.txt"])
def test_an_empty_file(tmp_path, name):
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(DataError):
        read(tmp_path / name)


@pytest.mark.parametrize("name", ["rows.parquet", "rows.arrow"])
def test_a_file_that_is_cut_off_or_something_else(tmp_path, name):
    path = tmp_path / name
    whole = tmp_path / "whole"
    if name == "rows.parquet":
        pq.write_table(pa.Table.from_pylist(ROWS * 100), whole)
    else:
        write_arrow_stream(whole, ROWS * 100)
    for data in (whole.read_bytes()[:-50], json.dumps(ROWS).encode(), b"PAR1"):
        path.write_bytes(data)
        with pytest.raises(DataError, match="is no whole") as error:
            read(path)
        assert "\n" not in error.value.message


def test_the_kind_can_be_said(tmp_path):
    path = write_jsonl(tmp_path / "rows.data", ROWS)
    with pytest.raises(DataError, match="does not say what kind") as error:
        read(path)
    assert "ds_type" in error.value.hint
    assert read(path, ds_type="json") == ROWS


def test_folders_globs_and_data_files(tmp_path):
    folder = tmp_path / "many"
    (folder / "deep").mkdir(parents=True)
    write_jsonl(folder / "b.jsonl", ROWS[5:10])
    write_jsonl(folder / "a.jsonl", ROWS[:5])
    write_jsonl(folder / "deep" / "c.jsonl", ROWS[10:])
    (folder / "README.md").write_text("about")
    (folder / ".hidden.jsonl").write_text("broken")
    (folder / "dataset_infos.json").write_text("{}")
    assert read(folder) == ROWS
    assert read(folder / "?.jsonl") == ROWS[:10]
    assert read(folder / "**" / "*.jsonl") == ROWS
    assert read(folder, data_files="b.jsonl") == ROWS[5:10]
    assert read(folder, data_files=["b.jsonl", "deep/*"]) == ROWS[5:]
    assert read("json", data_files=str(folder / "a.jsonl")) == ROWS[:5]
    with pytest.raises(DataError, match=r"no file .*d\.jsonl"):
        read(folder, data_files="d.jsonl")
    with pytest.raises(DataError, match="needs `data_files`"):
        read("json")
    write_csv(folder / "d.csv")
    with pytest.raises(DataError, match="several kinds"):
        read(folder)
    assert read(folder, ds_type="csv") == ROWS


def test_splits_by_the_names_of_files(tmp_path):
    write_jsonl(tmp_path / "train-00000-of-00001.jsonl", ROWS[:15])
    write_jsonl(tmp_path / "validation.jsonl", ROWS[15:])
    assert read(tmp_path) == ROWS[:15]
    assert read(tmp_path, split="validation") == ROWS[15:]
    assert read(tmp_path, split="validation+train[:1]") == [*ROWS[15:], ROWS[0]]
    with pytest.raises(DataError, match="no split `test`") as error:
        read(tmp_path, split="test")
    assert "`train`, `validation`" in error.value.hint
    # A file that is named is wanted, whatever its name.
    assert read(tmp_path / "validation.jsonl") == ROWS[15:]
    assert read(tmp_path / "validation.jsonl", split="validation[1:2]") == ROWS[16:17]


def test_files_of_a_folder_that_are_not_read_are_named(tmp_path):
    folder = tmp_path / "d"
    folder.mkdir()
    write_jsonl(folder / "train-0.jsonl", ROWS[:3])
    assert note_of(locate(DatasetEntry(path=str(folder))), "d") is None
    for name in ("part_test", "extra", "chat_dev_notes"):
        write_jsonl(folder / f"{name}.jsonl", ROWS[3:])
    note = note_of(locate(DatasetEntry(path=str(folder))), "d")
    assert str(note.message) == (
        "3 of 4 files are not read: chat_dev_notes.jsonl (validation), extra.jsonl (no split), "
        "part_test.jsonl (test)"
    )
    both = locate(DatasetEntry(path=str(folder), split="train+test"))
    assert note_of(both, "d").message.startswith("2 of 4 files")
    named = DatasetEntry(path=str(folder), data_files="extra.jsonl")
    assert note_of(locate(named), "d") is None
    (folder / "part_test.jsonl").unlink()
    for number in range(9):
        write_jsonl(folder / f"more-{number}.jsonl", ROWS)
    with pytest.raises(DataError, match="has no split `test`") as error:
        read(folder, split="test")
    assert "; extra.jsonl, more-0.jsonl, " in error.value.hint
    assert "more-3.jsonl and 5 more speak of none: `data_files`" in error.value.hint


def test_saved_data_sets(tmp_path):
    from datasets import Dataset, DatasetDict

    one = Dataset.from_list(ROWS)
    one.save_to_disk(tmp_path / "one")
    DatasetDict({"train": one, "test": one.select(range(3))}).save_to_disk(tmp_path / "two")
    assert read(tmp_path / "one") == ROWS
    assert read(tmp_path / "one", split="train[-2:]") == ROWS[-2:]
    assert read(tmp_path / "two", split="test") == ROWS[:3]
    assert locate(DatasetEntry(path=str(tmp_path / "two"), split="test")).files == (
        tmp_path / "two" / "test" / "data-00000-of-00001.arrow",
    )
    assert places(tmp_path / "one")[1] == f"{tmp_path / 'one'}:2"
    with pytest.raises(DataError, match="no split `dev`"):
        read(tmp_path / "two", split="dev")
    (tmp_path / "one" / "data-00000-of-00001.arrow").unlink()
    with pytest.raises(DataError, match="cannot be loaded"):
        read(tmp_path / "one")


def test_a_missing_file_names_the_nearest(tmp_path):
    write_jsonl(tmp_path / "rows.jsonl", ROWS)
    with pytest.raises(DataError, match="there is no file or folder") as error:
        read(tmp_path / "row.jsonl")
    assert error.value.hint == f"did you mean {tmp_path}/rows.jsonl?"
    with pytest.raises(DataError, match="there is no file or folder") as error:
        read("nowhere/rows.jsonl")
    assert "no folder nowhere" in error.value.hint


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("rows.jsnl", "did you mean rows.jsonl?"),
        ("my-rwos", "did you mean my-rows? A data set of the hub is named by its owner too"),
        ("data/part.prquet", "did you mean data/part.parquet?"),
        ("elsewhere/part.csvv", "there is no folder elsewhere either"),
        ("other.jsonl.zst", "paths start from the folder"),
        ("other.jsnol", "paths start from the folder"),
    ],
)
def test_the_hub_is_not_asked_for_what_was_meant_as_a_file(tmp_path, monkeypatch, name, hint):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sources, "open_hub", lambda *_: pytest.fail("the hub was asked"))
    write_jsonl(tmp_path / "rows.jsonl", ROWS)
    write_jsonl(tmp_path / "Rows.jsonl", ROWS)
    (tmp_path / "my-rows").mkdir()
    (tmp_path / "data").mkdir()
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "data" / "part.parquet")
    with pytest.raises(DataError, match="there is no file or folder") as error:
        read(name)
    assert error.value.hint.startswith(hint)


@pytest.mark.parametrize("name", ["teknium/OpenHermes-2.5", "someone/words.en", "a/b.v2", "squad"])
def test_the_hub_is_asked_for_its_names(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    asked = []
    monkeypatch.setattr(sources, "open_hub", lambda entry, _: asked.append(entry.path))
    write_jsonl(tmp_path / "rows.jsonl", ROWS)
    locate(DatasetEntry(path=name))
    assert asked == [name]


@pytest.mark.parametrize("name", ["someone/no-such-data", "no-such-data"])
def test_a_hub_id_that_cannot_be_reached(name):
    # The tests run with HF_HUB_OFFLINE: the library itself says that it cannot look.
    with pytest.raises(DataError, match=f"{name} is neither a file or folder here nor") as error:
        read(name)
    assert "network" in error.value.hint


def test_tries_of_the_hub_that_fail_are_not_shown_one_by_one(monkeypatch, caplog):
    import datasets

    def unreachable(*_, **__):
        logging.getLogger("huggingface_hub.utils._http").warning("Retrying in 1s [Retry 1/5].")
        raise ConnectionError("Couldn't reach it")

    monkeypatch.setattr(datasets, "load_dataset", unreachable)
    monkeypatch.setattr(logging.getLogger("huggingface_hub"), "propagate", True)
    with pytest.raises(DataError, match="Couldn't reach it"):
        read("someone/no-such-data")
    assert caplog.messages == []
    logging.getLogger("huggingface_hub.utils._http").warning("heard again")
    assert caplog.messages == ["heard again"]


def test_a_saved_data_set_of_one_split_is_no_other_one(tmp_path):
    from datasets import Dataset

    Dataset.from_list(ROWS).save_to_disk(tmp_path / "plain")
    Dataset.from_list(ROWS, split="test").save_to_disk(tmp_path / "held")
    assert read(tmp_path / "plain") == read(tmp_path / "held") == ROWS
    assert read(tmp_path / "held", split="test[:2]") == ROWS[:2]
    Dataset.from_list(ROWS).save_to_disk(tmp_path / "my_dev")
    assert read(tmp_path / "my_dev", split="validation[:2]") == ROWS[:2]
    for name, split in (("plain", "test"), ("held", "validation")):
        with pytest.raises(DataError, match=f"has no split `{split}`"):
            read(tmp_path / name, split=split)


def test_a_nul_is_refused_wherever_it_comes_from(tmp_path):
    from datasets import Dataset

    good = {"text": "good", "tags": ["a"]}
    for field, bad in (
        ("text", {**good, "text": "a\0b"}),
        ("tags[1]", {**good, "tags": ["a", "\0"]}),
    ):
        table = pa.Table.from_pylist([good, bad])
        folder = tmp_path / field
        folder.mkdir()
        write_jsonl(folder / "rows.jsonl", [good, bad])
        (folder / "rows.json").write_text(json.dumps([good, bad]))
        pq.write_table(table, folder / "rows.parquet")
        write_arrow_stream(folder / "rows.arrow", [good, bad])
        Dataset.from_list([good, bad]).save_to_disk(folder / "saved")
        for path in sorted(folder.iterdir()):
            rows = read(path)
            assert rows[0] == good, path
            assert str(rows[1]) == f"`{field}`: holds a NUL character (U+0000)", path
        given = open_rows(DatasetEntry(path="data"), 0, given_rows([bad]))
        assert [str(row) for _, row in given] == [f"`{field}`: holds a NUL character (U+0000)"]
    (tmp_path / "rows.csv").write_bytes(b"text,tags\ngood,a\na\0b,a\n")
    (tmp_path / "rows.txt").write_bytes(b"good\na\0b\n")
    for name in ("rows.csv", "rows.txt"):
        assert str(read(tmp_path / name)[1]) == "`text`: holds a NUL character (U+0000)", name


def test_rows_in_memory():
    location = given_rows(ROWS)
    entry = DatasetEntry(path="data")
    assert [row for _, row in open_rows(entry, 0, location)] == ROWS
    assert str(next(open_rows(entry, 0, location))[0]) == "data:1"
    assert location.saved is not None
    assert location.saved.digest() != given_rows(ROWS[:-1]).saved.digest()
    with pytest.raises(DataError, match="row 1 of the given data"):
        given_rows([{"a": {1, 2}}]).saved.digest()


def test_local_files_do_not_import_heavy_libraries(tmp_path):
    import subprocess

    path = write_jsonl(tmp_path / "rows.jsonl", ROWS)
    code = (
        "import sys; from tunesmith.config.data import DatasetEntry;"
        "from tunesmith.data.sources import open_rows;"
        f"rows = list(open_rows(DatasetEntry(path={str(path)!r}), 0));"
        "print(len(rows), {'torch', 'transformers', 'datasets'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["20", "set()"]


SPLITS = st.one_of(
    st.just("train"),
    st.builds(
        "train[{}:{}]".format,
        st.one_of(st.just(""), st.integers(-30, 30)),
        st.one_of(st.just(""), st.integers(-30, 30)),
    ),
    st.builds(
        "train[{}%:{}%]".format,
        st.integers(-100, 100),
        st.integers(-100, 100),
    ),
)


@settings(deadline=None)  # the machine may be busy
@given(text=st.lists(SPLITS, min_size=1, max_size=3).map("+".join), n_rows=st.integers(1, 23))
def test_slices_are_those_of_the_datasets_library(text, n_rows):
    from datasets import Dataset, SplitDict, SplitInfo
    from datasets.arrow_reader import ReadInstruction

    del Dataset
    info = SplitDict()
    info.add(SplitInfo("train", num_examples=n_rows))
    rows = list(range(n_rows))
    try:
        pieces = ReadInstruction.from_spec(text).to_absolute({"train": n_rows})
    except ValueError:
        return
    expected = [row for piece in pieces for row in rows[piece.from_ : piece.to]]
    found = [row for part in parse_split(text) for row in part.take(lambda: iter(rows))]
    assert found == expected


@pytest.mark.parametrize("text", ["train[:10", "train[a:b]", "train[:200%]", "+", "train[1]"])
def test_a_split_that_cannot_be_read(text):
    with pytest.raises(DataError, match="split"):
        parse_split(text)
