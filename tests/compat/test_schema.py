"""The JSON schema over the corpus: what loads is valid, and every misspelt key is not."""

from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from tunesmith.config.json_schema import json_schema
from tunesmith.config.read import load
from tunesmith.config.tree import read_tree
from tunesmith.errors import ConfigError

FOLDER = Path(__file__).parent / "corpus"
CORPUS = sorted(FOLDER.rglob("*.y*ml"))


@pytest.fixture(scope="module")
def validator():
    return Draft202012Validator(json_schema())


def loading() -> list:
    found = []
    for path in CORPUS:
        try:
            load(path)
        except ConfigError:
            continue
        found.append(pytest.param(path, id=str(path.relative_to(FOLDER).with_suffix(""))))
    return found


@pytest.mark.parametrize("path", loading())
def test_what_loads_is_valid_and_each_of_its_keys_misspelt_is_not(path, validator):
    values = read_tree(path.read_text(encoding="utf-8"), str(path)).values
    errors = [f"{e.json_path}: {e.message[:200]}" for e in validator.iter_errors(values)]
    assert not errors, errors
    for key in values:
        misspelt = {("q" + name if name == key else name): item for name, item in values.items()}
        assert not validator.is_valid(misspelt), key
    for name in ("datasets", "test_datasets"):
        for number, entry in enumerate(values.get(name) or []):
            wrong = [*values[name]]
            wrong[number] = {**entry, "qpath": 1} if isinstance(entry, dict) else 3
            assert not validator.is_valid(values | {name: wrong})


def test_there_are_files_to_try():
    assert len(loading()) >= 40
