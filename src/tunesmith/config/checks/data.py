"""Rules for data sets, held-out data, templates and lengths."""

from __future__ import annotations

from collections.abc import Iterator

from tunesmith.config.checks.rule import Rule, conflict, missing, out_of_range
from tunesmith.config.data import DatasetEntry
from tunesmith.config.schema import RunConfig
from tunesmith.config.when import has_held_out
from tunesmith.errors import REMOVE, Problem


def has_data(config: RunConfig) -> Iterator[Problem]:
    """There is something to train on."""
    if not config.data.datasets:
        yield missing(
            "datasets",
            "there is nothing to train on (is this a training config?)",
            {"datasets": [{"path": "data.jsonl", "type": "chat_template"}]},
            "add `datasets:` with `- path: data.jsonl` (a file, folder or hub id) and `type: ...`",
        )


def entries(config: RunConfig) -> Iterator[tuple[str, DatasetEntry]]:
    """The key of each data set's entry, and the entry."""
    for name, listed in (
        ("datasets", config.data.datasets),
        ("test_datasets", config.data.test_datasets),
    ):
        for number, entry in enumerate(listed):
            yield f"{name}.{number}", entry


def held_out_once(config: RunConfig) -> Iterator[Problem]:
    """Held-out data is split off or given, not both."""
    if config.data.test_datasets and config.data.val_set_size:
        yield conflict(
            "val_set_size",
            "`test_datasets` gives the held-out data already",
            {"val_set_size": REMOVE},
        )


def held_out_size(config: RunConfig) -> Iterator[Problem]:
    """A share below 1 or a whole number of rows."""
    size = config.data.val_set_size
    if size >= 1 and size != int(size):
        yield out_of_range(
            "val_set_size",
            f"{size} is neither a share below 1 nor a number of rows",
            {"val_set_size": int(size)},
            f"use `val_set_size: {int(size)}`, or a share such as 0.05",
        )


def evaluation_has_data(config: RunConfig) -> Iterator[Problem]:
    """A schedule of evaluation needs rows that are held out.

    `evals_per_epoch` alone is too common to be an error: it is a key without effect.
    """
    section = config.evaluation
    if has_held_out(config):
        return
    asked = {
        "eval_steps": section.steps is not None,
        "eval_strategy": section.strategy not in (None, "no"),
        "eval_first": section.first,
    }
    for key, is_set in asked.items():
        if is_set:
            yield conflict(
                key,
                "there is no held-out data to evaluate on",
                {key: REMOVE},
                f"take `{key}` out, or add `val_set_size: 0.05` or `test_datasets`",
            )
            return


def templates_have_text(config: RunConfig) -> Iterator[Problem]:
    """``jinja`` needs the template, and a template's text no other name beside it."""
    section = config.tokenizer
    yield from _template_text("", section.chat_template, section.chat_template_jinja)
    for key, entry in entries(config):
        own = entry.chat_template_jinja
        inherited = own if entry.chat_template is None else own or section.chat_template_jinja
        yield from _template_text(f"{key}.", entry.chat_template, inherited)


def _template_text(prefix: str, choice: str | None, text: str | None) -> Iterator[Problem]:
    if choice == "jinja" and not text:
        yield missing(
            f"{prefix}chat_template_jinja",
            "`chat_template: jinja` needs the template",
            {f"{prefix}chat_template": REMOVE},
            f"give its text or the path of a jinja file, or take `{prefix}chat_template` out",
        )
    if text and choice not in (None, "jinja") and prefix == "":
        yield conflict(
            "chat_template_jinja",
            f"is not used with `chat_template: {choice}`",
            {"chat_template_jinja": REMOVE},
            "take `chat_template_jinja` out, or use `chat_template: jinja`",
        )


def packing_fits(config: RunConfig) -> Iterator[Problem]:
    """The shortest row that is kept fits into the longest that is allowed."""
    section = config.packing
    if section.min_sample_len > section.sequence_len:
        yield conflict(
            "min_sample_len",
            f"{section.min_sample_len} is more than `sequence_len: {section.sequence_len}`",
            {"min_sample_len": section.sequence_len},
            f"use `min_sample_len: {section.sequence_len}` or less: no row could be kept",
        )


RULES: tuple[Rule, ...] = (
    Rule(("datasets",), has_data),
    Rule(("test_datasets", "val_set_size"), held_out_once),
    Rule(("val_set_size",), held_out_size),
    Rule(
        (
            "eval_steps",
            "eval_strategy",
            "eval_first",
            "val_set_size",
            "test_datasets",
        ),
        evaluation_has_data,
    ),
    Rule(
        ("chat_template", "chat_template_jinja", "datasets", "test_datasets"), templates_have_text
    ),
    Rule(("min_sample_len", "sequence_len"), packing_fits),
)
