"""The tokenizer and template as whoever serves the model gets them: from the files of a run."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import TemplateError
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from tunesmith.data.records import Conversation
from tunesmith.runs.preflight.probe import Subject


@dataclass(frozen=True, slots=True)
class Served:
    """A loaded tokenizer, and the variables that the config gives its template."""

    tokenizer: PreTrainedTokenizerBase
    variables: Mapping[str, Any]

    def turns(self, record: Conversation, count: int) -> list[int] | None:
        """The ids of the first ``count`` turns; None where the template refuses them."""
        return self._ids(record, count, prompt=False)

    def prompt(self, record: Conversation, count: int) -> list[int] | None:
        """The ids of the first ``count`` turns and the opening of the answer; None likewise."""
        return self._ids(record, count, prompt=True)

    def n_turns(self, record: Conversation, ids: list[int]) -> int | None:
        """How many turns render to just these ids; None where no number does."""
        counts = range(len(record.messages), 0, -1)
        return next((n for n in counts if self.turns(record, n) == ids), None)

    def _ids(self, record: Conversation, count: int, *, prompt: bool) -> list[int] | None:
        """None where no server makes a prompt of these turns: none at all, none of a user."""
        try:
            text = self.tokenizer.apply_chat_template(
                [dict(message.fields) for message in record.messages[:count]],
                tools=[dict(tool) for tool in record.tools] or None,
                tokenize=False,
                add_generation_prompt=prompt,
                **{**self.variables, **record.variables},
            )
        except (ValueError, TemplateError):
            return None
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])


@contextmanager
def serving(subject: Subject) -> Iterator[Served]:
    """What stands beside the weights of a checkpoint, written and loaded by transformers."""
    with tempfile.TemporaryDirectory(prefix="tunesmith-") as folder:
        subject.files.write_companions(Path(folder))
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        yield Served(tokenizer, subject.plan.config.tokenizer.chat_template_kwargs or {})
