"""What samples weigh, as far as it is known without torch: preparing data needs no more."""

from __future__ import annotations

from typing import Any, Protocol

from tunesmith.data.samples import SampleKind, TokenSample


class Shares(Protocol):
    """The part of an ``Objective`` that preparing data asks."""

    name: str
    version: str
    sample: SampleKind

    def weights(self, sample: Any) -> dict[str, float]:
        """The sample's share of each named total."""
        ...


class SftShares:
    """Of supervised fine-tuning: the weights of a sample's targets."""

    name = "sft"
    version = "1"
    sample: SampleKind = "tokens"

    def weights(self, sample: TokenSample) -> dict[str, float]:
        """Return the sample's share of the total: the weights of its targets."""
        return {"tokens": sample.total_weight}
