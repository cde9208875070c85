"""What the documents tell people to copy works: commands run, configs are valid."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from tests.docs.blocks import Block, blocks, blocks_of, documents
from tests.house.source import ROOT
from tunesmith.cli.main import run
from tunesmith.config.read import load
from tunesmith.errors import ConfigError

SMALLEST = {
    "base_model": "some/model",
    "datasets": [{"path": "rows.jsonl"}],
    "micro_batch_size": 1,
    "learning_rate": 1e-4,
}
LANGUAGES = {"sh", "yaml", "jsonl", "python", "text", "json"}
EXIT = re.compile(r"\s+# exit (\d+)$")


def named(found: list[Block]) -> list:
    return [pytest.param(block, id=block.place) for block in found]


def with_commands() -> list:
    paths = [p for p in documents() if any(b.word == "test" for b in blocks_of(p))]
    return [pytest.param(path, id=str(path.relative_to(ROOT))) for path in paths]


def commands(body: str) -> list[tuple[str, int]]:
    """The commands of a block, each with the exit code that it must end with."""
    found = []
    for line in body.replace("\\\n", " ").splitlines():
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        promised = EXIT.search(line)
        found.append((EXIT.sub("", line), int(promised[1]) if promised else 0))
    return found


def execute(command: str) -> int:
    """Run our commands in this process (a new one imports torch anew), others in a shell."""
    words = shlex.split(command, comments=True)
    if words[0] == "tunesmith":
        return run(words[1:])
    return subprocess.run(command, shell=True, check=False).returncode


class Reader:
    """Does what a document says, block by block, and remembers what the last command wrote."""

    def __init__(self, heard: Callable[[], str]) -> None:
        self.heard = heard
        self.said = ""

    def take(self, block: Block) -> None:
        kind, _, word = f"{block.language} {block.word}".partition(" ")
        if kind in ("yaml", "jsonl") and word.split(" ")[0].endswith(f".{kind}"):
            Path(word.split(" ")[0]).write_text(block.body, encoding="utf-8")
        elif (kind, word) == ("python", "test"):
            exec(compile(block.body, block.place, "exec"), {})
        elif (kind, word) == ("sh", "test"):
            for command, promised in commands(block.body):
                self.type(block, command, promised)
        elif (kind, word) == ("text", "said"):
            written = self.said.splitlines()
            missing = [line for line in block.body.splitlines() if line not in [*written, "..."]]
            assert not missing, f"{block.place}: not said: {missing}\n{self.said}"

    def type(self, block: Block, command: str, promised: int) -> None:
        self.heard()
        code = execute(command)
        self.said = self.heard()
        assert code == promised, f"{block.place}: {command}: exit {code}\n{self.said[-3000:]}"


@pytest.mark.parametrize("path", with_commands())
def test_what_a_document_tells_to_type_works(path: Path, place: Path, capfd) -> None:
    reader = Reader(lambda: "".join(capfd.readouterr()))
    for block in blocks_of(path):
        reader.take(block)


@pytest.mark.parametrize(
    "block", named([b for b in blocks("yaml") if not b.word.endswith(" refused")])
)
def test_configs_in_documents_are_valid(block: Block) -> None:
    keys = YAML(typ="safe").load(block.body)
    loaded = load(SMALLEST | keys if block.word == "part" else keys)
    assert loaded.notices == [], block.place


@pytest.mark.parametrize(
    "path", [pytest.param(p, id=p.stem) for p in sorted((ROOT / "examples").glob("*.yaml"))]
)
def test_examples_are_valid_and_no_key_of_theirs_is_idle(path: Path) -> None:
    assert load(path, strict_keys=True).notices == []


def test_there_are_examples_and_tested_commands() -> None:
    assert len(list((ROOT / "examples").glob("*.yaml"))) >= 4
    tested = [b for b in blocks("sh") if b.word == "test"]
    assert len(tested) >= 6
    assert any("tunesmith train" in b.body for b in tested)


def test_every_block_says_its_language() -> None:
    wrong = [b.place for p in documents() for b in blocks_of(p) if b.language not in LANGUAGES]
    assert not wrong


def test_a_wrong_command_and_a_wrong_config_would_be_seen(place: Path, capfd) -> None:
    assert execute("tunesmith config validate missing.yaml") == 2
    assert commands("a \\\n  b  # exit 2\n# said\n\nc # why\n") == [("a    b", 2), ("c # why", 0)]
    with pytest.raises(ConfigError):
        load(SMALLEST | {"learning_rat": 1})
