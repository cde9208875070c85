"""Cases for the keys of data sets, their formats, templates and splits."""

from __future__ import annotations

from typing import Any

from tests.effects.case import LEARNS, Became, Case, Is, differs
from tests.effects.ground import (
    DOUBLE_END,
    FORGETFUL,
    SHOUTED,
    TOOLED,
)

MASKS = frozenset({"plan.trained_tokens"}) | LEARNS
"""What follows where other tokens train."""

TEXTS = frozenset({"data.weights", "plan.tokens"}) | LEARNS
"""What follows where the prompts of rows become other text."""

ANSWERS = TEXTS | MASKS
"""What follows where answers do, too."""

ROWS = ANSWERS | {
    "data.tokens",
    "plan.rows",
    "plan.steps_per_epoch",
    "steps.epoch",
    "order",
}
"""What follows where other rows train."""

DROPS = frozenset({"data.dropped", "data.cut"})

HELD = frozenset(
    f"held_out.{name}" for name in ("tokens", "weights", "micro", "documents", "padding")
)

ORDER = frozenset({"order"}) | LEARNS
EPOCHS = frozenset({"plan.steps_per_epoch", "steps.epoch"})


def rows(name: str, kind: Any, **more: Any) -> dict[str, Any]:
    """One data set of that file and type."""
    return {"datasets": [{"path": f"GROUND/{name}.jsonl", "type": kind, **more}]}


def text(tokens: list[int]) -> str:
    """What the byte tokenizer's ids say, special tokens left out."""
    from tests.unit.export.parts import byte_tokenizer

    return str(byte_tokenizer().decode(tokens, skip_special_tokens=True))


def first(says: str, now: str) -> Any:
    """Whether the first row's text has ``says`` before and ``now`` in its place after."""

    def check(before: list[list[int]], after: list[list[int]]) -> bool:
        return says in text(before[0]) and text(after[0]) == text(before[0]).replace(says, now)

    return check


def trained(says: str, now: str) -> Any:
    """What of the first row trains, before and after."""

    def check(before: list[list[float]], after: list[list[float]]) -> bool:
        return (sum(before[0]), sum(after[0])) == (len(says), len(now))

    return check


def is_some_of(whole: list[Any], part: list[Any]) -> bool:
    """Some rows are left, in their order."""
    return len(part) < len(whole) and part == [row for row in whole if row in part]


WHERE = (
    Case(
        "datasets",
        [{"path": "GROUND/parts/b.jsonl", "type": "chat_template"}],
        {"data.rows": lambda a, b: len(a) == 8 and all(row.startswith("b.jsonl") for row in b)},
        ROWS,
    ),
    Case(
        "datasets[].path",
        "GROUND/parts/a.jsonl",
        {"data.rows": lambda a, b: len(a) == 8 and all(row.startswith("a.jsonl") for row in b)},
        ROWS,
    ),
    Case(
        "datasets[].name",
        "short",
        {"data.rows": lambda a, b: (len(a), len(b)) == (8, 4)},
        ROWS,
        given={"datasets": [{"path": "tiny/talk", "type": "chat_template"}]},
    ),
    Case(
        "datasets[].revision",
        "v2",
        {"data.rows": lambda a, b: (len(a), len(b)) == (8, 5)},
        ROWS | {"batches.documents"},
        given={"datasets": [{"path": "tiny/talk", "type": "chat_template"}]},
    ),
    Case(
        "datasets[].split",
        "train[:50%]",
        {"data.rows": lambda a, b: b == a[:4]},
        ROWS,
    ),
    Case(
        "datasets[].data_files",
        "b.jsonl",
        {"data.rows": lambda a, b: len(a) == 8 and b == a[4:]},
        ROWS,
        given={"datasets": [{"path": "GROUND/parts", "type": "chat_template"}]},
    ),
    Case(
        "datasets[].ds_type",
        "text",
        {"data.tokens": lambda a, b: text(b[0]).startswith('{"instruction": "Say sun"')},
        ROWS - {"data.tokens"} | {"data.rows"},
        given=rows("instructions", "completion"),
    ),
)

FORMATS = (
    Case(
        "datasets[].type",
        "alpaca",
        {"data.tokens": lambda a, b: "### Instruction:" in text(b[0]) and "user" in text(a[0])},
        ANSWERS | {"template", "template.text", "data.lint"},
    ),
    Case(
        "datasets[].field",
        "body",
        {"data.tokens": lambda a, b: (text(a[0]), text(b[0])) == ("sun and sun ", "sun, ")},
        ANSWERS | {"data.lint"},
        given=rows("instructions", "completion"),
    ),
    Case(
        "datasets[].field_messages",
        "other",
        {"data.tokens": lambda a, b: "Be kind." in text(a[0]) and "Be kind." not in text(b[0])},
        TEXTS | {"data.lint"},
    ),
    Case(
        "datasets[].field_tools",
        "functions",
        {"data.tokens": lambda a, b: "get_sun" in text(a[0]) and "get_sun" not in text(b[0])},
        TEXTS,
        given={"chat_template_jinja": TOOLED},
    ),
    Case(
        "datasets[].message_property_mappings",
        {"role": "role", "content": "said"},
        {"data.tokens": lambda a, b: "Say sun" in text(a[0]) and "SAY sun!" in text(b[0])},
        ANSWERS,
        given=rows("roles", "chat_template"),
    ),
    Case(
        "datasets[].message_field_training",
        "train",
        {"data.weights": differs},
        MASKS | {"data.lint"},  # a wish that nothing reads is a finding until the key names it
    ),
    Case(
        "datasets[].roles",
        {"assistant": ["tool"]},
        {"data.weights": differs},
        ANSWERS - {"data.weights"} | {"data.tokens", "data.lint"},
        given=rows("roles", "chat_template"),
    ),
    Case(
        "datasets[].roles_to_train",
        ["user"],
        {"data.weights": differs},
        MASKS,
    ),
    Case(
        "datasets[].drop_system_message",
        True,
        {"data.tokens": first("system\nBe kind.\n", "")},
        TEXTS,
    ),
    Case(
        "datasets[].train_on_eos",
        "last",
        {"data.weights": lambda a, b: all(sum(x) - sum(y) == 1 for x, y in zip(a, b, strict=True))},
        MASKS,
    ),
    Case(
        "datasets[].train_on_eot",
        "none",
        {"data.weights": lambda a, b: all(sum(x) - sum(y) == 2 for x, y in zip(a, b, strict=True))},
        MASKS,
        given={"chat_template_jinja": DOUBLE_END, "eot_tokens": ["<|endoftext|>"]},
    ),
    Case(
        "datasets[].chat_template",
        "alpaca",
        {"template": Became("tokenizer_default", "alpaca"), "template.text": differs},
        TEXTS | {"data.tokens", "result.template"},
    ),
    Case(
        "datasets[].chat_template_jinja",
        SHOUTED,
        {"template": Became("tokenizer_default", "jinja"), "template.text": Is(SHOUTED)},
        TEXTS | {"data.tokens", "result.template"},
    ),
    Case(
        "datasets[].history",
        "expand",
        {"data.rows": lambda a, b: len(b) == 2 * len(a)},
        ROWS,
        given={"chat_template_jinja": FORGETFUL, **rows("chat", "chat_template", history="last")},
    ),
)

INLINE = {
    "field_instruction": "instruction",
    "system_prompt": "Be good. ",
    "format": "{instruction}, {input}: ",
    "no_input_format": "{instruction}: ",
}


def inline(key: str, value: Any, says: Any, follows: frozenset[str] = TEXTS) -> Case:
    """A case for a key of a ``type`` that is a mapping."""
    given = rows("instructions", INLINE)
    return Case(f"datasets[].type.{key}", value, {"data.tokens": says}, follows, given=given)


INLINES = (
    inline("system_prompt", "Go. ", first("Be good. ", "Go. ")),
    inline("system_format", "<{system}>", first("Be good. ", "<Be good. >")),
    inline("field_system", "orders", first("Be good. ", "Be brief."), LEARNS),
    inline("field_instruction", "question", first("Say sun", "Please say sun")),
    inline("field_input", "more", lambda a, b: "twice" in text(a[1]) and "thrice" in text(b[1])),
    inline(
        "field_output",
        "answer",
        lambda a, b: "SUN" in text(b[0]) and "SUN" not in text(a[0]),
        LEARNS,
    ),
    inline("format", "{input} {instruction}", lambda a, b: "twice Say moon" in text(b[1])),
    inline("no_input_format", "{instruction}!", first("sun: ", "sun!")),
)

SPLITS = (
    Case(
        "test_datasets",
        [{"path": "GROUND/held-out.jsonl", "type": "chat_template"}],
        {"held_out.rows": lambda a, b: a is None and len(b) == 3, "plan.evaluate": differs},
        HELD | DROPS | {"evaluations.at", "evaluations.loss", "data.lint"},
    ),
    Case(
        "val_set_size",
        0.25,
        {
            "held_out.rows": lambda a, b: a is None and len(b) == 2,
            "data.rows": is_some_of,
            "plan.evaluate": differs,
        },
        HELD | ROWS | {"evaluations.at", "evaluations.loss"},
    ),
    Case("dataset_prepared_path", "RUN/elsewhere", {"data.folder": Is("elsewhere")}),
    Case(
        "dataset_num_proc",
        3,
        {"data.processes": Became(1, 3)},
        given={
            **rows("many", "chat_template"),
            "dataset_num_proc": 1,
            "dataset_prepared_path": "RUN/prepared",
        },
    ),
    Case(
        "shuffle_merged_datasets",
        False,
        {"order": differs},
        ORDER,
        given={"shuffle_before_merging_datasets": True},
    ),
    Case(
        "curriculum_sampling",
        False,
        {"order": lambda a, b: a != b and a[0] == ["chat.jsonl:1", "chat.jsonl:2"]},
        ORDER,
    ),
    Case(
        "train_on_inputs",
        True,
        {"data.weights": lambda a, b: all(min(row[1:]) == 1 for row in b)},
        MASKS,
        given=rows("instructions", "alpaca"),
    ),
    Case(
        "dataset_exact_deduplication",
        True,
        {
            "data.rows": lambda a, b: (len(a), len(b)) == (12, 6),
            "data.dropped": lambda a, b: (a, sum(b[0].values())) == ([{}], 6),
        },
        ROWS | {"data.cut", "data.lint"},
        given=rows("copies", "chat_template"),
    ),
    Case(
        "group_by_length",
        True,
        {"order": differs},
        ORDER,
    ),
)

LENGTHS = (
    Case(
        "sequence_len",
        100,
        {"plan.sequence_len": Became(192, 100), "data.rows": is_some_of, "data.dropped": differs},
        ROWS - LEARNS - {"order"} | {"data.cut"},
    ),
    Case(
        "eval_sequence_len",
        100,
        {"held_out.rows": is_some_of, "data.dropped": differs},
        HELD | {"data.cut", "evaluations.loss"},
        given={"test_datasets": [{"path": "GROUND/chat.jsonl", "type": "chat_template"}]},
    ),
    Case(
        "min_sample_len",
        100,
        {"data.rows": is_some_of, "data.dropped": differs},
        ROWS | {"data.cut"},
    ),
    Case(
        "excess_length_strategy",
        "truncate",
        {
            "data.rows": lambda a, b: len(a) < len(b) == 8,
            "data.tokens": lambda a, b: max(map(len, b)) == 100,
        },
        ROWS - LEARNS - {"order"} | DROPS,
        given={"sequence_len": 100},
    ),
    Case(
        "excess_length_strategy",
        "error",
        refused="tokens, more than sequence_len",
        given={"sequence_len": 100},
        name="error",
    ),
    Case(
        "sample_packing",
        True,
        {
            "plan.packing": Became(False, True),
            "batches.documents": lambda a, b: (a[0], b[0]) == ([1], [2]),
        },
        ORDER | EPOCHS,
        given={"micro_batch_size": 1},
    ),
    Case(
        "eval_sample_packing",
        True,
        {"held_out.documents": lambda a, b: a[0] == [1] and b[0][0] > 1},
        frozenset({"held_out.micro", "held_out.padding", "evaluations.loss"}),
        given={
            "test_datasets": [{"path": "GROUND/roles.jsonl", "type": "chat_template"}],
            "eval_batch_size": 1,
        },
    ),
    Case(
        "pad_to_sequence_len",
        True,
        {"batches.padding": lambda a, b: not a[0][0] and b[0][0] > 0},
        frozenset({"batches.documents"}),
    ),
    Case(
        "sample_packing_sequentially",
        True,
        {"order": differs},
        ORDER | EPOCHS | {"batches.documents"},
        given={"sample_packing": True},
    ),
    Case(
        "sample_packing_bin_size",
        1,
        {"batches.documents": lambda a, b: max(max(s) for s in a) > 1 == max(max(s) for s in b)},
        ORDER | EPOCHS,
        given={"sample_packing": True, "micro_batch_size": 1},
    ),
)

CASES = (*WHERE, *FORMATS, *INLINES, *SPLITS, *LENGTHS)
