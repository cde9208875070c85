"""What a run on a CPU takes of the host's memory, phase by phase, from the model's shapes alone.

Numbers are bytes. What one block keeps of a token for its backward pass was counted tensor by
tensor (``torch.autograd.graph.saved_tensors_hooks``) for Llama's and Qwen3's blocks: norms see
their input in float32, weights that train keep what they are multiplied with, autocast casts the
input of every layer anew, keys and values are kept for every query head.
"""

from __future__ import annotations

from dataclasses import dataclass

from tunesmith.kernels.logprobs import CHUNK
from tunesmith.models.facts import Architecture
from tunesmith.models.footprint import HALF, WIDE, count_adapter, count_parameters

REHEARSED_BYTES = 2_000_000_000
"""Of weights and state, up to which saving and exporting are rehearsed: more takes minutes."""

LAYERS_OF_A_BLOCK = 7
"""Linear layers of a plain decoder block: four of attention, three of a gated MLP."""


@dataclass(frozen=True, slots=True)
class HostWork:
    """What is trained, and how; sizes are bytes a number.

    ``tokens`` of a micro-batch. ``linear`` is a weight of the blocks' layers as it is stored,
    ``stored`` any other; ``compute`` what products are made in. ``rank`` is 0 for full
    fine-tuning. ``state`` counts all moments of a trained number, ``table_state`` of one in
    the embedding (which 8-bit optimizers keep in 32 bits). ``casts`` where autocast copies
    wide weights. ``inputs_kept`` of a block's layers: 2 where layers with the same input share it,
    5 where each has a copy.
    ``n_recomputed`` blocks keep nothing but their input. ``copies_to_save`` where saves are written
    in the background, ``rehearses`` where a resumption may be rehearsed, ``rehearses_export`` where
    the export may. ``copies_base`` where a second base stands by as the reference.
    """

    tokens: int
    linear: float
    stored: int
    compute: int
    rank: int
    drops: bool
    state: float
    table_state: float
    accumulates: bool
    casts: bool
    inputs_kept: int
    n_recomputed: int
    copies_to_save: bool
    rehearses: bool
    rehearses_export: bool
    copies_base: bool


@dataclass(frozen=True, slots=True)
class Phases:
    """The most that lies there in each phase of a run."""

    load: int
    step: int
    resume: int
    export: int

    @property
    def peak(self) -> int:
        """The most of all."""
        return max(self.load, self.step, self.resume, self.export)

    @property
    def worst(self) -> str:
        """The phase of the peak, in words."""
        names = {
            "loading": self.load,
            "a step": self.step,
            "the rehearsal of a resumption": self.resume,
            "the proof of the export": self.export,
        }
        return max(names, key=lambda name: names[name])


@dataclass(frozen=True, slots=True)
class HostFootprint:
    """Bytes of what a run holds on a CPU, from which the phases are made."""

    shape: Architecture
    work: HostWork

    @property
    def table(self) -> int:
        """Numbers in the embedding, and in the head."""
        return self.shape.vocab * self.shape.hidden

    @property
    def linears(self) -> int:
        """Numbers in the blocks' linear layers (and norms, which are few)."""
        tables = self.table if self.shape.tied else 2 * self.table
        return count_parameters(self.shape) - tables

    @property
    def weights(self) -> int:
        """The model as it is stored, with its adapter."""
        tables = self.table if self.shape.tied else 2 * self.table
        own = self.trained * WIDE if self.work.rank else 0
        return round(self.linears * self.work.linear) + tables * self.work.stored + own

    @property
    def reference(self) -> int:
        """A second base that answers are compared with."""
        own = self.trained * WIDE if self.work.rank else 0
        return self.weights - own if self.work.copies_base else 0

    @property
    def trained(self) -> int:
        """Numbers that train."""
        if self.work.rank:
            return count_adapter(self.shape, self.work.rank)
        return count_parameters(self.shape)

    @property
    def width(self) -> int:
        """Bytes of a trained number."""
        return WIDE if self.work.rank else self.work.stored

    @property
    def state(self) -> int:
        """The optimizer's moments."""
        table = 0 if self.work.rank else self.table
        return round((self.trained - table) * self.work.state + table * self.work.table_state)

    @property
    def gradients(self) -> int:
        """One gradient for each trained number."""
        return self.trained * self.width

    @property
    def static(self) -> int:
        """What lies there during every step."""
        copies = self.trained * self.width + self.state if self.work.copies_to_save else 0
        return self.weights + self.reference + self.state + copies

    @property
    def cast(self) -> int:
        """The half-precision copies that autocast keeps until the backward pass is over."""
        return self.linears * HALF if self.work.casts and self.work.rank == 0 else 0

    def kept(self) -> int:
        """What one block keeps of a micro-batch for its backward pass."""
        shape, work = self.shape, self.work
        queries, keys = shape.n_heads * shape.head_dim, shape.n_kv_heads * shape.head_dim
        ffn = shape.ffn * max(1, shape.n_experts_per_token)
        wide_stream = self._stream == WIDE
        # Two norms see their input in float32; their outputs are kept as the layers get them.
        hidden = 2 * WIDE + work.inputs_kept * work.compute
        if work.rank == 0:
            hidden += 2 * (WIDE if wide_stream else HALF)
        per_token = hidden * shape.hidden + (5 * queries + 4 * ffn) * work.compute
        per_token += WIDE * shape.n_heads + 2 * WIDE
        if shape.normed_queries:
            per_token += (queries + keys) * (WIDE + (work.compute if work.rank == 0 else 0))
        if work.rank:
            per_token += LAYERS_OF_A_BLOCK * work.rank * work.compute
        if work.drops:
            per_token += 2 * work.compute * (5 * shape.hidden + queries + ffn)
        return round(work.tokens * per_token)

    def head(self) -> int:
        """The most that the head takes beside what is kept: logits, its gradient, its copies.

        A chunk's logits are there with their gradient while the next chunk's are made.
        """
        work, chunk = self.work, min(self.work.tokens, CHUNK)
        narrow = HALF if work.compute == HALF else 0
        following = min(CHUNK, work.tokens - chunk)
        several = following > 0
        making = self.shape.vocab * (2 * WIDE * chunk + (WIDE + narrow) * following)
        using = chunk * self.shape.vocab * (2 * WIDE + narrow)
        if work.rank == 0:
            making += self.table * WIDE if several else 0
            using += self.table * ((2 if several else 1) * WIDE + narrow)
        copy = self.table * HALF if work.casts else 0
        hidden = work.tokens * self.shape.hidden * (3 * self._stream + 2 * work.compute)
        return max(making, using) + copy + hidden

    def step(self) -> int:
        """The most of a step: at the head, or at either end of the backward pass."""
        work, shape = self.work, self.shape
        one = self.kept()
        inputs = work.n_recomputed * work.tokens * shape.hidden * self._stream
        kept = (shape.n_layers - work.n_recomputed) * one + inputs + self.cast
        again = one if work.n_recomputed else 0
        earlier = 0
        if work.accumulates:
            earlier = self.trained * (WIDE if self.width == HALF else self.width)
        table = self.table * (WIDE + self.width) if work.rank == 0 else 0
        passing = work.tokens * (3 * shape.ffn + 4 * shape.hidden) * work.compute
        unpacked = round(shape.ffn * shape.hidden * work.compute) if work.linear < 1 else 0
        forward = kept + self.head()
        backward = kept + again + table + passing + unpacked
        end = self.gradients + self.cast + one + (self.table * self.width if table else 0)
        return self.static + earlier + max(forward, backward, end)

    def phases(self) -> Phases:
        """The most of each phase."""
        trained, again = self.trained * self.width, 0
        lying = self.weights + self.reference + self.state
        if self.work.rehearses and 4 * trained <= REHEARSED_BYTES:
            # Weights twice (as they were, and after a second step), the state thrice (the run's
            # own, the file's pages, what is made of them).
            again = lying + 2 * trained + 2 * self.state
        dense = count_parameters(self.shape) * self.work.stored
        proof = lying + (self.weights if self.work.rank == 0 else dense) + trained
        stored = count_parameters(self.shape) * HALF  # as most repositories hold it
        if self.work.rank and self.work.rehearses_export and stored <= REHEARSED_BYTES:
            proof += dense  # the merged model beside the base that it was merged into
        return Phases(
            load=self.weights + self.reference + count_parameters(self.shape) * HALF,
            step=self.step(),
            resume=again,
            export=proof,
        )

    @property
    def _stream(self) -> int:
        """Bytes of a number of the hidden states that pass from block to block."""
        return self.work.stored
