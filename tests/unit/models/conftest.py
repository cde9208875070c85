from __future__ import annotations

from collections.abc import Iterator

import pytest

from tunesmith.patches.patch import applied
from tunesmith.patches.plan import VARLEN


@pytest.fixture(autouse=True)
def varlen() -> Iterator[None]:
    with applied([VARLEN]):
        yield
