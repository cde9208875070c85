"""On a GPU: a whole step queues its work and never waits for it; compiled, it compiles once."""

from __future__ import annotations

import pytest
import torch

from tests.conformance.tiny import batch_of, build
from tunesmith.config.adapters import AdaptersSection
from tunesmith.config.optim import OptimSection
from tunesmith.dist.mesh import Mesh
from tunesmith.engine.step import Backward
from tunesmith.models.adapters import ADAPTER, add_adapter
from tunesmith.models.facts import read_facts
from tunesmith.models.policy import Policy
from tunesmith.objectives.sft import Sft
from tunesmith.optim.build import build_optimizer
from tunesmith.optim.clip import clip
from tunesmith.optim.groups import build_groups
from tunesmith.parallel.blocks import Treatment, treat_blocks
from tunesmith.patches.lora import fuse_adapters
from tunesmith.patches.patch import applied
from tunesmith.patches.plan import VARLEN

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
    pytest.mark.filterwarnings("ignore"),  # a compiler's own
]
PACKINGS = ((9, 4, 11), (20, 4), (3,) * 8, (24,), (12, 12))


class Parts:
    """Model, optimizer and backward of a tiny run on the device."""

    def __init__(self, *, adapter: bool, compiled: bool) -> None:
        model = build("Qwen3", dtype=torch.bfloat16, num_hidden_layers=3).cuda().train()
        if adapter:
            section = AdaptersSection(kind="lora", rank=8, target_linear=True)
            add_adapter(model, section, 0, base_name="base")
            fuse_adapters(model, ADAPTER)
        treat_blocks(model, Treatment(1, 24 if compiled else None))
        compute = torch.bfloat16 if adapter else None
        self.policy = Policy(model, read_facts(model.config), layout="flat", compute_dtype=compute)
        self.device = torch.device("cuda")
        self.backward = Backward(self.policy, Sft(), self.device, 0)
        section = OptimSection(learning_rate=1e-3)
        self.optimizer = build_optimizer(build_groups(model, section), section, self.device)

    def step(self, lengths: tuple[int, ...]) -> torch.Tensor:
        batch = batch_of(lengths)
        total = float(batch.targets["weights"].sum())
        sums = self.backward([batch], {"tokens": total})
        norm = clip(self.policy.parameters(), Mesh.single("cuda"), 1.0, folded=True)
        self.optimizer.step(norm.is_bad, norm.scale)
        self.optimizer.zero_grad()
        return sums.losses["tokens"] / total


@pytest.mark.parametrize("adapter", [False, True])
@pytest.mark.parametrize("compiled", [False, True])
def test_a_warm_step_never_waits_and_never_compiles(adapter, compiled):
    torch._dynamo.reset()
    with applied([VARLEN]):
        parts = Parts(adapter=adapter, compiled=compiled)
        losses = [parts.step(PACKINGS[0])]
        torch.cuda.synchronize()
        graphs = torch._dynamo.utils.counters["stats"]["unique_graphs"]
        torch.cuda.set_sync_debug_mode("error")
        try:
            losses += [parts.step(lengths) for lengths in PACKINGS]
        finally:
            torch.cuda.set_sync_debug_mode("default")
        assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == graphs
        assert torch.stack(losses).isfinite().all()
        # The same batch again, after steps on it: it was learned.
        assert losses[1] < losses[0]


@pytest.mark.parametrize("adapter", [False, True])
def test_compiled_steps_are_the_plain_ones(adapter):
    torch._dynamo.reset()
    with applied([VARLEN]):
        results = []
        for compiled in (False, True):
            parts = Parts(adapter=adapter, compiled=compiled)
            results.append(torch.stack([parts.step(lengths) for lengths in PACKINGS]))
        torch.testing.assert_close(results[0], results[1], rtol=2e-2, atol=2e-2)
