"""What trains: the adapter alone, or every parameter."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn
from transformers import PreTrainedModel

from tunesmith.errors import ModelError
from tunesmith.models.quantize import is_quantized


@dataclass(frozen=True, slots=True)
class TrainedShare:
    """How many of the model's numbers train. Quantised weights count as what they stand for."""

    n_trained: int
    n_total: int


def train_everything(model: PreTrainedModel) -> None:
    """Make every parameter of the model train, in place.

    Raises:
        ModelError: the base is quantised, and its integers have no gradient.
    """
    if is_quantized(model):
        raise ModelError(
            "quantised weights cannot train by themselves",
            hint="set adapter: qlora, or load_in_4bit and load_in_8bit to false",
            where="adapter",
        )
    model.requires_grad_(requires_grad=True)


def count_trained(model: nn.Module) -> TrainedShare:
    """Return how much of the model trains; shared parameters count once."""
    trained = total = 0
    for parameter in model.parameters():
        # bitsandbytes packs two 4-bit numbers into a byte.
        packed = 2 if type(parameter).__name__ == "Params4bit" else 1
        size = parameter.numel() * packed * (parameter.element_size() if packed == 2 else 1)
        total += size
        trained += size if parameter.requires_grad else 0
    return TrainedShare(trained, total)
