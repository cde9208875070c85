"""One ``tunesmith train`` in this process, and the most memory that it took beyond its imports.

``python -m benchmarks.memory.child [--phases] CONFIG.yaml`` prints one JSON object, last.
"""

from __future__ import annotations

import importlib
import json
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

IMPORTS = (
    "tunesmith.launch.local",
    "tunesmith.report.console",
    "tunesmith.cli.main",
    "peft",
    "datasets",
    "bitsandbytes",
    "transformers.models.llama.modeling_llama",
    "transformers.models.mistral.modeling_mistral",
    "transformers.models.qwen2.modeling_qwen2",
    "transformers.models.qwen3.modeling_qwen3",
)
"""What a run imports by and by; here all of it comes first."""

PHASES = {
    "prepare": "tunesmith.launch.local:prepare",
    "assemble": "tunesmith.runs.train:assemble",
    "step": "tunesmith.engine.loop:train_step",
    "evaluate": "tunesmith.engine.loop:evaluate",
    "save": "tunesmith.checkpoint.saves:Saves.save",
    "export": "tunesmith.runs.train:finish",
}


def resident(field: str = "VmRSS") -> int:
    """Bytes of this process that are in memory (``VmHWM``: the most so far)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise LookupError(field)


def forget_peak() -> None:
    """Let ``VmHWM`` begin again at what is in memory now."""
    Path("/proc/self/clear_refs").write_text("5")


class Phases:
    """The peak inside of each named part, each call's own."""

    def __init__(self) -> None:
        self.most = 0
        self.found: dict[str, list[tuple[int, int]]] = {}

    def watch(self, name: str, place: str) -> None:
        """Replace the function at ``place`` by one that is measured."""
        module, _, dotted = place.partition(":")
        owner: Any = importlib.import_module(module)
        *outer, last = dotted.split(".")
        for one in outer:
            owner = getattr(owner, one)
        setattr(owner, last, self.measured(name, getattr(owner, last)))

    def measured(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """``function``, its peak and what is left after it written down."""

        def call(*arguments: Any, **more: Any) -> Any:
            self.most = max(self.most, resident("VmHWM"))
            forget_peak()
            try:
                return function(*arguments, **more)
            finally:
                self.found.setdefault(name, []).append((resident("VmHWM"), resident()))
                self.most = max(self.most, resident("VmHWM"))

        return call


def warm_up() -> None:
    """Let the libraries below torch make what they make once."""
    import torch

    layer = torch.nn.Linear(64, 64)
    layer(torch.randn(64, 64)).square().sum().backward()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        layer(torch.randn(64, 64)).float().sum().backward()


def main() -> None:
    """Import, measure, train, measure."""
    for name in IMPORTS:
        importlib.import_module(name)
    warm_up()
    phases = Phases()
    if "--phases" in sys.argv:
        for name, place in PHASES.items():
            phases.watch(name, place)
        from tunesmith.runs.preflight import check

        check.PROBES = {n: phases.measured(n, p) for n, p in check.PROBES.items()}
    before = resident()
    forget_peak()
    from tunesmith.cli.main import main as tunesmith

    path, code = sys.argv[-1], 0
    sys.argv = ["tunesmith", "train", path]
    try:
        tunesmith()
    except SystemExit as end:
        code = int(end.code or 0)
    peak = max(phases.most, resident("VmHWM")) - before
    parts = {
        name: [[most - before, left - before] for most, left in calls]
        for name, calls in phases.found.items()
    }
    used = resource.getrusage(resource.RUSAGE_SELF)
    said = {"code": code, "imports": before, "peak": peak, "phases": parts}
    print(json.dumps(said | {"user": used.ru_utime, "system": used.ru_stime}))


if __name__ == "__main__":
    main()
