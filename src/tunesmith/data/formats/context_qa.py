"""``context_qa``: questions about a text that stands before them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from tunesmith.data.formats.fields import need_text
from tunesmith.data.formats.instruct import Instruct, Texts
from tunesmith.data.formats.wording import STYLES, Style, Systems

_ASK: Final = "Use the following contextual information to concisely answer the question.\n"
_NO_ANSWER: Final = (
    "The context provided does not contain any information about your inquiry. Therefore, I'm "
    "unable to answer your question based on the given context."
)


def _article(row: Mapping[str, Any], question: str) -> str:
    return need_text(row, "article", "") + "\n===\n" + need_text(row, question, "")


def _answered(row: Mapping[str, Any]) -> Texts:
    return _article(row, "question"), "", need_text(row, "answer", "")


def _unanswerable(row: Mapping[str, Any]) -> Texts:
    return _article(row, "unanswerable_question"), "", _NO_ANSWER


def _labelled(row: Mapping[str, Any]) -> Texts:
    context, question = need_text(row, "context", ""), need_text(row, "question", "")
    asked = f"Context: {context}\nQuestion: {question}\n"
    return asked, "", "Answer: " + need_text(row, "answer", "")


read_context: Final = Instruct(_answered, Systems(_ASK, _ASK), STYLES["chat"])
read_context_404: Final = Instruct(_unanswerable, Systems(_ASK, _ASK), STYLES["chat"])
read_context_v2: Final = Instruct(_labelled, style=Style("{instruction}\n{input}", "{instruction}"))
