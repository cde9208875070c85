import bz2
import gzip
import json
import lzma

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunesmith.data import files
from tunesmith.data.files import read_lines
from tunesmith.data.lines import read_json
from tunesmith.data.records import RowError
from tunesmith.errors import DataError

GOOD = b'{"a": 1}\n'


def write(tmp_path, data, name="rows.jsonl"):
    path = tmp_path / name
    path.write_bytes(data)
    return path


def broken(path):
    """The only broken row: its line, its words, and what to change."""
    found = [(line, row) for line, row in read_json(path) if isinstance(row, RowError)]
    assert len(found) == 1, found
    return found[0][0], str(found[0][1]), found[0][1].fix


@pytest.mark.parametrize(
    ("line", "says", "fix"),
    [
        (b'{"a": 1', "not complete", "close"),
        (b'{"a": 1,}', "comma before the closing bracket", "remove the comma"),
        (b'{"a": 1},', "a comma stands after the row", "nothing between"),
        (b"{'a': 1}", "single quotes", "double quotes"),
        (b'{"a": NaN}', "`a`: is NaN", "null"),
        (b'{"a": {"b": [1, -Infinity]}}', "`a.b[1]`: is -Infinity", "null"),
        (b'{"a": 1, "a": 2}', "`a`: stands twice", "keep one"),
        (b'{"b": {"a": 1, "a": 2}}', "`b.a`: stands twice", "keep one"),
        (b'{"a": 1} {"a": 2}', "two rows on one line", "break the line"),
        (b'{"a": 1} x', "extra data", "remove"),
        (b'{"a": "x\ty"}', "control character (U+0009)", "\\t"),
        (b'{"a": "x\x00y"}', "control character (U+0000)", "escape"),
        (b'{"a": "x\\u0000y"}', "`a`: holds a NUL", "remove"),
        (b'{"a": ["\\ud83d"]}', "`a[0]`: holds half of a character (U+D83D)", "whole"),
        (b'{"a": "\xff"}', "not UTF-8 (byte 0xFF at offset 16 of the file)", "iconv"),
        (b'{"a": "\xc0\xaf"}', "not UTF-8 (byte 0xC0", "iconv"),
        (b"[1, 2]", "the row is a list", "object"),
        (b'"text"', "the row is a text", "object"),
        (b"null", "the row is null", "object"),
        (b"7", "the row is a number", "object"),
        (b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested too deeply", "flatten"),
        (b'{"a": ' + b"1" * 5000 + b"}", "4300 digits", "correct"),
    ],
)
def test_a_broken_row_is_named_by_its_line_and_the_others_are_read(tmp_path, line, says, fix):
    path = write(tmp_path, GOOD + line + b"\n" + GOOD)
    number, said, advice = broken(path)
    assert number == 2
    assert says in said
    assert fix in advice
    assert [row for _, row in read_json(path) if row == {"a": 1}] == [{"a": 1}] * 2


def test_a_cut_off_last_row_is_told_as_such(tmp_path):
    assert broken(write(tmp_path, GOOD + b'{"a": "hal'))[1] == (
        "is not complete: the file looks cut off"
    )
    assert "cut off" not in broken(write(tmp_path, GOOD + b'{"a": "hal\n'))[1]


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_line_ends(tmp_path, end):
    data = end.join([b'{"a": "x"}', b"", b"  ", b'{"a": "y"}'])
    for tail in (b"", end):
        rows = list(read_json(write(tmp_path, data + tail)))
        assert rows == [(1, {"a": "x"}), (4, {"a": "y"})]


def test_only_line_feeds_end_lines(tmp_path):
    text = "a\u2028b\u2029c\u0085d\x0b\x0c e\u202e\u200d"
    path = write(tmp_path, json.dumps({"a": text}, ensure_ascii=False).encode() + b"\n")
    assert list(read_json(path)) == [(1, {"a": text})]


def test_a_byte_order_mark_is_no_part_of_the_first_row(tmp_path):
    assert list(read_json(write(tmp_path, b"\xef\xbb\xbf" + GOOD))) == [(1, {"a": 1})]
    array = b"\xef\xbb\xbf[" + GOOD + b"]"
    assert list(read_json(write(tmp_path, array))) == [(1, {"a": 1})]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32"])
def test_other_encodings_are_named(tmp_path, encoding):
    with pytest.raises(DataError, match=encoding.upper()) as error:
        list(read_json(write(tmp_path, GOOD.decode().encode(encoding))))
    assert "iconv" in error.value.hint


@pytest.mark.parametrize("data", [b"", b" \n\t\r\n ", b"\xef\xbb\xbf\n", b"[]", b" [ \n ] "])
def test_no_rows(tmp_path, data):
    with pytest.raises(DataError, match="no rows in"):
        list(read_json(write(tmp_path, data)))


@pytest.mark.parametrize("name", ["rows.json", "rows.jsonl"])
def test_an_array_is_read_whatever_its_name_with_the_lines_of_its_rows(tmp_path, name):
    data = b'\n[{"a": 1},\n {\n"a": 2\n} ,{"a": NaN}\n,\n"x" ]\n'
    rows = list(read_json(write(tmp_path, data, name)))
    assert rows[:2] == [(2, {"a": 1}), (3, {"a": 2})]
    assert [(line, str(row)) for line, row in rows[2:]] == [
        (5, "`a`: is NaN, which JSON does not have"),
        (7, "the row is a text, not an object"),
    ]


@pytest.mark.parametrize(
    ("data", "place", "says"),
    [
        (b'[\n{"a": 1},\n{"a": "hal', ":3:", "cut off"),
        (b'[\n{"a": 1}\n{"a": 2}]', ":3:2", "a comma or `]` is missing"),
        (b'[\n{"a": 1}\n', ":3:", "a comma or `]` is missing"),
        (b'[{"a": 1}]\n[]', ":2:", "after the list's end"),
        (b'[\n{"a" 1}]', ":2:6", "no JSON"),
        (b'[\n{"a": "\xff"}]', ":1:", "not UTF-8"),
    ],
)
def test_a_broken_array_is_refused_with_line_and_column(tmp_path, data, place, says):
    path = write(tmp_path, data, "rows.json")
    with pytest.raises(DataError, match=says) as error:
        list(read_json(path))
    assert f"{path}{place}" in error.value.where


def test_an_array_longer_than_what_is_read_at_a_time(tmp_path, monkeypatch):
    rows = [{"text": "ä" * number, "n": number} for number in range(300)]
    path = write(tmp_path, json.dumps(rows, indent=1, ensure_ascii=False).encode(), "rows.json")
    expected = list(read_json(path))
    assert [row for _, row in expected] == rows
    monkeypatch.setattr(files, "CHUNK", 7)
    monkeypatch.setattr("tunesmith.data.lines.CHUNK", 7)
    assert list(read_json(path)) == expected


def test_one_object_over_several_lines_is_no_list_of_rows(tmp_path):
    data = json.dumps({"data": [{"a": 1}]}, indent=1).encode()
    with pytest.raises(DataError, match="one JSON object over several lines") as error:
        list(read_json(write(tmp_path, data, "rows.json")))
    assert "jq" in error.value.hint


def test_a_broken_first_row_is_a_broken_row(tmp_path):
    assert broken(write(tmp_path, b'{"a": 1\n' + GOOD))[0] == 1


def zstd(data):
    return pa.compress(data, codec="zstd", asbytes=True)


@pytest.mark.parametrize(
    ("suffix", "compress"),
    [(".gz", gzip.compress), (".zst", zstd), (".bz2", bz2.compress), (".xz", lzma.compress)],
)
def test_compressed_files(tmp_path, suffix, compress):
    data = b"".join(b'{"a": %d}\n' % number for number in range(5000))
    packed = compress(data)
    expected = [(number + 1, {"a": number}) for number in range(5000)]
    assert list(read_json(write(tmp_path, packed, "rows.jsonl" + suffix))) == expected
    # What is inside decides, not the name.
    assert list(read_json(write(tmp_path, packed, "rows.jsonl"))) == expected
    with pytest.raises(DataError) as error:
        list(read_json(write(tmp_path, packed[: len(packed) // 2], "cut.jsonl" + suffix)))
    assert "again" in error.value.hint
    with pytest.raises(DataError, match=r"is not .* data, as its name says"):
        list(read_json(write(tmp_path, data, "plain.jsonl" + suffix)))


def test_a_missing_file(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        list(read_json(tmp_path / "none.jsonl"))


def test_a_file_without_line_ends_is_refused_before_it_fills_the_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "MAX_LINE", 100)
    monkeypatch.setattr(files, "CHUNK", 30)
    with pytest.raises(DataError, match=r":2 is longer than"):
        list(read_lines(write(tmp_path, GOOD + b"x" * 1000)))


LINES = st.lists(st.binary().map(lambda data: data.replace(b"\n", b"").replace(b"\r", b"")))


@settings(deadline=None)  # the machine may be busy
@given(lines=LINES, chunk=st.integers(1, 9), end=st.sampled_from([b"\n", b"\r\n"]))
def test_lines_and_their_offsets_whatever_is_read_at_a_time(tmp_path_factory, lines, chunk, end):
    data = b"".join(line + end for line in lines)
    if any(data.startswith(mark) for mark in (b"\xff\xfe", b"\xfe\xff", b"\xef\xbb\xbf", b"\0\0")):
        return
    if any(data.startswith(kind.magic) for kind in files.COMPRESSIONS):
        return
    path = tmp_path_factory.mktemp("lines") / "file"
    path.write_bytes(data)
    with pytest.MonkeyPatch.context() as patch:
        # A chunk that holds no line feed at all would be taken for old line ends.
        patch.setattr(files, "CHUNK", max(chunk, len(lines[0]) + 2 if lines else 1))
        found = list(read_lines(path))
    assert [line.data for line in found] == lines
    assert [line.number for line in found] == list(range(1, len(lines) + 1))
    for line in found:
        assert data[line.offset : line.offset + len(line.data)] == line.data
