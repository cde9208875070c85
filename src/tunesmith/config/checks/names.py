"""Rules for values that are names: of optimizers, schedules, formats, templates, attention."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path

from tunesmith import catalog
from tunesmith.config.checks.data import entries
from tunesmith.config.checks.rule import Rule, out_of_range
from tunesmith.config.dataset_types import format_name, is_compared, is_own, type_names
from tunesmith.config.schema import RunConfig
from tunesmith.errors import REMOVE, Problem
from tunesmith.registry import nearest, registry


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
    "messages": "chat_template",
    "text": "completion",
}


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
            "not-built", message, _one_of(kind, names), key=key, edit={key: _USUAL[kind]}
        )
    spelt = _SPELLINGS.get(value.lower())
    meant = spelt if spelt in names else nearest(value, [*names, *sorted(unbuilt)])
    fix = f"did you mean `{meant}`?" if meant else _one_of(kind, names)
    return out_of_range(key, f"there is no {kind} `{value}`", {key: meant or _USUAL[kind]}, fix)


def _one_of(kind: str, names: Iterable[str]) -> str:
    usual = _USUAL[kind]
    first = f"use `{usual}`, or one of" if usual else "take it out, or use one of"
    return f"{first}: {', '.join(name for name in names if name != usual)}"


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
            found = name_problem(f"{key}.type", name, "data set type", names, _UNBUILT_FORMATS)
            yield from [found] if found else []


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
            _one_of("attention function", catalog.ATTENTIONS),
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


RULES: tuple[Rule, ...] = (
    Rule(("optimizer",), optimizer),
    Rule(("lr_scheduler",), schedule),
    Rule(("datasets", "test_datasets"), formats),
    Rule(("chat_template", "datasets", "test_datasets"), templates),
    Rule(("attn_implementation",), attention),
)
