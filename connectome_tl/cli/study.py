"""Commands on cohorts and studies."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from connectome_tl.cli.app import (
    Out,
    app,
)
from connectome_tl.errors import DataError, UsageError


@app.command()
def demo(
    out: Out = Path("demo"),
    seed: Annotated[int, typer.Option(help="Seed of the simulated cohorts.")] = 0,
) -> None:
    """Simulate three cohorts and run the whole study on them, all stages, controls and baselines."""
    from connectome_tl.workflows.demo import run_demo

    report = run_demo(out, seed=seed)
    typer.echo(f"\nReport: {report}")


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(help="Folder for the example files.")] = Path("."),
) -> None:
    """Write commented settings to start from: study.yaml and its three cohorts, connectomes.yaml, morphometry.yaml."""
    from connectome_tl.workflows.init import write_examples

    for path in write_examples(folder):
        typer.echo(f"wrote {path}")


@app.command()
def run(
    study: Annotated[Path, typer.Argument(help="study.yaml")],
    out: Out,
    set_: Annotated[list[str] | None, typer.Option("--set", help="Override one setting: key.sub=value")] = None,
    check: Annotated[bool, typer.Option("--check", help="Hash all inputs of a finished run again.")] = False,
) -> None:
    """Run a study: three stages, controls, baselines, permutations, report. Run again to resume."""
    from connectome_tl.workflows.run import run_study

    result = run_study(study, out, overrides=tuple(set_ or ()), show_progress=True, check=check)
    for verdict in result.record.verdicts:
        typer.echo(verdict.headline)
    typer.echo(f"\nReport: {result.report}")


@app.command()
def explain(
    run_dir: Annotated[Path, typer.Argument(help="Folder of a finished run.")],
    model: Annotated[
        list[str] | None, typer.Option("--model", help="full, core, network or a control; may be given again.")
    ] = None,
    permutations: Annotated[int, typer.Option(min=0, help="Of the outcomes, for the core's maps.")] = 199,
    base: Annotated[
        Path | None, typer.Option("--base", help="Folder the cohort paths of study.yaml are relative to.")
    ] = None,
) -> None:
    """What the models of a finished run look at: maps with stability and null, withheld where it is chance."""
    from connectome_tl.workflows.explain import MODELS, explain_run
    from connectome_tl.workflows.explain_files import FOLDER, PAGE

    found = explain_run(
        run_dir, models=tuple(model or MODELS), n_permutations=permutations, base=base, show_progress=True
    )
    for one in found.withheld:
        typer.echo(f"withheld: {one.task}, {one.model}: {one.reason}")
    size = sum(file.n_bytes for file in found.files) / 1e6
    typer.echo(f"{len(found.maps)} maps, {len(found.files)} tables ({size:.1f} MB)")
    typer.echo(f"\nPage: {run_dir / FOLDER / PAGE}")


@app.command()
def report(
    run_dir: Annotated[Path, typer.Argument(help="Folder of a finished run.")],
    figures: Annotated[str | None, typer.Option("--figures", help="svg or pdf: save each in RUN_DIR/figures.")] = None,
    tables: Annotated[
        bool, typer.Option("--tables", help="Save each as TSV and LaTeX in RUN_DIR/tables, with references.bib.")
    ] = False,
) -> None:
    """Draw the report of a finished run again, with its explanations; save figures and tables for a paper."""
    from connectome_tl.workflows.report import draw_report

    if figures not in (None, "svg", "pdf"):
        raise UsageError("unknown kind of figure", expected="--figures svg or --figures pdf", got=repr(figures))
    kind: Literal["svg", "pdf"] | None = "svg" if figures == "svg" else "pdf" if figures == "pdf" else None
    typer.echo(f"Report: {draw_report(run_dir, figures=kind, tables=tables)}")


@app.command()
def audit(
    run_dir: Annotated[Path, typer.Argument(help="Folder of a finished run.")],
    base: Annotated[
        Path | None, typer.Option("--base", help="Folder the cohort paths of study.yaml are relative to.")
    ] = None,
) -> None:
    """Check a finished run for leakage: splits, scores, duplicates, all folds fitted again, one attacked."""
    from connectome_tl.workflows.audit import audit_run

    record = audit_run(run_dir, base=base, show_progress=True)
    for finding in record.findings:
        colour = {"failed": typer.colors.RED, "warning": typer.colors.YELLOW}.get(finding.status)
        typer.secho(f"{finding.status:8}{finding.check}: {finding.what}", fg=colour)
        if finding.remedy:
            typer.echo(f"        {finding.remedy}")
    if record.accused:
        raise DataError("the audit found what must not be", file=run_dir, remedy="See the lines marked failed.")


@app.command()
def cohort(
    cohort_file: Annotated[Path, typer.Argument(metavar="COHORT.yaml")],
    report: Annotated[Path | None, typer.Option("--report", help="Write a quality report here (HTML).")] = None,
) -> None:
    """Check a cohort: what is in it, and everything that is wrong at once."""
    from connectome_tl.workflows.cohort import check_cohort

    check_cohort(cohort_file, report)


@app.command()
def power(
    cohort_file: Annotated[Path | None, typer.Argument(metavar="COHORT.yaml")] = None,
    n: Annotated[int | None, typer.Option("--n", help="Number of subjects, instead of a cohort.")] = None,
    share: Annotated[
        float | None, typer.Option("--share", help="With --n: share of positives; without it, a score.")
    ] = None,
) -> None:
    """What a study of this size could show: widths of intervals, chances of findings. Nothing is trained."""
    from connectome_tl.workflows.power import power_of_cohort, power_of_size

    if (cohort_file is None) == (n is None):
        raise UsageError("power needs a cohort or a size", expected="COHORT.yaml, or --n with or without --share")
    if cohort_file is not None:
        if share is not None:
            raise UsageError("--share goes with --n; a cohort has its own", got=f"--share {share:g}")
        power_of_cohort(cohort_file)
    elif n is not None:
        power_of_size(n, share)
