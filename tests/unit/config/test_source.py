"""Where a config may come from: files, pipes, stdin; and what is said of everything else."""

import os
import subprocess
import sys
import threading

import pytest

from tunesmith.config import source
from tunesmith.config.source import text_of
from tunesmith.config.tree import MAX_BYTES
from tunesmith.errors import Problem

TEXT = "base_model: m\n"


def test_a_file_is_read(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_bytes(b"\xef\xbb\xbfa: \xc3\xa9\r\n")
    assert text_of(str(path)) == "a: é\r\n"


def test_of_a_large_file_only_the_beginning_is_read(tmp_path):
    path = tmp_path / "rows.jsonl"
    with path.open("wb") as file:
        file.truncate(50_000_000_000)  # a file with holes: nothing of it is on the disk
    found = text_of(str(path))
    assert isinstance(found, Problem)
    assert found.message == (
        "50,000,000,000 bytes are too many for a config: 250,000 are read at most"
    )
    assert found.file == str(path)


@pytest.mark.parametrize("name", ["/dev/zero", "/dev/urandom"])
def test_a_device_without_an_end_is_too_large(name):
    found = text_of(name)
    assert isinstance(found, Problem)
    assert found.message.startswith("more than 250,000 bytes are too many")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("none.yaml", "No such file or directory"),
        ("folder", "Is a directory"),
        ("run.yaml/x", "Not a directory"),
        ("a\0b", "embedded null byte"),
        ("x" * 300, "File name too long"),
        ("loop", "Too many levels of symbolic links"),
    ],
)
def test_what_cannot_be_opened_says_why(tmp_path, name, message):
    (tmp_path / "folder").mkdir()
    (tmp_path / "run.yaml").write_text(TEXT)
    (tmp_path / "loop").symlink_to("loop")
    found = text_of(f"{tmp_path}/{name}")
    assert isinstance(found, Problem)
    assert (found.code, found.message, found.fix) == ("yaml", message, "check the path")


def test_a_file_that_may_not_be_read_says_so(tmp_path, monkeypatch):
    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(source.os, "open", refuse)  # root may read everything
    found = text_of(str(tmp_path / "run.yaml"))
    assert isinstance(found, Problem)
    assert found.message == "Permission denied"


@pytest.mark.parametrize(
    "address", ["https://example.org/run.yaml", "http://x", "s3://bucket/run.yaml", "hf://x/y"]
)
def test_an_address_is_refused(address):
    found = text_of(address)
    assert isinstance(found, Problem)
    assert (found.code, found.fix) == ("refused", "download it first")


def test_a_pipe_is_read_to_its_end(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_text(TEXT * 3))
    writer.start()
    try:
        assert text_of(str(pipe)) == TEXT * 3
    finally:
        writer.join()


def test_a_pipe_that_nobody_writes_to_is_an_error_and_no_wait(tmp_path, monkeypatch):
    monkeypatch.setattr(source, "SILENCE_S", 0.05)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    found = text_of(str(pipe))
    assert isinstance(found, Problem)
    assert found.message == "nothing was written to this pipe for 0.05 seconds"


def test_a_substituted_process_is_read():
    """Bash's ``<(command)`` is a pipe with a name below ``/dev/fd``."""
    code = "import sys; from tunesmith.config.source import text_of; print(text_of(sys.argv[1]))"
    done = subprocess.run(
        ["bash", "-c", f'"{sys.executable}" -c "{code}" <(sleep 0.2; echo a: 1)'],
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout == "a: 1\n\n"


def test_stdin_is_read_no_further_than_a_config_goes():
    code = "from tunesmith.config.source import text_of; print(text_of('-'))"
    given = [
        (TEXT, TEXT + "\n"),
        ("#" * (MAX_BYTES + 1), "Problem(code='yaml', message='more than"),
    ]
    for text, answer in given:
        done = subprocess.run(
            [sys.executable, "-c", code], check=True, capture_output=True, text=True, input=text
        )
        assert done.stdout.startswith(answer)
