import math

import pytest
from pydantic import ValidationError

from tunesmith.config.section import Section, arms, key, takes


class Example(Section):
    number: float = key(1.0, "A number.", gt=0)
    whole: int | None = key(None, "A whole number.")
    switch: bool = key(False, "A switch.")
    either: bool | str | None = key(None, "A switch or a word.")


@pytest.mark.parametrize("field", ["number", "whole"])
@pytest.mark.parametrize("value", [True, False])
def test_a_truth_value_is_no_number(field, value):
    with pytest.raises(ValidationError):
        Example(**{field: value})


@pytest.mark.parametrize("value", [1, 0, "yes", "true", 1.0])
def test_neither_numbers_nor_words_are_truth_values(value):
    with pytest.raises(ValidationError):
        Example(switch=value)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_numbers_are_finite(value):
    with pytest.raises(ValidationError):
        Example(number=value)


def test_a_key_may_take_a_switch_or_a_word():
    assert Example(either=True).either is True
    assert Example(either="auto").either == "auto"


def test_sections_are_frozen_and_refuse_other_keys():
    with pytest.raises(ValidationError):
        Example().number = 2.0
    with pytest.raises(ValidationError):
        Example(other=1)


def test_arms_flatten_unions_and_leave_none_out():
    assert [*arms(int | None | list[str])] == [int, list[str]]
    assert takes(int | None, int)
    assert not takes(int | None, str)
