"""Open a bundle and a compatible cohort, for `predict` and `validate`."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from connectome_tl.bundle.bundle import Bundle, open_bundle
from connectome_tl.bundle.limits import fitted_to, refuse_strangers
from connectome_tl.bundle.order import note_on_order
from connectome_tl.bundle.overlap import refuse_training_cohort
from connectome_tl.cohort.cohort import Cohort
from connectome_tl.cohort.reading import read_cohort
from connectome_tl.errors import UsageError
from connectome_tl.workflows.images.grids import made_grids, notes_on_volumes
from connectome_tl.workflows.progress import Steps


def refuse_within(out: Path, bundle_dir: str | Path) -> None:
    """Refuse an output in the folder of the bundle, which would not be a bundle any more.

    Raises:
        UsageError: `out` is the folder of the bundle, or within it.
    """
    if out.resolve().is_relative_to(Path(bundle_dir).resolve()):
        raise UsageError("the output is in the folder of the bundle", file=out, remedy="Give an --out elsewhere.")


@contextmanager
def opened_for(bundle_dir: str | Path, cohort_file: str | Path, steps: Steps) -> Iterator[tuple[Bundle, Cohort]]:
    """The bundle after its self-test, and the cohort with the inputs of the bundle.

    Notes on its volumes, and a warning about the order of the rows, are added to the notes of the cohort.
    Grids of volumes are stored in a temporary folder within the context.

    Raises:
        MissingInputError: the bundle or a file of the cohort does not exist.
        DataError: the bundle is damaged, cannot be applied to this cohort, or was trained on it.
    """
    with steps.step("opening the bundle, self-test"):
        bundle = open_bundle(bundle_dir)
    with steps.step("reading the cohort"):
        cohort = fitted_to(bundle.facts.inputs, bundle.facts.limits, read_cohort(cohort_file))
    with tempfile.TemporaryDirectory() as scratch:
        image = bundle.facts.inputs.image
        if image is not None:
            with steps.counted("volumes") as progress:
                grids = made_grids([cohort], image.grid, Path(scratch), fixed_by="the bundle", progress=progress)
            notes = (*cohort.notes, *notes_on_volumes(cohort, grids))
            # A bundle uses no label maps.
            cohort = replace(cohort, volume_cache=scratch, volume_labels=(), notes=notes)
        refuse_strangers(bundle.facts, cohort)
        refuse_training_cohort(bundle.members, cohort, bundle.facts.n_train)
        if warning := note_on_order(bundle.members, cohort):
            cohort = replace(cohort, notes=(warning, *cohort.notes))
        yield bundle, cohort
