"""Two real processes over gloo: sums, objects, order, and streams that share a batch."""

from __future__ import annotations

import dataclasses
import json
import os
import socket
import time
from pathlib import Path

import pytest
import torch
import torch.multiprocessing

from tunesmith.dist import runtime
from tunesmith.dist.collectives import gather_objects, main_first, sum_over
from tunesmith.dist.mesh import AXES, AxisSizes, Mesh
from tunesmith.errors import ConfigError


def work(index: int, port: int, folder: str) -> None:
    """What each process does; it writes what it saw into ``folder``."""
    os.environ |= {
        "RANK": str(index),
        "WORLD_SIZE": "2",
        "LOCAL_RANK": str(index),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    environment = dataclasses.replace(runtime.detect(), device="cpu")
    mesh = runtime.start(environment)
    mine = torch.tensor([1.0 + index, 10.0 * index])
    total = sum_over(mesh, mine)
    seen = {
        "rank": mesh.rank,
        "place": [mesh.data_rank, mesh.data_size, mesh.world_size],
        "sum": total.tolist(),
        "mine": mine.tolist(),
        "alone": sum_over(mesh, mine, ("shard",)).tolist(),
        "axis": sum_over(mesh, mine, ("replicate",)).tolist(),
        "objects": gather_objects(mesh, {"rank": index}),
        "axes": [mesh.device_mesh.size(at) for at in range(len(AXES))],
    }
    with main_first(mesh):
        if mesh.is_main:
            time.sleep(0.3)
            Path(folder, "made").touch()
        seen["saw"] = Path(folder, "made").exists()
    seen["failed"] = fails_first(mesh)
    context = Mesh.build(torch.device("cpu"), AxisSizes(context=2))
    seen["context"] = [context.data_rank, context.data_size, *sum_over(context, mine).tolist()]
    with pytest.raises(ConfigError, match="2 processes cannot be laid out"):
        Mesh.build(torch.device("cpu"), AxisSizes(replicate=3))
    Path(folder, f"{index}.json").write_text(json.dumps(seen))
    runtime.stop()
    assert not torch.distributed.is_initialized()


def fails_first(mesh: Mesh) -> bool:
    """Whether a failure of the main process leaves the others waiting (then this never ends)."""
    try:
        with main_first(mesh):
            if mesh.is_main:
                raise ValueError("the main process fails")
    except ValueError:
        return True
    return False


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(work, args=(port, str(folder)), nprocs=2)
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]


def test_sums_go_over_the_ranks_and_leave_the_argument(seen):
    assert [one["sum"] for one in seen] == [[3.0, 10.0]] * 2
    assert [one["axis"] for one in seen] == [[3.0, 10.0]] * 2
    assert [one["mine"] for one in seen] == [[1.0, 0.0], [2.0, 10.0]]


def test_an_axis_of_one_rank_sums_nothing(seen):
    assert [one["alone"] for one in seen] == [[1.0, 0.0], [2.0, 10.0]]


def test_each_rank_knows_its_place(seen):
    assert [one["place"] for one in seen] == [[0, 2, 2], [1, 2, 2]]
    assert [one["axes"] for one in seen] == [[1, 2, 1, 1, 1, 1]] * 2


def test_ranks_of_a_split_sequence_read_the_same_rows_and_sum_their_tokens(seen):
    assert [one["context"] for one in seen] == [[0, 1, 3.0, 10.0]] * 2


def test_objects_come_by_rank(seen):
    assert [one["objects"] for one in seen] == [[{"rank": 0}, {"rank": 1}]] * 2


def test_the_main_process_goes_first_and_its_failure_frees_the_others(seen):
    assert [one["saw"] for one in seen] == [True, True]
    assert [one["failed"] for one in seen] == [True, False]
