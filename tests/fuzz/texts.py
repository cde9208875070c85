"""What people, editors and attackers write where a config is expected, as hypothesis strategies."""

from __future__ import annotations

import random
import string
from collections.abc import Mapping
from itertools import chain
from pathlib import Path

from hypothesis import strategies as st

from tunesmith.config.flat import leaves
from tunesmith.config.unbuilt import unbuilt_keys

FOLDER = Path(__file__).parent.parent / "compat" / "corpus"
CORPUS = [path.read_bytes() for path in sorted(FOLDER.rglob("*.y*ml"))]

RIGHT = b"""\
base_model: Qwen/Qwen2.5-0.5B
datasets: [{path: a.jsonl, type: alpaca}]
micro_batch_size: 1
learning_rate: 1e-5
"""

# Scalars and flow collections that stand where another value belongs.
NASTY = (
    "",
    "~",
    "null",
    "0",
    "-0",
    "-1",
    "1.5",
    "1e400",
    "1e-400",
    "9" * 400,
    "1" * 39,
    "0x" + "f" * 32,
    ".nan",
    "-.inf",
    "nan",
    "true",
    "yes",
    "No",
    "'on'",
    "2024-01-01",
    "2001-12-14t21:59:43.10-05:00",
    "12:30:45",
    "190:20:30",
    "word",
    "''",
    '"\\u0000"',
    '"\\ud800"',
    "[]",
    "{}",
    "[1, two, [3]]",
    "{a: {b: [c]}}",
    "[{path: a}, word, 3, null]",
    "{0: zero, 1.5: half, true: yes, null: none}",
    "!!str 3",
    "!!int word",
    "!!binary aGFsbG8=",
    "!!set {a, b}",
    "!!timestamp 2024-01-01",
    "!!python/object/apply:os.system [echo hacked]",
    "!!python/name:os.system",
    "!include other.yaml",
    "!custom {a: 1}",
    "&a [*a]",
    "&a {<<: *a}",
    "*nowhere",
    "&x word",
    "{<<: [1]}",
    "{<<: {path: a}}",
    "{? [a]: b}",
    "|\n  block\n  text",
    ">-\n  folded\n\n  text",
    "$(touch hacked)",
    "{{ 7 * 7 }}",
    "${HOME}",
    "../../etc/passwd",
    "\u202eabc",
    "＿",
)
PIECES = (
    b"\t",
    b"\xff",
    b"\x00",
    b"\x85",
    b"\xe2\x80\xa8",
    b"\xed\xa0\x80",
    b"\r",
    b"\n",
    b"\n\n  ",
    b"&a ",
    b"*a",
    b"!!x ",
    b"<<: *a\n",
    b"---\n",
    b"...\n",
    b"%YAML 9.9\n",
    b"%TAG ! x\n",
    b"? ",
    b": ",
    b":",
    b"- ",
    b"#",
    b" #",
    b"{",
    b"}",
    b"[",
    b"]",
    b"'",
    b'"',
    b"|",
    b">",
    b"@",
    b"`",
    b",",
)


def key_paths() -> list[tuple[str, ...]]:
    """Every key that is read or known, as nested words; keys of a list's entries behind ``[]``."""
    names = sorted({*leaves(), *unbuilt_keys()})
    return [tuple(name.replace("[]", ".[]").split(".")) for name in names]


def written(path: tuple[str, ...], value: str) -> str:
    """One key as YAML in block style, with the value as text."""
    lines: list[str] = []
    indent, dash = 0, ""
    for part in path:
        if part == "[]":
            dash = "- "
            continue
        lines.append(f"{' ' * indent}{dash}{part}:")
        indent, dash = indent + len(dash) + 2, ""
    return "\n".join(lines) + f" {value}\n"


def with_value(text: str, path: tuple[str, ...], value: str) -> str:
    """The text of a config with one key set, in the place of what it set below the first word."""
    kept = [line for line in text.splitlines() if not line.startswith(f"{path[0]}:")]
    return "\n".join(kept) + "\n" + written(path, value)


@st.composite
def wrong_types(draw: st.DrawFn) -> bytes:
    """A right config with up to three keys of any kind set to values of any kind."""
    text = RIGHT.decode()
    for path in draw(st.lists(st.sampled_from(key_paths()), min_size=1, max_size=3)):
        text = with_value(text, path, draw(st.sampled_from(NASTY)))
    return text.encode("utf-8", "surrogatepass")


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A file of the corpus after a few accidents."""
    raw = bytearray(draw(st.sampled_from(CORPUS)))
    for _ in range(draw(st.integers(1, 5))):
        at = draw(st.integers(0, len(raw)))
        kind = draw(st.integers(0, 4))
        if kind == 0:
            raw[at : at + draw(st.integers(0, 3))] = draw(st.sampled_from(PIECES))
        elif kind == 1:
            del raw[at : at + draw(st.integers(1, 40))]
        elif kind == 2:
            lines = bytes(raw).splitlines(keepends=True) or [b""]
            line = draw(st.sampled_from(lines))
            lines.insert(draw(st.integers(0, len(lines))), line)
            raw = bytearray(b"".join(lines))
        elif kind == 3:
            lines = bytes(raw).splitlines(keepends=True) or [b""]
            number = draw(st.integers(0, len(lines) - 1))
            name, colon, _ = lines[number].partition(b": ")
            value = draw(st.sampled_from(NASTY)).encode("utf-8", "surrogatepass")
            lines[number] = name + colon + value + b"\n" if colon else b" " + lines[number]
            raw = bytearray(b"".join(lines))
        else:
            raw[at:at] = draw(st.binary(min_size=1, max_size=8))
    return bytes(raw)


def nested(depth: int, opening: str) -> bytes:
    """A value in many brackets, mappings, list items, or indented blocks."""
    if opening == "indent":
        return "".join(f"{' ' * level}a:\n" for level in range(min(depth, 1400))).encode()
    return b"base_model: " * (opening != "- ") + opening.encode() * depth


def bomb(width: int, depth: int, *, merged: bool) -> bytes:
    """Aliases of aliases: ``width ** depth`` values in a few lines."""
    lines = ["a0: &a0 {x: 1}" if merged else "a0: &a0 [x, x]"]
    for level in range(1, depth + 1):
        inside = ", ".join([f"*a{level - 1}"] * width)
        value = f"{{<<: [{inside}], y{level}: [{inside}]}}" if merged else f"[{inside}]"
        lines.append(f"a{level}: &a{level} {value}")
    return "\n".join(lines).encode()


LARGE = (
    b"a",
    b"a: b\n",
    b"# a comment\n",
    b"\n",
    b" ",
    b"- ",
    b"[",
    b"{a: ",
    b"'",
    b'"\\x41',
    b"&a ",
    b"a: &a b\n",
    b"? ",
    b"a:\n ",
    b"word word\n",
    b"9",
    b"\t",
    b"---\n",
    b"%A b\n",
    b"!",
    b"- |\n  x\n",
    "ß".encode(),
)


@st.composite
def large(draw: st.DrawFn) -> bytes:
    """One piece again and again: up to the size that is read, or a file of 10 MB and more."""
    piece = draw(st.sampled_from(LARGE))
    size = draw(st.sampled_from([2_000, 60_000, 990_000, 1_000_000, 1_000_001, 10_000_000]))
    begin = draw(st.sampled_from([b"", b"a: ", b"a: [", b"a: '", b"a: |\n ", b'base_model: "']))
    return (begin + piece * (size // len(piece) + 1))[:size]


_HEAD, _DATA, _TAIL = RIGHT.partition(b"datasets: [{path: a.jsonl, type: alpaca}]\n")


def _repeated(line: str, number: int) -> bytes:
    """Lines whose ``%d`` is their number, behind a right config."""
    return RIGHT + "".join(line % at for at in range(number)).encode()


def _entries(entry: str, number: int, name: str = "datasets") -> bytes:
    """A right config with many entries; ``%d`` in them is their number."""
    listed = "".join(entry % at for at in range(number)).encode()
    return b"%s%s:\n%s%s" % (_HEAD, name.encode(), listed, _TAIL)


def _random_keys(number: int) -> bytes:
    draw = random.Random(0)
    names = ("".join(draw.choices(string.ascii_lowercase, k=12)) for _ in range(number))
    return RIGHT + "".join(f"{name}: 1\n" for name in names).encode()


# Files below the size that is read, in which thousands of keys ask for work each.
LONG: Mapping[str, bytes] = {
    "unknown keys": _random_keys(9_000),
    "one slip in each": _repeated("lora_target_modul%d: 1\n", 9_000),
    "unknown keys of a block": RIGHT
    + b"rl: grpo\ntrl:\n"
    + b"".join(b"  vllm_server_hos%d: 1\n" % at for at in range(9_000)),
    "old entries": _entries("  - path: a%d.jsonl\n    type: sharegpt\n", 2_400),
    "old entries of an old list": _entries(
        "  - {path: a%d.jsonl, type: sharegpt.load_role, field_human: h}\n", 2_000, "dataset"
    ),
    "old truth values": _entries(
        "  - path: a%d.jsonl\n    type: alpaca\n    streaming: no\n", 1_900
    ),
    "unknown types": _entries("  - path: a.jsonl\n    type: alpacca%d\n", 2_400),
    "unknown keys of entries": _entries("  - path: a.jsonl\n    typ%d: alpaca\n", 2_400),
    "paths alone": _entries("  - a%d.jsonl\n", 9_000),
    "other trainer's plugins": RIGHT
    + b"plugins:\n"
    + b"  - axolotl.integrations.liger.LigerPlugin\n" * 4_000,
}


def encoded() -> st.SearchStrategy[bytes]:
    """A right file in an encoding that is not UTF-8, or with a mark of one."""
    encodings = ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp037", "utf-7"]
    return st.builds(
        lambda raw, encoding, tail: raw.decode("utf-8").encode(encoding, "replace") + tail,
        st.sampled_from(CORPUS),
        st.sampled_from(encodings),
        st.sampled_from([b"", b"\x00", b"\xff\xfe"]),
    )


def files() -> st.SearchStrategy[bytes]:
    """The bytes of a file that somebody calls a config."""
    alphabet = st.sampled_from("ab:-[]{}&*!?|>'\"#%@`,\n\t 01.~<\r\x00\x85\u2028é")
    openings = st.sampled_from(["[", "{a: ", "- ", "? ", "[{a: ", "indent", "&a "])
    rare = st.one_of(
        large(),
        st.builds(nested, st.integers(1, 60) | st.integers(900, 200_000), openings),
        st.builds(bomb, st.integers(1, 40), st.integers(1, 30), merged=st.booleans()),
        encoded(),
        st.sampled_from([*LONG.values()]),
    )
    usual = st.one_of(
        st.binary(max_size=200),
        st.text(alphabet, max_size=80).map(lambda text: text.encode("utf-8", "surrogatepass")),
        wrong_types(),
        wrong_types(),
        damaged(),
        damaged(),
    )
    return st.integers(0, 9).flatmap(lambda n: rare if n == 0 else usual)


def override_words() -> st.SearchStrategy[list[str]]:
    """Words of a command line behind the config: ``--a.b.0 x``, ``--no-flag``, and worse."""
    names = st.sampled_from([".".join(path).replace("[]", "0") for path in key_paths()])
    parts = st.sampled_from(["0", "1", "99", "-1", "", "path", "type", "x", "é", "[]", "00", "²"])
    dotted = st.lists(parts | names, min_size=1, max_size=4).map(".".join)
    key = st.one_of(names, dotted, names.map(lambda name: name.replace("_", "-")))
    value = st.sampled_from([nasty for nasty in NASTY if "\x00" not in nasty])
    word = st.one_of(
        key.map(lambda name: [f"--{name}"]),
        key.map(lambda name: [f"--no-{name}"]),
        st.builds(lambda name, text: [f"--{name}", text], key, value),
        st.builds(lambda name, text: [f"--{name}={text}"], key, value),
        value.map(lambda text: [text]),
    )
    return st.lists(word, min_size=1, max_size=6).map(lambda words: [*chain(*words)])
