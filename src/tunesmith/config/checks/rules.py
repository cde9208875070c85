"""Every rule across sections in one list, and the functions that ask them all."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from tunesmith.config.checks import (
    adapters,
    batch,
    combinations,
    data,
    evaluation,
    further_adapters,
    memory,
    names,
    precision,
    preference,
    sharding,
    streams,
    switches,
)
from tunesmith.config.checks.asked import Asked
from tunesmith.config.checks.rule import MachineRule, PlainRule, Rule
from tunesmith.config.environment import Environment
from tunesmith.errors import Problem

RULES: tuple[Rule | PlainRule, ...] = (
    *data.RULES,
    *streams.RULES,
    *batch.RULES,
    *combinations.RULES,
    *evaluation.RULES,
    *adapters.RULES,
    *further_adapters.RULES,
    *precision.RULES,
    *memory.RULES,
    *sharding.RULES,
    *preference.RULES,
    *names.RULES,
    *switches.RULES,
)

MACHINE_RULES: tuple[MachineRule, ...] = (*precision.MACHINE_RULES, *switches.MACHINE_RULES)


def broken_rules(asked: Asked, *, skip: Collection[str] = ()) -> list[Problem]:
    """What contradicts itself in the config. Rules that look at a key of ``skip`` are left out."""
    return [
        problem
        for rule in RULES
        if not set(rule.keys) & set(skip)
        for problem in _problems(rule, asked)
    ]


def _problems(rule: Rule | PlainRule, asked: Asked) -> Iterator[Problem]:
    return rule.check(asked.config) if isinstance(rule, Rule) else rule.check(asked)


def machine_problems(
    asked: Asked, environment: Environment, *, skip: Collection[str] = ()
) -> list[Problem]:
    """What the machine cannot do of what the config asks for."""
    return [
        problem
        for rule in MACHINE_RULES
        if not set(rule.keys) & set(skip) and rule.needs(asked) is not None
        for problem in rule.check(asked, environment)
    ]


def deferred_checks(asked: Asked) -> list[str]:
    """What would be checked for this config if the machine were known."""
    needs = [rule.needs(asked) for rule in MACHINE_RULES]
    return [text for text in needs if text is not None]
