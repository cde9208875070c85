"""What a block is said to keep for its backward pass is what autograd keeps."""

from __future__ import annotations

import pytest
import torch

from tests.conformance.tiny import batch_of, build
from tunesmith.config.adapters import AdaptersSection
from tunesmith.models.adapters import ADAPTER, add_adapter
from tunesmith.models.facts import read_facts
from tunesmith.models.footprint import count_parameters
from tunesmith.models.host_footprint import HostFootprint, HostWork
from tunesmith.models.policy import Policy, Want
from tunesmith.patches.lora import fuse_adapters

TOKENS = 256
BF16, FP32 = torch.bfloat16, torch.float32

# How it trains -> (stored in, computed in, rank, dropout, copies of the layers' inputs).
WAYS = {
    "full, fp32": (FP32, FP32, 0, 0.0, 2),
    "full, bf16 weights": (BF16, BF16, 0, 0.0, 2),
    "full, fp32 masters under autocast": (FP32, BF16, 0, 0.0, 5),
    "lora, fp32": (FP32, FP32, 8, 0.0, 2),
    "lora, fp32, dropout": (FP32, FP32, 8, 0.1, 2),
    "lora, bf16": (BF16, BF16, 8, 0.0, 2),
    "lora, bf16, dropout": (BF16, BF16, 8, 0.1, 2),
}


def policy_of(family, n_layers, way):
    stored, compute, rank, dropout, _ = way
    model = build(family, dtype=stored, num_hidden_layers=n_layers).train()
    if rank:
        section = AdaptersSection(kind="lora", rank=rank, target_linear=True, dropout=dropout)
        add_adapter(model, section, 0, base_name="base")
        fuse_adapters(model, ADAPTER)
    mixed = compute == BF16 and (rank or stored == FP32)
    compute_dtype = BF16 if mixed else None
    return Policy(
        model, read_facts(model.config), layout="flat", compute_dtype=compute_dtype
    ).train()


def kept_by_autograd(policy):
    """Bytes that one forward pass keeps, beside the parameters themselves."""
    own = {t.untyped_storage().data_ptr() for t in (*policy.parameters(), *policy.buffers())}
    sizes, held = {}, []

    def keep(tensor):
        held.append(tensor)  # or its memory would be given to another
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        batch = batch_of((TOKENS,))
        policy(batch, Want(coefficients_T=batch.targets["weights"]))
    return sum(sizes.values())


@pytest.mark.parametrize("family", ["Llama", "Qwen3"])
@pytest.mark.parametrize("name", WAYS)
def test_a_block_keeps_what_was_counted(family, name):
    stored, compute, rank, dropout, inputs = WAYS[name]
    one, two = (policy_of(family, n, WAYS[name]) for n in (1, 2))
    measured = kept_by_autograd(two) - kept_by_autograd(one)
    shape = read_facts(one.model.config)
    work = HostWork(
        tokens=TOKENS,
        linear=stored.itemsize,
        stored=stored.itemsize,
        compute=compute.itemsize,
        rank=rank,
        drops=dropout > 0,
        state=0.0,
        table_state=0.0,
        accumulates=False,
        casts=rank == 0 and stored != compute,
        inputs_kept=inputs,
        n_recomputed=0,
        copies_to_save=False,
        rehearses=False,
        rehearses_export=False,
        copies_base=False,
    )
    counted = HostFootprint(shape, work)
    expected = counted.kept() + counted.cast / shape.n_layers
    assert measured == pytest.approx(expected, rel=0.05)  # an adapter's own casts are left out


def small_work(rank, **changes):
    return HostWork(
        tokens=64,
        linear=4.0,
        stored=4,
        compute=4,
        rank=rank,
        drops=False,
        state=8.0,
        table_state=8.0,
        accumulates=False,
        casts=False,
        inputs_kept=2,
        n_recomputed=0,
        copies_to_save=False,
        **{"rehearses": True, "rehearses_export": True, "copies_base": False, **changes},
    )


@pytest.mark.parametrize("rank", [0, 8])
def test_the_weights_are_counted(rank):
    policy = policy_of("Llama", 2, (FP32, FP32, rank, 0.0, 2))
    shape = read_facts(policy.model.config)
    counted = HostFootprint(shape, small_work(rank))
    trained = sum(p.numel() for p in policy.parameters() if p.requires_grad)
    assert counted.trained == trained
    assert counted.weights == sum(p.numel() * p.element_size() for p in policy.parameters())
    assert counted.state == 8 * trained
    phases = counted.phases()
    assert phases.peak >= counted.weights + counted.state + counted.gradients
    assert phases.worst


def test_each_rehearsal_has_its_own_switch():
    shape = read_facts(policy_of("Llama", 2, (FP32, FP32, 8, 0.0, 2)).model.config)

    def phases(**changes):
        return HostFootprint(shape, small_work(8, **changes)).phases()

    merged = phases().export - phases(rehearses_export=False).export
    assert merged == 4 * count_parameters(shape)
    assert phases(rehearses=False).export == phases().export
    assert phases(rehearses=False).resume == 0 < phases(rehearses_export=False).resume


@pytest.mark.parametrize("rank", [0, 8])
def test_a_reference_costs_the_base_once_more(rank):
    shape = read_facts(policy_of("Llama", 2, (FP32, FP32, rank, 0.0, 2)).model.config)
    alone, beside = (
        HostFootprint(shape, small_work(rank, copies_base=copies)) for copies in (False, True)
    )
    assert beside.static - alone.static == 4 * count_parameters(shape)
    assert beside.step() - alone.step() == 4 * count_parameters(shape)
