"""Commands on cohorts and studies."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from connectome_tl.cli.app import (
    AtlasName,
    Out,
    Scheduler,
    app,
)
from connectome_tl.errors import DataError, UsageError


@app.command()
def demo(
    out: Out = Path("demo"),
    seed: Annotated[int, typer.Option(help="Seed of the simulated cohorts.")] = 0,
    images: Annotated[bool, typer.Option("--images", help="A study of volumes instead: brain age to injury.")] = False,
) -> None:
    """Simulate cohorts and run a whole study on them: stages, controls and baselines."""
    if images:
        from connectome_tl.workflows.image_demo import run_image_demo

        report = run_image_demo(out, seed=seed)
    else:
        from connectome_tl.workflows.demo import run_demo

        report = run_demo(out, seed=seed)
    typer.echo(f"\nReport: {report}")


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(help="Folder for the files that are written.")] = Path("."),
    table: Annotated[Path | None, typer.Option("--from", help="Your participants table (.tsv, .csv, .xlsx).")] = None,
    matrices: Annotated[Path | None, typer.Option("--matrices", help="Folder with your matrices.")] = None,
    atlas: AtlasName = None,
    pattern: Annotated[str | None, typer.Option(help="Which matrices, e.g. '{id}_fbc.csv'.")] = None,
    answer: Annotated[list[str] | None, typer.Option("--answer", help="KEY=VALUE instead of being asked.")] = None,
) -> None:
    """Write settings to start from: for your own table and matrices, or commented examples of everything.

    With --from and --matrices it looks at your files, asks what they do not say, and writes cohort.yaml and
    study.yaml. Without a terminal it does not ask: it names what is open, for --answer.
    """
    if table is None and matrices is None:
        from connectome_tl.workflows.init import write_examples

        for path in write_examples(folder):
            typer.echo(f"wrote {path}")
        return
    if table is None or matrices is None:
        raise typer.BadParameter("give both --from TABLE and --matrices FOLDER")
    _start(folder, table, matrices, atlas, pattern, answer or [])


def _start(folder: Path, table: Path, matrices: Path, atlas: str | None, pattern: str | None, given: list[str]) -> None:
    from connectome_tl.workflows.cohort import check_cohort
    from connectome_tl.workflows.starting.questions import Question
    from connectome_tl.workflows.starting.start import start_from

    def ask(question: Question) -> str:
        if question.choices:
            typer.echo(f"{question.text} One of: {', '.join(question.choices)}")
        else:
            typer.echo(question.text)
        return str(typer.prompt(question.key, default=question.default))

    answers = dict(one.partition("=")[::2] for one in given)
    seen, made = start_from(
        table,
        matrices,
        folder,
        answers=answers,
        ask=ask if sys.stdin.isatty() else None,
        pattern=pattern,
        atlas=atlas,
    )
    for path in made:
        typer.echo(f"wrote {path}")
    check_cohort(made[0])
    if len(made) > 1:
        typer.echo(f"Check both files, then: connectome-tl run {made[1]} --out {folder / 'results'}")
    elif not any(one.meaning == "outcome" for one in seen.columns):
        typer.echo("No outcome column was recognised: add outcomes to cohort.yaml, then write a study.yaml.")


@app.command()
def run(
    study: Annotated[Path, typer.Argument(help="study.yaml")],
    out: Out,
    set_: Annotated[list[str] | None, typer.Option("--set", help="Override one setting: key.sub=value")] = None,
    check: Annotated[bool, typer.Option("--check", help="Hash all inputs of a finished run again.")] = False,
    tuned: Annotated[
        Path | None, typer.Option("--tuned", help="Folder of a finished tune: settings per outer fold.")
    ] = None,
    scheduler: Scheduler = None,
) -> None:
    """Run a study: three stages, controls, baselines, permutations, report. Run again to resume."""
    from connectome_tl.workflows.run import run_study
    from connectome_tl.workflows.tuned import optimism_lines

    result = run_study(
        study, out, overrides=tuple(set_ or ()), show_progress=True, check=check, tuned=tuned, scheduler=scheduler
    )
    for verdict in result.record.verdicts:
        typer.echo(verdict.headline)
    for line in optimism_lines(result.record):
        typer.echo(line)
    typer.echo(f"\nReport: {result.report}")


@app.command()
def tune(
    study: Annotated[Path, typer.Argument(help="study.yaml with a `tune:` block and inner folds")],
    out: Out,
    storage: Annotated[
        str | None,
        typer.Option("--storage", help="Database of trials, postgresql://...; a SQLite file in --out by default."),
    ] = None,
    trials: Annotated[int | None, typer.Option("--trials", min=1, help="Completed trials per outer fold.")] = None,
    space: Annotated[Path | None, typer.Option("--space", help="YAML file instead of the `tune:` block.")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="Override one setting: key.sub=value")] = None,
    heartbeat: Annotated[
        int, typer.Option("--heartbeat", min=1, help="Seconds between signs of life; short ones fail living trials.")
    ] = 60,
    scheduler: Scheduler = None,
) -> None:
    """Search settings for each outer fold on its inner folds. Run again, or beside, to go on; then run --tuned."""
    from connectome_tl.workflows.tune import tune_study

    found = tune_study(
        study,
        out,
        storage=storage,
        trials=trials,
        space=space,
        overrides=tuple(set_ or ()),
        heartbeat=heartbeat,
        show_progress=True,
        scheduler=scheduler,
    )
    for one in found.folds:
        scores = ", ".join(f"{name} {value:.3f}" for name, value in zip(found.objectives, one.values, strict=True))
        typer.echo(f"repeat {one.repeat}, fold {one.fold}: inner {scores} ({found.trials} trials)")
    typer.echo("These are the best of many and too good; `connectome-tl run --tuned` gives the score.")
    typer.echo(f"\nReport: {out / 'report.html'}")


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
    dated: Annotated[bool, typer.Option("--dated", help="Print when the run ended and how long it took.")] = False,
) -> None:
    """Draw the report of a finished run again, with its explanations; save figures and tables for a paper."""
    from connectome_tl.workflows.report import draw_report

    if figures not in (None, "svg", "pdf"):
        raise UsageError("unknown kind of figure", expected="--figures svg or --figures pdf", got=repr(figures))
    kind: Literal["svg", "pdf"] | None = "svg" if figures == "svg" else "pdf" if figures == "pdf" else None
    typer.echo(f"Report: {draw_report(run_dir, figures=kind, tables=tables, dated=dated)}")


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
        raise DataError("the audit failed", file=run_dir, remedy="See the lines marked failed.")


@app.command()
def cohort(
    cohort_file: Annotated[Path, typer.Argument(metavar="COHORT.yaml")],
    report: Annotated[Path | None, typer.Option("--report", help="Write a quality report here (HTML).")] = None,
    study: Annotated[
        Path | None, typer.Option("--study", help="A study.yaml whose image settings the page's volumes are shown by.")
    ] = None,
) -> None:
    """Check a cohort: what is in it, and everything that is wrong at once."""
    from connectome_tl.workflows.cohort import check_cohort

    check_cohort(cohort_file, report, study=study)


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
