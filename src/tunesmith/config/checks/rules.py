"""Every rule across sections in one list, and the function that asks them all."""

from __future__ import annotations

from collections.abc import Collection

from tunesmith.config.checks import adapters, batch, data, names, precision
from tunesmith.config.checks.rule import Rule
from tunesmith.config.environment import Environment
from tunesmith.config.schema import RunConfig
from tunesmith.errors import Problem

RULES: tuple[Rule, ...] = (
    *data.RULES,
    *batch.RULES,
    *adapters.RULES,
    *precision.RULES,
    *names.RULES,
)


def broken_rules(config: RunConfig, *, skip: Collection[str] = ()) -> list[Problem]:
    """What contradicts itself in the config. Rules that look at a key of ``skip`` are left out."""
    return [
        problem
        for rule in RULES
        if not set(rule.keys) & set(skip)
        for problem in rule.check(config)
    ]


def machine_problems(
    config: RunConfig, environment: Environment, *, skip: Collection[str] = ()
) -> list[Problem]:
    """What the machine cannot do of what the config asks for."""
    return [
        problem
        for rule in precision.MACHINE_RULES
        if not set(rule.keys) & set(skip) and rule.needs(config) is not None
        for problem in rule.check(config, environment)
    ]


def deferred_checks(config: RunConfig) -> list[str]:
    """What would be checked for this config if the machine were known."""
    needs = [rule.needs(config) for rule in precision.MACHINE_RULES]
    return [text for text in needs if text is not None]
