"""A role that no turn has: told with the roles that there are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.data.toys import request, write_jsonl
from tunesmith.config.data import DatasetEntry
from tunesmith.data.prepare import PrepareRequest, prepare
from tunesmith.errors import DataError

ROW = {
    "messages": [
        {"role": "user", "content": "Say one."},
        {"role": "assistant", "content": "one"},
    ]
}


def asked(home: Path, *roles: str) -> PrepareRequest:
    path = write_jsonl(home / "rows.jsonl", [ROW, ROW])
    entry = DatasetEntry(path=str(path), type="chat_template", roles_to_train=list(roles))
    made = request([entry], home)
    return replace(made, settings=(replace(made.settings[0], roles_to_train=roles),))


def test_a_role_that_no_turn_has_is_told_with_those_that_there_are(tmp_path: Path) -> None:
    with pytest.raises(DataError) as error:
        prepare(asked(tmp_path, "asistant"))
    path = tmp_path / "rows.jsonl"
    assert error.value.message == (
        f"no turn of {path} has the role `asistant`; the rows have assistant, user"
    )
    assert error.value.where == "datasets.0.roles_to_train"


def test_one_of_the_roles_is_enough(tmp_path: Path) -> None:
    assert len(prepare(asked(tmp_path, "asistant", "user")).train) == 2


def test_a_role_may_be_called_by_another_of_its_names(tmp_path: Path) -> None:
    wanted = asked(tmp_path, "gpt")
    assert len(prepare(wanted).train) == 2
    short = replace(wanted, packing=wanted.packing.model_copy(update={"sequence_len": 4}))
    with pytest.raises(DataError, match="nothing is left to train on"):
        prepare(short)
