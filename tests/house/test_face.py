"""The public face: `tunesmith.__all__` is what the package offers; every name of it resolves."""

from __future__ import annotations

import pytest

import tunesmith


@pytest.mark.parametrize("name", tunesmith.__all__)
def test_name_resolves(name: str) -> None:
    assert getattr(tunesmith, name) is not None


def test_dir_lists_the_face() -> None:
    assert set(tunesmith.__all__) <= set(dir(tunesmith))


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = tunesmith.no_such_name
