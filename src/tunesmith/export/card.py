"""The model card: what the model is, what it was made from, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any

PACKAGES = ("tunesmith", "transformers", "peft", "torch", "datasets", "tokenizers")


@dataclass(frozen=True, slots=True)
class CardFacts:
    """What a card says. ``base`` is a hub id or a folder; ``method`` is "LoRA", "full", ...

    ``data`` are the data sets' names. ``results`` are named numbers of the end of the run, such as
    ``eval_loss``. ``config`` is the YAML that made the model. ``record`` is ``tunesmith.json``.
    """

    base: str
    method: str
    data: tuple[str, ...] = ()
    results: Mapping[str, float] = field(default_factory=dict)
    config: str = ""
    is_adapter: bool = False
    record: Mapping[str, Any] = field(default_factory=dict)


def make_card(facts: CardFacts) -> str:
    """The text of ``README.md``: front matter that the hub reads, then what people read."""
    parts = [
        _front_matter(facts),
        f"# A fine-tune of {_code(facts.base)}\n",
        _summary(facts),
        _results(facts),
        _config(facts),
        _versions(),
    ]
    return "\n".join(part for part in parts if part)


def _front_matter(facts: CardFacts) -> str:
    """The block between dashes. A base that is a local path is no hub id, and is left out of it."""
    lines = ["---", f"library_name: {'peft' if facts.is_adapter else 'transformers'}"]
    lines.append("pipeline_tag: text-generation")
    if not _is_path(facts.base):
        lines.append(f"base_model: {_quote(facts.base)}")
    lines += ["tags:", "- tunesmith", "- text-generation"]
    if facts.is_adapter:
        lines.append("- lora")
    names = [name for name in facts.data if not _is_path(name)]
    if names:
        lines += ["datasets:", *(f"- {_quote(name)}" for name in names)]
    return "\n".join([*lines, "---", ""])


def _summary(facts: CardFacts) -> str:
    lines = [f"- base model: {_code(facts.base)}", f"- method: {facts.method}"]
    lines += [f"- data: {_code(name)}" for name in facts.data]
    if facts.is_adapter:
        lines.append("- this folder holds an adapter: load it with peft, or merge it into its base")
    return "\n".join([*lines, ""])


def _results(facts: CardFacts) -> str:
    if not facts.results:
        return ""
    rows = [f"| {name} | {value:.6g} |" for name, value in facts.results.items()]
    return "\n".join(["## Results", "", "| | |", "|---|--:|", *rows, ""])


def _config(facts: CardFacts) -> str:
    if not facts.config:
        return ""
    # A fence longer than any inside, so that nothing in the config can end it.
    fence = "`" * max(3, 1 + _longest_run(facts.config, "`"))
    return "\n".join(["## Config", "", f"{fence}yaml", facts.config.rstrip("\n"), fence, ""])


def _versions() -> str:
    rows = [f"- {name} {found}" for name in PACKAGES if (found := _version(name)) is not None]
    return "\n".join(["## Made with", "", *rows, ""])


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _is_path(name: str) -> bool:
    """Whether a name is no hub id: one has at most one slash and is not the name of a file."""
    is_file = name.endswith((".gguf", ".json", ".jsonl", ".parquet", ".csv", ".txt"))
    return is_file or name.startswith((".", "/", "~")) or name.count("/") > 1 or "\\" in name


def _code(text: str) -> str:
    return f"`{text}`"


def _quote(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _longest_run(text: str, character: str) -> int:
    longest = run = 0
    for found in text:
        run = run + 1 if found == character else 0
        longest = max(longest, run)
    return longest
