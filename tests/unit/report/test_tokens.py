"""The mask viewer: its data, rows that cannot become markup, and how a browser shows it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tunesmith.data.tokens import TokenView
from tunesmith.report.tokens import (
    PackedDocument,
    PackedRow,
    Part,
    ShownRow,
    TokenPage,
    render,
)

LEDGER = {
    "datasets": [
        {
            "name": "chat.jsonl",
            "samples": 2,
            "rows": {"in": 3, "trained": 2, "held_out": 0, "dropped": {"too long": 1}},
            "tokens": {
                "in": 20,
                "trained": 6,
                "masked": 9,
                "held_out": 0,
                "dropped": {"too long": 5},
            },
            "dropped_rows": {},
        }
    ],
    "lint": {"two-users": {"count": 1, "first": [{"at": "chat.jsonl:1", "message": "twice"}]}},
}
HOSTILE = (
    "</script><script>document.title='owned'</script><img src=x onerror=document.title='owned'>"
)


def view(text: str, number: int, weight: float, message: int | None = 0) -> TokenView:
    return TokenView(text, number, weight, message, "user", "content", "a reason")


def page(rows: Sequence[ShownRow]) -> TokenPage:
    documents = [PackedDocument("chat.jsonl:1", 6, 2), PackedDocument("chat.jsonl:2", 8, 4)]
    return TokenPage("A title", [("base", "tiny")], LEDGER, rows, [PackedRow(1, 16, documents)])


def embedded(html: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', html, re.S)
    assert found
    data: dict[str, Any] = json.loads(found.group(1))
    return data


def test_tokens_keep_text_id_weight_and_reason() -> None:
    row = ShownRow("chat.jsonl:1", [Part("", [view("Hi", 7, 0.0), view(" you", 8, 0.5, 1)])])
    data = embedded(render(page([row])))
    tokens = data["rows"][0]["parts"][0]["tokens"]
    assert [token[:3] for token in tokens] == [["Hi", 7, 0.0], [" you", 8, 0.5]]
    assert [data["places"][token[3]] for token in tokens] == [
        [0, "user", "content", "a reason"],
        [1, "user", "content", "a reason"],
    ]


def test_a_comparison_marks_only_what_differs() -> None:
    left = [view("a", 1, 0.0), view("b", 2, 0.0), view("c", 3, 1.0)]
    right = [view("x", 9, 0.0), view("a", 1, 0.0), view("b", 2, 1.0), view("c", 3, 1.0)]
    row = ShownRow("f:1", [Part("this", left), Part("that", right)], compared=True, side=True)
    parts = embedded(render(page([row])))["rows"][0]["parts"]
    assert [token[4] for token in parts[0]["tokens"]] == [0, 1, 0]
    assert [token[4] for token in parts[1]["tokens"]] == [1, 0, 1, 0]


def test_rows_cannot_leave_the_data() -> None:
    html = render(page([ShownRow(HOSTILE, [Part(HOSTILE, [view(HOSTILE, 1, 1.0)])], [HOSTILE])]))
    assert HOSTILE not in html
    assert embedded(html)["rows"][0]["source"] == HOSTILE
    titled = render(TokenPage(HOSTILE, [(HOSTILE, HOSTILE)], LEDGER, []))
    assert HOSTILE not in titled


def test_the_page_refers_to_nothing_outside() -> None:
    html = render(page([]))
    assert "default-src 'none'" in html
    assert not re.search(r"(src|href)\s*=\s*[\"']?(https?:|//)|@import|url\(", html)


@pytest.fixture(scope="module")
def browser() -> str:
    """A Chromium to look at pages with."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if found := shutil.which(name):
            return found
    pytest.skip("there is no Chromium here to look at the page with")


def dom(browser: str, html: str, folder: Path) -> str:
    """The document as the browser has it after its scripts ran."""
    file = folder / "page.html"
    file.write_text(html, encoding="utf-8")
    command = [
        browser,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        f"--user-data-dir={folder / 'profile'}",
        "--virtual-time-budget=5000",
        "--dump-dom",
        file.as_uri(),
    ]
    shown = ""
    for _ in range(3):  # a busy machine may dump the document before its rows were reached
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
        shown = done.stdout
        if 'class="tok' in shown:
            break
    return shown


def test_a_browser_shows_every_token_and_runs_no_row(browser: str, tmp_path: Path) -> None:
    chosen = Part("chosen", [view("Hi", 1, 0.0), view("good", 2, 1.0, 1), view(HOSTILE, 3, 0.5, 1)])
    rejected = Part("rejected", [view("Hi", 1, 0.0), view("bad\n", 4, 1.0, 1)])
    rows = [ShownRow("chat.jsonl:1", [chosen, rejected], [f"two-users: {HOSTILE}"], side=True)]
    shown = dom(browser, render(page(rows)), tmp_path)
    assert "<title>A title</title>" in shown
    assert len(re.findall(r'class="tok( [^"]*)?"', shown)) == 5
    assert len(re.findall(r'class="tok on( [^"]*)?"', shown)) == 3
    assert len(re.findall(r'class="tok on part"', shown)) == 1
    assert 'class="parts side"' in shown
    assert "bad⏎" in shown
    assert "3 rows, 20 tokens" in shown
    assert "6 trained (30.0 %)" in shown
    assert "2 documents, 14 of 16 tokens (87.5 % full)" in shown
    assert "1 × two-users" in shown
    assert 'href="#row-0"' in shown


def test_the_templates_text_stands_with_the_turn_that_it_opens_or_ends(
    browser: str, tmp_path: Path
) -> None:
    ends = TokenView("<end>", 9, 0.0, None, "", "template", "an end of turn that does not train")
    outside = "template text outside of bodies"
    tokens = [
        TokenView("<user>", 8, 0.0, None, "", "template", outside),
        TokenView("Hi", 1, 0.0, 0, "user", "content", "a turn that does not train"),
        TokenView("</call>", 7, 0.0, None, "", "template", outside),
        ends,
        TokenView("\n", 6, 0.0, None, "", "template", outside),
        TokenView("<assistant>", 5, 0.0, None, "", "template", outside),
        TokenView("Yes", 2, 1.0, 1, "assistant", "content", "body of a trained turn"),
    ]
    shown = dom(browser, render(page([ShownRow("chat.jsonl:1", [Part("", tokens)])])), tmp_path)
    blocks = re.findall(r'<div class="(turn[^"]*)"><b>([^<]*)</b>(.*?)</div>', shown, re.S)
    texts = [(kind, title, re.sub("<[^>]*>", "", inner)) for kind, title, inner in blocks]
    assert texts == [
        ("turn", "user 1", "&lt;user&gt;Hi&lt;/call&gt;&lt;end&gt;⏎\n"),
        ("turn trains", "assistant 2", "&lt;assistant&gt;Yes"),
    ]


def test_two_hundred_long_rows_are_made_as_they_are_reached(browser: str, tmp_path: Path) -> None:
    tokens = [view(f"word{at} ", at, float(at % 2)) for at in range(1000)]
    rows = [ShownRow(f"chat.jsonl:{number}", [Part("", tokens)]) for number in range(200)]
    shown = dom(browser, render(page(rows)), tmp_path)
    assert shown.count("<article") == 200
    made = len(re.findall(r'class="tok( [^"]*)?"', shown))
    assert 1000 <= made <= 20_000


def test_packed_documents_carry_their_tokens_where_they_are_given() -> None:
    whole = PackedDocument("chat.jsonl:1", 3, 1, [7, 8, 9], [(1, 2, 0.5)])
    row = PackedRow(1, 16, [whole, PackedDocument("chat.jsonl:2", 8, 4)])
    html = render(TokenPage("t", [], LEDGER, [], [row], {7: "a", 8: "</script>", 9: "c"}))
    data = embedded(html)
    assert data["packing"][0]["documents"][0]["ids"] == [7, 8, 9]
    assert data["packing"][0]["documents"][0]["runs"] == [[1, 2, 0.5]]
    assert data["packing"][0]["documents"][1]["ids"] == []
    assert data["texts"] == {"7": "a", "8": "</script>", "9": "c"}
