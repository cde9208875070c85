"""Rules for values that are names: of optimizers, schedules, formats, templates, attention."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path

from tunesmith import catalog
from tunesmith.config.checks.asked import Asked
from tunesmith.config.checks.data import entries
from tunesmith.config.checks.rule import PlainRule, Rule, out_of_range
from tunesmith.config.dataset_types import (
    family,
    format_name,
    is_compared,
    is_own,
    methods_of,
    type_names,
)
from tunesmith.config.schema import RunConfig
from tunesmith.errors import REMOVE, Problem
from tunesmith.registry import closest, nearest, registry


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Names that axolotl knows and that do not exist here yet.
_UNBUILT_OPTIMIZERS = _words(
    """
    adamw_torch_8bit adamw_torch_4bit adamw_torch_xla adamw_torch_npu_fused adamw_apex_fused
    adamw_anyprecision ademamix ademamix_8bit paged_ademamix_32bit paged_ademamix_8bit
    adafactor adagrad adopt_adamw ao_adamw_4bit ao_adamw_8bit ao_adamw_fp8 apollo_adamw
    apollo_adamw_layerwise came_pytorch dion flash_adamw flash_adam flash_lion flash_sgd
    flash_sgdw galore_adamw galore_adamw_8bit galore_adamw_layerwise galore_adafactor
    galore_adafactor_layerwise galore_adamw_8bit_layerwise grokadamw lion lion_32bit
    lion_8bit paged_lion_32bit paged_lion_8bit lomo adalomo muon optimi_adamw
    q_galore_adamw8bit rmsprop rmsprop_bnb rmsprop_bnb_8bit rmsprop_bnb_32bit
    schedule_free_adamw schedule_free_sgd schedule_free_radam sinkgd stable_adamw
    lion_pytorch
    """
)
_UNBUILT_SCHEDULES = _words(
    """
    reduce_lr_on_plateau greedy warmup_cosine cosine_with_warmup_restarts
    """
)
_UNBUILT_FORMATS = _words("axolotl.integrations.kd.chat_template completion_chunked")
_UNBUILT_ATTENTIONS = _words("sage fp8")
_SPELLINGS = {
    "adamw": "adamw_torch_fused",
    "adam": "adamw_torch_fused",
    "flash": "flash_attention_2",
    "fa2": "flash_attention_2",
    "sdp": "sdpa",
    "cosine_annealing": "cosine",
    "llama_3": "llama3",
    "chat": "chat_template",
    "text": "completion",
}
_LISTED = 5
"""Names of what exists that a fix lists at most: the nearest."""


# What to take where a name is not built, and no other is near.
_USUAL: Mapping[str, str | None] = {
    "optimizer": "adamw_torch_fused",
    "schedule": "cosine",
    "data set type": "chat_template",
    "chat template": "tokenizer_default",
    "attention function": REMOVE,
}


def name_problem(
    key: str, value: str, kind: str, known: Iterable[str], unbuilt: frozenset[str]
) -> Problem | None:
    """The problem with a name that is not ``known``, or None where it is."""
    names = list(known)
    if value in names:
        return None
    if value in unbuilt:
        message = f"{kind} `{value}` is not built yet"
        return Problem(
            "not-built", message, _one_of(kind, value, names), key=key, edit={key: _USUAL[kind]}
        )
    spelt = _SPELLINGS.get(value.lower())
    meant = spelt if spelt in names else nearest(value, [*names, *sorted(unbuilt)])
    fix = f"did you mean `{meant}`?" if meant else _one_of(kind, value, names)
    return out_of_range(key, f"there is no {kind} `{value}`", {key: meant or _USUAL[kind]}, fix)


def _one_of(kind: str, value: str, names: Iterable[str]) -> str:
    """What is usual, and the nearest of what else there is."""
    usual = _USUAL[kind]
    first = f"use `{usual}`, or one such as" if usual else "take it out, or use one such as"
    others = [name for name in names if name != usual]
    return f"{first} {', '.join(closest(value, others, _LISTED))}"


@cache
def template_names() -> tuple[str, ...]:
    """The chat templates that ship: the files of a folder, so that there is no second list."""
    folder = Path(catalog.__file__).parent / "data" / "chat_templates"
    return tuple(sorted(path.stem for path in folder.glob("*.jinja")))


def optimizer(config: RunConfig) -> Iterator[Problem]:
    """The optimizer exists."""
    name = config.optim.optimizer
    found = name_problem(
        "optimizer", name, "optimizer", registry("optimizers"), _UNBUILT_OPTIMIZERS
    )
    if found:
        yield found


def schedule(config: RunConfig) -> Iterator[Problem]:
    """The schedule exists."""
    name = config.optim.schedule
    found = name_problem(
        "lr_scheduler", name, "schedule", registry("schedules"), _UNBUILT_SCHEDULES
    )
    if found:
        yield found


def formats(config: RunConfig) -> Iterator[Problem]:
    """The type of every data set exists, and supervised training reads its rows."""
    names = type_names()
    for key, entry in entries(config):
        name = format_name(entry.type)
        if is_compared(name):
            yield Problem(
                "not-built",
                f"`{name}` gives answers to compare, and preference training is not built yet",
                "choose a `type` whose rows hold an answer to learn",
                key=f"{key}.type",
                edit={f"{key}.type": "chat_template"},
            )
        elif isinstance(entry.type, str) and name not in (*names, "untyped") and not is_own(name):
            yield from _unknown_type(f"{key}.type", name, names)


def formats_of_method(asked: Asked) -> Iterator[Problem]:
    """With ``rl`` a type may be one of the method's own; a module is looked for when rows are."""
    prefix = f"{family(asked.method)}."
    if prefix == ".":
        return
    inside = [name.removeprefix(prefix) for name in type_names() if name.startswith(prefix)]
    inside += [name for name in type_names() if name.startswith(prefix) or not is_compared(name)]
    for key, entry in entries(asked.config):
        name = format_name(entry.type, asked.method)
        known = name in type_names() or is_own(name) or _may_be_a_module(name, inside)
        if isinstance(entry.type, str) and not known:
            yield from _unknown_type(f"{key}.type", name, inside, asked.method)


def _unknown_type(key: str, name: str, names: list[str], method: str = "") -> Iterator[Problem]:
    """The problem with a type that is none of the names, nor a module that can be found."""
    methods = [] if method else methods_of(name)
    if methods:
        yield Problem(
            "not-built",
            f"`{name}` gives answers to compare, and preference training is not built yet",
            f"it belongs to `rl: {methods[0]}`; choose a `type` whose rows hold an answer to learn",
            key=key,
            edit={"rl": methods[0]},
        )
    elif _may_be_a_module(name, names):
        yield Problem(
            "refused",
            f"there is no data set type `{name}`, and no module `{name.partition('.')[0]}`",
            "install the module, or start in the folder that holds it",
            key=key,
        )
    elif found := name_problem(key, name, "data set type", [*names, "sharegpt"], _UNBUILT_FORMATS):
        yield found


def _may_be_a_module(name: str, names: list[str]) -> bool:
    """A dotted name whose first part is none of ours, nor a slip of one."""
    first, dot, _ = name.partition(".")
    ours = [known.partition(".")[0] for known in names]
    return (
        bool(dot)
        and all(part.isidentifier() for part in name.split("."))
        and name not in _UNBUILT_FORMATS
        and nearest(first, ours) is None
    )


def templates(config: RunConfig) -> Iterator[Problem]:
    """The named chat templates exist."""
    choices = [("chat_template", config.tokenizer.chat_template)]
    choices += [(f"{key}.chat_template", entry.chat_template) for key, entry in entries(config)]
    for key, choice in choices:
        if choice in (None, "jinja", "tokenizer_default"):
            continue
        name = str(choice).removeprefix("tokenizer_default_fallback_")
        known = [*template_names(), "tokenizer_default", "jinja"]
        if "{" in name or name.endswith(".jinja"):
            yield out_of_range(
                key,
                "takes the name of a template, not its text or file",
                {key: "jinja", f"{key}_jinja": choice},
                "use `chat_template: jinja` with `chat_template_jinja`",
            )
        elif found := name_problem(key, name, "chat template", known, frozenset()):
            yield _with_fallback(found, key, str(choice).removesuffix(name))


def _with_fallback(problem: Problem, key: str, prefix: str) -> Problem:
    """The same problem, its edit with the prefix that the name has here."""
    name = problem.edit[key]
    whole = f"{prefix}{name}" if name in template_names() else name
    return replace(problem, edit={key: whole})


def attention(config: RunConfig) -> Iterator[Problem]:
    """The attention function exists; code from a hub is not run."""
    name = config.kernels.attention
    if name is None:
        return
    if "/" in name:
        yield Problem(
            "refused",
            "attention kernels from a hub are not run",
            _one_of("attention function", name, catalog.ATTENTIONS),
            key="attn_implementation",
            edit={"attn_implementation": REMOVE},
        )
    elif found := name_problem(
        "attn_implementation",
        name,
        "attention function",
        catalog.ATTENTIONS,
        _UNBUILT_ATTENTIONS,
    ):
        yield found


RULES: tuple[Rule | PlainRule, ...] = (
    Rule(("optimizer",), optimizer),
    Rule(("lr_scheduler",), schedule),
    Rule(("datasets", "test_datasets"), formats),
    PlainRule(("rl",), formats_of_method),
    Rule(("chat_template", "datasets", "test_datasets"), templates),
    Rule(("attn_implementation",), attention),
)
