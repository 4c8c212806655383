"""Open a bundle and a compatible cohort, for `predict` and `validate`."""

from __future__ import annotations

from pathlib import Path

from connectome_tl.bundle.bundle import Bundle, open_bundle
from connectome_tl.bundle.limits import fitted_to, refuse_strangers
from connectome_tl.cohort.cohort import Cohort
from connectome_tl.cohort.reading import read_cohort
from connectome_tl.workflows.progress import Steps


def open_for(bundle_dir: str | Path, cohort_file: str | Path, steps: Steps) -> tuple[Bundle, Cohort]:
    """The bundle after its self-test, and the cohort with the inputs that the bundle takes.

    Raises:
        MissingInputError: the bundle or a file of the cohort is not there.
        DataError: the bundle is damaged, cannot be applied to this cohort, or was trained on it.
    """
    with steps.step("opening the bundle, self-test"):
        bundle = open_bundle(bundle_dir)
    with steps.step("reading the cohort"):
        cohort = fitted_to(bundle.facts.inputs, bundle.facts.limits, read_cohort(cohort_file))
    refuse_strangers(bundle.facts, cohort)
    return bundle, cohort
