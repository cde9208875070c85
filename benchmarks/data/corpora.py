"""The two corpora of the comparison, made from the rows of a reference folder: the same each time.

Every row has a running number in its first words, so that no two are equal and nobody gains by
remembering whole rows.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

ALPACA_FILES = ("gpteacher_codegen", "gpteacher_toolformer", "alpaca_demo", "self_instruct_seeds")
CHAT_FILES = ("gsm8k_chat_openai", "mt_bench_multiturn", "sharegpt_dummy", "glaive_toolcall_en")
ROLES = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant"}


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


def alpaca_rows(reference: Path, n_rows: int) -> Iterator[dict[str, str]]:
    """Instruction rows, repeated with a running number."""
    files = [reference / "data" / "instruct" / f"{name}.jsonl" for name in ALPACA_FILES]
    rows = [row for path in files for row in rows_of(path)]
    for number in range(n_rows):
        row = rows[number % len(rows)]
        yield {
            "instruction": f"({number}) {row['instruction']}",
            "input": row["input"],
            "output": row["output"],
        }


def exchanges(reference: Path) -> list[tuple[str, str]]:
    """Each question with its answer, out of the conversations; tools' turns are left out."""
    found = []
    for name in CHAT_FILES:
        for row in rows_of(reference / "data" / "chat" / f"{name}.jsonl"):
            turns = [
                (ROLES.get(turn.get("from", turn.get("role", ""))), turn.get("value"))
                if "from" in turn
                else (ROLES.get(turn["role"]), turn["content"])
                for turn in row["conversations" if "conversations" in row else "messages"]
            ]
            found += [
                (question, answer)
                for (first, question), (second, answer) in pairwise(turns)
                if (first, second) == ("user", "assistant") and question and answer
            ]
    return found


def chat_rows(reference: Path, n_rows: int) -> Iterator[dict[str, Any]]:
    """Conversations of four turns: two exchanges that the running number picks."""
    pairs = exchanges(reference)
    for number in range(n_rows):
        first, second = pairs[number % len(pairs)], pairs[(number * 7 + 3) % len(pairs)]
        texts = (f"({number}) {first[0]}", first[1], *second)
        roles = ("user", "assistant") * 2
        turns = [{"role": role, "content": text} for role, text in zip(roles, texts, strict=True)]
        yield {"messages": turns}
