import subprocess
import sys
from types import SimpleNamespace

import pytest

import tunesmith


def test_the_face_lists_every_name():
    assert tunesmith.__all__ == ["evaluate", "load", "merge", "plan", "preview", "steps", "train"]
    assert set(tunesmith.__all__) <= set(dir(tunesmith))


def test_names_resolve_to_the_api(monkeypatch):
    face = SimpleNamespace(**{name: object() for name in tunesmith.__all__})
    monkeypatch.setitem(sys.modules, "tunesmith.launch.api", face)
    for name in tunesmith.__all__:
        assert getattr(tunesmith, name) is getattr(face, name)


def test_other_names_do_not_exist():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        tunesmith.nothing  # noqa: B018


def test_importing_the_package_imports_nothing():
    code = (
        "import sys; before = set(sys.modules); import tunesmith;"
        "extra = set(sys.modules) - before - {'tunesmith', '__future__'};"
        "sys.exit(repr(extra) if extra else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
