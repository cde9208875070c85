"""Configs that break the rules that sampled runs asked for, as in `broken.py`."""

from __future__ import annotations

from tests.unit.config.broken import Case


def _schedule(name: str, **arguments: object) -> dict[str, object]:
    return {"lr_scheduler": name, "lr_scheduler_kwargs": arguments or None}


KWARGS = "lr_scheduler_kwargs"

COMBINED: list[Case] = [
    (_schedule("linear", num_cycles=2), "out-of-range", KWARGS),
    (_schedule("cosine", num_cycle=2), "out-of-range", KWARGS),
    (_schedule("cosine_with_min_lr"), "missing", KWARGS),
    (_schedule("cosine_with_min_lr", min_lr=1e-6, min_lr_rate=0.1), "missing", KWARGS),
    (_schedule("warmup_stable_decay"), "missing", KWARGS),
    (_schedule("polynomial", lr_end=0.5), "conflict", KWARGS),
    ({"lr_scheduler": "polynomial", "learning_rate": 1e-8}, "conflict", KWARGS),
    ({"optim_args": {"momentum": 0.9}}, "out-of-range", "optim_args"),
    ({"optim_args": {"lr": 0.1, "eps": 1e-6}}, "out-of-range", "optim_args"),
    ({"optim_args": "betas=(0.9, 0.95),nesterov=true"}, "out-of-range", "optim_args"),
    ({"optimizer": "sgd", "optim_args": {"amsgrad": True}}, "out-of-range", "optim_args"),
    ({"optim_args": {"amsgrad": True}}, "conflict", "optim_args"),
    ({"val_set_size": 0.1, "eval_sequence_len": 100}, "conflict", "eval_sequence_len"),
    ({"max_steps": 1, "warmup_steps": 1}, "conflict", "warmup_steps"),
    ({"max_steps": 2, "warmup_ratio": 1.0}, "conflict", "warmup_ratio"),
    ({"datasets": [{"path": "a", "shards_idx": 1}]}, "conflict", "datasets.0.shards_idx"),
    (
        {"datasets": [{"path": "a", "shards": 2, "shards_idx": 2}]},
        "conflict",
        "datasets.0.shards_idx",
    ),
    ({"dataset_shard_num": 2, "dataset_shard_idx": 2}, "conflict", "dataset_shard_idx"),
]
