"""``Order`` and ``Opened``: what a tracker's process is started with, and what it made of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Order:
    """What a tracker's process is started with: plain data, without secrets.

    ``client`` names the function that opens it, as ``"module:object"``; ``env`` is added to the
    environment of its process.
    """

    title: str
    client: str
    settings: Mapping[str, Any]
    env: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What its files are called."""
        return self.client.rpartition(":")[2]


@dataclass(frozen=True, slots=True)
class Opened:
    """A tracker of accelerate that was started; the run's ``id`` and page there, "" without."""

    tracker: Any
    id: str = ""
    url: str = ""
