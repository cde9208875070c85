"""A module of the user's as a data set's ``type``: it turns a row into a row of a built-in format.

    def read_row(row):
        return {"prompt": "Q: " + row["question"], "completion": row["best_answer"]}

``type: my_module`` calls ``my_module.read_row``, ``type: my_module.other`` calls ``other``. The
answer is a dict in the columns of a built-in format, or a record of `tunesmith.data.records`:

| columns of the answer | read as |
|---|---|
| ``input_ids``, ``labels`` | token ids |
| ``segments`` | pieces that train or do not |
| ``messages`` | turns, rendered by the chat template |
| ``prompt``, ``chosen``, ``rejected`` | a pair of answers |
| ``prompt``, ``completion``, ``label`` | a judged answer |
| ``prompt``, ``completions``, ``labels`` | steps |
| ``prompt``, ``completion`` | a prompt, and the answer, which trains |
| ``prompt`` and anything else | a prompt with columns for rewards |
| ``text`` | text that trains whole |

Factories ``fn(cfg)`` that answer with a function of a row, or with ``(function, {"remove_columns":
[...]})``, are called too. They get stand-ins for the config and the tokenizer, which a format does
not know: whatever asks these for something is refused by name. The code runs because the config
names it, for no other reason.
"""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable, Mapping
from functools import wraps
from importlib import import_module
from types import ModuleType
from typing import Any, Final, cast

from tunesmith.data.formats.fields import kind_of, name_list
from tunesmith.data.formats.options import FormatOptions
from tunesmith.data.formats.readings import read_by_columns
from tunesmith.data.records import Record, RowError
from tunesmith.errors import ConfigError

_DEFAULT: Final = "read_row"
_RECIPE: Final = "write `def read_row(row)` that returns a dict in a built-in format's columns"

RowFunction = Callable[[dict[str, Any]], Any]


def load_own(name: str) -> Callable[[Mapping[str, Any], FormatOptions], Record]:
    """The format of the module or function that ``name`` says, imported now.

    Raises:
        ConfigError: it cannot be imported, is no function, or wants what a format does not have.
    """
    function = _function(*_find(name), name)
    convert = _as_row_function(name, function)

    @wraps(function)
    def read(row: Mapping[str, Any], options: FormatOptions) -> Record:
        try:
            answer = convert(dict(row))
        except (RowError, ConfigError):
            raise
        except Exception as error:  # whatever the user's code raises
            message = f"`{name}` failed: {type(error).__name__}: {error}"
            raise RowError("", message, "correct the row or the function") from error
        return _as_record(name, answer, options)

    return read


def own_module(name: str) -> ModuleType:
    """The module that ``name`` says, or whose function it says, imported now.

    Raises:
        ConfigError: it cannot be imported.
    """
    return _find(name)[0]


def _find(name: str) -> tuple[ModuleType, str]:
    """The module, and the function's name, of ``module`` or ``module.function``."""
    try:
        return _import(name), _DEFAULT
    except ModuleNotFoundError as error:
        module, _, attribute = name.rpartition(".")
        if not module or error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise _unusable(name, error) from error
    try:
        return _import(module), attribute
    except ModuleNotFoundError as error:
        raise _unusable(name, error) from error


def _import(module: str) -> ModuleType:
    """The module, looked for among what is installed, then in the folder of the command."""
    here = os.getcwd()
    added = here not in sys.path
    if added:
        sys.path.append(here)
    try:
        return import_module(module)
    except ModuleNotFoundError:
        raise
    except Exception as error:  # whatever the user's module raises while it is imported
        raise _unusable(module, error) from error
    finally:
        if added:
            sys.path.remove(here)


def _unusable(name: str, error: Exception) -> ConfigError:
    return ConfigError(
        f"the data set type `{name}` is none of ours and cannot be imported: "
        f"{type(error).__name__}: {error}",
        hint=f"correct the name, or put the module beside the config and {_RECIPE}",
        where="datasets",
    )


def _function(module: ModuleType, attribute: str, name: str) -> Callable[..., Any]:
    found = getattr(module, attribute, None)
    if not callable(found):
        raise ConfigError(
            f"`type: {name}`: the module `{module.__name__}` has no function `{attribute}`",
            hint=_RECIPE,
            where="datasets",
        )
    return cast(Callable[..., Any], found)


def _as_row_function(name: str, function: Callable[..., Any]) -> RowFunction:
    """What answers for one row: the function itself, or what a factory of it makes."""
    wanted = _required(function)
    if wanted == ["cfg"]:
        return _made(name, function(_StandIn(name, "the config")))
    if len(wanted) != 1 or wanted[0] == "tokenizer":
        raise ConfigError(
            f"`type: {name}` takes {name_list(wanted) or 'nothing'}: a format is given a row, and "
            "no tokenizer",
            hint=_RECIPE,
            where="datasets",
        )
    return function


def _required(function: Callable[..., Any]) -> list[str]:
    """The names of the parameters that must be given."""
    positional = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    parameters = inspect.signature(function).parameters.values()
    return [
        parameter.name
        for parameter in parameters
        if parameter.default is parameter.empty and parameter.kind not in positional
    ]


def _made(name: str, made: Any) -> RowFunction:
    """The row function that a factory made, with the columns that it asks to be removed."""
    transform, settings = made if isinstance(made, tuple) and len(made) == 2 else (made, {})
    unknown = sorted(set(settings) - {"remove_columns"})
    if not callable(transform) or unknown:
        wrong = f"asks for {name_list(unknown)}" if unknown else f"made {kind_of(transform)}"
        hint = "return a function of one row, with `remove_columns` at most"
        raise ConfigError(f"`type: {name}` {wrong}", hint=hint, where="datasets")
    removed = settings.get("remove_columns", [])
    extra: dict[str, Any] = {}
    if "tokenizer" in inspect.signature(transform).parameters:
        extra["tokenizer"] = _StandIn(name, "the tokenizer")

    def convert(row: dict[str, Any]) -> Any:
        kept = {} if removed == "__all__" else {k: v for k, v in row.items() if k not in removed}
        answer = transform(row, **extra)
        return {**kept, **answer} if isinstance(answer, Mapping) else answer

    return convert


def _as_record(name: str, answer: Any, options: FormatOptions) -> Record:
    if isinstance(answer, Record):
        return answer
    if not isinstance(answer, Mapping):
        message = f"`{name}` answered with {kind_of(answer)}, want a dict"
        raise RowError("", message, "return the columns of a built-in format; never drop a row")
    return read_by_columns(answer, options)


class _StandIn:
    """In the place of what a format is not given; says so when somebody asks it for something."""

    def __init__(self, name: str, what: str) -> None:
        self._refusal = ConfigError(
            f"`type: {name}` asks {what} for something, and a format is given the row alone",
            hint=f"{_RECIPE}; texts are rendered and tokenized afterwards",
            where="datasets",
        )

    def __getattr__(self, attribute: str) -> Any:
        raise self._refusal

    def __getitem__(self, key: Any) -> Any:
        raise self._refusal

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        raise self._refusal

    def __bool__(self) -> bool:
        raise self._refusal
