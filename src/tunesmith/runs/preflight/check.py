"""``check``: every probe in turn, one line each, and no trace of any of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping

from tunesmith.errors import ProbeError
from tunesmith.runs.preflight.conservation import probe_conservation
from tunesmith.runs.preflight.coverage import probe_coverage
from tunesmith.runs.preflight.exporting import probe_export
from tunesmith.runs.preflight.invariance import probe_invariance
from tunesmith.runs.preflight.isolation import probe_isolation
from tunesmith.runs.preflight.longest import probe_longest
from tunesmith.runs.preflight.loss import probe_loss
from tunesmith.runs.preflight.probe import Finding, Probe, Subject, no_trace
from tunesmith.runs.preflight.resume import probe_resume
from tunesmith.runs.preflight.serving import probe_serving
from tunesmith.runs.preflight.stops import probe_stops

PROBES: Mapping[str, Probe] = {
    "conservation": probe_conservation,
    "stops": probe_stops,
    "serving": probe_serving,
    "isolation": probe_isolation,
    "loss": probe_loss,
    "invariance": probe_invariance,
    "coverage": probe_coverage,
    "longest": probe_longest,
    "resume": probe_resume,
    "export": probe_export,
}
"""By name, cheapest first: what is wrong with the data is told before the model is asked."""


def check(
    subject: Subject, *, skip: Collection[str] = (), tell: Callable[[Finding], None]
) -> list[Finding]:
    """The findings, each told as soon as it is there. Weights and generators stay as they were.

    Raises:
        ProbeError: the first probe that failed, under its name.
    """
    findings = []
    for name, probe in PROBES.items():
        finding = _skipped(name) if name in skip else _run(name, probe, subject)
        tell(finding)
        findings.append(finding)
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
