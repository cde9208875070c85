"""The mesh: where a rank stands among all, by arithmetic alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tunesmith.dist.collectives import gather_objects, main_first, sum_over
from tunesmith.dist.mesh import AXES, DATA_AXES, AxisSizes, Mesh

SIZES = [
    AxisSizes(replicate=4),
    AxisSizes(replicate=2, shard=3, context=2, tensor=2),
    AxisSizes(pipeline=2, replicate=2, shard=2, tensor=3, expert=2),
]


@pytest.mark.parametrize("sizes", SIZES)
def test_ranks_are_laid_out_row_by_row(sizes):
    shape = [getattr(sizes, axis) for axis in AXES]
    meshes = [Mesh(torch.device("cpu"), rank, sizes) for rank in range(int(np.prod(shape)))]
    assert {mesh.world_size for mesh in meshes} == {len(meshes)}
    for mesh in meshes:
        at = dict(zip(AXES, np.unravel_index(mesh.rank, shape), strict=True))
        expected = np.ravel_multi_index(
            [at[axis] for axis in DATA_AXES], [getattr(sizes, axis) for axis in DATA_AXES]
        )
        assert mesh.data_rank == expected
    # Every part of the data is read by equally many ranks.
    counts = np.bincount([mesh.data_rank for mesh in meshes])
    assert counts.tolist() == [len(meshes) // meshes[0].data_size] * meshes[0].data_size
    assert [mesh.is_main for mesh in meshes] == [True] + [False] * (len(meshes) - 1)


def test_one_process_is_a_mesh_of_ones():
    mesh = Mesh.single("cpu")
    assert (mesh.rank, mesh.world_size, mesh.data_rank, mesh.data_size) == (0, 1, 0, 1)
    assert mesh.is_main
    assert mesh.device == torch.device("cpu")
    assert mesh.device_mesh is None


def test_collectives_of_one_process_give_back_what_they_got():
    mesh = Mesh.single("cpu")
    tensor = torch.ones(2, requires_grad=True)
    assert sum_over(mesh, tensor) is tensor
    assert gather_objects(mesh, {"a": 1}) == [{"a": 1}]
    with main_first(mesh):
        ran = True
    assert ran
