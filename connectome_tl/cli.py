"""`connectome-tl`: arguments to one workflow call, errors to exit codes. Workflows are imported on call."""

from __future__ import annotations

import io
import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from connectome_tl import __version__
from connectome_tl.errors import ConnectomeTLError, DataError, InterruptedRunError, OutputError, Problem, UsageError

app = typer.Typer(
    name="connectome-tl",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="From an infant's scan to neurodevelopmental outcome: connectomes, three-stage transfer learning, "
    "honest intervals. For research, not for care.",
)
# Newer Typer brings a copy of click of its own: its errors are not those of the package `click`.
_WrongUsage: type[Exception] = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")
atlases = typer.Typer(no_args_is_help=True, help="Atlas tables: names, hemispheres, centroids; images are yours.")
app.add_typer(atlases, name="atlas")
fetches = typer.Typer(no_args_is_help=True, help="Public data, fetched by the library that keeps the fetcher.")
app.add_typer(fetches, name="fetch")
_TYPERS_INTERRUPT = 130  # newer Typer catches an interrupt and returns this
Out = Annotated[Path, typer.Option("--out", help="Folder for everything that is written.")]


def _version(show: bool) -> None:
    if show:
        typer.echo(f"connectome-tl {__version__}")
        raise typer.Exit()


@app.callback()
def _common(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True)] = False,  # noqa: ARG001
    debug: Annotated[bool, typer.Option("--debug", help="Show a traceback when something fails.")] = False,
) -> None:
    if debug:
        os.environ["CONNECTOME_TL_DEBUG"] = "1"


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
def report(run_dir: Annotated[Path, typer.Argument(help="Folder of a finished run.")]) -> None:
    """Draw the report of a finished run again."""
    from connectome_tl.workflows.report import draw_report

    typer.echo(f"Report: {draw_report(run_dir)}")


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


Labels = Annotated[Path | None, typer.Option("--labels", help="Table of the regions, in the order of the rows.")]
AtlasName = Annotated[str | None, typer.Option("--atlas", help="Name of an atlas, as `atlas list` prints it.")]


@app.command()
def convert(
    source: Annotated[Path, typer.Argument(metavar="INPUT", help="A matrix file, or a folder of them.")],
    out: Annotated[
        Path, typer.Option("--out", help="File to write (.tsv is BIDS relmat style), or a folder for everything.")
    ],
    format_: Annotated[str, typer.Option("--format", help="Format of the input; auto looks at the file.")] = "auto",
    labels: Labels = None,
    atlas: AtlasName = None,
    pattern: Annotated[
        str | None, typer.Option(help="Which files of the folder, e.g. '**/*.csv'; default: names that say it.")
    ] = None,
    measure: Annotated[str | None, typer.Option(help="The measure to keep, or the name of the only one.")] = None,
    layout: Annotated[
        str | None, typer.Option(help="How a triangle is written, row by row: upper, lower (nilearn's), or full.")
    ] = None,
    order: Annotated[str | None, typer.Option(help="Order of unnamed rows: table or label.")] = None,
) -> None:
    """Read any matrix file a lab holds; write it with region names and a sidecar.

    Where --out is a folder, every atlas and measure of every file becomes a table of its own.
    """
    from connectome_tl.config import checked
    from connectome_tl.settings.cohort import TriangleSettings
    from connectome_tl.workflows.convert import convert_file, convert_folder
    from connectome_tl.workflows.convert_names import cohort_patterns

    how = checked(TriangleSettings, layout=layout, order=order)

    def say(note: str) -> None:
        typer.echo(note if note.startswith("WARNING") else f"note: {note}", err=True)

    if source.is_dir() or out.is_dir() or not out.suffix:
        from connectome_tl.workflows.progress import bar

        made = convert_folder(
            source,
            out,
            format=format_,
            labels=labels,
            atlas=atlas,
            pattern=pattern,
            measure=measure,
            layout=how.layout,
            order=how.order,
            track=bar(),
            say=say,
        )
    else:
        made = convert_file(
            source,
            out,
            format=format_,
            labels=labels,
            atlas=atlas,
            measure=measure,
            layout=how.layout,
            order=how.order,
            say=say,
        )
    for path in made:
        typer.echo(f"wrote {path}")
    if source.is_dir():
        for line in cohort_patterns(made):
            typer.echo(f"in cohort.yaml, under connectomes: files: {line}")


@app.command()
def assemble(
    tractogram: Annotated[Path, typer.Argument(help="Streamlines: .tck, .trk or .trx")],
    parcellation: Annotated[Path, typer.Argument(help="Label image in the streamlines' space.")],
    out: Annotated[Path, typer.Option("--out", help="Table to write (.tsv).")],
    measure: Annotated[str, typer.Option(help="count, length, invnodevol or mean=IMAGE")] = "count",
    assignment: Annotated[str, typer.Option(help="radial or endvoxel")] = "radial",
    radius: Annotated[float, typer.Option(help="Search radius in mm of radial assignment.")] = 4.0,
    weights: Annotated[Path | None, typer.Option(help="One weight per streamline (SIFT2).")] = None,
    labels: Labels = None,
    atlas: AtlasName = None,
    max_unlisted_ends: Annotated[
        float, typer.Option(help="Share of streamline ends that labels beyond the table may take.")
    ] = 0.05,
    max_misplaced: Annotated[
        float, typer.Option(help="Share of regions that may lie elsewhere than the atlas has them; 1: any.")
    ] = 0.1,
) -> None:
    """Streamlines and a parcellation to a connectome."""
    from connectome_tl.config import checked
    from connectome_tl.settings.imaging import AssemblySettings
    from connectome_tl.workflows.assemble import assemble_files

    settings = checked(
        AssemblySettings,
        assignment=assignment,
        radius_mm=radius,
        max_unlisted_ends=max_unlisted_ends,
        max_misplaced=max_misplaced,
    )
    made = assemble_files(
        tractogram, parcellation, out, measure=measure, settings=settings, weights=weights, labels=labels, atlas=atlas
    )
    for warning in made.assembly.warnings:
        typer.echo(f"note: {warning}", err=True)
    account = made.assembly.account
    typer.echo(
        f"wrote {made.file}: {account.total} streamlines = {account.edges} in edges + {account.unassigned} unassigned "
        f"+ {account.too_short} too short"
    )


Participants = Annotated[list[str] | None, typer.Option("--participant-label", help="Only these.")]
Sessions = Annotated[list[str] | None, typer.Option("--session-id", help="Only these.")]
ImagingConfig = Annotated[Path | None, typer.Option("--config", help="YAML of imaging settings.")]
Workers = Annotated[int, typer.Option("--n-cpus", min=1, help="Scans at the same time; of one scan, its threads.")]
FilterFile = Annotated[Path | None, typer.Option("--bids-filter-file", help="JSON: which images are meant.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print files and choices of each scan; write nothing.")]


@app.command()
def morphometry(
    first: Annotated[
        Path, typer.Argument(metavar="BIDS_DIR | PARCELLATION", help="A folder, or one subject's label image.")
    ],
    others: Annotated[
        list[Path],
        typer.Argument(metavar="OUT_DIR [participant] | IMAGES...", help="Or images on its grid: T1w, T2w, FA."),
    ],
    out: Annotated[Path | None, typer.Option("--out", help="One subject: table to write (.tsv).")] = None,
    network: Annotated[str | None, typer.Option(help="divergence (default) or similarity")] = None,
    labels: Labels = None,
    atlas: AtlasName = None,
    participant: Participants = None,
    session: Sessions = None,
    config: ImagingConfig = None,
    n_cpus: Workers = 1,
    filter_file: FilterFile = None,
    dry_run: DryRun = False,
) -> None:
    """From structural MRI alone to networks of regions: a whole BIDS folder, or one subject's images."""
    from connectome_tl.workflows.morphometry import build_networks, morphometry_files

    if first.is_dir():
        _participant_level(str(others[1]) if len(others) > 1 else "participant")
        if out is not None or labels is not None or len(others) > 2:
            raise UsageError("of a folder: morphometry BIDS_DIR OUT_DIR participant", expected="labels in --config")
        found = build_networks(
            first,
            others[0],
            participants=participant or (),
            sessions=session or (),
            atlas=atlas,
            network=network,
            config=config,
            n_workers=n_cpus,
            filter_file=filter_file,
            dry_run=dry_run,
            tell=typer.echo if dry_run else _tell,
        )
        if not dry_run:
            typer.echo(f"Report: {found.page}")
        return
    if out is None:
        raise UsageError("one subject's network needs --out FILE.tsv", got=f"{first}, which is no folder")
    made = morphometry_files(others, first, out, network=network or "divergence", labels=labels, atlas=atlas)
    typer.echo(f"wrote {made.network} and {made.measures}")


def _tell(line: str) -> None:
    typer.secho(line, err=True, fg=typer.colors.YELLOW)


def _participant_level(level: str) -> None:
    if level != "participant":
        raise UsageError("unknown analysis level", expected="participant", got=level)


@app.command()
def connectomes(
    bids_dir: Annotated[Path, typer.Argument(help="BIDS dataset, QSIPrep derivatives or a dHCP release.")],
    out_dir: Annotated[Path, typer.Argument(help="Folder for the connectomes.")],
    level: Annotated[str, typer.Argument(help="participant; group: one response of OUT_DIR's scans.")] = "participant",
    participant: Participants = None,
    session: Sessions = None,
    atlas: AtlasName = None,
    engine: Annotated[str | None, typer.Option("--engine", help="dipy or mrtrix3")] = None,
    config: ImagingConfig = None,
    n_cpus: Workers = 1,
    filter_file: FilterFile = None,
    dry_run: DryRun = False,
) -> None:
    """From a folder of diffusion and structural MRI to atlas connectomes. Run again to resume.

    The level `group` averages the responses of the scans that are done in OUT_DIR, for a second run with one response.
    """
    if level == "group":
        from connectome_tl.workflows.group_response import write_group_response

        file, n = write_group_response(out_dir, participants=participant or (), sessions=session or ())
        typer.echo(
            f"wrote {file}, the mean of {n} scans; name it as reconstruction.response_file in another folder's run"
        )
        return
    from connectome_tl.workflows.connectomes import build_connectomes

    _participant_level(level)
    made = build_connectomes(
        bids_dir,
        out_dir,
        participants=participant or (),
        sessions=session or (),
        atlas=atlas,
        engine=engine,
        config=config,
        n_workers=n_cpus,
        filter_file=filter_file,
        dry_run=dry_run,
        tell=typer.echo if dry_run else _tell,
    )
    if not dry_run:
        typer.echo(f"Report: {made.page}")


@fetches.command("abide")
def fetch_abide(
    out: Out = Path("abide"),
    n_subjects: Annotated[int | None, typer.Option(help="How many; all when left out.")] = None,
) -> None:
    """Fetch ABIDE I's region time series and phenotypes with nilearn. Needs a network; research use only."""
    from connectome_tl.workflows import fetch

    typer.echo(f"fetched into {fetch.fetch_abide(out, n_subjects=n_subjects)}")


@fetches.command("template")
def fetch_template(
    age: Annotated[float, typer.Option(help="Age at scan.")],
    unit: Annotated[str, typer.Option(help="weeks, months, years or days")],
    reference: Annotated[str, typer.Option(help="birth, postmenstrual or corrected")],
    labels: Annotated[
        str | None, typer.Option(help="Label image to fetch with it, by its entities: desc-structures of dhcpVol.")
    ] = None,
    contrast: Annotated[str | None, typer.Option(help="T1w or T2w; default: that of the age.")] = None,
    name_only: Annotated[bool, typer.Option("--name-only", help="Say which it is; fetch nothing.")] = False,
) -> None:
    """The template for an age with its brain mask, by TemplateFlow's own client. Needs a network."""
    from connectome_tl.workflows.fetch import template_of_age

    typer.echo(template_of_age(age, unit, reference, labels=labels, contrast=contrast, fetch=not name_only))


@atlases.command("list")
def atlas_list() -> None:
    """All atlases with their sizes and spaces."""
    from connectome_tl.workflows.atlas import list_atlases

    list_atlases()


@atlases.command("show")
def atlas_show(name: str) -> None:
    """One atlas: source, licence, where to get the image, regions."""
    from connectome_tl.workflows.atlas import show_atlas

    show_atlas(name)


@atlases.command("install")
def atlas_install(
    name: str, image: Annotated[Path, typer.Option("--image", help="Label image of this atlas.")]
) -> None:
    """Check a label image against the atlas's table and keep a copy for later commands."""
    from connectome_tl.workflows.atlas import install_atlas

    installed = install_atlas(name, image)
    for note in installed.notes:
        typer.echo(f"note: {note}", err=True)
    typer.echo(f"installed {installed.image}")


def main(arguments: list[str] | None = None) -> None:
    """Entry point: run one command and leave with its exit code."""
    signal.signal(signal.SIGTERM, _terminate)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a file name may hold what no encoding can write
            stream.reconfigure(errors="backslashreplace")
    try:
        code = app(args=arguments, standalone_mode=False)
        if code == _TYPERS_INTERRUPT:
            raise KeyboardInterrupt
        sys.exit(code if isinstance(code, int) else 0)
    except typer.Exit as exit_:
        sys.exit(exit_.exit_code)
    except _WrongUsage as error:
        error.show()  # type: ignore[attr-defined]
        sys.exit(64)
    except (KeyboardInterrupt, typer.Abort):
        _leave(InterruptedRunError("interrupted", remedy="Run the same command again; it resumes."))
    except ConnectomeTLError as error:
        _leave(error)
    except OSError as error:
        _leave(OutputError(f"{error.strerror or error}", file=error.filename))
    except Exception as error:
        _fail(error)


def _leave(error: ConnectomeTLError) -> None:
    if os.environ.get("CONNECTOME_TL_DEBUG"):
        raise error
    typer.secho(f"Error: {error}", err=True, fg=typer.colors.RED)
    sys.exit(error.exit_code)


def _fail(error: Exception) -> None:
    """A fault of ours: say so in one line, with a traceback only on request."""
    if os.environ.get("CONNECTOME_TL_DEBUG"):
        raise error
    problem = Problem(
        f"{type(error).__name__}: {error}",
        remedy="This is a fault of connectome-tl, not of your data. Run again with --debug and report the traceback.",
    )
    typer.secho(f"Error: {problem}", err=True, fg=typer.colors.RED)
    sys.exit(70)


def _terminate(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
