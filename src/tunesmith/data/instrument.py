"""The template environment that keeps origins: the sandbox of chat templates, instrumented.

What templates may use, and how whitespace is trimmed, is what the transformers library gives them
(``transformers.utils.chat_template_utils``); a test holds both renderings equal.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from itertools import zip_longest
from typing import Any

import jinja2
import jinja2.ext
from jinja2 import nodes, pass_context
from jinja2.compiler import CodeGenerator, Frame
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

from tunesmith.data.origin import (
    TOOLS,
    Origin,
    Run,
    Tracked,
    concatenate,
    follow,
    mark,
    origins_in,
    plain,
)
from tunesmith.data.records import FieldSpan

REASONING_FIELDS = ("reasoning_content", "thinking", "reasoning")
"""The names under which data sets keep a turn's reasoning, the first wins."""

# These hand back items of their input, or no text at all; wrapping them would only cost time.
_STRUCTURAL_FILTERS = frozenset(
    (
        *("attr", "batch", "count", "default", "d", "dictsort", "first", "float", "groupby", "int"),
        *("items", "last", "length", "list", "map", "max", "min", "random", "reject", "rejectattr"),
        *("reverse", "round", "select", "selectattr", "slice", "sort", "sum", "unique"),
    )
)

_CHARACTER_FILTERS = frozenset({"capitalize", "lower", "string", "trim", "upper"})
"""Filters that are one method of a string, which keeps the origin of each character."""


class _CodeGenerator(CodeGenerator):
    """Sends ``a ~ b`` through the environment, where plain code would call ``str.join``."""

    def visit_Concat(self, node: nodes.Concat, frame: Frame) -> None:
        self.write("environment.concat((")
        for part in node.nodes:
            self.visit(part, frame)
            self.write(", ")
        self.write("))")


class TrackingEnvironment(ImmutableSandboxedEnvironment):
    """The sandbox whose operations keep the origins of text."""

    code_generator_class = _CodeGenerator
    concat = staticmethod(concatenate)
    intercepted_binops = frozenset(["%"])

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """The result of ``left % right``, marked by both."""
        return follow(super().call_binop(context, operator, left, right), (left, right))

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        """What the call returns; text out of a method of a plain string is marked by the arguments.

        The odd parameter names are jinja's: templates may pass arguments called ``self``.
        """
        owner = getattr(__obj, "__self__", None)
        if not isinstance(owner, str) or isinstance(owner, Tracked):
            return super().call(__context, __obj, *args, **kwargs)
        name = getattr(__obj, "__name__", "")
        if name in ("join", "replace"):
            return super().call(__context, getattr(Tracked(owner), name), *args, **kwargs)
        return follow(super().call(__context, __obj, *args, **kwargs), (args, kwargs))

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        """``str.format`` of the sandbox, its result marked by the template and the arguments."""
        formatter = super().wrap_str_format(value)
        if formatter is None:
            return None
        template = value.__self__

        @functools.wraps(formatter)
        def tracked_format(*args: Any, **kwargs: Any) -> Any:
            return follow(plain(formatter(*args, **kwargs)), (template, args, kwargs))

        return tracked_format


class _Generation(jinja2.ext.Extension):
    """``{% generation %}``: marks the assistant's text for others; here it only prints its body."""

    tags = {"generation"}  # noqa: RUF012 (jinja's own attribute)

    def parse(self, parser: Parser) -> nodes.Node:
        """The block as a call that prints its body."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        call = self.call_method("_body")
        return nodes.CallBlock(call, [], [], body).set_lineno(line)

    def _body(self, caller: Callable[[], str]) -> str:
        return caller()


class _Dict:
    """``dict`` for templates, without the attributes of the class."""

    def __call__(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        return dict(*args, **kwargs)

    def fromkeys(self, keys: Iterable[Any], value: Any = None) -> dict[Any, Any]:
        """A dict of the keys, all with one value."""
        return dict.fromkeys(keys, value)


class _Namespace(Namespace):
    """``namespace`` for templates, closed for names with an underscore in front."""

    def __init__(*args: Any, **kwargs: Any) -> None:  # a key may be called `self`
        instance, values = args[0], dict(*args[1:], **kwargs)
        for name in values:
            _check_name(name)
        Namespace.__init__(instance, values)

    def __setitem__(self, name: str, value: Any) -> None:
        _check_name(name)
        super().__setitem__(name, value)


def _check_name(name: Any) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise jinja2.exceptions.SecurityError(
            f"a template may not store {name!r}: names with an underscore in front are closed"
        )


def _raise_exception(message: Any) -> None:
    raise jinja2.exceptions.TemplateError(plain(message) if isinstance(message, str) else message)


# --- filters --------------------------------------------------------------------------------------


def _followed(function: Callable[..., Any], *, by_character: bool) -> Callable[..., Any]:
    """The filter, its result marked by its arguments.

    Unless it is known to work on its text by methods alone (``by_character``), it is given plain
    text: inside of it origins could be lost in part, and nobody would see it.
    """
    first = 1 if hasattr(function, "jinja_pass_arg") else 0

    @functools.wraps(function)
    def marked(*args: Any, **kwargs: Any) -> Any:
        context, values = args[:first], args[first:]
        if by_character:
            return follow(function(*args, **kwargs), (values, kwargs))
        return follow(function(*context, *_bare(values), **_bare(kwargs)), (values, kwargs))

    return marked


def _bare(value: Any) -> Any:
    """The same data with plain strings."""
    if isinstance(value, str):
        return plain(value) if isinstance(value, Tracked) else value
    if isinstance(value, dict):
        return {_bare(key): _bare(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(_bare, value))
    return value


@pass_context
def _join(context: Context, value: Any, d: str = "", attribute: Any = None) -> str:
    if attribute is not None:
        value = context.environment.call_filter(
            "map", value, kwargs={"attribute": attribute}, context=context
        )
    return Tracked(d).join(item if isinstance(item, str) else str(item) for item in value)


def _replace(text: Any, old: Any, new: Any, count: int | None = None) -> str:
    tracked = text if isinstance(text, Tracked) else Tracked(str(text))
    return tracked.replace(str(old), str(new), -1 if count is None else count)


def plain_tojson(
    value: Any,
    ensure_ascii: bool = False,  # noqa: FBT001, FBT002 (templates may call it by position)
    indent: Any = None,
    separators: Any = None,
    sort_keys: bool = False,  # noqa: FBT001, FBT002
) -> str:
    """JSON as the transformers library prints it in templates: no HTML escapes."""
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


class _JsonWriter:
    """Prints JSON leaf by leaf, so that each leaf keeps its own origin."""

    def __init__(
        self, *, ensure_ascii: bool, indent: Any, separators: Any, sort_keys: bool
    ) -> None:
        self.ensure_ascii = ensure_ascii
        self.indent = " " * indent if isinstance(indent, int) else indent
        default = (", ", ": ") if indent is None else (",", ": ")
        self.comma, self.colon = map(str, separators or default)
        self.sort_keys = sort_keys

    def write(self, value: Any, depth: int = 0) -> list[str]:
        """The parts of the value's text."""
        if isinstance(value, Mapping) and value:
            pairs = sorted(value.items()) if self.sort_keys else value.items()
            items = [
                [self._key(key), self.colon, *self.write(item, depth + 1)] for key, item in pairs
            ]
            return self._nest("{", items, "}", depth)
        if isinstance(value, list | tuple) and value:
            return self._nest("[", [self.write(item, depth + 1) for item in value], "]", depth)
        return [self._leaf(value)]

    def _nest(self, opening: str, items: list[list[str]], closing: str, depth: int) -> list[str]:
        inner = outer = ""
        if self.indent is not None:
            inner, outer = "\n" + self.indent * (depth + 1), "\n" + self.indent * depth
        parts = [opening, inner]
        for number, item in enumerate(items):
            parts += [self.comma, inner, *item] if number else item
        return [*parts, outer, closing]

    def _leaf(self, value: Any) -> str:
        text = json.dumps(value, ensure_ascii=self.ensure_ascii)
        return str(follow(text, (value,)))

    def _key(self, key: Any) -> str:
        if isinstance(key, str):
            return self._leaf(key)
        return json.dumps({key: None})[1 : -len(": null}")]


def _tojson(
    value: Any,
    ensure_ascii: bool = False,  # noqa: FBT001, FBT002
    indent: Any = None,
    separators: Any = None,
    sort_keys: bool = False,  # noqa: FBT001, FBT002
) -> str:
    text = plain_tojson(value, ensure_ascii, indent, separators, sort_keys)
    if len(origins_in(value)) <= 1:
        return str(follow(text, (value,)))
    writer = _JsonWriter(
        ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )
    return concatenate(writer.write(value))


# --- the compiled template ------------------------------------------------------------------------


def build_environment(
    kind: type[ImmutableSandboxedEnvironment], now: str
) -> ImmutableSandboxedEnvironment:
    """An environment with what chat templates expect; ``now`` is the ISO time they are told."""
    environment = kind(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, jinja2.ext.loopcontrols]
    )
    moment = datetime.fromisoformat(now)
    environment.filters["tojson"] = plain_tojson
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = lambda form: moment.strftime(plain(form))
    environment.globals["dict"] = _Dict()
    environment.globals["namespace"] = _Namespace
    if issubclass(kind, TrackingEnvironment):
        for name, function in list(environment.filters.items()):
            if name not in _STRUCTURAL_FILTERS:
                by_character = name in _CHARACTER_FILTERS
                environment.filters[name] = _followed(function, by_character=by_character)
        environment.filters |= {"tojson": _tojson, "join": _join, "replace": _replace}
    return environment


def template_messages(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Messages as templates see them: no keys that are null, reasoning under each known name."""
    prepared = []
    for message in messages:
        fields = {key: value for key, value in message.items() if value is not None}
        reasoning = next((fields[key] for key in REASONING_FIELDS if key in fields), None)
        if reasoning is not None:
            fields = {"thinking": reasoning, **fields, "reasoning_content": reasoning}
        prepared.append(fields)
    return prepared


def _marked_message(
    number: int, fields: Mapping[str, Any], spans: Sequence[FieldSpan]
) -> dict[str, Any]:
    marked = {key: mark(value, Origin(number, key)) for key, value in fields.items()}
    for key in {span.field for span in spans}:
        for name in REASONING_FIELDS if key in REASONING_FIELDS else (key,):
            if isinstance(marked.get(name), str):
                marked[name] = _parted(marked[name], Origin(number, name), key, spans)
    if "reasoning_content" in marked and marked.get("thinking") == marked["reasoning_content"]:
        marked["thinking"] = marked["reasoning_content"]
    return marked


def _parted(text: str, origin: Origin, field: str, spans: Sequence[FieldSpan]) -> Tracked:
    """The field's text, each of its spans with an origin of its own."""
    runs: list[Run] = []
    position = 0
    for part, span in enumerate(spans, start=1):
        if span.field == field:
            runs.append((span.start - position, origin))
            runs.append((span.end - span.start, origin._replace(part=part)))
            position = span.end
    return Tracked(plain(text), [*runs, (len(text) - position, origin)], origin)


class CompiledTemplate:
    """A chat template, compiled twice: with origins, and plain as the reference for its text.

    ``variables`` are what every rendering sees, special tokens among them.
    """

    def __init__(self, text: str, variables: Mapping[str, Any], now: str) -> None:
        self._tracking = build_environment(TrackingEnvironment, now).from_string(text)
        self._plain = build_environment(ImmutableSandboxedEnvironment, now).from_string(text)
        self._variables = dict(variables)

    def _context(self, tools: Any, variables: Mapping[str, Any], *, prompt: bool) -> dict[str, Any]:
        return {
            "documents": None,
            **self._variables,
            **variables,
            "tools": tools or None,
            "add_generation_prompt": prompt,
        }

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] = (),
        variables: Mapping[str, Any] | None = None,
        *,
        prompt: bool = False,
        spans: Sequence[Sequence[FieldSpan]] = (),
    ) -> Tracked:
        """The conversation with the origin of each character.

        ``prompt`` asks for the next turn. ``spans`` are those of each message.
        """
        marked = [
            _marked_message(number, fields, own or ())
            for number, (fields, own) in enumerate(
                zip_longest(template_messages(messages), spans[: len(messages)])
            )
        ]
        context = self._context(
            mark(list(tools), Origin(TOOLS, "tools")), variables or {}, prompt=prompt
        )
        return Tracked(self._tracking.render(messages=marked, **context))

    def render_plain(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] = (),
        variables: Mapping[str, Any] | None = None,
        *,
        prompt: bool = False,
    ) -> str:
        """The same text, rendered without origins."""
        context = self._context(list(tools), variables or {}, prompt=prompt)
        return self._plain.render(messages=template_messages(messages), **context)
