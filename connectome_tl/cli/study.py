"""Commands on cohorts and studies."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import typer

from connectome_tl.cli.app import (
    AtlasName,
    Out,
    Scheduler,
    app,
)
from connectome_tl.cli.terminal import command, terminal
from connectome_tl.errors import ConnectomeTLError, DataError, UsageError
from connectome_tl.plurals import counted, file_size


@command(app)
def demo(
    out: Out = Path("demo"),
    seed: Annotated[int, typer.Option(help="Seed of the simulated cohorts.")] = 0,
    images: Annotated[bool, typer.Option("--images", help="Run a study of volumes: brain age to injury.")] = False,
    scans: Annotated[bool, typer.Option("--scans", help="Run a study from raw scans to the report.")] = False,
) -> None:
    """Simulate cohorts and run a complete study on them, with stages, controls and baselines."""
    if images and scans:
        raise UsageError("--images and --scans are different demos; give only one of them")
    from connectome_tl.workflows.folder import refuse_others

    refuse_others(out, ("cohorts", "study", "images_to_report", "images_to_report.yaml", "run", "test_scores.jsonl"))
    if scans:
        from connectome_tl.workflows.demos.scans import run_scans_demo

        report = run_scans_demo(out, seed=seed, show_progress=terminal.shows_progress).report
    elif images:
        from connectome_tl.workflows.demos.volumes import run_image_demo

        report, maps = run_image_demo(out, seed=seed, show_progress=terminal.shows_progress)
        terminal.answer(maps=maps)
        terminal.say(f"\nVoxel maps: {maps}")
    else:
        from connectome_tl.workflows.demos.study import run_demo

        report = run_demo(out, seed=seed, show_progress=terminal.shows_progress)
    terminal.answer(folder=out, report=report)
    terminal.say(f"\nReport: {report}")


@command(app)
def init(
    folder: Annotated[Path, typer.Argument(help="Output folder.")] = Path("."),
    tables: Annotated[
        list[Path] | None,
        typer.Option("--from", help="Your table (.tsv, .csv, .xlsx, .dta, .sav). Repeat it to join tables by id."),
    ] = None,
    matrices: Annotated[
        Path | None, typer.Option("--matrices", help="Folder with your matrices, or one file with all of them.")
    ] = None,
    images: Annotated[
        Path | None, typer.Option("--images", help="Folder with your images (NIfTI), instead of matrices.")
    ] = None,
    atlas: AtlasName = None,
    pattern: Annotated[str | None, typer.Option(help="Pattern of these files, e.g. '{id}_fbc.csv'.")] = None,
    answer: Annotated[
        list[str] | None, typer.Option("--answer", help="Answer a question in advance: KEY=VALUE.")
    ] = None,
) -> None:
    """Write initial settings: for your own table and matrices, or commented examples of every command.

    With --from and --matrices (or --images) it inspects your files, asks for missing information, and writes
    cohort.yaml and study.yaml. Without a terminal it does not ask: it lists open questions, for --answer.
    """
    if matrices is not None and images is not None:
        raise typer.BadParameter("give --matrices or --images; add the other to cohort.yaml by hand")
    files = images if matrices is None else matrices
    if images is not None and atlas is not None:
        raise typer.BadParameter("--atlas names the rows of matrices: leave it out with --images")
    if not tables and files is None:
        if atlas or pattern or answer:
            raise typer.BadParameter("--atlas, --pattern and --answer need --from TABLE and --matrices (or --images)")
        from connectome_tl.workflows.init.examples import write_examples

        _wrote(write_examples(folder))
        return
    if not tables or files is None:
        raise typer.BadParameter("give both --from TABLE and --matrices FOLDER, or --from TABLE and --images FOLDER")
    _start(folder, tables, files, atlas, pattern, answer or [], images=images is not None)


def _wrote(paths: Sequence[Path]) -> None:
    terminal.answer(written=paths)
    for path in paths:
        terminal.say(f"wrote {path}")


def _shell(*words: str | Path) -> str:
    """A command as a shell takes it, blanks in paths included."""
    return shlex.join(map(str, words))


def _start(
    folder: Path,
    tables: Sequence[Path],
    files: Path,
    atlas: str | None,
    pattern: str | None,
    given: list[str],
    *,
    images: bool,
) -> None:
    from connectome_tl.workflows.data.cohort import check_cohort
    from connectome_tl.workflows.init.from_files import start_from
    from connectome_tl.workflows.init.questions import Question
    from connectome_tl.workflows.init.text import notes_on, without_outcome

    def ask(question: Question) -> str:
        choices = f" ({', '.join(question.choices)})" if question.choices else ""
        return str(typer.prompt(f"{question.text}?{choices}", default=question.default, err=True))

    answers = dict(one.partition("=")[::2] for one in given)
    seen, made = start_from(
        tables,
        files,
        folder,
        answers=answers,
        ask=ask if sys.stdin.isatty() else None,
        pattern=pattern,
        atlas=atlas,
        images=images,
    )
    _wrote(made)
    for note in notes_on(seen):
        terminal.note(f"note: {note}")
    try:
        check_cohort(made[0], console=terminal.console())
    except ConnectomeTLError:
        terminal.note(
            f"The files are written. Correct what follows, then: {_shell('connectome-tl', 'cohort', made[0])}"
        )
        raise
    if len(made) > 1:
        run = _shell("connectome-tl", "run", made[1], "--out", folder / "results")
        terminal.say(f"Check both files, then: {run}")
    elif not any(one.meaning == "outcome" for one in seen.columns):
        terminal.say(without_outcome(seen, made[0]))


@command(app)
def run(
    study: Annotated[Path, typer.Argument(help="study.yaml")],
    out: Out,
    set_: Annotated[list[str] | None, typer.Option("--set", help="Override one setting: key.sub=value")] = None,
    check: Annotated[bool, typer.Option("--check", help="Verify the hashes of all inputs of a finished run.")] = False,
    tuned: Annotated[
        Path | None, typer.Option("--tuned", help="Folder of a finished `tune`: settings per outer fold.")
    ] = None,
    scheduler: Scheduler = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print fits, CPU time, memory and cheaper alternatives; run nothing.")
    ] = False,
) -> None:
    """Run a study: stages, controls, baselines, permutation tests, report. Run again to resume."""
    if dry_run:
        from connectome_tl.workflows.study.forecast import forecast_study, print_forecast

        idle = [f"--{name}" for name, given in (("check", check), ("scheduler", scheduler)) if given]
        if idle:
            raise UsageError(f"{', '.join(idle)} has no effect with --dry-run", remedy="Leave it out.")
        found = forecast_study(study, out, overrides=tuple(set_ or ()), tuned=tuned)
        terminal.answer(forecast={**found.model_dump(), "seconds": found.seconds})
        print_forecast(found, terminal.console())
        terminal.say(found.line)
        return
    from connectome_tl.workflows.study.run import run_study
    from connectome_tl.workflows.study.tuned import optimism_lines

    result = run_study(
        study,
        out,
        overrides=tuple(set_ or ()),
        show_progress=terminal.shows_progress,
        check=check,
        tuned=tuned,
        scheduler=scheduler,
        tell=terminal.note,
    )
    record = result.record
    scores = [score for score in record.scores if score.model == "full"]
    terminal.answer(folder=out, report=result.report, verdicts=record.verdicts, scores=scores)
    for verdict in record.verdicts:
        terminal.say(verdict.headline)
    for line in optimism_lines(record):
        terminal.say(line)
    terminal.say(f"\nReport: {result.report}")


@command(app)
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
        int,
        typer.Option("--heartbeat", min=1, help="Seconds between heartbeats of a worker; too few fail running trials."),
    ] = 60,
    scheduler: Scheduler = None,
) -> None:
    """Search settings on the inner folds of each outer fold. Run again to resume; then use `run --tuned`."""
    from connectome_tl.workflows.study.tune import tune_study

    found = tune_study(
        study,
        out,
        storage=storage,
        trials=trials,
        space=space,
        overrides=tuple(set_ or ()),
        heartbeat=heartbeat,
        show_progress=terminal.shows_progress,
        scheduler=scheduler,
    )
    page = out / "report.html"
    terminal.answer(folder=out, report=page, trials=found.trials, objectives=found.objectives, folds=found.folds)
    for one in found.folds:
        scores = ", ".join(f"{name} {value:.3f}" for name, value in zip(found.objectives, one.values, strict=True))
        terminal.say(f"repeat {one.repeat}, fold {one.fold}: inner {scores} ({counted(found.trials, 'trial')})")
    terminal.say(
        "These are the best of many trials, so optimistic; `connectome-tl run --tuned` gives the out-of-fold score."
    )
    terminal.say(f"\nReport: {page}")


@command(app)
def explain(
    run_dir: Annotated[Path, typer.Argument(help="Folder of a finished run.")],
    model: Annotated[
        list[str] | None, typer.Option("--model", help="full, core, network or a control; may be repeated.")
    ] = None,
    permutations: Annotated[int, typer.Option(min=0, help="Permutations of the outcomes for the core's maps.")] = 199,
    refitted: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Permutations that refit the other models in every fold. Default: 49, 19 or 0, as many as take a few "
            "minutes.",
        ),
    ] = None,
    base: Annotated[
        Path | None, typer.Option("--base", help="Folder that the cohort paths of study.yaml are relative to.")
    ] = None,
) -> None:
    """Explain the models of a finished run: maps with stability and null distribution."""
    from connectome_tl.workflows.study.explain import MODELS, explain_run
    from connectome_tl.workflows.study.explain_files import FOLDER, PAGE

    found = explain_run(
        run_dir,
        models=tuple(model or MODELS),
        n_permutations=permutations,
        n_refitted=refitted,
        base=base,
        show_progress=terminal.shows_progress,
    )
    page = run_dir / FOLDER / PAGE
    terminal.answer(folder=run_dir / FOLDER, page=page, files=found.files, withheld=found.withheld, notes=found.notes)
    for one in found.withheld:
        terminal.say(f"withheld: {one.task}, {one.model}: {one.reason}")
    for note in found.notes:
        terminal.say(note)
    size = file_size(sum(file.n_bytes for file in found.files))
    terminal.say(f"{counted(len(found.maps), 'map')}, {counted(len(found.files), 'table')} ({size})")
    terminal.say(f"\nPage: {page}")


@command(app)
def report(
    run_dir: Annotated[Path, typer.Argument(help="Folder of a finished run.")],
    figures: Annotated[
        str | None, typer.Option("--figures", help="svg or pdf: save every figure to RUN_DIR/figures.")
    ] = None,
    tables: Annotated[
        bool, typer.Option("--tables", help="Save every table as TSV and LaTeX to RUN_DIR/tables, with references.bib.")
    ] = False,
    dated: Annotated[
        bool, typer.Option("--dated/--undated", help="Show when the run ended and how long it took.")
    ] = True,
) -> None:
    """Render the report of a finished run again, with explanations; save figures and tables for a paper."""
    from connectome_tl.workflows.progress import Steps
    from connectome_tl.workflows.study.report import draw_report

    if figures not in (None, "svg", "pdf"):
        raise UsageError("unknown kind of figure", expected="--figures svg or --figures pdf", got=repr(figures))
    kind: Literal["svg", "pdf"] | None = "svg" if figures == "svg" else "pdf" if figures == "pdf" else None
    with Steps(shown=terminal.shows_progress, lines=False) as steps, steps.step("figures, tables, page"):
        page = draw_report(run_dir, figures=kind, tables=tables, dated=dated)
    terminal.answer(folder=run_dir, report=page)
    for wanted, name in ((kind is not None, "figures"), (tables, "tables")):
        if wanted:
            terminal.say(f"wrote {run_dir / name}")
    terminal.say(f"Report: {page}")


@command(app)
def audit(
    run_dir: Annotated[Path, typer.Argument(help="Folder of a finished run.")],
    base: Annotated[
        Path | None, typer.Option("--base", help="Folder that the cohort paths of study.yaml are relative to.")
    ] = None,
) -> None:
    """Check a finished run: splits, scores, duplicates, refitted folds, and a test for leakage."""
    from connectome_tl.workflows.audit.audit import audit_run

    record = audit_run(run_dir, base=base, show_progress=terminal.shows_progress)
    terminal.answer(passed=not record.accused, findings=record.findings)
    for finding in record.findings:
        colour = {"failed": typer.colors.RED, "warning": typer.colors.YELLOW}.get(finding.status)
        terminal.say(f"{finding.status:8}{finding.check}: {finding.what}", colour=colour)
        if finding.remedy:
            terminal.say(f"        {finding.remedy}")
    if record.accused:
        raise DataError("the audit failed", file=run_dir, remedy="See the lines marked failed.")
    n_warnings = sum(finding.status == "warning" for finding in record.findings)
    terminal.say(f"\nNo check failed; {n_warnings} of {len(record.findings)} gave a warning.")


@command(app)
def cohort(
    cohort_file: Annotated[Path, typer.Argument(metavar="COHORT.yaml", help="Settings of the cohort.")],
    report: Annotated[Path | None, typer.Option("--report", help="Write a quality report here (HTML).")] = None,
    study: Annotated[
        Path | None, typer.Option("--study", help="A study.yaml with the image settings for the volumes of the report.")
    ] = None,
) -> None:
    """Check and describe a cohort; list all problems together."""
    from connectome_tl.workflows.data.cohort import check_cohort

    if study is not None and report is None:
        raise typer.BadParameter("--study needs --report FILE")
    found = check_cohort(cohort_file, report, study=study, console=terminal.console())
    terminal.answer(cohort=found.record, findings=found.findings, notes=found.cohort.notes, report=found.page)
    counts = {level: sum(one.level == level for one in found.findings) for level in ("error", "warning")}
    n_regions = found.record.n_regions
    regions = f"{counted(n_regions, 'region')}, " if n_regions else ""
    terminal.say(
        f"{cohort_file}: {counted(found.record.n_subjects, 'subject')}, {regions}"
        f"{counted(counts['error'], 'error')}, {counted(counts['warning'], 'warning')}"
    )


@command(app)
def power(
    cohort_file: Annotated[
        Path | None, typer.Argument(metavar="COHORT.yaml", help="Settings of the cohort; not with --n.")
    ] = None,
    n: Annotated[int | None, typer.Option("--n", help="Number of subjects, instead of a cohort.")] = None,
    share: Annotated[
        float | None,
        typer.Option("--share", help="With --n: fraction of positive subjects. Without it, the outcome is a score."),
    ] = None,
) -> None:
    """Estimate what a study of this size can show: widths of intervals and power, by simulation."""
    from connectome_tl.workflows.study.power import power_of_cohort, power_of_size, summary

    if (cohort_file is None) == (n is None):
        raise UsageError("power needs a cohort or a size", expected="COHORT.yaml, or --n with or without --share")
    if cohort_file is not None:
        if share is not None:
            raise UsageError("--share is used with --n; a cohort has its own prevalence", got=f"--share {share:g}")
        plans = power_of_cohort(cohort_file, console=terminal.console())
    elif n is not None:
        plans = [power_of_size(n, share, console=terminal.console())]
    terminal.answer(plans=plans)
    for plan in plans:
        terminal.say(summary(plan))
