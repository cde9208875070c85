"""A toy tokenizer, settings and requests for the tests of data preparation."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE

from tunesmith.config.data import DataSection, DatasetEntry
from tunesmith.config.packing import PackingSection
from tunesmith.data.prepare import PrepareRequest
from tunesmith.data.render import RenderSettings
from tunesmith.data.samples import TokenSample
from tunesmith.data.templates import ChatTemplate

TEMPLATE = (
    "{% for m in messages %}{{ '<|' + m['role'] + '|>' + m['content'] + '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
EOS = "<|end|>"


def make_tokenizer(folder: Path) -> Path:
    """A folder with a tokenizer of one token a byte, and an end token (id 256)."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(BPE({letter: number for number, letter in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(EOS, special=True, normalized=False)])
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def settings(folder: Path, *, template: str = TEMPLATE, sequence_len: int = 512) -> RenderSettings:
    """Renderer settings around the toy tokenizer."""
    digest = sha256(template.encode()).hexdigest()
    return RenderSettings(
        tokenizer_path=str(folder),
        tokenizer_digest="toy",
        sequence_len=sequence_len,
        template=ChatTemplate(text=template, name="toy", digest=digest),
        eos_id=256,
        eos_text=EOS,
    )


def weigh(sample: TokenSample) -> dict[str, float]:
    """The total that supervised training asks for."""
    return {"tokens": sample.total_weight}


def write_jsonl(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """The rows as json lines."""
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path.write_text(text, encoding="utf-8")
    return path


def alpaca_rows(count: int, *, start: int = 0) -> list[dict[str, str]]:
    """Distinct rows of different lengths."""
    return [
        {"instruction": f"Say {number}.", "input": "", "output": f"{number}" + "!" * (number % 7)}
        for number in range(start, start + count)
    ]


def request(
    entries: Sequence[DatasetEntry],
    home: Path,
    *,
    data: Mapping[str, Any] | None = None,
    packing: Mapping[str, Any] | None = None,
    **fields: Any,
) -> PrepareRequest:
    """A request for the entries, rendered in this process, its cache in ``home``."""
    section = DataSection(datasets=tuple(entries), **(data or {}))
    pack = PackingSection(**{"sequence_len": 512, **(packing or {})})
    tokenizer = home / "tokenizer"
    if not tokenizer.exists():
        make_tokenizer(tokenizer)
    n_sets = len(section.datasets) + len(section.test_datasets)
    values: dict[str, Any] = {
        "data": section,
        "packing": pack,
        "settings": (settings(tokenizer, sequence_len=pack.sequence_len),) * n_sets,
        "weigh": weigh,
        "weigh_version": "1",
        "seed": 7,
        "cache_dir": home / "cache",
        "workers": 0,
    }
    return PrepareRequest(**{**values, **fields})
