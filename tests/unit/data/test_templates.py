from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from tunesmith.data.templates import TEMPLATE_NAMES, read_named, resolve_template
from tunesmith.errors import ConfigError, DataError

OWN = "{{ own }}"


def test_null_and_tokenizer_default_take_the_tokenizers_own() -> None:
    for choice in (None, "tokenizer_default"):
        found = resolve_template(OWN, choice)
        assert (found.name, found.text) == ("tokenizer_default", OWN)
        assert found.digest == hashlib.sha256(OWN.encode()).hexdigest()


@pytest.mark.parametrize("missing", [None, "", {}])
@pytest.mark.parametrize("choice", [None, "tokenizer_default"])
def test_a_tokenizer_without_a_template_is_an_error(
    missing: str | dict[str, str] | None, choice: str | None
) -> None:
    with pytest.raises(DataError, match="no chat template of its own"):
        resolve_template(missing, choice)


def test_the_fallback_is_taken_only_where_the_tokenizer_has_none() -> None:
    choice = "tokenizer_default_fallback_chatml"
    assert resolve_template(OWN, choice).text == OWN
    found = resolve_template(None, choice)
    assert (found.name, found.text) == ("chatml", read_named("chatml"))


def test_several_templates_by_name() -> None:
    assert resolve_template({"default": OWN, "tool_use": "x"}).text == OWN
    with pytest.raises(DataError, match="several chat templates"):
        resolve_template({"tool_use": "x", "rag": "y"})


def test_jinja_as_text_as_file_and_without_a_choice(tmp_path: Path) -> None:
    path = tmp_path / "mine.jinja"
    path.write_text("{{ mine }}\n", encoding="utf-8")
    assert resolve_template(OWN, "jinja", "{{ text }}").text == "{{ text }}"
    assert resolve_template(OWN, "jinja", str(path)).text == "{{ mine }}\n"
    assert resolve_template(OWN, None, "{{ text }}").text == "{{ text }}"
    assert resolve_template(OWN, "chatml", "{{ text }}").name == "chatml"


@pytest.mark.parametrize("source", [None, "", "missing.jinja"])
def test_jinja_without_a_text_or_with_a_missing_file(source: str | None) -> None:
    with pytest.raises(ConfigError) as error:
        resolve_template(OWN, "jinja", source)
    assert error.value.where == "chat_template_jinja"


@pytest.mark.parametrize("choice", ["chatmll", "tokenizer_default_fallback_chatmll"])
def test_an_unknown_name_is_an_error_with_the_nearest_one(choice: str) -> None:
    with pytest.raises(ConfigError) as error:
        resolve_template(None, choice)
    assert "did you mean 'chatml'" in error.value.hint
    assert "llama3" in error.value.hint


def test_the_named_templates() -> None:
    assert set(TEMPLATE_NAMES) >= {"chatml", "llama3", "gemma", "mistral_v1", "phi_3", "alpaca"}
    assert set(TEMPLATE_NAMES) >= {"qwen_25", "qwen3", "gemma3"}
    assert all(resolve_template(None, name).text for name in TEMPLATE_NAMES)


def test_the_names_are_known_without_jinja_or_torch() -> None:
    code = (
        "import sys; from tunesmith.data.templates import TEMPLATE_NAMES; assert TEMPLATE_NAMES; "
        "print({'jinja2', 'torch', 'transformers', 'tokenizers'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
