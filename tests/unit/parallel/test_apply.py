from __future__ import annotations

import pytest
import torch
from torch import nn

from tunesmith.dist.mesh import AxisSizes, Mesh
from tunesmith.errors import RunError
from tunesmith.parallel.apply import apply
from tunesmith.parallel.blocks import Treatment


def test_more_than_one_device_is_refused():
    mesh = Mesh(device=torch.device("cpu"), sizes=AxisSizes(shard=2))
    with pytest.raises(RunError, match="2 devices"):
        apply(nn.Identity(), mesh, Treatment())
