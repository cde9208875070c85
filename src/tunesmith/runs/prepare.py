"""Config -> base model located, tokenizer ready, data prepared: everything that needs no device."""

from __future__ import annotations

from dataclasses import replace

from transformers import PreTrainedTokenizerFast

from tunesmith.config.schema import RunConfig
from tunesmith.data.build import Progress
from tunesmith.data.cache import PreparedSplit
from tunesmith.data.holdout import HoldOut
from tunesmith.data.prepare import Prepared, PrepareRequest, find, silent
from tunesmith.data.prepare import prepare as prepare_data
from tunesmith.data.render import Renderer
from tunesmith.data.sources import given_rows
from tunesmith.data.sources import locate as locate_data
from tunesmith.models.facts import read_facts
from tunesmith.models.load import read_config
from tunesmith.models.source import LocatedModel, hash_weights, locate
from tunesmith.models.tokenizer import load_tokenizer
from tunesmith.models.tokenizer_facts import facts_of
from tunesmith.runs.estimate import Estimate, Head, as_it_is, read_head
from tunesmith.runs.estimate import estimate as estimate_all
from tunesmith.runs.material import Material
from tunesmith.runs.request import Rows, request_of
from tunesmith.runs.streams import open_stream

UNENDED = ("input_output",)
"""Dataset types that write no end token of their own."""


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
    request = request_of(config, facts_of(tokenizer), (given,) if given is not None else ())
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
    whole = request_of(config, facts_of(tokenizer), (given,) if given is not None else ())
    found = find(whole)
    if found is not None:
        return _material(config, base, tokenizer, whole, found)
    heads = _heads(config, limit, given)
    rows = tuple(head.rows for head in heads)
    training = heads[: len(config.data.datasets)]
    if all(head.total <= limit for head in training):
        request = request_of(config, facts_of(tokenizer), rows)
        prepared = prepare_data(request)
        stands = as_it_is(prepared.train, prepared.held_out, training)
    else:
        request = request_of(_unsplit(config), facts_of(tokenizer), rows)
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
    found = find(request_of(config, facts_of(tokenizer), ()))
    if found is None:
        rows = tuple(head.rows for head in _heads(config, limit, None, count=False))
        found = prepare_data(request_of(config, facts_of(tokenizer), rows))
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
