"""The facts of a config's tokenizer, read in a process of its own that does without torch.

transformers reads tokenizers without torch as well as with it, and imports torch wherever it is
installed: two thirds of what it takes to start. Preparing data needs nothing else of both, so a
short-lived process, for which torch is not there, reads the tokenizer and says what it found. Where
transformers would add nothing to the tokenizer's files, it is not asked either.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from dataclasses import asdict
from typing import Any, Final

from tunesmith import errors
from tunesmith.config.model import ModelSection
from tunesmith.config.tokenizer import TokenizerSection
from tunesmith.errors import TunesmithError
from tunesmith.log import ROOT, get_logger
from tunesmith.models.plain_tokenizer import read_plain
from tunesmith.models.tokenizer_facts import TokenizerFacts, facts_of

log = get_logger(__name__)

_CODE: Final = (
    "import sys; sys.modules['torch'] = None; from tunesmith.models.apart import answer; answer()"
)
"""None in ``sys.modules`` is Python's way to say that a module is not there."""


def read_apart(model: ModelSection, tokenizer: TokenizerSection) -> TokenizerFacts:
    """The facts of the tokenizer that the sections name.

    Read in this process where torch is imported already, or is needed: to convert a ``.gguf``, and
    perhaps by code of the model's own. Whatever another process cannot do is done here, too.

    Raises:
        ModelError: the base model or its tokenizer cannot be used.
    """
    if "torch" in sys.modules or model.base.endswith(".gguf") or model.remote_code is not None:
        return _read(model, tokenizer)
    if (facts := read_plain(model, tokenizer)) is not None:
        return facts
    said = _ask(model, tokenizer)
    for level, message in said.get("notices", ()):
        log.log(level, "%s", message)
    if "error" in said:
        raise _as_error(said["error"])
    if "facts" not in said:
        return _read(model, tokenizer)
    return TokenizerFacts(**said["facts"])


def _read(model: ModelSection, tokenizer: TokenizerSection) -> TokenizerFacts:
    from tunesmith.models.source import locate  # both import transformers
    from tunesmith.models.tokenizer import load_tokenizer

    return facts_of(load_tokenizer(locate(model), tokenizer))


def _ask(model: ModelSection, tokenizer: TokenizerSection) -> dict[str, Any]:
    """What the other process says; nothing where it ended without a word."""
    asked = [model.model_dump(mode="json"), tokenizer.model_dump(mode="json")]
    done = subprocess.run(
        [sys.executable, "-c", _CODE],
        input=json.dumps(asked).encode(),
        stdout=subprocess.PIPE,
        env=os.environ
        | {
            "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path),
            "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",  # that models cannot be loaded without torch
        },
        check=False,
    )
    said: dict[str, Any] = json.loads(done.stdout) if done.returncode == 0 else {}
    return said


def answer() -> None:
    """Read the sections from stdin and say on stdout what was found: the other process's life."""
    answers = sys.stdout
    sys.stdout = sys.stderr  # what libraries print must not get into the answer
    notices: list[tuple[int, str]] = []
    logger = logging.getLogger(ROOT)
    logger.addHandler(_Listener(notices))
    logger.propagate = False
    said: dict[str, Any] = {"notices": notices}
    try:
        model, tokenizer = json.load(sys.stdin)
        asked = (ModelSection.model_validate(model), TokenizerSection.model_validate(tokenizer))
        said["facts"] = asdict(_read(*asked))
    except ImportError:  # it cannot be done without torch
        said.clear()
    except TunesmithError as error:
        said["error"] = [type(error).__name__, error.message, error.hint, error.where]
        said["error"].append(int(error.exit_code))
    json.dump(said, answers)


class _Listener(logging.Handler):
    """Keeps what is said aloud."""

    def __init__(self, notices: list[tuple[int, str]]) -> None:
        super().__init__(logging.WARNING)
        self._notices = notices

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the record's level and text."""
        self._notices.append((record.levelno, record.getMessage()))


def _as_error(said: tuple[str, str, str, str, int]) -> TunesmithError:
    """The error that the other process met."""
    kind, message, hint, where, code = said
    made: TunesmithError = getattr(errors, kind)(
        message, hint=hint, where=where, exit_code=errors.ExitCode(code)
    )
    return made
