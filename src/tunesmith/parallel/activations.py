"""Recompute: a block's activations are made again in the backward pass instead of being kept."""

from __future__ import annotations

from transformers import PreTrainedModel

from tunesmith.errors import ModelError


def recompute_blocks(model: PreTrainedModel) -> None:
    """Make every block of the model recompute its activations while it trains, in place.

    The model's own door is used: names of parameters stay, generators are restored for the second
    pass (dropout draws the same), and frozen inputs do no harm since it is not reentrant.

    Raises:
        ModelError: the architecture cannot do it.
    """
    if not model.supports_gradient_checkpointing:
        raise ModelError(
            f"{type(model).__name__} cannot recompute its activations",
            hint="set gradient_checkpointing: false",
            where="gradient_checkpointing",
        )
    options = {"use_reentrant": False, "preserve_rng_state": True}
    # The door's name changed in the course of transformers 5.
    if hasattr(model, "activation_checkpointing_enable"):
        model.activation_checkpointing_enable(activation_checkpointing_kwargs=options)
    else:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs=options)
