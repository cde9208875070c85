"""Config and tokenizer -> all that the prepared data depends on. Nothing here imports torch."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from tunesmith.config.data import DatasetEntry
from tunesmith.config.objective import ObjectiveSection
from tunesmith.config.schema import RunConfig
from tunesmith.config.tokenizer import TokenizerSection
from tunesmith.data.formats.load import template_need
from tunesmith.data.prepare import PrepareRequest
from tunesmith.data.render import RenderSettings
from tunesmith.data.templates import ChatTemplate, resolve_template
from tunesmith.dist.runtime import cache_dir
from tunesmith.models.tokenizer_facts import TokenizerFacts
from tunesmith.objectives.shares import SftShares, Shares

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

Rows = Sequence[Mapping[str, Any]]
Tokenizer: TypeAlias = "TokenizerFacts | PreTrainedTokenizerFast"


def request_of(
    config: RunConfig, tokenizer: TokenizerFacts, given: tuple[Rows | None, ...]
) -> PrepareRequest:
    """All that the prepared data of a config depends on; ``given`` rows stand for its data sets."""
    objective = _shares_of(config.objective)
    kept = (Path(tokenizer.folder), tokenizer.digest)
    entries = (*config.data.datasets, *config.data.test_datasets)
    settings = tuple(render_settings(config, entry, tokenizer, kept) for entry in entries)
    prepared = config.data.prepared_path
    return PrepareRequest(
        data=config.data,
        packing=config.packing,
        settings=settings,
        weigh=objective.weights,
        weigh_version=f"{objective.name}:{objective.version}",
        seed=config.batch.seed,
        cache_dir=Path(prepared) if prepared else cache_dir() / "prepared",
        workers=config.data.workers or default_workers(),
        given=given,
        method=config.objective.method,
        kind=objective.sample,
    )


def _shares_of(section: ObjectiveSection) -> Shares:
    """What samples weigh under the objective; only supervised fine-tuning is said without torch."""
    if not section.method:
        return SftShares()
    from tunesmith.runs.aim import build_objective

    return build_objective(section)


def default_workers() -> int:
    """Processes that render: one a core, at most eight."""
    return min(8, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1)


def render_settings(
    config: RunConfig,
    entry: DatasetEntry,
    tokenizer: Tokenizer,
    kept: tuple[Path, str],
) -> RenderSettings:
    """What decides how this data set's rows become tokens."""
    section = config.tokenizer
    need = template_need(entry, config.objective.method)
    has_any = has_template(section, entry, tokenizer)
    is_rendered = need == "always" or (need == "perhaps" and has_any)
    template = choose_template(section, entry, tokenizer) if is_rendered else None
    return RenderSettings(
        tokenizer_path=str(kept[0]),
        tokenizer_digest=kept[1],
        sequence_len=config.packing.sequence_len,
        template=template,
        special_tokens={
            name: str(text)
            for name, text in tokenizer.special_tokens_map.items()
            if isinstance(text, str)
        },
        eos_id=tokenizer.eos_token_id,
        eos_text=tokenizer.eos_token or "",
        eot_tokens=tuple(section.eot_tokens or ()),
        variables=section.chat_template_kwargs or {},
        roles_to_train=_roles_to_train(config, entry),
        roles={role: tuple(names) for role, names in (entry.roles or {}).items()},
        turns_to_train=entry.turns_to_train,
        train_on_eos=entry.train_on_eos or "turn",
        train_on_eot=entry.train_on_eot,
        history=entry.history,
        thinking_key=entry.template_thinking_key or "reasoning_content",
        split_thinking=entry.split_thinking,
    )


def has_template(section: TokenizerSection, entry: DatasetEntry, tokenizer: Tokenizer) -> bool:
    """Whether the config or the tokenizer says how turns are rendered."""
    named = (entry.chat_template, entry.chat_template_jinja)
    chosen = (section.chat_template, section.chat_template_jinja)
    return any((*named, *chosen, tokenizer.chat_template))


def choose_template(
    section: TokenizerSection, entry: DatasetEntry | None, tokenizer: Tokenizer
) -> ChatTemplate:
    """The template of one data set: its own choice, else the run's, else the tokenizer's."""
    if entry is not None and (entry.chat_template or entry.chat_template_jinja):
        return resolve_template(
            tokenizer.chat_template, entry.chat_template, entry.chat_template_jinja
        )
    return resolve_template(
        tokenizer.chat_template, section.chat_template, section.chat_template_jinja
    )


def _roles_to_train(config: RunConfig, entry: DatasetEntry) -> tuple[str, ...] | None:
    """The roles whose turns train; None, for all of them, under ``train_on_inputs``."""
    if entry.roles_to_train is not None:
        return tuple(entry.roles_to_train)
    return None if config.data.train_on_inputs else ("assistant",)
