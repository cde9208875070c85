"""What the documents say of each format: what of its rows trains, and a row as an example."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final


@dataclass(frozen=True, slots=True)
class Description:
    """One format: what trains of a row, and a row; ``optional`` names columns that may be missing.

    ``group`` is the heading under which it stands.
    """

    group: str
    trains: str
    example: Mapping[str, Any]
    optional: tuple[str, ...] = ()


CHAT: Final = "Conversations"
ANSWERS: Final = "Instructions and answers"
PLAIN: Final = "Plain text, pieces and tokens"
PAIRS: Final = "Pairs of answers (DPO, IPO, SimPO, ORPO, reward models)"
JUDGED: Final = "Judged answers (KTO)"
STEPS: Final = "Steps (process reward models)"
PROMPTS: Final = "Prompts (GRPO, EBFT)"

_TURNS: Final = [
    {"role": "user", "content": "What is 6 times 7?"},
    {"role": "assistant", "content": "42"},
]
_WORSE: Final = [_TURNS[0], {"role": "assistant", "content": "About 40."}]
_SAID: Final = [{"from": "human", "value": "What is 6 times 7?"}, {"from": "gpt", "value": "42"}]
_ALPACA: Final = {"instruction": "Translate to French.", "input": "cheese", "output": "fromage"}
_BRIEF: Final = {"system": "Be brief."}
_ORCA: Final = {"system_prompt": "Be brief.", "question": "What is 6 times 7?", "response": "42"}
_CHOICE: Final = {
    "question": "Which one is a fruit?",
    "choices": ["pear", "spoon"],
    "solution": "The pear: it grows on a tree.",
}
_ABOUT: Final = {"article": "Pears ripen in September.", "question": "When do pears ripen?"}
_CREATIVE: Final = {
    "instruction": "Write a line about rain.",
    "answer": "Rain falls.",
    "scores": {"refusal": 10, "creativity": 3},
    "critiques": {"creativity": {"explanation": "flat", "improvements": "an image"}},
    "revision": "Rain writes on every roof.",
}
_PAIR: Final = {"chosen": "42", "rejected": "About 40."}
_ASKED: Final = "What is 6 times 7?"
_JUDGED: Final = {"completion": "42", "label": True}
_TOOLS: Final = ("tools",)


def _answers(example: Mapping[str, Any], answer: str, *optional: str) -> Description:
    return Description(ANSWERS, f"`{answer}` and the end of the text", example, optional)


def _pairs(example: Mapping[str, Any], *optional: str) -> Description:
    return Description(PAIRS, "each of the two answers, after the prompt", example, optional)


def _judged(example: Mapping[str, Any], *optional: str) -> Description:
    return Description(JUDGED, "the answer, after the prompt", example, optional)


def _prompts(example: Mapping[str, Any], trains: str = "nothing: the model answers") -> Description:
    return Description(PROMPTS, trains, example)


_CHATS: Final = {
    "chat_template": Description(
        CHAT, "the assistant's turns and their ends", {"messages": _TURNS}, _TOOLS
    ),
    "untyped": Description(CHAT, "as `chat_template`, or as `pretokenized`", {"messages": _TURNS}),
    **dict.fromkeys(
        ("messages", "messages.chat"),
        Description(
            CHAT,
            "the assistant's turns, or those with `train` or `weight`",
            {"messages": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello."}]},
        ),
    ),
    "pygmalion": Description(
        CHAT,
        "the bot's words and the ends of its turns",
        {
            "conversations": [
                {"role": "system", "value": "A kind owl."},
                {"role": "human", "value": "Hi"},
                {"role": "bot", "value": "Hoo!"},
            ]
        },
    ),
    "llama2_chat": Description(CHAT, "the answers and their ends", {"conversations": _SAID}),
}

_INSTRUCTIONS: Final = {
    **dict.fromkeys(
        (
            *("alpaca", "alpaca_chat", "alpaca_chat.load_concise", "alpaca_chat.load_no_prompt"),
            *("alpaca_instruct", "alpaca_instruct.load_no_prompt"),
        ),
        _answers(_ALPACA, "output", "input"),
    ),
    "alpaca_chat.load_qa": _answers({"question": _ASKED, "answer": "42"}, "answer"),
    "alpaca_chat.load_camel_ai": _answers({"message_1": _ASKED, "message_2": "42"}, "message_2"),
    **dict.fromkeys(
        ("alpaca_w_system", "alpaca_w_system.load_chat", "alpaca_w_system.load_instruct"),
        _answers(_BRIEF | _ALPACA, "output", "input"),
    ),
    **dict.fromkeys(
        (
            *("alpaca_w_system.load_open_orca", "alpaca_w_system.load_open_orca_chatml"),
            "orcamini",
        ),
        _answers(_ORCA, "response"),
    ),
    "explainchoice": _answers(_CHOICE, "solution` or else `explanation"),
    "concisechoice": _answers(_CHOICE, "solution` or else `explanation"),
    "summarizetldr": _answers({"article": "Pears ripen ...", "summary": "Pears."}, "summary"),
    "jeopardy": _answers(
        {"question": "It has 8 legs.", "category": "ANIMALS", "answer": "a spider"}, "answer"
    ),
    "oasst": _answers({"INSTRUCTION": _ASKED, "RESPONSE": "42"}, "RESPONSE"),
    "gpteacher": _answers(
        {"instruction": "Greet.", "input": "a cat", "response": "Hello, cat."}, "response", "input"
    ),
    "reflection": _answers(
        _ALPACA | {"reflection": "Which cheese?", "corrected": "du fromage"},
        "output`, `reflection`, `corrected",
        "input",
    ),
    "context_qa": _answers(_ABOUT | {"answer": "In September."}, "answer"),
    "context_qa.load_v2": _answers(
        {"context": "Pears ripen in September.", "question": "When?", "answer": "In September."},
        "answer",
    ),
    "context_qa.load_404": _answers(
        {"article": "Pears ripen ...", "unanswerable_question": "And figs?"}, "a fixed refusal"
    ),
    "creative_acr.load_answer": _answers(_CREATIVE, "revision"),
    "creative_acr.load_critique": _answers(_CREATIVE, "scores`, `critiques"),
    "creative_acr.load_revise": _answers(_CREATIVE, "revision"),
    "metharme": Description(
        ANSWERS,
        "`generation` and three ends of the text",
        {"prompt": "<|system|>A kind owl.<|user|>Hi<|model|>", "generation": "Hoo!"},
    ),
    "inline": _answers(_ALPACA, "output", "input"),
}

_TEXTS: Final = {
    "completion": Description(PLAIN, "everything", {"text": "Pears ripen in September."}),
    "pretrain": Description(PLAIN, "everything", {"text": "Pears ripen in September."}),
    "input_output": Description(
        PLAIN,
        "the pieces with `label: true`; nothing is added",
        {"segments": [{"label": False, "text": "Q: 6 * 7\nA:"}, {"label": True, "text": " 42"}]},
    ),
    "pretokenized": Description(
        PLAIN,
        "ids whose label is the id itself",
        {"input_ids": [5, 6, 7], "attention_mask": [1, 1, 1], "labels": [-100, 6, 7]},
        ("attention_mask",),
    ),
    "_synthetic": Description(
        PLAIN,
        "everything; the rows are drawn, no file is read",
        {"length": 8, "low": 100, "high": None, "seed": 0, "number": 0},
        ("length", "high"),
    ),
}

_MARKUPS: Final = ("chatml", "llama3")

_COMPARED: Final = {
    **dict.fromkeys(("dpo", "dpo.passthrough", "orpo"), _pairs({"prompt": _ASKED, **_PAIR})),
    "dpo.inline": _pairs({"prompt": _ASKED, "good": "42", "bad": "About 40."}),
    **{
        f"dpo.{markup}.{name}": _pairs(example | _PAIR, "system")
        for markup in _MARKUPS
        for name, example in (
            ("default", _BRIEF | {"prompt": _ASKED}),
            ("icr", _BRIEF | {"input": _ASKED}),
            ("intel", _BRIEF | {"question": _ASKED}),
            ("prompt_pairs", _BRIEF | {"prompt": _ASKED}),
        )
    },
    **{
        f"dpo.{markup}.ultra": _pairs(
            {**_BRIEF, "prompt": _ASKED, "chosen": _TURNS, "rejected": _WORSE}, "system"
        )
        for markup in _MARKUPS
    },
    **dict.fromkeys(
        (
            *("dpo.chatml.argilla_chat", "dpo.llama3.argilla_chat"),
            *("dpo.chat_template.argilla_chat", "orpo.chat_template"),
            "orpo.chat_template.argilla",
        ),
        _pairs({"chosen": _TURNS, "rejected": _WORSE}),
    ),
    "dpo.zephyr.nectar": _pairs(
        {
            "prompt": _ASKED,
            "answers": [{"answer": "42", "rank": 1}, {"answer": "About 40.", "rank": 2}],
        }
    ),
    "dpo.chat_template.default": _pairs(
        {"messages": _TURNS[:1], "chosen": _TURNS[1], "rejected": _WORSE[1]}, "tools"
    ),
    **dict.fromkeys(
        ("bradley_terry.chat_template", "bradley_terry.llama3.icr"),
        _pairs({**_BRIEF, "input": _ASKED, **_PAIR}, "system"),
    ),
}

_UNPAIRED: Final = {
    "kto": _judged({"prompt": _ASKED, **_JUDGED}),
    "kto.inline": _judged({"prompt": _ASKED, "answer": "42", "good": True}),
    **{
        f"kto.{markup}.{name}": _judged({**_BRIEF, column: _ASKED, **_JUDGED}, "system")
        for markup in _MARKUPS
        for name, column in (
            ("argilla", "instruction"),
            ("intel", "question"),
            ("prompt_pairs", "prompt"),
            ("ultra", "prompt"),
        )
    },
    **{
        f"kto.{markup}.argilla_chat": _judged({"completion": _TURNS, "label": True})
        for markup in _MARKUPS
    },
    "stepwise_supervised": Description(
        STEPS,
        "a label at the end of each step",
        {"prompt": "6 * 7 + 1?", "completions": ["6 * 7 = 42", "So 44."], "labels": [True, False]},
    ),
}

_OWN_ANSWERS: Final = {
    "prompts": _prompts({"prompt": _TURNS[:1], "answer": "42"}),
    "ebft.ebft_opencode.transform": _prompts({"input": "Add two numbers.", "output": "a + b"}),
    **dict.fromkeys(
        (
            *(f"ebft.ebft_chat_multiturn.transform{x}" for x in ("", "_last_turn", "_all_turns")),
            *(f"ebft.ebft_reasoning.transform{x}" for x in ("", "_split_thinking", "_answer_only")),
        ),
        _prompts({"messages": _TURNS}),
    ),
    "ebft.ebft_reasoning.transform_strided": _prompts(
        {"messages": _TURNS}, "the assistant's last turn"
    ),
    "ebft.ebft_strided_chat.transform": _prompts({"messages": _TURNS}, "the assistant's turns"),
    "ebft.ebft_strided_structured.transform": _prompts(
        {"input": _ASKED, "output": "42"}, "`output`"
    ),
    "ebft.ebft_pretrain.transform": _prompts({"text": "Pears ripen."}, "everything"),
}

DESCRIPTIONS: Final[Mapping[str, Description]] = {
    **_CHATS,
    **_INSTRUCTIONS,
    **_TEXTS,
    **_COMPARED,
    **_UNPAIRED,
    **_OWN_ANSWERS,
}
"""Every built-in format's description by its name in the catalog."""
