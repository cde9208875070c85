"""``Chosen``: a derived value together with the reason for it, so that a plan explains itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Chosen(Generic[T]):
    """A value, why it is that value, and the flat keys that it came from.

    ``estimated`` marks a value that will change once the data is prepared (printed with ``~``).
    """

    value: T
    reason: str
    keys: tuple[str, ...] = ()
    estimated: bool = False

    def to_json(self) -> dict[str, Any]:
        """Plain data: ``value``, ``reason``, ``keys`` and, where it holds, ``estimated``."""
        data: dict[str, Any] = {"value": self.value, "reason": self.reason, "keys": list(self.keys)}
        if self.estimated:
            data["estimated"] = True
        return data
