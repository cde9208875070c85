"""Reading answers of preference rows: as a text, or as the turns of a conversation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tunesmith.data.formats.fields import need, need_list, need_object, need_text
from tunesmith.data.records import RowError

_TURN = 'want {"role": "assistant", "content": "..."}'


def need_answer(row: Mapping[str, Any], name: str, setting: str = "") -> str:
    """The text of an answer, which is not empty.

    Raises:
        RowError: the field is missing, no text, or empty.
    """
    return said(need_text(row, name, setting), name)


def said(text: str, place: str) -> str:
    """The text, which must not be empty.

    Raises:
        RowError: it is.
    """
    if not text.strip():
        raise RowError(place, "is empty: there is no answer to compare", "remove the row")
    return text


def need_exchange(row: Mapping[str, Any], name: str) -> tuple[str, str]:
    """Question and answer of a field that holds exactly these two turns.

    Raises:
        RowError: there are more or fewer turns, or one of them has no text.
    """
    turns = need_list(row, name)
    if len(turns) != 2:
        message = f"holds {len(turns)} turns, want a question and its answer"
        fix = "use `chat_template.argilla_chat`, which takes conversations of any length"
        raise RowError(name, message, fix)
    question, answer = (turn_text(turn, f"{name}[{at}]") for at, turn in enumerate(turns))
    return question, said(answer, f"{name}[1].content")


def turn_text(value: Any, place: str, key: str = "content") -> str:
    """The text of one turn.

    Raises:
        RowError: it is no object, or its text is missing or none.
    """
    turn = need_object(value, place, _TURN)
    try:
        return need_text(turn, key, "")
    except RowError as error:
        raise RowError(f"{place}.{error.field}", error.message, error.fix) from error


def first_of(row: Mapping[str, Any], names: tuple[str, ...]) -> str:
    """The first of the names that the row has; the last one where it has none of them."""
    return next((name for name in names if name in row), names[-1])


def same_prompt(row: Mapping[str, Any], chosen: str, rejected: str) -> None:
    """Refuse a row whose two conversations do not begin alike.

    Raises:
        RowError: they differ before their last turns, or are no lists of turns.
    """
    if need_list(row, chosen)[:-1] == need_list(row, rejected)[:-1]:
        return
    message = f"answers another prompt than `{chosen}`"
    fix = "the two conversations may differ in their last turn alone"
    raise RowError(rejected, message, fix)


def need_rank(value: Mapping[str, Any], place: str) -> float:
    """The rank of a ranked answer.

    Raises:
        RowError: it is missing or no number.
    """
    rank = need(value, "rank", "")
    if isinstance(rank, bool) or not isinstance(rank, int | float):
        raise RowError(f"{place}.rank", "is no number", "want 1 for the best answer, 2, ...")
    return rank
