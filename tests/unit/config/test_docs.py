import pytest

from tunesmith.config.docs import markdown, reference, written
from tunesmith.config.flat import leaves
from tunesmith.config.schema import RunConfig


def test_the_reference_has_a_row_for_every_key():
    rows = [row for rows in reference().values() for row in rows]
    assert [row.key for row in rows] == list(leaves())
    assert all(row.type and row.default and row.meaning for row in rows)


@pytest.mark.parametrize("section", list(RunConfig.model_fields))
def test_a_markdown_page_is_one_table(section):
    lines = markdown(section).splitlines()
    table = [line for line in lines if line.startswith("|")]
    assert len(table) == 2 + len(reference()[section])
    assert {line.replace("\\|", "").count("|") for line in table} == {5}


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "null"), (True, "true"), ("", '""'), ("a", "a"), (1e-4, "0.0001"), ((1,), "[1]")],
)
def test_values_are_written_as_yaml(value, text):
    assert written(value) == text
