"""``Asked``: what was written, also for what is not built yet, as rules look at it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tunesmith.config.schema import RunConfig
from tunesmith.config.unbuilt import unbuilt_keys

_FSDP_PREFIX = "fsdp_"


@dataclass(frozen=True, slots=True)
class Asked:
    """Plain values as they were written, old keys under today's names too, and the config of
    those that are built. Values may be of any type: each look says which one it takes.
    """

    written: Mapping[str, Any]
    config: RunConfig

    def has(self, key: str) -> bool:
        """Whether the key was written, with whatever value."""
        return self._find(key)[0]

    def get(self, key: str) -> Any:
        """The value under a dotted key, or None."""
        return self._find(key)[1]

    def on(self, key: str) -> bool:
        """Whether the key asks for something: not null, false, zero, empty or its usual value."""
        value = self.get(key)
        known = unbuilt_keys().get(key)
        return not known.is_off(value) if known else bool(value)

    def text(self, key: str) -> str:
        """The value if it is text, else an empty one."""
        value = self.get(key)
        return value if isinstance(value, str) else ""

    def number(self, key: str) -> float | None:
        """The value if it is a finite number."""
        value = self.get(key)
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return value if is_number and -math.inf < value < math.inf else None

    def items(self, key: str) -> list[Any]:
        """The value if it is a list, a text as a list of one, else an empty list."""
        value = self.get(key)
        return value if isinstance(value, list) else [value] if isinstance(value, str) else []

    def block(self, key: str) -> Mapping[str, Any]:
        """The value if it is a mapping, else an empty one."""
        value = self.get(key)
        return value if isinstance(value, Mapping) else {}

    def fsdp_key(self, name: str) -> str:
        """A key of ``fsdp_config`` as it is spelt here, with the old prefix or without."""
        old = f"{_FSDP_PREFIX}{name}"
        return f"fsdp_config.{old if old in self.block('fsdp_config') else name}"

    @property
    def fsdp(self) -> bool:
        """Whether weights are sharded by FSDP."""
        return self.on("fsdp") or self.on("fsdp_config")

    @property
    def fsdp2(self) -> bool:
        """Whether the second version of it is asked for by number."""
        inside = self.get(self.fsdp_key("version"))
        return self.fsdp and 2 in (self.get("fsdp_version"), inside)

    @property
    def sharding_key(self) -> str:
        """The key that asks for FSDP."""
        return "fsdp" if self.on("fsdp") else "fsdp_config"

    @property
    def adapter(self) -> str:
        """The adapter's name, "" for full fine-tuning."""
        return self.text("adapter")

    @property
    def method(self) -> str:
        """What ``rl`` names, "" for supervised training."""
        return self.text("rl")

    @property
    def bits(self) -> str:
        """The key that asks for a base in 4 or 8 bits, or ""."""
        return next((key for key in ("load_in_4bit", "load_in_8bit") if self.get(key) is True), "")

    def _find(self, key: str) -> tuple[bool, Any]:
        value: Any = self.written
        for part in key.split("."):
            if isinstance(value, list) and part.isdigit() and int(part) < len(value):
                value = value[int(part)]
            elif isinstance(value, Mapping) and part in value:
                value = value[part]
            else:
                return False, None
        return True, value
