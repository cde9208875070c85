from __future__ import annotations

import pytest
from transformers import TrainingArguments
from transformers.trainer_callback import TrainerState

from tunesmith.checkpoint.state import TrainState
from tunesmith.config.checkpoint import CheckpointSection
from tunesmith.config.evaluation import EvaluationSection
from tunesmith.engine.cadence import Timeline, build_cadence, steps_between


def due(*, steps=12, per_epoch=4, has_held_out=True, log_every=3, evaluation=None, save=None):
    """The steps at which the run evaluates and saves."""
    cadence = build_cadence(
        EvaluationSection(**(evaluation or {})),
        CheckpointSection(**(save or {})),
        Timeline(steps, lambda step: step / per_epoch),
        log_every=log_every,
        has_held_out=has_held_out,
    )
    states = [TrainState(step=step) for step in range(steps + 1)]
    evaluated = [s.step for s in states if cadence.evaluate(s)]
    saved = [s.step for s in states[1:] if cadence.save(s)]
    return evaluated, saved


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        ({}, [4, 8, 12]),
        ({"strategy": "epoch"}, [4, 8, 12]),
        ({"strategy": "no"}, []),
        ({"steps": 5}, [5, 10, 12]),
        ({"steps": 5, "strategy": "steps"}, [5, 10, 12]),
        ({"steps": 12}, [12]),
        ({"steps": 100}, [12]),
        ({"steps": 0.25}, [3, 6, 9, 12]),
        ({"steps": 0.3}, [4, 8, 12]),
        ({"steps": 0.01}, list(range(1, 13))),
        ({"per_epoch": 1}, [4, 8, 12]),
        ({"per_epoch": 2}, [2, 4, 6, 8, 10, 12]),
        ({"per_epoch": 3}, [2, 4, 6, 8, 10, 12]),
        ({"per_epoch": 100}, list(range(1, 13))),
        ({"per_epoch": 0.5}, [8, 12]),
        ({"per_epoch": 0}, []),
    ],
)
def test_both_sections_speak_the_same_words(section, expected):
    evaluated, saved = due(evaluation=section, save=section)
    assert evaluated == expected
    assert saved == expected


def test_strategy_steps_alone_takes_the_defaults_of_transformers():
    evaluated, saved = due(
        steps=1200, per_epoch=1200, log_every=400,
        evaluation={"strategy": "steps"}, save={"strategy": "steps"},
    )  # fmt: skip
    assert evaluated == [400, 800, 1200]
    assert saved == [500, 1000, 1200]


@pytest.mark.parametrize(("steps", "share"), [(1000, 0.1), (7, 0.5), (33, 0.02), (999, 0.333)])
def test_a_share_is_what_transformers_makes_of_it(tmp_path, steps, share):
    arguments = TrainingArguments(
        str(tmp_path), eval_steps=share, save_steps=share, logging_steps=share
    )
    state = TrainerState()
    state.compute_steps(arguments, steps)
    assert steps_between(share, steps) == state.eval_steps == state.save_steps


def test_a_share_is_not_rounded_up_by_its_last_bit():
    assert 100 * 0.07 > 7
    assert steps_between(0.07, 100) == 7


def test_times_an_epoch_is_what_axolotl_asks_transformers_for(tmp_path):
    # axolotl hands on eval_steps = 1 / (evals_per_epoch x num_epochs).
    for per_epoch, epochs, steps in [(4, 3, 120), (4, 3, 100), (2, 1, 37), (1, 4, 50)]:
        arguments = TrainingArguments(str(tmp_path), eval_steps=1 / (per_epoch * epochs))
        state = TrainerState()
        state.compute_steps(arguments, steps)
        evaluated, _ = due(
            steps=steps, per_epoch=steps / epochs, evaluation={"per_epoch": per_epoch}
        )
        assert evaluated[0] == state.eval_steps


def test_once_an_epoch_of_a_single_epoch_is_once():
    # transformers takes the share 1.0 for a number of steps, and would evaluate after every one.
    assert due(steps=10, per_epoch=10, evaluation={"per_epoch": 1})[0] == [10]


def test_max_steps_leave_the_epochs_as_long_as_they_are():
    assert due(steps=12, per_epoch=48, evaluation={"per_epoch": 8})[0] == [6, 12]
    assert due(steps=12, per_epoch=48)[0] == [12]


def test_epochs_of_unequal_length_end_where_they_end():
    ends = [0.0, 1 / 3, 2 / 3, 1 / 3 + 2 / 3, 1.5, 2.0, 2.25, 2.5, 2.75, 3 - 1e-12]
    cadence = build_cadence(
        EvaluationSection(), CheckpointSection(), Timeline(9, lambda step: ends[step]),
        log_every=1, has_held_out=True,
    )  # fmt: skip
    assert [step for step in range(1, 10) if cadence.save(TrainState(step=step))] == [3, 5, 9]


def test_nothing_is_evaluated_without_data():
    assert due(has_held_out=False, evaluation={"steps": 2, "first": True})[0] == []


def test_the_first_evaluation_is_before_the_first_step():
    assert due(evaluation={"first": True})[0] == [0, 4, 8, 12]
    assert due(evaluation={"first": True, "strategy": "no"})[0] == [0]


def test_logging_shows_the_first_and_the_last_step():
    cadence = build_cadence(
        EvaluationSection(), CheckpointSection(), Timeline(10, lambda step: step / 10),
        log_every=4, has_held_out=True,
    )  # fmt: skip
    assert [s for s in range(1, 11) if cadence.log(TrainState(step=s))] == [1, 4, 8, 10]


@pytest.mark.parametrize(
    "save", [{"strategy": "no"}, {"steps": 3}, {"steps": 4}, {"strategy": "epoch"}, {"steps": 99}]
)
def test_the_saves_that_are_left_are_those_that_come(save):
    cadence = build_cadence(
        EvaluationSection(), CheckpointSection(**save), Timeline(10, lambda step: step / 4),
        log_every=1, has_held_out=False,
    )  # fmt: skip
    for step in range(12):
        coming = [s for s in range(step + 1, 11) if cadence.save(TrainState(step=s))]
        assert cadence.saves_after(step) == len(coming)
