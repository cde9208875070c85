"""Config -> base model located, tokenizer ready, data prepared: everything that needs no device."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerFast

from tunesmith.config.data import DatasetEntry
from tunesmith.config.schema import RunConfig
from tunesmith.config.tokenizer import TokenizerSection
from tunesmith.data.build import Progress
from tunesmith.data.cache import PreparedSplit
from tunesmith.data.formats.load import template_need
from tunesmith.data.holdout import HoldOut
from tunesmith.data.prepare import Prepared, PrepareRequest, find, silent
from tunesmith.data.prepare import prepare as prepare_data
from tunesmith.data.render import Renderer, RenderSettings
from tunesmith.data.sources import given_rows
from tunesmith.data.sources import locate as locate_data
from tunesmith.data.templates import ChatTemplate, resolve_template
from tunesmith.dist.runtime import cache_dir
from tunesmith.models.facts import read_facts
from tunesmith.models.load import read_config
from tunesmith.models.source import LocatedModel, hash_weights, locate
from tunesmith.models.tokenizer import load_tokenizer
from tunesmith.objectives.objective import Objective
from tunesmith.registry import registry
from tunesmith.runs.estimate import Estimate, Head, as_it_is, read_head
from tunesmith.runs.estimate import estimate as estimate_all
from tunesmith.runs.material import Material
from tunesmith.runs.streams import open_stream

UNENDED = ("input_output",)
"""Dataset types that write no end token of their own."""

Rows = Sequence[Mapping[str, Any]]


def prepare(
    config: RunConfig, *, given: Rows | None = None, progress: Progress = silent
) -> Material:
    """The base, tokenizer and prepared data of a config.

    ``given`` are rows in memory that stand for the first data set of the config.

    Raises:
        ModelError, DataError, ConfigError: what is wrong, and where.
    """
    base = locate(config.model)
    tokenizer = load_tokenizer(base, config.tokenizer)
    request = request_of(config, tokenizer, (given,) if given is not None else ())
    if config.data.streaming:
        return _stream(config, base, tokenizer, request, progress)
    return _material(config, base, tokenizer, request, prepare_data(request, progress))


def prepare_sample(config: RunConfig, limit: int, *, given: Rows | None = None) -> Material:
    """The same of the whole data where that is prepared already, else of each set's first rows.

    In that case all rows are counted, and ``estimate`` stands for the whole data in a plan.

    Raises:
        ModelError, DataError, ConfigError: as ``prepare``.
    """
    if config.data.streaming:  # its first window is the sample
        return prepare(config, given=given)
    base = locate(config.model)
    tokenizer = load_tokenizer(base, config.tokenizer)
    whole = request_of(config, tokenizer, (given,) if given is not None else ())
    found = find(whole)
    if found is not None:
        return _material(config, base, tokenizer, whole, found)
    heads = _heads(config, limit, given)
    rows = tuple(head.rows for head in heads)
    training = heads[: len(config.data.datasets)]
    if all(head.total <= limit for head in training):
        request = request_of(config, tokenizer, rows)
        prepared = prepare_data(request)
        stands = as_it_is(prepared.train, prepared.held_out, training)
    else:
        request = request_of(_unsplit(config), tokenizer, rows)
        prepared = prepare_data(request)
        accounts = prepared.ledger.accounts[: len(training)]
        wanted = HoldOut(config.data.val_set_size, config.batch.seed)
        stands = estimate_all(prepared.train, prepared.held_out, accounts, training, wanted)
    return _material(config, base, tokenizer, request, prepared, estimate=stands)


def prepare_preview(config: RunConfig, limit: int) -> PreparedSplit:
    """At least the first ``limit`` rows to train on, whether they will be held out or not.

    Raises:
        ModelError, DataError, ConfigError: as ``prepare``.
    """
    config = _unsplit(config)
    base = locate(config.model)
    tokenizer = load_tokenizer(base, config.tokenizer)
    found = find(request_of(config, tokenizer, ()))
    if found is None:
        rows = tuple(head.rows for head in _heads(config, limit, None, count=False))
        found = prepare_data(request_of(config, tokenizer, rows))
    return found.train


def _unsplit(config: RunConfig) -> RunConfig:
    """The config with no rows of the training data held out."""
    data = config.data.model_copy(update={"val_set_size": 0.0})
    return config.model_copy(update={"data": data})


def _heads(
    config: RunConfig, limit: int, given: Rows | None, *, count: bool = True
) -> tuple[Head, ...]:
    """At most ``limit`` rows of every data set, in memory; what trains is counted on request."""
    data = config.data
    heads = []
    for number, entry in enumerate((*data.datasets, *data.test_datasets)):
        location = given_rows(given) if number == 0 and given is not None else None
        location = location or locate_data(entry, config.batch.seed)
        counts = count and number < len(data.datasets)
        heads.append(read_head(entry, number, location, limit, count=counts))
    return tuple(heads)


def request_of(
    config: RunConfig, tokenizer: PreTrainedTokenizerFast, given: tuple[Rows | None, ...]
) -> PrepareRequest:
    """All that the prepared data of a config depends on; ``given`` rows stand for its data sets."""
    objective: Objective = registry("objectives").load("sft")()  # type: ignore[operator]
    folder, digest = keep_tokenizer(tokenizer)
    entries = (*config.data.datasets, *config.data.test_datasets)
    settings = tuple(render_settings(config, e, tokenizer, (folder, digest)) for e in entries)
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
    )


def default_workers() -> int:
    """Processes that render: one a core, at most eight."""
    return min(8, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1)


def render_settings(
    config: RunConfig,
    entry: DatasetEntry,
    tokenizer: PreTrainedTokenizerFast,
    kept: tuple[Path, str],
) -> RenderSettings:
    """What decides how this data set's rows become tokens."""
    section = config.tokenizer
    need = template_need(entry)
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


def has_template(
    section: TokenizerSection, entry: DatasetEntry, tokenizer: PreTrainedTokenizerFast
) -> bool:
    """Whether the config or the tokenizer says how turns are rendered."""
    named = (entry.chat_template, entry.chat_template_jinja)
    chosen = (section.chat_template, section.chat_template_jinja)
    return any((*named, *chosen, tokenizer.chat_template))


def choose_template(
    section: TokenizerSection, entry: DatasetEntry | None, tokenizer: PreTrainedTokenizerFast
) -> ChatTemplate:
    """The template of one data set: its own choice, else the run's, else the tokenizer's."""
    if entry is not None and (entry.chat_template or entry.chat_template_jinja):
        return resolve_template(
            tokenizer.chat_template, entry.chat_template, entry.chat_template_jinja
        )
    return resolve_template(
        tokenizer.chat_template, section.chat_template, section.chat_template_jinja
    )


def keep_tokenizer(tokenizer: PreTrainedTokenizerFast) -> tuple[Path, str]:
    """The folder in the cache that holds this tokenizer, and the hash of what it does."""
    digest = hashlib.sha256(tokenizer.backend_tokenizer.to_str().encode()).hexdigest()
    folder = cache_dir() / "tokenizers" / digest[:32]
    if not (folder / "tokenizer.json").exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".partial-"))
        tokenizer.backend_tokenizer.save(str(partial / "tokenizer.json"))
        try:
            partial.rename(folder)
        except OSError:  # another process was faster with the same bytes
            shutil.rmtree(partial)
    return folder, digest


def _material(
    config: RunConfig,
    base: LocatedModel,
    tokenizer: PreTrainedTokenizerFast,
    request: PrepareRequest,
    prepared: Prepared,
    *,
    estimate: Estimate | None = None,
) -> Material:
    templates = [s.template for s in request.settings if s.template is not None]
    entries = config.data.datasets
    return Material(
        base=base,
        architecture=read_facts(read_config(base)),
        tokenizer=tokenizer,
        template=templates[0] if templates else None,
        train=prepared.train,
        held_out=prepared.held_out,
        ledger=prepared.ledger,
        lints=tuple(prepared.lint),
        stop_ids=frozenset[int]().union(*(Renderer(s).end_ids for s in request.settings)),
        stops_expected=any(
            entry.type not in UNENDED and entry.train_on_eos != "none" for entry in entries
        ),
        identity={
            "data_fingerprint": prepared.train.fingerprint,
            "base_digest": base.sha256 or base.commit or hash_weights(base.path),
        },
        from_cache=prepared.from_cache,
        estimate=estimate,
        given=request.given[0] if request.given else None,
    )


def _stream(
    config: RunConfig,
    base: LocatedModel,
    tokenizer: PreTrainedTokenizerFast,
    request: PrepareRequest,
    progress: Progress,
) -> Material:
    """The material of a stream: its first window stands where prepared data stands elsewhere."""
    opened = open_stream(request, progress)
    name = opened.windows.folder.name
    first = Prepared(
        train=opened.first,
        held_out=opened.held_out,
        ledger=opened.ledger,
        fingerprint=name,
        path=opened.first.path,
        lint=opened.ledger.examples(),
        from_cache=False,
    )
    material = _material(config, base, tokenizer, request, first)
    identity = {**material.identity, "data_fingerprint": name}
    return replace(material, windows=opened.windows, identity=identity)


def _roles_to_train(config: RunConfig, entry: DatasetEntry) -> tuple[str, ...] | None:
    """The roles whose turns train; None, for all of them, under ``train_on_inputs``."""
    if entry.roles_to_train is not None:
        return tuple(entry.roles_to_train)
    return None if config.data.train_on_inputs else ("assistant",)
