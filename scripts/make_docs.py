#!/usr/bin/env python3
"""Write what the documents take from the source: the reference of keys, the list of modules.

    python scripts/make_docs.py           # write what is stale
    python scripts/make_docs.py --check   # exit 1 if something is

One page for each section of the config, their index, the support table of axolotl's keys, and
the loop and the list of modules in `docs/architecture.md`, each between two markers.
"""

from __future__ import annotations

import argparse
import ast
import csv
import json
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from tunesmith.catalog import STYLED_FORMATS
from tunesmith.config import support
from tunesmith.config.checks.rules import MACHINE_RULES, RULES
from tunesmith.config.docs import type_in_words, written
from tunesmith.config.flat import Leaf, leaves
from tunesmith.config.schema import RunConfig
from tunesmith.config.support import STATES
from tunesmith.data.formats.reference import DESCRIPTIONS, Description

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src/tunesmith"
ARCHITECTURE = ROOT / "docs/architecture.md"
REFERENCE = ROOT / "docs/reference"
AXOLOTL_KEYS = REFERENCE / "axolotl-keys.txt"
AXOLOTL_RULES = REFERENCE / "axolotl-rules.tsv"
MODULES = "<!-- modules: written by scripts/make_docs.py -->", "<!-- modules: end -->"
LOOP = "<!-- loop: written by scripts/make_docs.py -->", "<!-- loop: end -->"
GENERATED = "<!-- Written by scripts/make_docs.py from the source; `make docs` writes it anew. -->"

# From the top down, as the architecture has them.
FLOORS = (
    *("cli", "launch", "runs", "engine", "export", "report", "serve"),
    *("objectives", "rollout", "checkpoint", "models"),
    *("data", "patches", "parallel", "optim", "tracking", "kernels", "dist", "config"),
)

SECTION_FOOT = """
`tunesmith config explain KEY your.yaml` says the same of one key, with its value in your file and
who set it. All sections: [reference](README.md).
"""
INDEX_HEAD = """
# Reference: every key of the YAML

A config is flat: the sections only sort this reference. Each key can also be given on the command
line (`--learning-rate 1e-5`, `--datasets.0.path rows.jsonl`), where it wins over the file.
"""
FORMATS_HEAD = """
# Data set types

What `type` of a data set can be. A column with `?` may be missing or null. `train_on_inputs: true`
trains the prompts of instructions too. Under `rl:` the part in front may be left out: with
`rl: dpo`, `type: chatml.intel` is `dpo.chatml.intel`. Without a `type` rows are conversations, or
token ids where they have `input_ids`, `attention_mask` and `labels`. Preference training and
training on prompts are not built yet; their rows are read, and no objective takes them so far.
A row that does not fit is an error with its file, row and field.
"""
FORMATS_FOOT = """
## Where rows differ from axolotl's

Ids and labels are those of axolotl 0.19, but for these, each with a test:

* a row whose answer is empty is dropped with a line in the ledger (there it trains nothing);
* `reflection:chat` ends with the corrected answer (there it is never shown);
* `llama2_chat` trains its answers and ends with the last one (there a row is masked whole where
  tokens are miscounted, is padded to `sequence_len`, and ends with an opening `<s>`);
* `pygmalion` opens every conversation with bos; it and `llama2_chat` honour `train_on_inputs`;
* `dpo.zephyr.nectar` chooses the best answer (there the worst);
* pairs of a chat template hold what the template writes around an answer, and train its end alone;
* an empty system text writes no system turn, and a missing one is no error (`bradley_terry`, KTO).
"""
SUPPORT_HEAD = """
# axolotl's keys, one by one

axolotl knows {n} key paths (with those of its plugins, and of its cloud file, here under `cloud:`).
Each of them is answered; none is dropped in silence. What *your* file uses,
`tunesmith config validate your.yaml` says.
"""

RULES_HEAD = """
# Rules between keys

What must hold between the keys of a config, beside the type and the bounds of each. A config that
breaks one gets a problem with its place, and with the smallest edit that ends it (`edit` in
`tunesmith config validate --json`: dotted key to new value, null takes the key out). Rules about
what is not built yet are asked too.
"""
AXOLOTL_RULES_HEAD = """
## What became of axolotl's

axolotl checks its configs with the rules of the first column. Those that are broken or dead there,
or that only guard a limit of its trainers, are not copied; where it changes a value in silence, the
plan derives it and says so.
"""


def pages() -> dict[Path, str]:
    """Every generated file and its text."""
    found = {REFERENCE / f"{name}.md": section_page(name) for name in RunConfig.model_fields}
    found[REFERENCE / "README.md"] = index_page()
    found[REFERENCE / "support.md"] = support_page()
    found[REFERENCE / "rules.md"] = rules_page()
    found[REFERENCE / "formats.md"] = formats_page()
    text = ARCHITECTURE.read_text(encoding="utf-8")
    found[ARCHITECTURE] = between(LOOP, loop_lines(), between(MODULES, module_lines(), text))
    return found


# --- the sections ---------------------------------------------------------------------------------


def section_page(section: str) -> str:
    """The keys of one section: type, default, meaning, when they matter, and who reads them."""
    lines = [GENERATED, "", f"# {section}", "", _title(section), ""]
    lines += _table("key", "type", "default", "what it does", "has no effect while", "read by")
    lines += [_row(*_cells(leaf)) for leaf in leaves().values() if leaf.section == section]
    return "\n".join(lines) + "\n" + SECTION_FOOT


def _cells(leaf: Leaf) -> list[str]:
    readers = ", ".join(f"`{name.removeprefix('tunesmith.')}`" for name in leaf.info.readers)
    default = "required" if leaf.required else f"`{written(leaf.default)}`"
    idle = leaf.info.why if leaf.info.when else ""
    return [f"`{leaf.flat}`", type_in_words(leaf), default, leaf.doc, idle, readers]


def index_page() -> str:
    """The sections, each with what it is about and how many keys it has."""
    lines = [GENERATED, INDEX_HEAD]
    lines += _table("section", "what it is about", "keys")
    for section in RunConfig.model_fields:
        count = sum(leaf.section == section for leaf in leaves().values())
        lines.append(_row(f"[{section}]({section}.md)", _title(section), str(count)))
    lines += [
        "",
        "[Data set types](formats.md), [rules between keys](rules.md), "
        "[support of axolotl's keys](support.md)",
    ]
    return "\n".join(lines) + "\n"


def _title(section: str) -> str:
    home = RunConfig.model_fields[section].annotation
    assert home is not None
    return (home.__doc__ or "").strip().splitlines()[0]


# --- the formats of data --------------------------------------------------------------------------


def formats_page() -> str:
    """Every built-in format: its columns, what trains, and a row; then a module of one's own."""
    lines = [GENERATED, FORMATS_HEAD]
    groups = dict.fromkeys(each.group for each in DESCRIPTIONS.values())
    for group in groups:
        lines += [f"## {group}", "", *_table("`type`", "columns", "what trains", "a row")]
        for name, each in DESCRIPTIONS.items():
            if each.group == group and name != "untyped":
                lines.append(_row(*_format_cells(name, each)))
        lines.append("")
    own = ast.get_docstring(ast.parse((SOURCE / "data/formats/own.py").read_text(encoding="utf-8")))
    lines += ["## A module of your own", "", _as_markdown(own or "")]
    lines.append(FORMATS_FOOT)
    return "\n".join(lines).rstrip() + "\n"


def _format_cells(name: str, each: Description) -> Iterator[str]:
    """A format's name, columns, what trains and an example; a mapping's name says what it is."""
    is_mapping = name.endswith("inline")
    styled = ", `:chat` and other styles" if name in STYLED_FORMATS else ""
    yield (
        f"a mapping ({name.removesuffix('inline') or 'sft.'}*)"
        if is_mapping
        else f"`{name}`{styled}"
    )
    yield ", ".join(f"`{c}`" + ("?" if c in each.optional else "") for c in each.example)
    yield each.trains
    yield f"`{json.dumps(each.example, ensure_ascii=False)}`"


def _as_markdown(docstring: str) -> str:
    """A docstring with its literals and its indented example as Markdown."""
    blocks = []
    for block in docstring.replace("``", "`").split("\n\n"):
        is_code = all(line.startswith("    ") for line in block.splitlines())
        blocks.append(f"```python\n{textwrap.dedent(block)}\n```" if is_code else block)
    return "\n\n".join(blocks)


# --- axolotl's keys -------------------------------------------------------------------------------


def axolotl_keys() -> list[str]:
    """The key paths that axolotl's config classes declare, as they stood when the list was made."""
    return AXOLOTL_KEYS.read_text(encoding="utf-8").split()


def state_of(path: str) -> tuple[str, str]:
    """(one of `STATES`, what is said about it) for one of axolotl's key paths.

    Raises:
        LookupError: nothing in the source answers for the key.
    """
    found = support.state_of(path.removeprefix("cloud:"))
    if found is None:
        raise LookupError(f"nothing answers for axolotl's key `{path}`")
    return found.state, found.what


def support_page() -> str:
    """What becomes of each of axolotl's keys, by state."""
    keys = axolotl_keys()
    states = {path: state_of(path) for path in keys}
    lines = [GENERATED, SUPPORT_HEAD.format(n=len(keys))]
    lines += _table("state", "what that means", "key paths")
    for state, meaning in STATES.items():
        count = sum(found == state for found, _ in states.values())
        lines.append(_row(state, meaning, str(count)))
    for state in STATES:
        chosen = {path: what for path, (found, what) in states.items() if found == state}
        lines += ["", f"## {state[0].upper()}{state[1:]}", "", *_of_state(state, chosen)]
    return "\n".join(lines) + "\n"


def _of_state(state: str, chosen: Mapping[str, str]) -> list[str]:
    """One row a key where each has its own answer; one row an answer where many share it."""
    if state in ("read another way", "refused"):
        head = "read as" if state != "refused" else "why, and what to write"
        return [*_table("key", head), *(_row(f"`{k}`", what) for k, what in chosen.items())]
    together: dict[str, list[str]] = {}
    for path, what in chosen.items():
        together.setdefault(what, []).append(path)
    head = {"read": "section", "left out": "because", "not built": "belongs to"}[state]
    lines = _table(head, "keys")
    for what in sorted(together, key=str.lower):
        label = f"[{what}]({what}.md)" if state == "read" else what
        lines.append(_row(label, " ".join(f"`{path}`" for path in together[what])))
    return lines


# --- rules between keys ---------------------------------------------------------------------------


def rules_page() -> str:
    """Our rules, from their docstrings, and what became of each of axolotl's."""
    lines = [GENERATED, RULES_HEAD, *_table("rule", "what must hold", "keys")]
    for rule in RULES:
        lines.append(_row(f"`{rule.check.__name__}`", _said(rule.check), _listed(rule.keys)))
    lines += ["", "With `--machine`, or on the machine itself:", ""]
    lines += _table("rule", "what must hold", "keys")
    for machine in MACHINE_RULES:
        row = f"`{machine.check.__name__}`", _said(machine.check), _listed(machine.keys)
        lines.append(_row(*row))
    lines += [AXOLOTL_RULES_HEAD, *_table("", "axolotl's rule", "here", "")]
    for found in axolotl_rules():
        ours = _listed(found["our rules"].split()) or found["answer"]
        lines.append(_row(found["rule"], found["what axolotl does"], ours, found["note"]))
    return "\n".join(lines) + "\n"


def axolotl_rules() -> list[dict[str, str]]:
    """axolotl's rules by number, each with what became of it."""
    with AXOLOTL_RULES.open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))


def _said(function: Callable[..., object]) -> str:
    return " ".join((function.__doc__ or "").partition("\n\n")[0].split()).replace("``", "`")


def _listed(names: Iterable[str]) -> str:
    return " ".join(f"`{name}`" for name in names)


# --- the modules ----------------------------------------------------------------------------------


def between(markers: tuple[str, str], lines: Iterable[str], text: str) -> str:
    """The text with new lines between two markers of its own."""
    before, begin, rest = text.partition(markers[0])
    _, end, after = rest.partition(markers[1])
    if not (begin and end):
        raise ValueError(f"{ARCHITECTURE} lacks the markers {markers}")
    return before + "\n".join([begin, "", *lines, "", end]) + after


def loop_lines() -> Iterator[str]:
    """``fit`` and ``train_step`` as they are in the source."""
    yield "```python"
    for name, function in (("loop", "fit"), ("step", "train_step")):
        source = (SOURCE / f"engine/{name}.py").read_text(encoding="utf-8")
        for node in ast.parse(source).body:
            if isinstance(node, ast.FunctionDef) and node.name == function:
                yield from (ast.get_source_segment(source, node) or "").splitlines()
                yield from ["", ""] if name == "loop" else []
    yield "```"


def module_lines() -> Iterator[str]:
    """Every package from the top floor down, and each of its files with one line."""
    yield from _package_lines("", SOURCE.glob("*.py"))
    for package in FLOORS:
        folder = SOURCE / package
        if folder.is_dir():
            yield ""
            yield from _package_lines(package, folder.rglob("*.py"))


def _package_lines(package: str, files: Iterable[Path]) -> Iterator[str]:
    home = SOURCE / package
    yield f"**`{package or 'tunesmith'}/`** {_first_line(home / '__init__.py')}"
    yield ""
    yield from _table("module", "what it is")
    for path in sorted(files):
        if path.name != "__init__.py":
            name = ".".join(path.relative_to(home).with_suffix("").parts)
            yield _row(f"`{name}`", _first_line(path))


def _first_line(path: Path) -> str:
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return " ".join(docstring.partition("\n\n")[0].split()).replace("``", "`")


# --- tables ---------------------------------------------------------------------------------------


def _table(*heads: str) -> list[str]:
    return [_row(*heads), "|" + "---|" * len(heads)]


def _row(*cells: str) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def main() -> int:
    """Write or compare; the exit code says whether something was stale under ``--check``."""
    parser = argparse.ArgumentParser(description="Write what the documents take from the source.")
    parser.add_argument("--check", action="store_true", help="write nothing, name what is stale")
    check = parser.parse_args().check
    stale = [
        path
        for path, text in pages().items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    ]
    for path in stale:
        print(f"{'stale' if check else 'written'}: {path.relative_to(ROOT)}")
        if not check:
            path.write_text(pages()[path], encoding="utf-8")
    return int(check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
