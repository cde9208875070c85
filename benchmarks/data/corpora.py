"""The two corpora of the comparison, made from the rows of a reference folder: the same each time.

Every row has a running number in its first words, so that no two are equal and nobody gains by
remembering whole rows.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

FILES = ("gpteacher_codegen", "gpteacher_toolformer", "alpaca_demo", "self_instruct_seeds")


def rows_of(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a jsonl."""
    with path.open(encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    """Write a jsonl."""
    with path.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
    return path


def instructions(reference: Path) -> list[dict[str, Any]]:
    """The rows of all files that the corpora are made of."""
    files = [reference / "data" / "instruct" / f"{name}.jsonl" for name in FILES]
    return [row for path in files for row in rows_of(path)]


def alpaca_rows(reference: Path, n_rows: int) -> Iterator[dict[str, str]]:
    """Instruction rows, repeated with a running number."""
    rows = instructions(reference)
    for number in range(n_rows):
        row = rows[number % len(rows)]
        yield {
            "instruction": f"({number}) {row['instruction']}",
            "input": row["input"],
            "output": row["output"],
        }


def chat_rows(reference: Path, n_rows: int) -> Iterator[dict[str, Any]]:
    """Conversations of four turns: two instructions with their answers, which the number picks."""
    rows = instructions(reference)
    for number in range(n_rows):
        first, second = rows[number % len(rows)], rows[(number * 7 + 3) % len(rows)]
        texts = (
            f"({number}) {first['instruction']}\n{first['input']}",
            first["output"] or "ok",
            second["instruction"],
            second["output"] or "ok",
        )
        roles = ("user", "assistant") * 2
        turns = [{"role": role, "content": text} for role, text in zip(roles, texts, strict=True)]
        yield {"messages": turns}
