"""The mask viewer of a config: its first rows as tokens, its first packed rows, its ledger."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from tunesmith.checkpoint.durable import write_text
from tunesmith.config.schema import RunConfig
from tunesmith.data.ledger import Ledger
from tunesmith.data.samples import TokenSample
from tunesmith.data.stream import MapStream
from tunesmith.dist.mesh import Mesh
from tunesmith.dist.runtime import detect
from tunesmith.report.tokens import PackedDocument, PackedRow, Part, ShownRow, TokenPage, render
from tunesmith.runs.material import Material
from tunesmith.runs.plan import RunPlan, make_plan
from tunesmith.runs.preprocess import Shown, views

_PACKED_ROWS = 12
_PACKED_TOKENS = 50_000
"""Tokens of packed rows that the page holds one by one."""

_SIDES = ("chosen", "rejected")


@dataclass(frozen=True, slots=True)
class Looked:
    """A config and what was found of its data. ``method`` is what ``rl`` names; ``material`` is
    None where the rows can only be looked at.
    """

    config: RunConfig
    method: str
    ledger: Ledger
    material: Material | None


def write_page(
    looked: Looked,
    target: Path,
    *,
    rows: int,
    against: tuple[str, RunConfig, str] | None = None,
) -> None:
    """Write the page of the first ``rows`` rows of each data set to ``target``, atomically.

    ``against`` is another config's name, itself and its method: its rendering of the same rows
    stands beside.

    Raises:
        ModelError, DataError, ConfigError: as ``prepare``.
        RunError: exit 3, the disk is full.
        OSError: the file cannot be written.
    """
    config, material = looked.config, looked.material
    shown = list(views(config, rows, looked.method))
    if against is None:
        listed = [_row(source, samples) for source, samples in _by_row(shown)]
    else:
        name, other, method = against
        listed = list(_side_by_side(shown, list(views(other, rows, method)), name))
    plan = None if material is None else make_plan(config, material.facts(detect()))
    packing = _packing(material, plan) if material and plan else []
    page = TokenPage(
        title="Tokens and masks",
        facts=[*_facts(looked), *(_plan_facts(plan) if plan else [])],
        ledger=looked.ledger.to_json(),
        rows=listed,
        packing=packing,
        texts=_texts(material, packing) if material else {},
    )
    write_text(target, render(page))


def _by_row(shown: Sequence[Shown]) -> list[tuple[str, list[Shown]]]:
    return [(source, list(samples)) for source, samples in groupby(shown, lambda one: one.source)]


def _row(source: str, samples: Sequence[Shown]) -> ShownRow:
    """A row's samples, those of a pair side by side."""
    parts = [Part(one.title, one.tokens, one.facts) for one in samples]
    pair = any(one.title in _SIDES for one in samples)
    return ShownRow(source, parts, notes=samples[0].notes, side=pair)


def _side_by_side(mine: Sequence[Shown], other: Sequence[Shown], name: str) -> Iterator[ShownRow]:
    """Each row under both configs; a row that one of them lacks has an empty side."""
    left, right = dict(_by_row(mine)), dict(_by_row(other))
    for source in dict.fromkeys([*left, *right]):
        both = [left.get(source, []), right.get(source, [])]
        parts = [
            Part(title, [view for one in samples for view in one.tokens])
            for title, samples in zip(("this config", name), both, strict=True)
        ]
        notes = dict.fromkeys(note for samples in both for one in samples for note in one.notes)
        yield ShownRow(source, parts, list(notes), side=True, compared=True)


def _facts(looked: Looked) -> list[tuple[str, str]]:
    config, material = looked.config, looked.material
    facts = [("base", config.model.base)]
    if material is None:
        asked = f"rl: {looked.method}" if looked.method else "rows to compare"
        return [*facts, ("training", f"not built yet ({asked})")]
    template = material.template
    return [*facts, ("template", template.name if template is not None else "none")]


def _plan_facts(plan: RunPlan) -> list[tuple[str, str]]:
    return [
        ("sequence_len", f"{plan.sequence_len.value:,}"),
        ("packing", "on" if plan.packing.value else "off"),
        ("rows a step", f"{plan.global_batch.value:,}"),
        ("steps", f"{plan.steps.value:,}"),
    ]


def _packing(material: Material, plan: RunPlan) -> list[PackedRow]:
    """The first rows in the order of training, as they share their tokens."""
    stream = MapStream(material.train, plan.train_order, Mesh.single("cpu"))
    epoch = stream.plan_of(0)
    packed: list[PackedRow] = []
    n_tokens = 0
    for number in range(min(_PACKED_ROWS, len(epoch))):
        samples = [material.train[row] for row in epoch.rows(number, number + 1).tolist()]
        n_tokens += sum(map(len, samples))
        documents = [_document(one, whole=n_tokens <= _PACKED_TOKENS) for one in samples]
        step = number // stream.step_bins + 1
        packed.append(PackedRow(step, plan.train_order.capacity, documents))
    return packed


def _document(sample: TokenSample, *, whole: bool) -> PackedDocument:
    """A document of a packed row, ``whole`` with its tokens."""
    ids = sample.input_ids.tolist() if whole else ()
    return PackedDocument(
        sample.source, len(sample), sample.n_trained, ids, sample.runs if whole else ()
    )


def _texts(material: Material, packing: Sequence[PackedRow]) -> dict[int, str]:
    """The text of each token in the packed rows, special tokens included."""
    ids = {token for row in packing for one in row.documents for token in one.ids}
    decode = material.tokenizer.backend_tokenizer.decode
    return {token: decode([token], skip_special_tokens=False) for token in sorted(ids)}
