"""``check``: every probe in turn, one line each, and no trace of any of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping

from tunesmith.data.samples import SampleKind
from tunesmith.errors import ProbeError
from tunesmith.runs.preflight.answers import probe_answers
from tunesmith.runs.preflight.cached import probe_cache
from tunesmith.runs.preflight.conservation import probe_conservation
from tunesmith.runs.preflight.coverage import probe_coverage
from tunesmith.runs.preflight.exporting import probe_export
from tunesmith.runs.preflight.invariance import probe_invariance
from tunesmith.runs.preflight.isolation import probe_isolation
from tunesmith.runs.preflight.longest import probe_longest
from tunesmith.runs.preflight.loss import probe_loss
from tunesmith.runs.preflight.order import probe_order
from tunesmith.runs.preflight.probe import Finding, Probe, Subject, no_trace
from tunesmith.runs.preflight.resume import probe_resume
from tunesmith.runs.preflight.serving import probe_serving
from tunesmith.runs.preflight.settings import probe_settings
from tunesmith.runs.preflight.stops import probe_stops
from tunesmith.runs.preflight.turns import probe_turns
from tunesmith.runs.preflight.upgrade import probe_upgrade

PROBES: Mapping[str, Probe] = {
    "settings": probe_settings,
    "conservation": probe_conservation,
    "order": probe_order,
    "cache": probe_cache,
    "stops": probe_stops,
    "turns": probe_turns,
    "serving": probe_serving,
    "isolation": probe_isolation,
    "loss": probe_loss,
    "invariance": probe_invariance,
    "coverage": probe_coverage,
    "upgrade": probe_upgrade,
    "longest": probe_longest,
    "resume": probe_resume,
    "export": probe_export,
}
"""By name, cheapest first: what is wrong with the data is told before the model is asked."""


_OF_TEXTS = ("cache", "stops", "turns", "serving", "loss")
"""Probes of samples that are one document each."""


def probes_for(kind: SampleKind) -> dict[str, Probe]:
    """The probes that look at samples of this kind."""
    if kind == "tokens":
        return dict(PROBES)
    own = {"answers": probe_answers} if kind in ("pairs", "judged") else {}
    return {name: probe for name, probe in PROBES.items() if name not in _OF_TEXTS} | own


def check(
    subject: Subject, *, skip: Collection[str] = (), tell: Callable[[Finding], None]
) -> list[Finding]:
    """The findings, each told as soon as it is there. Weights and generators stay as they were.

    Raises:
        ProbeError: the first probe that failed, under its name.
    """
    findings = []
    for name, probe in probes_for(subject.run.objective.sample).items():
        finding = _skipped(name) if name in skip else _run(name, probe, subject)
        tell(finding)
        findings.append(finding)
    if subject.trains:
        for act in subject.once_passed:
            act()
    return findings


def _skipped(name: str) -> Finding:
    return Finding(name, "by preflight_skip", 0.0, skipped=True)


def _run(name: str, probe: Probe, subject: Subject) -> Finding:
    began = time.perf_counter()
    try:
        with no_trace(subject.run):
            seen = probe(subject)
    except ProbeError as error:
        raise ProbeError(
            f"preflight {name}: {error.message}",
            hint=error.hint,
            where=error.where,
            exit_code=error.exit_code,
        ) from error
    return Finding(name, seen, time.perf_counter() - began)
