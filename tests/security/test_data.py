"""Data of strangers: nothing of theirs runs, and nothing leads out of their folder."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from datasets import Dataset, DatasetDict, Features, Value

from tests import smallrun
from tests.security import canary
from tests.security.opens import Opens
from tests.unit.data.chats import chat, make_tokenizer, settings
from tunesmith.config.data import DatasetEntry
from tunesmith.data.inside import why_outside
from tunesmith.data.records import RowError, Source
from tunesmith.data.render import Renderer
from tunesmith.data.sources import open_rows
from tunesmith.errors import DataError, ExitCode

ROWS = [{"text": "one"}, {"text": "two"}]
TEXT = Value("string")


def read(path: Path, **keys: Any) -> list[dict[str, Any]]:
    return [dict(row) for _, row in open_rows(DatasetEntry(path=str(path), **keys), 0)]


def refused(path: Path, **keys: Any) -> DataError:
    with pytest.raises(DataError) as caught:
        read(path, **keys)
    assert caught.value.exit_code == ExitCode.UNSAFE
    return caught.value


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "data"
    made.mkdir()
    smallrun.write_rows(made / "rows.jsonl", ROWS)
    return made


def test_pickles_and_code_beside_data_are_never_opened(
    folder: Path, fired: Path, opens: Opens
) -> None:
    laid = canary.lay(folder, fired)
    for name in ("data.py", "rows.py", "dataset.py", "__init__.py"):
        (folder / name).write_text(canary.code(fired))
        laid.append(folder / name)
    with opens.heard() as paths:
        assert read(folder) == ROWS
    assert not fired.exists()
    assert {str(path) for path in laid} & paths == set()
    assert not (folder.parent / "escaped.txt").exists()


@pytest.mark.parametrize(
    "name",
    ["rows.pkl", "rows.pickle", "rows.pt", "rows.bin", "rows.npy", "rows.npz", "rows.pkl.gz"],
)
def test_a_pickle_as_data_is_refused_with_a_command(
    name: str, tmp_path: Path, fired: Path, opens: Opens
) -> None:
    path = tmp_path / name
    path.write_bytes(canary.pickled(fired))
    with opens.heard() as paths:
        error = refused(path)
    assert str(path) not in paths
    assert name in error.message
    assert "python -c" in error.hint
    assert not fired.exists()


def test_the_command_converts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pandas

    pandas.DataFrame(ROWS).to_pickle(tmp_path / "rows.pkl")
    words = shlex.split(refused(tmp_path / "rows.pkl").hint.split("no secrets): ")[1])
    monkeypatch.setattr("sys.argv", ["-c", *words[3:]])
    exec(words[2], {})
    assert read(tmp_path / "rows.jsonl") == ROWS


@pytest.mark.parametrize("name", ["archive.zip", "shard.tar"])
@pytest.mark.parametrize("kind", ["json", "text", "csv", "parquet", "arrow"])
def test_an_archive_is_not_unpacked(name: str, kind: str, tmp_path: Path, fired: Path) -> None:
    canary.lay(tmp_path / "laid", fired)
    path = tmp_path / "laid" / name
    with pytest.raises(DataError, match="not unpacked") as caught:
        read(path)
    assert caught.value.exit_code == ExitCode.WRONG_INPUT
    before = smallrun.tree(tmp_path)
    entry = DatasetEntry(path=str(path), ds_type=kind)
    with contextlib.suppress(DataError):  # or rows that are broken, or the archive's bytes as text
        list(open_rows(entry, 0))
    assert not fired.exists()
    assert smallrun.tree(tmp_path) == before


def test_an_arrow_column_that_is_a_pickle_is_not_unpickled(tmp_path: Path, fired: Path) -> None:
    about = {
        b"ARROW:extension:name": b"arrow.py_extension_type",
        b"ARROW:extension:metadata": canary.pickled(fired),
    }
    schema = pa.schema([pa.field("text", pa.string(), metadata=about)])
    path = tmp_path / "rows.arrow"
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, schema) as writer:
        writer.write_table(pa.table([["one", "two"]], schema=schema))
    assert read(path) == ROWS
    assert not fired.exists()


# --- links ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["{tmp}/secret.jsonl", "../secret.jsonl", "../data_evil/s.jsonl"])
def test_a_link_in_a_folder_does_not_lead_out(place: str, folder: Path, opens: Opens) -> None:
    secret = folder.parent / "secret.jsonl"
    (folder.parent / "data_evil").mkdir()
    smallrun.write_rows(secret, ROWS)
    smallrun.write_rows(folder.parent / "data_evil" / "s.jsonl", ROWS)
    (folder / "more.jsonl").symlink_to(place.format(tmp=folder.parent))
    with opens.heard() as paths:
        assert "link that leads out" in refused(folder).message
    assert not {str(secret), str(folder / "more.jsonl")} & paths


def test_a_link_that_the_config_names_is_the_user_s_own(folder: Path) -> None:
    (folder.parent / "here.jsonl").symlink_to(folder / "rows.jsonl")
    assert read(folder.parent / "here.jsonl") == ROWS


def test_pipes_and_devices_are_no_files(folder: Path) -> None:
    os.mkfifo(folder / "pipe.jsonl")
    assert read(folder) == ROWS
    for path in (folder / "pipe.jsonl", Path("/dev/zero"), Path("/dev/stdin")):
        with pytest.raises(DataError) as caught:
            read(path)
        assert caught.value.exit_code == ExitCode.WRONG_INPUT


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("a/../../b", "leads out"),
        ("..\\b", "leads out"),
        ("/etc/passwd", "absolute"),
        ("C:\\b", "absolute"),
        ("\\\\host\\share", "absolute"),
        ("a\0b", "NUL"),
        ("", "no name"),
        (None, "no name"),
        (7, "no name"),
        ("rows.jsonl", None),
        ("not-there.jsonl", None),
        ("a/./rows.jsonl", None),
        ("..rows", None),
    ],
)
def test_what_is_inside(name: object, said: str | None, folder: Path) -> None:
    reason = why_outside(folder, name)
    assert (reason is None) is (said is None)
    assert said is None or said in str(reason)


# --- saved data sets ------------------------------------------------------------------------------


def _change(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def _file(name: str) -> Callable[[Path], None]:
    return lambda saved: _change(saved / "state.json", _data_files=[{"filename": name}])


def _linked(saved: Path) -> None:
    (file,) = saved.glob("*.arrow")
    file.rename(saved.parent / "elsewhere.arrow")
    file.symlink_to(saved.parent / "elsewhere.arrow")


@pytest.mark.parametrize(
    "spoil",
    [_file("../secret.arrow"), _file("/etc/passwd"), _file("a\0"), _file("/dev/zero"), _linked],
)
def test_a_saved_data_set_keeps_to_its_folder(
    spoil: Callable[[Path], None], tmp_path: Path, opens: Opens
) -> None:
    saved = tmp_path / "saved"
    Dataset.from_list(ROWS).save_to_disk(saved)
    shutil.copy(next(saved.glob("*.arrow")), tmp_path / "secret.arrow")
    spoil(saved)
    with opens.heard() as paths:
        refused(saved)
    assert not [path for path in paths if path.endswith((".arrow", "passwd", "zero"))]


def test_a_saved_data_set_of_splits_keeps_to_its_folder(tmp_path: Path) -> None:
    saved = tmp_path / "saved"
    DatasetDict(train=Dataset.from_list(ROWS)).save_to_disk(saved)
    Dataset.from_list(ROWS).save_to_disk(tmp_path / "other")
    assert read(saved) == ROWS
    _change(saved / "dataset_dict.json", splits=["train", "../other"])
    refused(saved)


def test_a_path_in_a_row_is_not_opened(tmp_path: Path, opens: Opens) -> None:
    secret = tmp_path / "secret.png"
    secret.write_bytes(b"secret")
    stored = Features({"text": TEXT, "picture": {"bytes": Value("binary"), "path": TEXT}})
    table = pa.table({"text": ["one"], "picture": [{"bytes": None, "path": str(secret)}]})
    Dataset(table.cast(stored.arrow_schema)).save_to_disk(tmp_path / "saved")
    info = tmp_path / "saved" / "dataset_info.json"
    features = json.loads(info.read_text())["features"]
    _change(info, features=features | {"picture": {"_type": "Image"}})
    with opens.heard() as paths:
        (row,) = read(tmp_path / "saved")
    assert row == {"text": "one", "picture": {"bytes": None, "path": str(secret)}}
    assert str(secret) not in paths


# --- templates ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "template",
    [
        "{% include '/etc/passwd' %}",
        "{% import 'secret.jinja' as x %}{{ x }}",
        "{% from '../secret.jinja' import x %}{{ x }}",
        "{% extends 'secret.jinja' %}",
        "{{ self.__init__.__globals__ }}",
        "{{ ''.__class__.__mro__ }}",
        "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
    ],
)
def test_a_template_reaches_no_file(template: str, tmp_path: Path, opens: Opens) -> None:
    (tmp_path / "secret.jinja").write_text("secret")
    folder = make_tokenizer(tmp_path / "tokenizer")
    row = chat(("user", "Hello"), ("assistant", "Hi"))
    with opens.heard() as paths, pytest.raises((DataError, RowError)):
        Renderer(settings(folder, template)).render(row, Source(0, "rows.jsonl", 1))
    assert not [path for path in paths if path.endswith(("passwd", ".jinja"))]
