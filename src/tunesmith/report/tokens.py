"""The mask viewer: one self-contained page of tokens, masks, packing and what became of each token.

The page loads nothing and sends nothing: its policy (Content-Security-Policy) forbids it. Rows are
data to it, set as text and never as markup.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from importlib.resources import files
from typing import Any

from jinja2 import Environment
from markupsafe import Markup

from tunesmith.data.tokens import TokenView


@dataclass(frozen=True, slots=True)
class Part:
    """Tokens that are shown together: a sample, or one side of a pair or of a comparison.

    ``facts`` are what else its row says: labels, the columns that reward functions get.
    """

    title: str
    tokens: Sequence[TokenView]
    facts: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class ShownRow:
    """One row of a data set: ``side`` by side or below each other, with what is odd about it.

    ``compared`` marks where its two parts differ.
    """

    source: str
    parts: Sequence[Part]
    notes: Sequence[str] = ()
    side: bool = False
    compared: bool = False


@dataclass(frozen=True, slots=True)
class PackedDocument:
    """One document of a packed row: its ``file:row``, its tokens, and how many of them train.

    ``ids`` are the tokens and ``runs`` (start, end, weight) what of them trains; both are empty
    where the page shall not show them.
    """

    source: str
    length: int
    trained: int
    ids: Sequence[int] = ()
    runs: Sequence[tuple[int, int, float]] = ()


@dataclass(frozen=True, slots=True)
class PackedRow:
    """The documents that share a row of ``capacity`` tokens in a step (counted from 1)."""

    step: int
    capacity: int
    documents: Sequence[PackedDocument]


@dataclass(frozen=True, slots=True)
class TokenPage:
    """All that the page shows. ``ledger`` is what ``ledger.json`` holds.

    ``texts`` holds the text of every id in the packed rows.
    """

    title: str
    facts: Sequence[tuple[str, str]]
    ledger: Mapping[str, Any]
    rows: Sequence[ShownRow]
    packing: Sequence[PackedRow] = ()
    texts: Mapping[int, str] = field(default_factory=dict)


def render(page: TokenPage) -> str:
    """The page as HTML: one file without references to any other."""
    source = files("tunesmith.report").joinpath("pages/tokens.html").read_text(encoding="utf-8")
    template = Environment(autoescape=True).from_string(source)
    return template.render(title=page.title, facts=page.facts, data=Markup(_embedded(page)))


def _embedded(page: TokenPage) -> str:
    """The page's data as JSON that cannot end the script element that it stands in."""
    places: dict[tuple[int | None, str, str, str], int] = {}
    rows = [_row(row, places) for row in page.rows]
    data = {
        "ledger": page.ledger,
        "rows": rows,
        "places": list(places),
        "packing": [_packed(row) for row in page.packing],
        "texts": page.texts,
    }
    text = json.dumps(data, ensure_ascii=True, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _row(row: ShownRow, places: dict[tuple[int | None, str, str, str], int]) -> dict[str, Any]:
    marked = _differing(row.parts) if row.compared else [[False] * len(p.tokens) for p in row.parts]
    parts = []
    for part, differs in zip(row.parts, marked, strict=True):
        tokens = [
            [
                view.text,
                view.id,
                view.weight,
                places.setdefault(_place(view), len(places)),
                int(odd),
            ]
            for view, odd in zip(part.tokens, differs, strict=True)
        ]
        parts.append({"title": part.title, "facts": list(part.facts), "tokens": tokens})
    return {
        "source": row.source,
        "notes": list(row.notes),
        "side": row.side,
        "parts": parts,
    }


def _differing(parts: Sequence[Part]) -> list[list[bool]]:
    """For each token of two parts whether the other side lacks it, or weighs it differently."""
    sides = [[(view.id, view.weight) for view in part.tokens] for part in parts]
    same = SequenceMatcher(a=sides[0], b=sides[1], autojunk=False).get_matching_blocks()
    marked = [[True] * len(side) for side in sides]
    for block in same:
        marked[0][block.a : block.a + block.size] = [False] * block.size
        marked[1][block.b : block.b + block.size] = [False] * block.size
    return marked


def _place(view: TokenView) -> tuple[int | None, str, str, str]:
    """What many tokens share, so that it is written once."""
    return view.message, view.role, view.field, view.reason


def _packed(row: PackedRow) -> dict[str, Any]:
    documents = [
        {
            "source": one.source,
            "length": one.length,
            "trained": one.trained,
            "ids": list(one.ids),
            "runs": list(one.runs),
        }
        for one in row.documents
    ]
    return {"step": row.step, "capacity": row.capacity, "documents": documents}
