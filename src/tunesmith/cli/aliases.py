"""axolotl's command lines, word by word, as ours: what is old works and says its new name once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import click

from tunesmith.catalog import COMMAND_ALIASES
from tunesmith.cli.options import split_words
from tunesmith.config.read import load
from tunesmith.registry import registry

_ONE_PROCESS = "one process is started"
_SEVERAL = "training on several devices"


@dataclass(frozen=True, slots=True)
class Flag:
    """What becomes of a flag: ``new`` stands for it (``{}`` is its value), or it is left out with
    ``why``, or it asks for what is not built (``unbuilt``), unless its value is ``harmless``.
    """

    takes_value: bool = False
    new: tuple[str, ...] = ()
    why: str = ""
    unbuilt: str = ""
    harmless: str | None = None


_LAUNCH: Mapping[str, Flag] = {
    "launcher": Flag(takes_value=True, why=_ONE_PROCESS),
    "num-processes": Flag(takes_value=True, unbuilt=_SEVERAL, harmless="1", why=_ONE_PROCESS),
    "main-process-port": Flag(takes_value=True, why=_ONE_PROCESS),
    "cloud": Flag(takes_value=True, unbuilt="cloud launchers"),
    "gradio": Flag(unbuilt="the web page to chat"),
    "prompter": Flag(takes_value=True, why="the data set's `type` decides, or the chat template"),
}
_SEE_ROWS = "`tunesmith preprocess CONFIG --show N` shows rows"
_ON_TRAIN: Mapping[str, Flag] = {
    **_LAUNCH,
    "debug": Flag(why=f"{_SEE_ROWS}, `tunesmith --debug COMMAND` tracebacks"),
    "no-debug": Flag(why="nothing is shown unless it is asked for"),
    "debug-text-only": Flag(why=_SEE_ROWS),
    "debug-num-examples": Flag(takes_value=True, why=_SEE_ROWS),
    "shard": Flag(unbuilt="writing a model in shards by hand"),
    "no-shard": Flag(why="shards are cut by size"),
}
_DEQUANTISED = "merging always starts from weights that are not quantised"

_FLAGS: Mapping[str, Mapping[str, Flag]] = {
    "train": _ON_TRAIN,
    "evaluate": _ON_TRAIN,
    "preprocess": {
        **_LAUNCH,
        "debug": Flag(new=("--show", "1")),
        "no-debug": Flag(why="nothing is shown unless it is asked for"),
        "debug-text-only": Flag(why="rows are shown as text, in which what trains stands out"),
        "debug-num-examples": Flag(takes_value=True, new=("--show", "{}")),
        "download": Flag(why="no weights are needed to prepare data"),
        "no-download": Flag(why="no weights are needed to prepare data"),
        "iterable": Flag(unbuilt="streaming in `preprocess`"),
    },
    "generate": _LAUNCH,
    "chat": _LAUNCH,
    "merge": {
        **_LAUNCH,
        "dequant": Flag(why=_DEQUANTISED),
        "no-dequant": Flag(why=_DEQUANTISED),
        "override-quantizer": Flag(takes_value=True, why=_DEQUANTISED),
    },
}

_OF_A_FOLDER = ("generate", "chat", "merge")
"""Commands that take a model's folder where axolotl's take the config that it was trained with."""


def translate(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """The words of one of our commands, and what the user should hear about those that are old.

    Raises:
        click.UsageError: a flag asks for what is not built, or lacks its value.
        ConfigError: the model's folder is to be found in a config that is wrong.
    """
    notes: list[str] = []
    name, rest = words[0], list(words[1:])
    command = COMMAND_ALIASES.get(name, name)
    if name == "inference" and "--chat" in rest:
        rest.remove("--chat")
        command = "chat"
    if name == "config-schema":
        command, rest = _schema(rest)
    if command != name:
        notes.append(f"`{name}` is called `tunesmith {command}` here")
    if command in _FLAGS:
        rest = list(_without_flags(_flags_among(command, rest), rest, notes))
    if command in _OF_A_FOLDER:
        rest = _with_folder(command, rest, notes)
    return [*command.split(), *rest], notes


def _schema(rest: list[str]) -> tuple[str, list[str]]:
    """``config-schema --field NAME`` explains a key; ``--format json`` is the only form."""
    text = " ".join(rest).replace("=", " ").split()
    options = dict(zip(text[::2], text[1::2], strict=False))
    if options.get("--format", "json") != "json":
        raise click.UsageError("The schema is printed as JSON only.")
    if "--field" in options:
        return "config explain", [options["--field"]]
    return "config schema", [] if "--format" in options else rest


def _flags_among(command: str, words: Sequence[str]) -> Mapping[str, Flag]:
    """Axolotl's flags of a command; the number of rows to show is asked for once."""
    flags = _FLAGS[command]
    named = {word.removeprefix("--").partition("=")[0].replace("_", "-") for word in words}
    if command == "preprocess" and "debug-num-examples" in named:
        return {**flags, "debug": Flag(why="`--debug-num-examples` shows rows by itself")}
    return flags


def _without_flags(
    flags: Mapping[str, Flag], words: Sequence[str], notes: list[str]
) -> Iterator[str]:
    """The words with each of axolotl's flags replaced, left out or refused."""
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word == "--":
            raise click.UsageError(
                f"`-- {' '.join(rest)}`: nothing is launched that could take these words. "
                f"{_SEVERAL[0].upper()}{_SEVERAL[1:]} is not built yet."
            )
        name, equals, value = word.removeprefix("--").partition("=")
        flag = flags.get(name.replace("_", "-")) if word.startswith("--") else None
        if flag is None:
            yield word
            continue
        if flag.takes_value and not equals:
            if not rest:
                raise click.UsageError(f"`--{name}` needs a value.")
            value = rest.pop(0)
        if flag.unbuilt and value != flag.harmless:
            raise click.UsageError(f"`--{name}` is not built yet: {flag.unbuilt}.")
        if flag.new:
            new = [part.format(value) for part in flag.new]
            notes.append(f"`--{name}` is called `{' '.join(new)}` here")
            yield from new
        else:
            notes.append(f"`--{name}` is left out: {flag.why}")


def _with_folder(command: str, words: Sequence[str], notes: list[str]) -> list[str]:
    """The words with the model's folder in the place of the config that it was trained with."""
    kept, others = _own_options(command, words)
    files = [word for word in others if word.endswith((".yml", ".yaml"))]
    if not files:
        return list(words)
    (_, *strays), overrides = split_words(others)
    if strays:
        raise click.UsageError(f"`{strays[0]}` belongs to no option.")
    folder = next((str(one.value) for one in overrides if one.key == "lora_model_dir"), None)
    if folder is None:
        folder = load(files[0], overrides).config.checkpoint.output_dir
    notes.append(f"`{command}` takes the model's folder: `tunesmith {command} {folder}`")
    return [folder, *kept]


def _own_options(command: str, words: Sequence[str]) -> tuple[list[str], list[str]]:
    """The words of options that the command declares itself, and the others."""
    declared = cast(click.Command, registry("commands").load(command)).params
    takes_value = {
        name: not option.is_flag
        for option in declared
        if isinstance(option, click.Option)
        for name in option.opts
    }
    kept: list[str] = []
    others: list[str] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        name, equals, _ = word.partition("=")
        if name not in takes_value:
            others.append(word)
            continue
        kept.append(word)
        if takes_value[name] and not equals and rest:
            kept.append(rest.pop(0))
    return kept, others
