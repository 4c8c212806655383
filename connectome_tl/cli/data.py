"""Commands on matrices, tractograms, atlases and public data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from connectome_tl.cli.app import (
    AtlasName,
    Labels,
    Out,
    app,
    atlases,
    fetches,
)
from connectome_tl.cli.terminal import command, terminal
from connectome_tl.plurals import counted

_MOST_NAMED = 5  # files written by `convert`; more are counted


@command(app)
def convert(
    source: Annotated[Path, typer.Argument(metavar="INPUT", help="A matrix file or a folder of matrix files.")],
    out: Annotated[Path, typer.Option("--out", help="Output file (.tsv: BIDS relmat style), or output folder.")],
    format_: Annotated[str, typer.Option("--format", help="Format of the input; auto detects it.")] = "auto",
    labels: Labels = None,
    atlas: AtlasName = None,
    pattern: Annotated[
        str | None, typer.Option(help="Files of the folder, e.g. '**/*.csv'; default: files with recognised names.")
    ] = None,
    measure: Annotated[str | None, typer.Option(help="Measure to keep, or a name for the only one.")] = None,
    layout: Annotated[
        str | None, typer.Option(help="Layout of the values, row by row: upper, lower (nilearn's) or full.")
    ] = None,
    order: Annotated[str | None, typer.Option(help="Order of unnamed rows: table or label.")] = None,
) -> None:
    """Convert a matrix file of any supported format; write it with region names and a sidecar.

    If --out is a folder, every atlas and measure of every file is written to a separate table.
    """
    from connectome_tl.config import checked
    from connectome_tl.settings.cohort import TriangleSettings
    from connectome_tl.workflows.data.convert import convert as convert_files
    from connectome_tl.workflows.data.convert_names import cohort_patterns
    from connectome_tl.workflows.progress import bar

    how = checked(TriangleSettings, layout=layout, order=order)

    def say(note: str) -> None:
        terminal.note(note if note.startswith("WARNING") else f"note: {note}")

    made = convert_files(
        source,
        out,
        format=format_,
        labels=labels,
        atlas=atlas,
        pattern=pattern,
        measure=measure,
        layout=how.layout,
        order=how.order,
        track=bar(shown=terminal.shows_progress),
        say=say,
    )
    patterns = cohort_patterns(made) if source.is_dir() else []
    terminal.answer(written=made, files=patterns)
    for path in made if len(made) <= _MOST_NAMED else ():
        terminal.say(f"wrote {path}")
    if len(made) > _MOST_NAMED:
        terminal.say(f"wrote {counted(len(made), 'table')} to {out}")
    for line in patterns:
        terminal.say(f"in cohort.yaml, under connectomes: files: {line}")


@command(app)
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
        float, typer.Option(help="Largest fraction of streamline ends in labels that the table does not list.")
    ] = 0.05,
    max_misplaced: Annotated[
        float, typer.Option(help="Largest fraction of regions that may be far from their place in the atlas; 1: any.")
    ] = 0.1,
    precise: Annotated[
        bool, typer.Option("--precise", help="Means of an image: weight voxels by length, without interpolation.")
    ] = False,
) -> None:
    """Assemble a connectome from streamlines and a parcellation."""
    from connectome_tl.config import checked
    from connectome_tl.settings.imaging import AssemblySettings
    from connectome_tl.workflows.data.assemble import assemble_files

    settings = checked(
        AssemblySettings,
        assignment=assignment,
        radius_mm=radius,
        max_unlisted_ends=max_unlisted_ends,
        max_misplaced=max_misplaced,
        sampling="precise" if precise else "trilinear",
    )
    made = assemble_files(
        tractogram,
        parcellation,
        out,
        measure=measure,
        settings=settings,
        weights=weights,
        labels=labels,
        atlas=atlas,
        show_progress=terminal.shows_progress,
    )
    for warning in made.assembly.warnings:
        terminal.note(f"note: {warning}")
    account = made.assembly.account
    terminal.answer(written=made.file, streamlines=vars(account), warnings=made.assembly.warnings)
    terminal.say(
        f"wrote {made.file}: {counted(account.total, 'streamline')} = {account.edges} in edges + "
        f"{account.unassigned} unassigned "
        f"+ {account.too_short} too short"
    )


@command(fetches, "abide", within="fetch")
def fetch_abide(
    out: Out = Path("abide"),
    n_subjects: Annotated[int | None, typer.Option(help="Number of subjects; default: all.")] = None,
) -> None:
    """Download ABIDE I's region time series and phenotypes with nilearn. Research use only."""
    from connectome_tl.workflows.data import fetch

    folder = fetch.fetch_abide(out, n_subjects=n_subjects)
    terminal.answer(folder=folder)
    terminal.say(f"fetched into {folder}")


@command(fetches, "template", within="fetch")
def fetch_template(
    age: Annotated[float, typer.Option(help="Age at scan.")],
    unit: Annotated[str, typer.Option(help="weeks, months, years or days")],
    reference: Annotated[str, typer.Option(help="birth, postmenstrual or corrected")],
    labels: Annotated[
        str | None, typer.Option(help="Label image to fetch too, by its entities, e.g. desc-structures of dhcpVol.")
    ] = None,
    contrast: Annotated[str | None, typer.Option(help="T1w or T2w; default: that of the age.")] = None,
    name_only: Annotated[
        bool, typer.Option("--name-only", help="Print the name of the template; download nothing.")
    ] = False,
) -> None:
    """Download the template for an age, with its brain mask, by TemplateFlow's client."""
    from connectome_tl.workflows.data.fetch import template_of_age

    template = template_of_age(age, unit, reference, labels=labels, contrast=contrast, fetch=not name_only)
    terminal.answer(template=template)
    terminal.say(template)


@command(atlases, "list", within="atlas")
def atlas_list() -> None:
    """List all atlases with their sizes and spaces."""
    from connectome_tl.workflows.data.atlas import list_atlases

    names = list_atlases(terminal.console())
    terminal.answer(atlases=names)
    terminal.say(counted(len(names), "atlas"))


@command(atlases, "show", within="atlas")
def atlas_show(name: str) -> None:
    """Show one atlas: source, licence, regions, and where to get the image."""
    from connectome_tl.workflows.data.atlas import show_atlas

    atlas = show_atlas(name, terminal.console())
    terminal.answer(
        name=atlas.name,
        title=atlas.title,
        space=atlas.space,
        source=atlas.source,
        licence=atlas.licence,
        regions=[vars(region) for region in atlas.regions],
    )
    terminal.say(f"{atlas.name}: {counted(atlas.n_regions, 'region')}")


@command(atlases, "install", within="atlas")
def atlas_install(
    name: str, image: Annotated[Path, typer.Option("--image", help="Label image of this atlas.")]
) -> None:
    """Check a label image against the atlas's table and keep a copy for later commands."""
    from connectome_tl.workflows.data.atlas import install_atlas

    installed = install_atlas(name, image)
    for note in installed.notes:
        terminal.note(f"note: {note}")
    terminal.answer(image=installed.image, sha256=installed.sha256, notes=installed.notes)
    terminal.say(f"installed {installed.image}")
