"""``llama2_chat``: turns in Llama 2's own markup."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from tunesmith.data.formats.fields import need_list, need_object, need_text
from tunesmith.data.formats.options import FormatOptions
from tunesmith.data.records import RowError, Segment, Segments

_SYSTEM: Final = (
    "You are a helpful, respectful and honest assistant. Always answer as helpfully as possible, "
    "while being safe. Your answers should not include any harmful, unethical, racist, sexist, "
    "toxic, dangerous, or illegal content. Please ensure that your responses are socially unbiased "
    "and positive in nature.\n\nIf a question does not make any sense, or is not factually "
    "coherent, explain why instead of answering something not correct. If you don't know the "
    "answer to a question, please don't share false information."
)
_FIELD: Final = "conversations"
_TURN: Final = 'want {"from": "human", "value": "..."}'
_ORDER: Final = ("human", "gpt")


def read_llama2_chat(row: Mapping[str, Any], options: FormatOptions) -> Segments:
    """Turns of ``human`` and ``gpt`` in alternation, after an optional ``system`` turn.

    The answers train, each with the end of its turn. Without a system turn Llama 2's default system
    text opens the prompt; a last question without an answer is left out.

    Raises:
        RowError: a turn is not as it should be, or there is no question with an answer.
    """
    turns = [_read_turn(turn, number) for number, turn in enumerate(need_list(row, _FIELD))]
    system = turns.pop(0)[1] if turns[0][0] == "system" else _SYSTEM
    if turns and turns[0][0] == "gpt":
        turns.pop(0)  # a greeting, which nobody asked for
    _check_order(turns)
    pieces: list[Segment] = []
    for number in range(0, len(turns) - 1, 2):
        question, answer = turns[number][1].strip(), turns[number + 1][1].strip()
        pieces += _exchange(number, question, answer, system, options)
    return Segments(tuple(pieces), has_markup=True)


def _exchange(
    number: int, question: str, answer: str, system: str, options: FormatOptions
) -> list[Segment]:
    """One question and its answer; bos and eos stand between exchanges as their texts."""
    if number == 0:
        prompt = f"[INST] <<SYS>>\n{system}\n<</SYS>>\n\n{question}[/INST]"
        asked = [Segment(prompt, options.train_on_inputs)]
    else:
        opening = Segment("<s>", options.train_on_inputs, glued=True)
        asked = [
            opening,
            Segment(f"[INST] {question} [/INST]", options.train_on_inputs, glued=True),
        ]
    return [*asked, Segment(f" {answer} </s>", train=True, glued=True)]


def _read_turn(value: Any, number: int) -> tuple[str, str]:
    place = f"{_FIELD}[{number}]"
    turn = need_object(value, place, _TURN)
    try:
        role, text = need_text(turn, "from", ""), need_text(turn, "value", "")
    except RowError as error:
        raise RowError(f"{place}.{error.field}", error.message, error.fix) from error
    if role not in (*_ORDER, "system") or (role == "system" and number > 0):
        fix = "one of: `human`, `gpt`; `system` for the first turn"
        raise RowError(f"{place}.from", f"the role {role[:40]!r} cannot stand here", fix)
    if not text.strip():
        raise RowError(f"{place}.value", "is empty", "give the turn a text, or remove the row")
    return role, text


def _check_order(turns: Sequence[tuple[str, str]]) -> None:
    for number, (role, _) in enumerate(turns):
        if role != _ORDER[number % 2]:
            message = f"`human` and `gpt` do not alternate: two turns of `{role}` in a row"
            raise RowError(_FIELD, message, "join the two turns, or remove the row")
    if len(turns) < len(_ORDER):
        raise RowError(_FIELD, "holds no question with an answer", "remove the row")
