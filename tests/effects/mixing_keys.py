"""Cases for how data sets are cut, mixed, streamed and drawn, and for what turns bring along."""

from __future__ import annotations

from typing import Any

from tests.effects.case import LEARNS, Became, Case, differs
from tests.effects.data_keys import ANSWERS, DROPS, EPOCHS, MASKS, ORDER, ROWS, TEXTS, rows, text
from tests.effects.ground import THINKING

TWO = [
    {"path": "GROUND/parts/a.jsonl", "type": "chat_template"},
    {"path": "GROUND/parts/b.jsonl", "type": "chat_template"},
]
LONG = {"max_steps": 8}


def counts(before: list[list[str]], after: list[list[str]]) -> tuple[float, float]:
    """Which share of all drawn rows comes from the first of two data sets."""
    drawn = [[row for step in steps for row in step] for steps in (before, after)]
    first, second = (sum(r.startswith("a.jsonl") for r in part) / len(part) for part in drawn)
    return first, second


PARTS = (
    Case(
        "datasets[].skip", 3, {"data.rows": lambda a, b: b == a[3:]}, ROWS | {"batches.documents"}
    ),
    Case(
        "datasets[].shards",
        2,
        {"data.rows": lambda a, b: len(b) == 4 and set(b) < set(a)},
        ROWS,
    ),
    Case(
        "datasets[].shards_idx",
        1,
        {"data.rows": lambda a, b: len(a) == len(b) == 4 and not set(a) & set(b)},
        ROWS - EPOCHS - {"plan.rows"},
        given=rows("chat", "chat_template", shards=2),
    ),
    Case("datasets[].max_samples", 4, {"data.rows": lambda a, b: b == a[:4]}, ROWS),
    Case(
        "dataset_shard_num",
        2,
        {"data.rows": lambda a, b: len(b) == 4 and set(b) < set(a)},
        ROWS | DROPS,
    ),
    Case(
        "dataset_shard_idx",
        1,
        {"data.rows": lambda a, b: len(a) == len(b) == 4 and not set(a) & set(b)},
        ROWS - EPOCHS - {"plan.rows", "plan.trained_tokens"} | {"data.cut"},
        given={"dataset_shard_num": 2},
    ),
)

MIXED = (
    Case(
        "datasets[].weight",
        4.0,
        {"order": lambda a, b: counts(a, b) == (2 / 3, 0.8)},
        ORDER | EPOCHS | {"batches.documents"},
        given={"datasets": TWO, "max_steps": 6},
    ),
    Case(
        "datasets[].repeats",
        3.0,
        {"order": lambda a, b: counts(a, b) == (0.5, 0.75)},
        ORDER | EPOCHS,
        given={"datasets": TWO, **LONG},
    ),
    Case(
        "mixture_until",
        "all_exhausted",
        {"plan.steps_per_epoch": differs},
        ORDER | {"steps.epoch", "batches.documents"},
        given={"datasets": [{**TWO[0], "weight": 3.0}, TWO[1]], **LONG},
    ),
    Case(
        "shuffle_before_merging_datasets",
        True,
        {"order": lambda a, b: a != b and all(r.startswith("a.") for r in [*b[0], *b[1]])},
        ORDER,
        given={"datasets": TWO, "shuffle_merged_datasets": False},
    ),
    Case(
        "interleave_datasets",
        True,
        {"order": lambda a, b: [row[0] for row in a[0]] == ["a", "a"] != [r[0] for r in b[0]]},
        ORDER,
        given={"datasets": TWO},
    ),
    Case(
        "dataloader_drop_last",
        True,
        {"plan.steps_per_epoch": Became(3, 2), "batches.documents": lambda a, b: a[2] == [2]},
        ORDER | {"steps.epoch"},
        given={"micro_batch_size": 3},
    ),
)

STREAMS = (
    Case(
        "streaming",
        True,
        {"stream": Became("MapStream", "WindowStream")},
        frozenset({"order", "data.folder", "steps.epoch"})
        | {"batches.documents", "batches.micro", "batches.padding"},
    ),
    Case(
        "streaming_multipack_buffer_size",
        4,
        {"data.rows": lambda a, b: (len(a), len(b)) == (8, 4)},
        ROWS - LEARNS - {"order", "steps.epoch"} | {"data.folder"},
        given={"streaming": True},
    ),
    Case(
        "sample_packing_group_size",
        2,
        {"batches.documents": differs},
        ORDER | EPOCHS,
        given={"sample_packing": True, "micro_batch_size": 1, **rows("roles", "chat_template")},
    ),
    Case(
        "batch_tokens",
        300,
        {"plan.micro_batch": differs, "batches.documents": differs},
        ORDER | EPOCHS | {"plan.global_batch"},
    ),
    Case(
        "pad_to_multiple_of",
        64,
        {"batches.padding": lambda a, b: not any(n for n, _ in a) and any(n for n, _ in b)},
        frozenset({"batches.documents"}),
    ),
)

DRAWN = {"type": "_synthetic", "length": 8, "max_input_id": 200, "sequence_length": 12}


def drawn(key: str, value: Any, says: Any, follows: frozenset[str]) -> Case:
    """A case for a key of rows that are drawn."""
    given = {"datasets": [{"path": "nothing", **DRAWN}]}
    return Case(f"datasets[].{key}", value, {"data.tokens": says}, follows, given=given)


SYNTHETIC = (
    drawn(
        "length", 4, lambda a, b: (len(a), len(b)) == (8, 4), ROWS - {"data.tokens"} | {"data.rows"}
    ),
    drawn("sequence_length", 6, lambda a, b: {len(x) for x in b} == {6}, ANSWERS),
    drawn("min_input_id", 190, lambda a, b: min(map(min, b)) >= 190 > min(map(min, a)), LEARNS),
    drawn("max_input_id", 110, lambda a, b: max(map(max, b)) < 110 < max(map(max, a)), LEARNS),
    drawn("seed", 1, differs, LEARNS),
)

TURNS = (
    Case(
        "datasets[].text_column",
        "body",
        {"data.tokens": lambda a, b: text(a[0]).startswith("sun and") and text(b[0]) == "sun, "},
        ANSWERS | {"data.lint"},
        given=rows("instructions", "pretrain"),
    ),
    Case(
        "datasets[].conversation",
        "chatml",
        {"data.tokens": lambda a, b: "### Instruction" in text(a[0]) not in text(b[0])},
        TEXTS | {"data.cut"},
        given=rows("instructions", "alpaca"),
    ),
    Case("datasets[].message_field_training_detail", "spans", {"data.weights": differs}, MASKS),
    Case(
        "datasets[].message_field_weight",
        "share",
        {"data.weights": lambda a, b: set(a[0]) == {0, 1} and 0.5 in b[0]},
        MASKS,
    ),
    Case(
        "datasets[].field_system",
        "orders",
        {"data.tokens": lambda a, b: "Be brief." in text(b[0]) and "Be brief." not in text(a[0])},
        TEXTS,
        given=rows("chat", "chat_template", field_messages="other"),
    ),
    Case(
        "datasets[].split_thinking",
        True,
        {"data.tokens": lambda a, b: "<think>" in text(a[0]) and "[hm]" in text(b[0])},
        ANSWERS,
        given={"chat_template_jinja": THINKING, **rows("thoughts", "chat_template")},
    ),
    Case(
        "datasets[].field_thinking",
        "thoughts",
        {"data.tokens": lambda a, b: "[aha]" in text(b[0]) and "[aha]" not in text(a[0])},
        ANSWERS,
        given={"chat_template_jinja": THINKING, **rows("thoughts", "chat_template")},
    ),
    Case(
        "datasets[].template_thinking_key",
        "musing",
        {"data.tokens": lambda a, b: "[aha]" in text(a[0]) and "{aha}" in text(b[0])},
        LEARNS,
        given={
            "chat_template_jinja": THINKING,
            **rows("thoughts", "chat_template", field_thinking="thoughts"),
        },
    ),
    Case(
        "datasets[].turns_to_train",
        "last",
        {"data.weights": lambda a, b: all(sum(y) < sum(x) for x, y in zip(a, b, strict=True))},
        MASKS,
    ),
)

COMPILE = (
    Case(
        "torch_compile",
        True,
        {"plan.compile": Became(False, True), "model.blocks": differs},
        LEARNS,
        given={"pad_to_sequence_len": True},
        slow=True,
    ),
)

NOT_YET = {
    "datasets[].type.field_prompt": "q",
    "datasets[].type.field_chosen": "q",
    "datasets[].type.field_rejected": "q",
    "datasets[].type.field_completion": "q",
    "datasets[].type.field_label": "q",
    "datasets[].type.prompt_format": "{prompt}",
    "datasets[].type.chosen_format": "{chosen}",
    "datasets[].type.rejected_format": "{rejected}",
    "datasets[].type.completion_format": "{completion}",
    "datasets[].field_chosen": "q",
    "datasets[].field_rejected": "q",
    "datasets[].step_separator": "q",
    "datasets[].max_completion_length": 3,
    "datasets[].train_on_last_step_only": True,
}
"""Keys whose rows can be read and not be trained on yet: a run with them is refused."""

CASES = (*PARTS, *MIXED, *STREAMS, *SYNTHETIC, *TURNS, *COMPILE)
