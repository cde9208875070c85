import sys

import pytest

from tunesmith.errors import ConfigError
from tunesmith.plugins import load_plugins
from tunesmith.registry import registry


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """Writes a module `a_plugin` of the given text that can be imported."""
    monkeypatch.syspath_prepend(tmp_path)
    registry.cache_clear()

    def write(text: str) -> str:
        (tmp_path / "a_plugin.py").write_text(text)
        return "a_plugin"

    yield write
    sys.modules.pop("a_plugin", None)
    registry.cache_clear()


def test_a_plugin_adds_to_the_tables(plugin):
    name = plugin(
        "def register(registries):\n    registries['schedules'].add('mine', 'math:sqrt')\n"
    )
    assert load_plugins([name]) == [name]
    import math

    assert registry("schedules").load("mine") is math.sqrt


def test_loading_twice_is_no_harm(plugin):
    name = plugin("def register(registries):\n    registries['formats'].add('mine', 'a:b')\n")
    load_plugins([name])
    load_plugins([name])
    assert registry("formats").target("mine") == "a:b"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("raise ValueError('broken')", "cannot be imported: ValueError: broken"),
        ("x = 1", "has no function `register`"),
        ("register = 3", "has no function `register`"),
        ("def register(r):\n    r['formats'].add('alpaca', 'a:b')\n", "is already"),
        ("def register(r):\n    r['no_such_table']\n", "`register` failed: KeyError"),
    ],
)
def test_a_broken_plugin_is_a_config_error(plugin, text, words):
    name = plugin(text)
    with pytest.raises(ConfigError, match=words) as caught:
        load_plugins([name])
    assert caught.value.hint


def test_nothing_is_loaded_without_being_named():
    assert load_plugins([]) == []
