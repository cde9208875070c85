"""``Policy``: the trained module. A batch goes in, token log-probabilities come out.

Dimensions: T tokens of the batch, S supervised ones (weight not 0), V vocabulary, D hidden size, X
either of the two.

The backbone is called without its head; the head then runs over the supervised positions only, in
chunks, so that the logits of a batch never exist at once. Nothing is patched for that, and it is
the same for every architecture whose head ``models.heads`` knows. Any other runs its own forward.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from tunesmith.data.batch import Batch
from tunesmith.kernels.rows import take_rows
from tunesmith.log import get_logger
from tunesmith.models.facts import Architecture
from tunesmith.models.heads import Head
from tunesmith.models.places import Places
from tunesmith.models.projection import Projection
from tunesmith.models.router import balance
from tunesmith.patches.plan import Layout

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Want:
    """What the caller needs from a forward pass.

    ``coefficients_T`` asks for ``dot``, the sum of coefficients times log-probs, whose gradient is
    made in the forward pass; the log-probs then come back without a gradient.
    """

    logps: bool = True
    coefficients_T: Tensor | None = None
    logits: bool = False
    hidden: bool = False


@dataclass(frozen=True, slots=True)
class PolicyOutput:
    """What a forward pass gives; what was not wanted is None.

    ``logps_T`` float32, 0 where the target weighs 0. ``dot`` is a scalar. ``logits_TV`` float32,
    scaled and capped. ``hidden_TD`` in the backbone's dtype. ``auxiliary`` holds losses that the
    model itself defines, as sums over tokens: ``router_balance`` where its config asks for router
    logits.
    """

    logps_T: Tensor | None = None
    dot: Tensor | None = None
    logits_TV: Tensor | None = None
    hidden_TD: Tensor | None = None
    auxiliary: dict[str, Tensor] = field(default_factory=dict)


class Policy(nn.Module):
    """A transformers model behind one forward: the only module that is sharded, compiled, called.

    ``layout`` is "flat" (all documents on one axis, kept apart by attention) or "rows" (one padded
    row a document, for models that attention alone cannot isolate). ``compute_dtype`` turns on
    autocast where trained float32 weights stand beside half-precision ones.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        architecture: Architecture,
        *,
        layout: Layout,
        compute_dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.architecture = architecture
        self.layout = layout
        self.compute_dtype = compute_dtype
        self._routed = bool(getattr(model.config.get_text_config(), "output_router_logits", False))
        if not architecture.head.known:
            log.warning(
                "notice: %s finishes its logits in a way that is not known here; its own forward "
                "makes them, which stores all logits of a batch",
                architecture.class_name,
            )

    def forward(self, batch: Batch, want: Want) -> PolicyOutput:
        """Return what ``want`` names for every token of the batch.

        Dropout reads torch's generators: call ``seed_dropout`` before a training forward.
        """
        places = Places(batch, self.layout)
        with self.autocast(batch.segments.device.type):
            if self.architecture.head.known:
                backbone = getattr(self.model, self.architecture.backbone)
                features_TX, auxiliary = self._run(backbone, places, batch)
                projection = Projection(
                    self.model.get_output_embeddings(), self.architecture.head, self.compute_dtype
                )
            else:
                features_TX, auxiliary = self._run(self.model, places, batch)
                projection = Projection(nn.Identity(), Head(), None)
            output = self._answer(batch, want, features_TX, projection)
            return replace(output, auxiliary=auxiliary)

    def autocast(self, device: str) -> AbstractContextManager[None]:
        """The context in which the model multiplies: autocast, or nothing."""
        if self.compute_dtype is None:
            return nullcontext()
        return torch.autocast(device, dtype=self.compute_dtype)

    @contextmanager
    def without_autocast(self) -> Iterator[None]:
        """The weights multiply in their own dtype inside, as whoever loads them has it."""
        before, self.compute_dtype = self.compute_dtype, None
        try:
            yield
        finally:
            self.compute_dtype = before

    @contextmanager
    def plain_attention(self) -> Iterator[None]:
        """The model attends as plain transformers would: sdpa, or eager where it has none."""
        before = self.model.config._attn_implementation
        try:
            self.model.set_attn_implementation("sdpa")
        except ValueError:
            self.model.set_attn_implementation("eager")
        try:
            yield
        finally:
            self.model.set_attn_implementation(before)

    def _run(
        self, module: nn.Module, places: Places, batch: Batch
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The last hidden state, or the logits of the whole model, by token; and side losses."""
        routed: dict[str, bool] = {"output_router_logits": True} if self._routed else {}
        with places.promise():
            output = module(**places.inputs, **routed, use_cache=False)
        features_TX = places.collect(output.logits if "logits" in output else output[0])
        if not self._routed:
            return features_TX, {}
        logits_TE = [places.collect_rows(layer) for layer in output.router_logits]
        top_k: int = self.model.config.get_text_config().num_experts_per_tok
        return features_TX, {"router_balance": balance(logits_TE, batch.segments, top_k)}

    def _answer(
        self, batch: Batch, want: Want, features_TX: Tensor, projection: Projection
    ) -> PolicyOutput:
        logps_T = dot = None
        if want.logps or want.coefficients_T is not None:
            # The head runs on supervised positions alone; the host knows how many there are.
            rows_S = batch.supervised
            features_SX = take_rows(features_TX, rows_S)
            targets_S = batch.targets["target_ids"][rows_S]
            if want.coefficients_T is None:
                logps_S = projection.logps(features_SX, targets_S)
            else:
                dot, logps_S = projection.dot(features_SX, targets_S, want.coefficients_T[rows_S])
            logps_T = logps_S.new_zeros(batch.n_tokens).index_copy(0, rows_S, logps_S)
        return PolicyOutput(
            logps_T=logps_T,
            dot=dot,
            logits_TV=projection.logits(features_TX) if want.logits else None,
            hidden_TD=features_TX if want.hidden and self.architecture.head.known else None,
        )


def seed_dropout(seed: int, index: tuple[int, int]) -> None:
    """Key torch's generators by (seed, step, number of the micro-batch in the global step).

    The engine calls it before every training forward, so that resuming needs no generator state
    and one rank with four micro-batches draws what four ranks with one draw.
    """
    digest = hashlib.sha256(f"dropout:{seed}:{index[0]}:{index[1]}".encode()).digest()
    torch.manual_seed(int.from_bytes(digest[:8], "big") >> 1)
