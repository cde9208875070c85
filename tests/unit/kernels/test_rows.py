from __future__ import annotations

import torch

from tunesmith.kernels.rows import take_rows


def test_rows_and_their_gradient_are_those_of_indexing():
    values = torch.randn(7, 3, dtype=torch.float64, requires_grad=True)
    rows = torch.tensor([1, 4, 6])
    assert torch.equal(take_rows(values, rows), values[rows])
    assert torch.autograd.gradcheck(take_rows, (values, rows))


def test_no_row_gives_an_empty_matrix_and_a_gradient_of_zero():
    values = torch.randn(7, 3, requires_grad=True)
    taken = take_rows(values, torch.empty(0, dtype=torch.int64))
    taken.sum().backward()
    assert taken.shape == (0, 3)
    assert values.grad.eq(0).all()
