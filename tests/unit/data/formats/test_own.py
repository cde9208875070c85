"""A module of the user's as a type: what it may be, what it is given, what it may answer."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tunesmith.config.data import DataSection, DatasetEntry
from tunesmith.data.formats.load import load_format
from tunesmith.data.formats.options import FormatOptions
from tunesmith.data.records import (
    Conversation,
    Judged,
    Preference,
    Prompts,
    Record,
    RowError,
    Segments,
    Steps,
    Text,
    Tokens,
)
from tunesmith.errors import ConfigError

OPTIONS = FormatOptions.of(DatasetEntry(path="x"), DataSection())


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The folder of the command, whose modules are forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.startswith("mine"):
            del sys.modules[name]


def written(text: str, name: str = "mine") -> None:
    path = Path(f"{name}.py")
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")


def read(kind: str, row: dict[str, Any]) -> Record:
    return load_format(DatasetEntry(path="x", type=kind))(row, OPTIONS)


def test_the_module_alone_means_read_row_and_a_dotted_name_its_function() -> None:
    written(
        "def read_row(row):\n    return {'text': row['a']}\n"
        "def other(row, m='!'):\n    return {'prompt': row['a'], 'completion': row['b'] + m}\n"
    )
    assert read("mine", {"a": "x"}) == Text("x")
    pieces = read("mine.other", {"a": "x", "b": "y"})
    assert isinstance(pieces, Segments)
    assert [(piece.text, piece.train) for piece in pieces.pieces] == [("x", False), ("y!", True)]
    assert str(Path.cwd()) not in sys.path


def test_a_module_in_a_package() -> None:
    written("", "minepackage/__init__")
    written("def fn(row):\n    return {'text': 'in a package'}\n", "minepackage/inner")
    assert read("minepackage.inner.fn", {}) == Text("in a package")


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        ({"input_ids": [1, 2], "labels": [-100, 2]}, Tokens),
        ({"segments": [{"label": True, "text": "a"}]}, Segments),
        ({"messages": [{"role": "user", "content": "a"}]}, Conversation),
        ({"prompt": "a", "chosen": "b", "rejected": "c"}, Preference),
        (
            {
                "messages": [{"role": "user", "content": "a"}],
                "chosen": "b",
                "rejected": "c",
            },
            Preference,
        ),
        ({"prompt": "a", "completion": "b", "label": True}, Judged),
        ({"prompt": "a", "completions": ["b"], "labels": [True]}, Steps),
        ({"prompt": "a", "answer": "b"}, Prompts),
        ({"text": "a"}, Text),
    ],
)
def test_what_the_columns_of_an_answer_mean(answer: dict[str, Any], kind: type) -> None:
    written(f"def read_row(row):\n    return {answer!r}\n")
    assert isinstance(read("mine", {}), kind)


def test_a_record_is_taken_as_it_is() -> None:
    written("from tunesmith.data.records import Text\ndef read_row(row):\n    return Text('a')\n")
    assert read("mine", {}) == Text("a")


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("return None", "answered with null, want a dict"),
        ("return ['a']", "answered with a list"),
        ("return {'a': 1}", "the columns `a` are those of no format"),
        ("return {'text': 1}", "is a number (1), want text"),
        ("return {'text': row['b']}", "`mine` failed: KeyError: 'b'"),
        ("return 1 / 0", "`mine` failed: ZeroDivisionError"),
    ],
)
def test_an_answer_that_is_none_is_an_error_of_the_row(body: str, says: str) -> None:
    written(f"def read_row(row):\n    {body}\n")
    with pytest.raises(RowError) as error:
        read("mine", {"a": "x"})
    assert says in error.value.message
    assert error.value.fix


def test_a_function_cannot_change_the_row_of_the_file() -> None:
    written("def read_row(row):\n    row['a'] = 'changed'\n    return {'text': row.pop('a')}\n")
    row = {"a": "x"}
    assert read("mine", row) == Text("changed")
    assert row == {"a": "x"}


def test_a_factory_of_the_config_keeps_the_columns_that_it_does_not_remove() -> None:
    written(
        "def made(cfg, *args, **kwargs):\n"
        "    def transform_fn(example, tokenizer=None):\n"
        "        return {'prompt': [{'role': 'user', 'content': example['question']}]}\n"
        "    return transform_fn, {'remove_columns': ['question']}\n"
        "def plain(cfg):\n"
        "    return lambda example: {'prompt': example['question']}\n"
        "def all_gone(cfg):\n"
        "    return (lambda e: {'prompt': e['question']}), {'remove_columns': '__all__'}\n"
    )
    row = {"question": "2 + 2?", "answer": "4"}
    made, plain, gone = (read(f"mine.{name}", row) for name in ("made", "plain", "all_gone"))
    assert isinstance(made, Prompts)
    assert isinstance(plain, Prompts)
    assert isinstance(gone, Prompts)
    assert made.items[0].extras == {"answer": "4"}
    assert isinstance(made.items[0].asked, Conversation)
    assert plain.items[0].extras == {"question": "2 + 2?", "answer": "4"}
    assert gone.items[0].extras == {}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("def fn(cfg):\n    n = cfg.sequence_len\n", "asks the config for something"),
        ("def fn(cfg):\n    n = cfg['sequence_len']\n", "asks the config for something"),
        (
            "def fn(cfg):\n    return lambda row, tokenizer: {'text': tokenizer(row)}\n",
            "asks the tokenizer for something",
        ),
        (
            "def fn(cfg):\n    return lambda row, tokenizer=None: {'text': tokenizer.eos_token}\n",
            "asks the tokenizer for something",
        ),
        ("def fn(tokenizer, cfg):\n    pass\n", "takes `tokenizer`, `cfg`"),
        ("def fn():\n    pass\n", "takes nothing"),
        ("def fn(cfg):\n    return (lambda rows: rows), {'batched': True}\n", "asks for `batched`"),
        ("def fn(cfg):\n    return 3\n", "made a number"),
        ("fn = 3\n", "has no function `fn`"),
        ("raise RuntimeError('broken')\n", "RuntimeError: broken"),
        ("import no_such_module\n", "No module named 'no_such_module'"),
    ],
)
def test_what_a_format_cannot_be_is_refused_with_the_recipe(text: str, says: str) -> None:
    written(text)
    with pytest.raises(ConfigError) as error:
        read("mine.fn", {"a": "x"})
    assert says in error.value.message
    assert "def read_row(row)" in (error.value.hint or "") or "one row" in (error.value.hint or "")


def test_a_name_that_nobody_has_is_refused_before_anything_runs() -> None:
    with pytest.raises(ConfigError, match="there is no data set type `mine_not_here`"):
        read("mine_not_here", {})
