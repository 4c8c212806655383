"""Sentences about the linear probes of stage 2."""

from __future__ import annotations

import math
from collections.abc import Sequence

from connectome_tl.report.labels import listed, number
from connectome_tl.settings.records.statistics import AdaptationProbe


def probes_text(probes: Sequence[AdaptationProbe]) -> list[str]:
    """One sentence on the embedding before and after stage 2, for the methods; no sentence without probes."""
    if not probes:
        return []
    parts = [
        f"{probe.outcome} of the {probe.cohort} with {probe.metric} {number(probe.before)} before and "
        f"{number(probe.after)} after it"
        for probe in probes
    ]
    fits = probes[0].n_fits
    return [
        f"A ridge probe of the network's embedding predicted, on held-out subjects, {listed(parts)} "
        f"(mean over {fits} {'fit' if fits == 1 else 'fits'} of stage 2)."
    ]


def probes_verdict(probes: Sequence[AdaptationProbe]) -> tuple[str, ...]:
    """One line on the change of the probe scores during stage 2; none without finite scores."""
    parts = []
    for probe in probes:
        before, after = number(probe.before), number(probe.after)
        if not math.isfinite(probe.before - probe.after):
            continue
        if before == after:
            word = "equally well"
        elif probe.after > probe.before:
            word = "better"
        else:
            word = "worse, which is forgetting" if probe.cohort == "source" else "worse"
        parts.append(f"{probe.outcome} of the {probe.cohort} {word} ({probe.metric} {before} to {after})")
    return (f"After stage 2 a linear probe of the embedding predicts {listed(parts)}.",) if parts else ()
