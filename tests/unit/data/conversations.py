"""Short conversations, written for the tests of templates: messages, tools, variables."""

from __future__ import annotations

from typing import Any, Final

Conversation = tuple[list[dict[str, Any]], list[dict[str, Any]], dict[str, Any]]

TOOLS: Final[list[dict[str, Any]]] = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "The weather of a city.\nToday's.",
            "parameters": {
                "type": "object",
                "properties": {
                    "city": {"type": "string", "description": "Which", "enum": ["Oslo", "Rome"]},
                    "days": {"type": "array", "items": {"type": "integer"}},
                    "more": {"type": "object", "properties": {"a": {"type": "boolean"}}},
                },
                "required": ["city"],
            },
        },
    }
]


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def system(text: str) -> dict[str, Any]:
    return {"role": "system", "content": text}


def answer(text: str, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": text, **more}


def call(**arguments: Any) -> dict[str, Any]:
    function = {"name": "weather", "arguments": arguments}
    return answer("", tool_calls=[{"id": "call00001", "type": "function", "function": function}])


def result(text: str) -> dict[str, Any]:
    return {"role": "tool", "content": text, "tool_call_id": "call00001", "name": "weather"}


ASKED: Final = [user("Is it warm?"), call(city="Oslo", days=[1, 2]), result('{"t": 5}')]

CONVERSATIONS: Final[dict[str, Conversation]] = {
    "one": ([user("Hi"), answer("Hello")], [], {}),
    "blanks": ([user(" Hi \n"), answer("\n Hello  ")], [], {}),
    "two": ([user("Hi"), answer("Hello"), user("More?"), answer("Yes")], [], {}),
    "system": ([system("Be kind."), user("Hi"), answer("Hello")], [], {}),
    "question": ([user("Hi"), answer("Hello"), user("More?")], [], {}),
    "thought": ([user("Hi"), answer("Hello", reasoning_content="Greet.")], [], {}),
    "inline thought": ([user("Hi"), answer("<think>\nGreet.\n</think>\n\nHello")], [], {}),
    "no thought": ([user("Hi"), answer("Hello")], [], {"enable_thinking": False}),
    "tools": ([*ASKED, answer("No.")], TOOLS, {}),
    "call": (ASKED[:2], TOOLS, {}),
}
