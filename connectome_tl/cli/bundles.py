"""Commands on model bundles."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from connectome_tl.cli.app import Out, app
from connectome_tl.cli.terminal import command, terminal
from connectome_tl.errors import UsageError
from connectome_tl.plurals import counted

BundleDir = Annotated[Path, typer.Argument(metavar="BUNDLE", help="Folder of a bundle.")]
CohortFile = Annotated[Path, typer.Argument(metavar="COHORT.yaml", help="Settings of the cohort.")]


@command(app)
def bundle(
    run_dir: Annotated[Path, typer.Argument(help="Folder of a finished run.")],
    out: Out,
    model: Annotated[str, typer.Option(help="Model of the study.")] = "full",
    fit: Annotated[
        str, typer.Option(help="mean: all fits of the cross-validation, averaged; refit: one fit on all subjects.")
    ] = "mean",
    title: Annotated[str, typer.Option(help="Title of the model card; default: the study's.")] = "",
    authors: Annotated[str, typer.Option(help="Authors, for the model card.")] = "",
    licence: Annotated[str, typer.Option(help="Licence, for the model card.")] = "",
    site_names: Annotated[
        bool, typer.Option("--site-names", help="Release the names of sites and the fitted effects of each.")
    ] = False,
    base: Annotated[
        Path | None, typer.Option("--base", help="Folder that the cohort paths of study.yaml are relative to.")
    ] = None,
) -> None:
    """Write a model of a finished run as a bundle to share: weights, limits of use, model card."""
    from connectome_tl.provenance import content_hash
    from connectome_tl.workflows.release.bundle import BundleOptions, bundle_run

    if fit not in ("mean", "refit"):
        raise UsageError("--fit is mean or refit", got=fit)
    options = BundleOptions(model, fit, site_names, title, authors, licence)  # type: ignore[arg-type]
    made = bundle_run(run_dir, out, options, base=base, show_progress=terminal.shows_progress)
    number, card = content_hash((made / "manifest.json").read_bytes()), made / "docs" / "README.md"
    terminal.answer(folder=made, hash=number, card=card)
    terminal.say(f"Bundle: {made}\nHash: {number}")
    terminal.say(f"Read its card before you share it: {card}")


@command(app)
def predict(
    bundle_dir: BundleDir,
    cohort_file: CohortFile,
    out: Annotated[Path, typer.Option("--out", help="Table to write (.tsv).")],
    research_individual: Annotated[
        bool, typer.Option("--research-individual", help="Show values of single subjects that are withheld by default.")
    ] = False,
) -> None:
    """Apply a bundle to a cohort: predictions with intervals, and flags outside its limits of use."""
    from connectome_tl.workflows.release.predict import predict_cohort

    done = predict_cohort(
        bundle_dir,
        cohort_file,
        out,
        research_individual=research_individual,
        show_progress=terminal.shows_progress,
    )
    n = done.rows["subject"].nunique()
    terminal.answer(
        file=done.file, n_subjects=n, n_outside_limits=done.n_flagged, withheld=done.withheld, notes=done.notes
    )
    _warn(done.notes)
    for task, why in done.withheld.items():
        shown = "shown for research, stamped" if research_individual else "values of single subjects withheld"
        terminal.say(f"{task}: {shown}: {why}.")
    terminal.say(
        f"{counted(n, 'subject')}, {done.n_flagged} outside the limits of the model: {done.file}. Research "
        f"only, not for care."
    )


@command(app)
def validate(bundle_dir: BundleDir, cohort_file: CohortFile, out: Out) -> None:
    """Validate a bundle on another cohort with outcomes: scores, calibration, decision curve, report."""
    from connectome_tl.report import labels
    from connectome_tl.workflows.release.validate import validate_on

    done = validate_on(bundle_dir, cohort_file, out, show_progress=terminal.shows_progress)
    scores = [score for one in done.record.tasks for score in one.scores]
    terminal.answer(
        report=done.report,
        validation=done.validation,
        n_subjects=done.record.n_subjects,
        scores=scores,
        notes=done.notes,
    )
    _warn(done.notes)
    for one in done.record.tasks:
        leading = one.scores[0]
        text = f"{labels.number(leading.value)} {labels.interval(leading.low, leading.high)}"
        terminal.say(f"{one.task.label}: {leading.metric} {text}")
    terminal.say(f"To put into the bundle: {done.validation}")
    terminal.say(f"\nReport: {done.report}")


def _warn(notes: Sequence[str]) -> None:
    """Print the warnings among the notes on a cohort."""
    from connectome_tl.cohort.findings import is_benign

    for note in notes:
        if not is_benign(note):
            terminal.note(f"warning: {note}", colour=typer.colors.YELLOW)
