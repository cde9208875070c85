"""tunesmith fine-tunes language models from one YAML file.

The Python face is the seven functions of ``__all__``. They are the ones that the commands call, and
each is imported when it is first used: ``import tunesmith`` itself imports nothing.

    config = tunesmith.load("run.yaml", {"learning_rate": 1e-5})
    print(tunesmith.plan(config))
    tunesmith.train(config)
"""

from __future__ import annotations

__all__ = ["evaluate", "load", "merge", "plan", "preview", "steps", "train"]

_HOME = "tunesmith.launch.api"


def __getattr__(name: str) -> object:
    """A function of the Python face, imported from ``tunesmith.launch.api``."""
    if name not in __all__:
        raise AttributeError(f"module 'tunesmith' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOME), name)


def __dir__() -> list[str]:
    """The names of the face beside the module's own."""
    return sorted({*globals(), *__all__})
