"""How a chat template opens and closes an assistant turn, learned from small renderings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

from tunesmith.data.origin import Tracked, plain, spans_of

ASSISTANT = "assistant"


class Render(Protocol):
    """Renders messages with origins; ``prompt`` asks for the generation prompt."""

    def __call__(self, messages: Sequence[Mapping[str, Any]], *, prompt: bool) -> Tracked:
        """The messages as one text."""
        ...


@dataclass(frozen=True, slots=True)
class TurnShape:
    """How a template opens and closes an assistant turn, learned from small renderings.

    ``prompt``: the generation prompt. ``header``: the part of it that opens a plain answer; where
    there is no prompt, what opens one all the same.
    ``user_end``: what closes a user turn, where there is no generation prompt. ``turn_end``: what
    closes an assistant turn, blanks behind it left out ("" where nothing does). ``call_end``: what
    the template writes behind the last argument of a call, whatever follows. ``call_gap``: what it
    writes between two calls of a turn ("" where it takes one alone). ``after_tool``: the prompt,
    its header and what stands before it, where tools' answers are followed by another one.
    """

    prompt: str
    header: str
    user_end: str
    turn_end: str
    call_end: str = ""
    call_gap: str = ""
    after_tool: tuple[str, str, str] | None = None


_PROBE = ("alpha", "beta", "gamma", "delta")


class TemplateShapeError(Exception):
    """The template's turns cannot be told apart; the message says why, ``fix`` what to change."""

    def __init__(self, message: str, fix: str) -> None:
        super().__init__(message)
        self.fix = fix


def learn_shape(render: Render) -> TurnShape:
    """The shape of a template's turns, from renderings of up to four short messages.

    Raises ``TemplateShapeError`` where no rule can tell the prompt from the answer.
    """
    texts: Sequence[Any] = _PROBE
    try:
        render(_probe(texts, 2), prompt=False)
    except Exception:  # some templates take content only as a list of parts
        texts = [[{"type": "text", "text": text}] for text in _PROBE]
    asked = _after(render(_probe(texts, 1), prompt=False), 0)
    prompted = _after(render(_probe(texts, 1), prompt=True), 0)
    answered = render(_probe(texts, 2), prompt=False)
    gap = _between(answered, 0, 1)
    prompt, user_end = _split_prompt(asked, prompted, gap)
    header = _learn_header(render, texts, prompt, gap) if prompt else _bare_header(gap, user_end)
    if prompt and not header:
        raise TemplateShapeError(
            f"its generation prompt {prompt!r} is not how it opens an assistant turn ({gap!r})",
            "let the prompt open the turn in the same words",
        )
    if not prompt and not user_end:
        raise TemplateShapeError(
            "it has no generation prompt, and nothing of its own ends a user turn",
            "give it one (`{% if add_generation_prompt %}`)",
        )
    end = _learn_end(render, texts, answered)
    return TurnShape(prompt, header, user_end, end, *_learn_tools(render, texts, prompt, user_end))


def _learn_tools(
    render: Render, texts: Sequence[Any], prompt: str, user_end: str
) -> tuple[str, str, tuple[str, str, str] | None]:
    """``call_end``, ``call_gap`` and ``after_tool``; empty and None where tools are refused."""
    called, answered = _probe_of_tools(texts[0])
    final = {"role": ASSISTANT, "content": texts[3]}
    try:
        alone = render(called, prompt=False)
        inner = render([*called, answered], prompt=False)
        prompted = _after(render([*called, answered], prompt=True), 2)
        gap = _between(render([*called, answered, final], prompt=False), 2, 3)
    except Exception:  # the template refuses tools, or prints none
        return "", "", None
    call_end = _after(alone, 1) if _extent(alone, 1)[1] > 0 else ""
    call_end = call_end if call_end in plain(inner) else ""
    call_gap = _learn_call_gap(render, called) if call_end else ""
    return call_end, call_gap, _learn_after_tool(_after(inner, 2), prompted, gap, prompt, user_end)


def _learn_after_tool(
    asked: str, prompted: str, gap: str, prompt: str, user_end: str
) -> tuple[str, str, str] | None:
    """The prompt behind a tool's answer, None where it is the usual one."""
    opening, end = _split_prompt(asked, prompted, gap)
    if opening == prompt and (prompt or end == user_end):
        return None
    if not opening:
        return (opening, _bare_header(gap, end), end) if end else None
    header = opening[: longest_prefix(opening, gap)[1]]
    return (opening, header, end) if header else None


def _learn_call_gap(render: Render, called: Sequence[Mapping[str, Any]]) -> str:
    """What stands between the calls of a turn that holds the same call twice."""
    asked, turn = called
    twice = {**turn, "tool_calls": [*turn["tool_calls"], *turn["tool_calls"]]}
    try:
        text = render([asked, twice], prompt=False)
    except Exception:  # the template takes one call a turn
        return ""
    own = [(start, end) for start, end, origin in spans_of(text) if origin and origin.message == 1]
    return "".join(plain(text)[left[1] : right[0]] for left, right in pairwise(own))


def _bare_header(gap: str, end: str) -> str:
    """What opens a plain answer behind the end of what stands before, blanks left out."""
    return gap[gap.find(end) + len(end) :].rstrip()


def _probe_of_tools(text: Any) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """A question and its call, and the tool's answer."""
    function = {"name": "epsilon", "arguments": {"zeta": "beta"}}
    call = {"id": "alphabeta", "type": "function", "function": function}
    asked = {"role": "user", "content": text}
    called = {"role": ASSISTANT, "content": "", "tool_calls": [call]}
    answer = {"role": "tool", "content": "gamma", "tool_call_id": "alphabeta", "name": "epsilon"}
    return [asked, called], answer


def _probe(texts: Sequence[Any], count: int) -> list[dict[str, Any]]:
    return [
        {"role": ASSISTANT if number % 2 else "user", "content": texts[number]}
        for number in range(count)
    ]


def _extent(text: Tracked, message: int) -> tuple[int, int]:
    """First and last position of a message's fields, its role left out; (-1, -1) if absent."""
    own = [
        (start, end)
        for start, end, origin in spans_of(text)
        if origin is not None and origin.message == message and origin.field != "role"
    ]
    return (own[0][0], own[-1][1]) if own else (-1, -1)


def _after(text: Tracked, message: int) -> str:
    return plain(text)[max(_extent(text, message)[1], 0) :]


def _between(text: Tracked, left: int, right: int) -> str:
    end, start = _extent(text, left)[1], _extent(text, right)[0]
    if end < 0 or start < 0:
        raise TemplateShapeError(
            f"it prints nothing of turn {(left if end < 0 else right) + 1} of a short conversation",
            "print the text of every turn",
        )
    if start < end:
        raise TemplateShapeError(
            f"it prints text of turn {right + 1} before the end of turn {left + 1}, in "
            f"{plain(text)[:60]!r}",
            "print the text of a message inside of its own turn alone, in the order of the turns",
        )
    return plain(text)[end:start]


def _split_prompt(asked: str, prompted: str, gap: str) -> tuple[str, str]:
    """The generation prompt, and what ends a user turn.

    Templates that print something else instead of the prompt (an eos) are cut at the last mark
    that both renderings share.
    """
    shared = asked if prompted.startswith(asked) else _to_mark(_shared_start(asked, prompted))
    prompt = prompted[len(shared) :]
    return prompt, shared if gap.startswith(shared) else _to_mark(_shared_start(shared, gap))


def _learn_header(render: Render, texts: Sequence[Any], prompt: str, gap: str) -> str:
    """The part of the generation prompt that opens every assistant turn.

    Answers that reason first, and turns that others follow, may lack the rest of it.
    """
    reasoned = _probe(texts, 2)
    reasoned[1]["reasoning_content"] = "epsilon"
    header = prompt[: longest_prefix(prompt, gap)[1]]
    for messages in (reasoned, _probe(texts, 4)):
        try:
            other = _between(render(messages, prompt=False), 0, 1)
        except Exception:  # the template refuses reasoning, or a second exchange
            continue
        shorter = longest_prefix(prompt, other)[1]
        header = header[:shorter] if shorter else header
    return header


def _shared_start(left: str, right: str) -> str:
    count = 0
    while count < min(len(left), len(right)) and left[count] == right[count]:
        count += 1
    return left[:count]


def _to_mark(text: str) -> str:
    """The text up to its last closing mark or blank, so that no token is cut in two."""
    end = max((text.rfind(mark) + 1 for mark in ">]}\n\t "), default=0)
    return text[:end]


def _learn_end(render: Render, texts: Sequence[Any], answered: Tracked) -> str:
    """What ends an assistant turn: the part that the last turn and an inner one share."""
    last = _after(answered, 1)
    try:
        inner = _between(render(_probe(texts, 4), prompt=False), 1, 2)
    except Exception:  # a template for one exchange alone: its only end is the last one
        return last.rstrip()
    shared = _shared_start(last, inner)
    return (shared if shared in (last, inner) else _to_mark(shared)).rstrip()


def longest_prefix(prompt: str, gap: str) -> tuple[int, int]:
    """Where the longest prefix of ``prompt`` stands in ``gap``, and its length: (start, length)."""
    for length in range(len(prompt), 0, -1):
        start = gap.rfind(prompt[:length])
        if start >= 0:
            return start, length
    return 0, 0
