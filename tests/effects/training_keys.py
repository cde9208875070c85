"""Cases for the keys of optimizer, schedule, batches, evaluation, checkpoints and the rest."""

from __future__ import annotations

from typing import Any

from tests.effects.case import LEARNS, Became, Case, Is, differs
from tests.effects.ground import FULL, HELD_OUT
from tunesmith.engine.guard import Spike

RATES = frozenset({"schedule", "steps.rate"}) | LEARNS
LONG = {"max_steps": 8}

LENGTH = frozenset({"order", "batches.documents", "batches.micro", "batches.padding"}) | {
    "steps.epoch",
    "metrics.steps",
    "terminal.steps",
}
"""What follows where there are more steps or fewer."""


def adam(key: str, value: Any, seen: str, before: Any, after: Any) -> Case:
    """A case for an argument of Adam."""
    return Case(key, value, {f"optimizer.{seen}": Became(before, after)}, LEARNS)


OPTIMIZER = (
    Case(
        "learning_rate",
        5e-3,
        {"optimizer.rates": Became([1e-2], [5e-3])},
        LEARNS | {"steps.rate"},
    ),
    Case(
        "optimizer",
        "sgd",
        {"optimizer.class": Became("AdamW", "SGD")},
        LEARNS | {"optimizer.betas", "optimizer.epsilon", "optimizer.more"},
    ),
    Case(
        "optim_args",
        {"amsgrad": True},
        {"optimizer.more": lambda a, b: (a["amsgrad"], b["amsgrad"]) == (False, True)},
        LEARNS - {"steps.loss"},
    ),
    Case(
        "weight_decay",
        0.5,
        {"optimizer.decay": Became([0.0, 0.0, 0.0], [0.5, 0.5, 0.0])},
        LEARNS,
        given=FULL,
    ),
    adam("adam_beta1", 0.5, "betas", (0.9, 0.999), (0.5, 0.999)),
    adam("adam_beta2", 0.5, "betas", (0.9, 0.999), (0.9, 0.5)),
    adam("adam_epsilon", 1e-2, "epsilon", 1e-8, 1e-2),
    Case("max_grad_norm", 0.01, {"clipping": Became(1.0, 0.01)}, LEARNS),
)

SCHEDULE = (
    Case(
        "lr_scheduler",
        "constant",
        {"schedule": lambda a, b: a[1] < 1 and set(b) == {1.0}},
        RATES,
    ),
    Case(
        "lr_scheduler_kwargs",
        {"power": 2.0},
        {
            "schedule": lambda a, b: (
                [round(y - x * x, 4) for x, y in zip(a, b, strict=True)] == [0] * 4
            )
        },
        RATES,
        given={"lr_scheduler": "polynomial"},
    ),
    Case(
        "warmup_steps",
        2,
        {"plan.warmup_steps": Became(0, 2), "schedule": lambda a, b: b[:3] == [0.0, 0.5, 1.0]},
        RATES,
    ),
    Case(
        "warmup_ratio",
        0.5,
        {"plan.warmup_steps": Became(0, 4), "schedule": lambda a, b: b[:3] == [0.0, 0.25, 0.5]},
        RATES,
        given=LONG,
    ),
    Case(
        "cosine_min_lr_ratio",
        0.5,
        {"schedule": lambda a, b: (a[-1], b[-1]) == (0.0, 0.5)},
        RATES,
        given={"lr_scheduler": "cosine"},
    ),
)

BATCHES = (
    Case(
        "micro_batch_size",
        4,
        {
            "plan.micro_batch": Became(2, 4),
            "batches.documents": lambda a, b: (a[0], b[0]) == ([2], [4]),
        },
        LEARNS | {"order", "plan.global_batch", "plan.steps_per_epoch", "steps.epoch"},
    ),
    Case(
        "gradient_accumulation_steps",
        2,
        {"plan.accumulation": Became(1, 2), "batches.micro": Became([1, 1, 1], [2, 2, 2])},
        LEARNS
        | {
            "order",
            "batches.documents",
            "batches.padding",
            "plan.global_batch",
            "plan.steps_per_epoch",
            "steps.epoch",
        },
    ),
    Case(
        "batch_size",
        4,
        {"plan.accumulation": Became(1, 2), "plan.global_batch": Became(2, 4)},
        LEARNS
        | {
            "order",
            "batches.documents",
            "batches.micro",
            "batches.padding",
            "plan.steps_per_epoch",
            "steps.epoch",
        },
    ),
    Case(
        "eval_batch_size",
        1,
        {"held_out.documents": Became([[2]], [[1], [1]])},
        frozenset({"held_out.micro", "held_out.padding"}),
        given=HELD_OUT,
    ),
    Case(
        "num_epochs",
        2.0,
        {"plan.steps": Became(4, 8)},
        RATES | LENGTH,
        given={"max_steps": None},
    ),
    Case(
        "max_steps",
        2,
        {"plan.steps": Became(3, 2)},
        RATES | LENGTH,
    ),
    Case(
        "seed",
        8,
        {"order": differs, "model.trained.values": differs, "dropout.seed": Became(7, 8)},
        LEARNS,
        given={"curriculum_sampling": False},
    ),
    Case("dataloader_num_workers", 2, {"steps.threads": Became(False, True)}),
)

EVALUATION = (
    Case(
        "eval_strategy",
        "no",
        {"plan.evaluate": Is("never"), "evaluations.at": Became([3], [])},
        frozenset({"evaluations.loss"}),
        given=HELD_OUT,
    ),
    Case(
        "eval_steps",
        2,
        {"plan.evaluate": Is("every 2 steps"), "evaluations.at": Became([3], [2, 3])},
        frozenset({"evaluations.loss"}),
        given=HELD_OUT,
    ),
    Case(
        "evals_per_epoch",
        2,
        {"plan.evaluate": Is("every 2 steps"), "evaluations.at": Became([3], [2, 3])},
        frozenset({"evaluations.loss"}),
        given=HELD_OUT,
    ),
    Case(
        "eval_first",
        True,
        {"evaluations.at": Became([3], [0, 3])},
        frozenset({"evaluations.loss"}),
        given=HELD_OUT,
    ),
)

SAVING = {"save_strategy": None, "save_steps": 2}
RESUMED = frozenset({"steps.loss", "steps.norm", "steps.rate", "steps.epoch"}) | {
    "terminal.steps",
    "model.trained.values",
}
"""What follows where steps are not done again."""

SAVES = frozenset({"saves.at", "saves.kept", "saves.files"})

CHECKPOINTS = (
    Case("output_dir", "RUN/elsewhere", {"folder": Became("out", "elsewhere")}),
    Case(
        "save_strategy",
        "epoch",
        {"plan.save": Is("every epoch"), "saves.at": Became([], [3])},
        SAVES,
    ),
    Case(
        "save_steps",
        2,
        {"plan.save": Is("every 2 steps"), "saves.at": Became([3], [2, 3])},
        frozenset({"saves.kept"}),
        given={"save_strategy": None},
    ),
    Case(
        "saves_per_epoch",
        4,
        {"plan.save": Is("every step"), "saves.at": Became([3], [1, 2, 3])},
        frozenset({"saves.kept"}),
        given={"save_strategy": None},
    ),
    Case(
        "save_total_limit",
        1,
        {"saves.kept": Became(["checkpoint-1", "checkpoint-2", "checkpoint-3"], ["checkpoint-3"])},
        given={"save_strategy": None, "save_steps": 1},
    ),
    Case(
        "save_only_model",
        True,
        {"saves.files": lambda a, b: set(a) - set(b) == {"state/optimizer.safetensors"}},
        given={"save_strategy": None},
    ),
    Case(
        "save_async",
        True,
        {"saves.background": Became(False, True)},
        given={"save_strategy": None},
    ),
    Case(
        "resume_from_checkpoint",
        "RUN/first/checkpoint-2",
        {"run.resumed_at": Became(0, 2), "run.said": lambda a, b: "1 of 3 steps left" in b[0]},
        RESUMED | {"metrics.steps"},
        earlier={"output_dir": "RUN/first", "resume_from_checkpoint": None, **SAVING},
    ),
    Case(
        "auto_resume_from_checkpoints",
        False,
        {"run.resumed_at": Became(2, 0), "run.said": Became(["going on from checkpoint-2"], [])},
        RESUMED | {"run.stages", "run.probes", "saves.at"},
        given=SAVING,
        earlier={},
        lost=("tunesmith.json", "checkpoint-3"),
    ),
)

GUARD = (
    Case("on_nonfinite", "skip", {"guard.answer": Became("stop", "skip")}),
    Case("loss_watchdog_threshold", 1e3, {"guard.spike": Became(None, Spike(1e3, 3))}),
    Case(
        "loss_watchdog_patience",
        5,
        {"guard.spike": Became(Spike(1e3, 3), Spike(1e3, 5))},
        given={"loss_watchdog_threshold": 1e3},
    ),
)

REST = (
    Case(
        "logging_steps",
        2,
        {"terminal.steps": Became([1, 2, 3, 4, 5], [1, 2, 4, 5])},
        given={"max_steps": 5},
    ),
    Case(
        "preflight_skip",
        ["loss"],
        {"run.probes": lambda a, b: b == {**a, "loss": "left out"} and a["loss"] == "ok"},
        given={"preflight_skip": None},
    ),
    Case(
        "plugins",
        ["cases_plugin"],
        {"registered": lambda a, b: set(b["schedules"]) - set(a["schedules"]) == {"root"}},
    ),
)

CASES = (*OPTIMIZER, *SCHEDULE, *BATCHES, *EVALUATION, *CHECKPOINTS, *GUARD, *REST)
