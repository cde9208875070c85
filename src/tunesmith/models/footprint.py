"""What training takes of a device's memory, from the model's shapes alone.

Numbers are bytes. A token's activations in one block are counted in elements: what the backward
pass of a plain decoder block reads. Checked against measured peaks of Llama's and Qwen3's shapes.
"""

from __future__ import annotations

from dataclasses import dataclass

from tunesmith.kernels.logprobs import DEVICE_CHUNK
from tunesmith.models.facts import Architecture

HALF = 2
WIDE = 4


@dataclass(frozen=True, slots=True)
class Workload:
    """What is trained, and how; sizes are bytes a parameter.

    ``tokens`` of a micro-batch. ``weight`` of the base as it is stored. ``adapter_rank`` is 0 for
    full fine-tuning. ``state`` counts all moments of a trained parameter, ``gradient`` its
    gradient, ``wide_sum`` what is kept between micro-batches. ``cast`` counts the half-precision
    copies of wide weights while a forward pass lasts. ``activation`` is bytes an element.
    """

    tokens: int
    weight: float
    adapter_rank: int
    state: float
    gradient: float
    wide_sum: float
    cast: float
    activation: int
    compiled: bool


@dataclass(frozen=True, slots=True)
class Footprint:
    """Bytes: what always lies there, what a block keeps for its backward pass, and the rest.

    ``kept`` and ``recomputed`` are of one block for all tokens of a micro-batch, when its
    activations are kept and when they are made again; ``passing`` lives while the head or one
    block runs.
    """

    static: int
    gradients: int
    kept: int
    recomputed: int
    passing: int
    n_blocks: int

    def peak(self, n_recomputed: int) -> int:
        """The most that lies there at once when so many blocks recompute.

        Activations are given back while gradients come, block after block: the peak is at one of
        the two ends.
        """
        kept = self.n_blocks - n_recomputed
        forward = kept * self.kept + n_recomputed * self.recomputed
        again = self.kept if n_recomputed else 0
        return self.static + self.passing + max(forward, self.gradients) + again


def footprint(shape: Architecture, work: Workload) -> Footprint:
    """The footprint of one training step on one device."""
    parameters = count_parameters(shape)
    trained = parameters if work.adapter_rank == 0 else count_adapter(shape, work.adapter_rank)
    base = round(parameters * work.weight)
    own = 0 if work.adapter_rank == 0 else trained * WIDE
    state = round(trained * (work.state + work.wide_sum)) + round(parameters * work.cast)
    head_grad = shape.vocab * shape.hidden * WIDE if work.adapter_rank == 0 else 0
    # The logits that exist at once, in float32 and as a gradient.
    logits = min(work.tokens, DEVICE_CHUNK) * shape.vocab * (WIDE + HALF)
    hidden = work.tokens * shape.hidden * work.activation
    return Footprint(
        static=base + own + state,
        gradients=round(trained * work.gradient),
        kept=work.tokens * _elements(shape, work) * work.activation,
        recomputed=hidden,
        passing=head_grad + logits + 4 * hidden,
        n_blocks=shape.n_layers,
    )


def count_parameters(shape: Architecture) -> int:
    """Parameters of a plain decoder of this shape: embeddings, attention, gated MLPs, norms."""
    attention = shape.hidden * (2 * _queries(shape) + 2 * _keys(shape))
    experts = max(1, shape.n_experts)
    mlp = 3 * shape.hidden * shape.ffn * experts + shape.hidden * shape.n_experts
    embeddings = shape.vocab * shape.hidden * (1 if shape.tied else 2)
    return embeddings + shape.n_layers * (attention + mlp + 2 * shape.hidden) + shape.hidden


def count_adapter(shape: Architecture, rank: int) -> int:
    """Parameters of an adapter of this rank on every linear layer of the blocks."""
    queries, keys = _queries(shape), _keys(shape)
    pairs = 2 * (shape.hidden + queries) + 2 * (shape.hidden + keys)
    return shape.n_layers * rank * (pairs + 3 * (shape.hidden + shape.ffn))


def _elements(shape: Architecture, work: Workload) -> int:
    """Elements a token keeps in one block: residuals, norms, q, k, v, attention, gate, up, product.

    Without a compiler every norm also keeps its float32 input and its unscaled output, the gated
    product its activation, and each adapted layer the copy of its input that autocast made.
    """
    hidden, queries, keys = shape.hidden, _queries(shape), _keys(shape)
    ffn = shape.ffn * max(1, shape.n_experts_per_token)
    elements = 4 * hidden + 2 * queries + 2 * keys + 3 * ffn
    if shape.n_experts:
        elements += 2 * hidden * shape.n_experts_per_token
    if shape.normed_queries:
        elements += (queries + keys) * (1 if work.compiled else 4)
    if work.compiled:
        return elements
    elements += 6 * hidden + ffn
    return elements + (5 * hidden + queries + ffn if work.adapter_rank else 0)


def _queries(shape: Architecture) -> int:
    return shape.n_heads * shape.head_dim


def _keys(shape: Architecture) -> int:
    return shape.n_kv_heads * shape.head_dim
