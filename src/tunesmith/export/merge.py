"""Fold an adapter into its base: one model that plain transformers loads."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from torch import Tensor
from transformers import AutoTokenizer, PreTrainedModel

from tunesmith.checkpoint.durable import replacing_folder, require_room
from tunesmith.checkpoint.finished import (
    RECORD,
    Finished,
    load_base,
    load_finished,
    open_finished,
    put_on,
)
from tunesmith.checkpoint.weights import MODEL, n_bytes, write_weights
from tunesmith.errors import ExitCode, RunError
from tunesmith.export.card import CardFacts, make_card
from tunesmith.export.compare import (
    Prompts,
    make_prompts,
    plain_logits,
    require_different,
    require_same,
    require_tensors,
    summary,
    typical_gap,
)
from tunesmith.log import get_logger
from tunesmith.models.names import named_weights
from tunesmith.models.source import hash_weights

MERGED = "merged"

MUCH = 0.25
"""The share of the adapter's effect that rounding may cost without a word."""

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Folded:
    """Base and adapter as one model, and the logits to hold it against, all in float32."""

    model: PreTrainedModel
    trained: list[Tensor]
    base: list[Tensor]


def merge(
    adapter_dir: Path,
    output_dir: Path | None = None,
    *,
    base: str | None = None,
    device: torch.device | str = "cpu",
) -> Path:
    """The folder (``adapter_dir/merged`` by default) that holds base and adapter as one model.

    The base is taken with the values that it had in training: rounded to that dtype, and, where it
    was quantised, dequantised, so that the adapter is added to what it was trained on. The sum is
    made in float32 (four bytes a parameter on ``device``) and rounded once, to the dtype of
    training. ``base`` names the same base at another place.

    Raises:
        RunError: exit 2, there is no adapter, or ``base`` is another model; exit 3, no room;
            exit 5, the merged model's logits are not those of base and adapter, or are the base's.
    """
    finished = open_finished(adapter_dir)
    if not finished.is_adapter:
        raise _no_adapter(adapter_dir)
    folder = _base_folder(finished, base)
    _require_same_base(finished, folder)
    target = output_dir if output_dir is not None else adapter_dir / MERGED
    if target.resolve() == adapter_dir.resolve():
        raise _would_overwrite(adapter_dir)
    tokenizer = AutoTokenizer.from_pretrained(str(adapter_dir))
    prompts = make_prompts(tokenizer)
    source = load_base(finished, device=device, base=str(folder))
    dtype = source.dtype
    folded = _fold(finished, source, prompts, target)
    model = folded.model
    _round(model, dtype)
    target.parent.mkdir(parents=True, exist_ok=True)
    require_room(target.parent, sum(n_bytes(tensor) for _, tensor in named_weights(model)))
    partial = target.with_name(f".{target.name}.partial")
    with replacing_folder(partial, target) as made:
        _write(model, made)
        tokenizer.save_pretrained(made)
        proof = _prove(folded, made, target, prompts)
        _write_record(finished, folder, made, proof)
    return target


def _fold(finished: Finished, source: PreTrainedModel, prompts: Prompts, target: Path) -> Folded:
    """Base and adapter summed in float32, proven before anything is rounded."""
    plain: Any = source
    if finished.quantization is not None:
        plain = plain.dequantize()
    adapted = put_on(plain.float(), finished)
    trained = plain_logits(adapted, prompts)
    with adapted.disable_adapter():
        base = plain_logits(adapted, prompts)
    require_different(trained, base, target, "the model with its adapter")
    merged: PreTrainedModel = adapted.merge_and_unload(safe_merge=True)
    require_same(trained, plain_logits(merged, prompts), torch.float32, target)
    return Folded(merged, trained, base)


def _round(model: PreTrainedModel, dtype: torch.dtype) -> None:
    """Round the parameters in place; buffers such as rotary frequencies stay float32, as loaded."""
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype)


def _prove(folded: Folded, made: Path, target: Path, prompts: Prompts) -> dict[str, Any]:
    """What was written is the rounded sum, bit by bit, and plain transformers reads it so.

    How much of the adapter's effect the rounding cost is measured, and said when it is much.
    """
    model = folded.model
    require_tensors(made, MODEL, named_weights(model))
    loaded = load_finished(open_finished(made), device=model.device)
    written = plain_logits(loaded, prompts)
    gap = require_same(plain_logits(model, prompts), written, model.dtype, target)
    effect = typical_gap(folded.trained, folded.base)
    lost = typical_gap(folded.trained, written) / effect
    if lost > MUCH:
        log.warning(
            "notice: in %s the merged model's logits are off by %.0f%% of the adapter's effect; "
            "serving the adapter itself is more exact",
            str(model.dtype).removeprefix("torch."),
            100 * lost,
        )
    base_gap = require_different(written, folded.base, target, "the merged model")
    return summary(gap, base_gap, prompts) | {"rounded_share_of_effect": lost}


def _write(merged: PreTrainedModel, folder: Path) -> None:
    """Weights and configuration of a model that is no longer anything else."""
    config = merged.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    config.save_pretrained(folder)
    if merged.generation_config is not None:
        merged.generation_config.save_pretrained(folder)
    write_weights(folder, named_weights(merged))


def _base_folder(finished: Finished, base: str | None) -> Path:
    """The base as a local folder: the one given, or the one that the adapter names."""
    name = base or str(finished.base)
    if Path(name).is_dir():
        return Path(name)
    try:
        revision = (finished.record.get("base") or {}).get("commit")
        return Path(snapshot_download(name, revision=revision))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise RunError(
            f"the adapter's base model {name} is neither here nor on the hub",
            hint="name its folder with --base-model",
            where=str(finished.path),
            exit_code=ExitCode.WRONG_INPUT,
        ) from error


def _require_same_base(finished: Finished, folder: Path) -> None:
    """Raise when the folder's weights are not those that the adapter was trained on."""
    recorded = finished.record.get("base_weights_sha256")
    if recorded is None:
        return
    found = hash_weights(folder)
    if found != recorded:
        raise RunError(
            f"{folder} is not the base that this adapter was trained on: its weights have "
            f"SHA-256 {found[:12]}..., and {recorded[:12]}... was recorded",
            hint="name the folder of the base that was trained on with --base-model",
            where=str(finished.path),
            exit_code=ExitCode.WRONG_INPUT,
        )


def _write_record(finished: Finished, base: Path, folder: Path, proof: dict[str, Any]) -> None:
    """Write the card and ``tunesmith.json`` of the merged model."""
    record = {
        **{name: value for name, value in finished.record.items() if name != "files"},
        "quantization": None,
        "merged_from": str(finished.path),
        "proof": proof,
    }
    facts = CardFacts(base=finished.base or str(base), method="merged adapter", record=record)
    (folder / "README.md").write_text(make_card(facts), encoding="utf-8")
    text = json.dumps(record, indent=2, sort_keys=True) + "\n"
    (folder / RECORD).write_text(text, encoding="utf-8")


def _no_adapter(folder: Path) -> RunError:
    return RunError(
        f"{folder} holds a whole model: there is nothing to merge",
        hint="use it as it is",
        where=str(folder),
        exit_code=ExitCode.WRONG_INPUT,
    )


def _would_overwrite(folder: Path) -> RunError:
    return RunError(
        "the merged model cannot replace its adapter's folder",
        hint="choose another --output-dir",
        where=str(folder),
        exit_code=ExitCode.WRONG_INPUT,
    )
