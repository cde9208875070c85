"""Whether the disk holds what a run is going to write, asked before its first step."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tunesmith.checkpoint import layout
from tunesmith.checkpoint.durable import require_room


@dataclass(frozen=True, slots=True)
class Demand:
    """What a run writes: ``saves`` checkpoints of ``checkpoint`` bytes, and ``final`` bytes.

    ``keep`` is how many of them stay (None: all); ``has_best`` where a best one stays beyond them.
    """

    checkpoint: int
    final: int
    saves: int
    keep: int | None
    has_best: bool

    def at_once(self) -> int:
        """How many checkpoints lie there at the same time: an old one goes after a new one came."""
        if self.keep is None:
            return self.saves
        return min(self.saves, self.keep + 1 + self.has_best)

    def n_bytes(self) -> int:
        """The most that lies there at once."""
        return self.at_once() * self.checkpoint + self.final


def require_room_for_run(output_dir: Path, demand: Demand) -> None:
    """Raise unless everything fits beside what is there; checkpoints that are there count as made.

    Raises:
        RunError: exit 3, with the bytes needed and the bytes free.
    """
    made = sum(
        file.stat().st_size
        for path in layout.checkpoints(output_dir)
        for file in path.rglob("*")
        if file.is_file()
    )
    require_room(output_dir, max(demand.final, demand.n_bytes() - made))
