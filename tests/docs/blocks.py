"""The code blocks of the documents: what a reader copies, and what is promised about it.

The word behind the language says what a block is for:

* ``sh test``: commands that are run, in the document's order, in one folder, and must succeed; a
  line that ends with ``# exit 2`` must end with that code;
* ``text said``: lines that the last command wrote, to the letter; ``...`` stands for others;
* ``yaml NAME.yaml``: a file that these commands find under this name; it must be valid, unless
  ``refused`` stands behind the name;
* ``yaml part``: some keys, valid beside the smallest config;
* ``jsonl NAME.jsonl``: data that the commands find;
* ``python test``: statements that are run in the same folder.

What a reader need not see stands in an HTML comment.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from tests.house.source import ROOT

BLOCK = re.compile(r"^```(\w+)(?: +([^\n]*))?\n(.*?)^```", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """One fenced block."""

    path: Path
    line: int
    language: str
    word: str
    body: str

    @property
    def place(self) -> str:
        return f"{self.path.relative_to(ROOT)}:{self.line}"


def documents() -> list[Path]:
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks_of(path: Path) -> list[Block]:
    text = path.read_text(encoding="utf-8")
    return [
        Block(
            path,
            text.count("\n", 0, found.start()) + 1,
            found[1],
            (found[2] or "").strip(),
            found[3],
        )
        for found in BLOCK.finditer(text)
    ]


def blocks(language: str) -> list[Block]:
    return [b for path in documents() for b in blocks_of(path) if b.language == language]
