"""What travels between the process that asks for samples and those that render them.

Blocks of JSON and plain bytes with their lengths in front; nothing is pickled, so that neither side
can make the other one run anything.
"""

from __future__ import annotations

import dataclasses
import json
import struct
from collections.abc import Sequence
from typing import IO, Any, Final

import numpy as np

from tunesmith.data.records import (
    Conversation,
    Drawn,
    FieldSpan,
    Lint,
    Message,
    RowError,
    Segment,
    Segments,
    Source,
    Text,
    TokenRecord,
    Tokens,
)
from tunesmith.data.render import RenderedRow, RenderSettings, Row
from tunesmith.data.samples import TokenSample
from tunesmith.data.templates import ChatTemplate

Outcome = RenderedRow | RowError
"""What became of a row: its samples, or why it cannot be used."""

LENGTH: Final = struct.Struct("<q")


# --- blocks ---------------------------------------------------------------------------------------


def write_block(stream: IO[bytes], block: bytes) -> None:
    """Send one block."""
    stream.write(LENGTH.pack(len(block)) + block)
    stream.flush()


def read_block(stream: IO[bytes]) -> bytes:
    """The next block; empty at the end of the stream, and where the writer died in the middle."""
    head = stream.read(LENGTH.size)
    if len(head) < LENGTH.size:
        return b""
    length: int = LENGTH.unpack(head)[0]
    block = stream.read(length)
    return block if len(block) == length else b""


def to_json(value: Any) -> bytes:
    """The value as JSON; what JSON has no form for becomes the text ``<its type>``.

    That is also what a template would be given of it.
    """
    return json.dumps(value, default=lambda other: f"<{type(other).__name__}>").encode()


# --- settings and limits --------------------------------------------------------------------------


def pack_settings(settings: RenderSettings) -> dict[str, Any]:
    """The settings as plain data."""
    values = {item.name: getattr(settings, item.name) for item in dataclasses.fields(settings)}
    template = settings.template
    values["template"] = [template.name, template.text, template.digest] if template else None
    return values


def unpack_settings(values: dict[str, Any]) -> RenderSettings:
    """The settings that ``pack_settings`` was given."""
    roles = values["roles_to_train"]
    return RenderSettings(
        **{
            **values,
            "template": ChatTemplate(*values["template"]) if values["template"] else None,
            "eot_tokens": tuple(values["eot_tokens"]),
            "roles_to_train": None if roles is None else tuple(roles),
            "roles": {role: tuple(names) for role, names in values["roles"].items()},
        }
    )


# --- rows -----------------------------------------------------------------------------------------


def pack_rows(rows: Sequence[Row]) -> bytes:
    """The rows as one block."""
    return to_json([[[s.dataset, s.file, s.row], *_pack_record(record)] for s, record in rows])


def unpack_rows(block: bytes) -> list[Row]:
    """The rows of a block."""
    return [
        (Source(*source), _unpack_record(kind, values))
        for source, kind, *values in json.loads(block)
    ]


def _pack_record(record: TokenRecord) -> list[Any]:
    if isinstance(record, Text):
        return ["text", record.text]
    if isinstance(record, Segments):
        pieces = [[p.text, p.train, p.glued, p.eos] for p in record.pieces]
        return ["segments", pieces, record.special_tokens, record.closed, record.has_markup]
    if isinstance(record, Tokens):
        return ["tokens", record.ids, record.train]
    if isinstance(record, Drawn):
        return ["drawn", *dataclasses.astuple(record)]
    messages = [
        [m.fields, m.train, [dataclasses.astuple(span) for span in m.spans], m.weight]
        for m in record.messages
    ]
    return ["conversation", messages, record.tools, record.variables]


def _unpack_record(kind: str, values: Sequence[Any]) -> TokenRecord:
    if kind == "text":
        return Text(*values)
    if kind == "segments":
        pieces, *ends = values
        return Segments(tuple(Segment(*piece) for piece in pieces), *ends)
    if kind == "tokens":
        ids, train = values
        return Tokens(tuple(ids), tuple(train))
    if kind == "drawn":
        return Drawn(*values)
    messages, tools, variables = values
    read = [
        Message(fields, train, tuple(FieldSpan(*span) for span in spans), weight)
        for fields, train, spans, weight in messages
    ]
    return Conversation(tuple(read), tuple(tools), variables)


# --- outcomes -------------------------------------------------------------------------------------


def pack_outcomes(outcomes: Sequence[Outcome]) -> tuple[bytes, bytes]:
    """The outcomes as JSON, and the token ids of all samples as little-endian int32."""
    packed: list[dict[str, Any]] = []
    ids: list[bytes] = []
    for outcome in outcomes:
        if isinstance(outcome, RowError):
            packed.append({"error": [outcome.field, outcome.message, outcome.fix]})
            continue
        samples = [[len(sample), sample.runs, sample.source] for sample in outcome.samples]
        ids += [sample.input_ids.astype("<i4").tobytes() for sample in outcome.samples]
        lints = [[lint.code, lint.message, lint.source] for lint in outcome.lints]
        packed.append({"samples": samples, "lints": lints})
    return to_json({"rows": packed}), b"".join(ids)


def unpack_outcomes(header: dict[str, Any], body: bytes) -> list[Outcome]:
    """The outcomes that ``pack_outcomes`` was given."""
    outcomes: list[Outcome] = []
    ids = np.frombuffer(body, dtype="<i4").astype(np.int32)
    position = 0
    for row in header["rows"]:
        if "error" in row:
            outcomes.append(RowError(*map(str, row["error"])))
            continue
        samples = []
        for length, runs, source in row["samples"]:
            piece = ids[position : position + length]
            position += length
            weighted = tuple((int(a), int(b), float(weight)) for a, b, weight in runs)
            samples.append(TokenSample(piece, weighted, str(source)))
        lints = tuple(Lint(*map(str, lint)) for lint in row["lints"])
        outcomes.append(RenderedRow(tuple(samples), lints))
    return outcomes
