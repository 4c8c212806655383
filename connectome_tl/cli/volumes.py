"""Commands on image studies."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from connectome_tl.cli.app import app
from connectome_tl.cli.terminal import command, terminal


@command(app)
def maps(
    run_dir: Annotated[Path, typer.Argument(help="Folder of a finished run of an image study.")],
    model: Annotated[str, typer.Option("--model", help="A model with a network on volumes alone.")] = "network",
    subjects: Annotated[int, typer.Option(min=1, help="Held-out subjects of each fold.")] = 10,
    steps: Annotated[int, typer.Option(min=1, help="Training steps of the map by learned noise.")] = 300,
    base: Annotated[
        Path | None, typer.Option("--base", help="Folder the cohort paths of study.yaml are relative to.")
    ] = None,
) -> None:
    """Which voxels the networks of a finished run look at: learned noise, occlusion, integrated gradients."""
    from connectome_tl.settings.images_descent import Descent
    from connectome_tl.settings.images_importance import NoiseMap
    from connectome_tl.workflows.volume_maps import FOLDER, map_volumes

    noise = NoiseMap(descent=Descent(steps=steps, learning_rate=3e-3))
    found = map_volumes(
        run_dir, model=model, n_subjects=subjects, noise=noise, base=base, show_progress=terminal.shows_progress
    )
    terminal.answer(folder=run_dir / FOLDER, maps=found.maps, withheld=found.withheld)
    for task, reason in found.withheld.items():
        terminal.say(f"withheld: {task}, {model}: {reason}")
    for one in found.maps:
        terminal.say(
            f"{one.task}, {one.kind}: deletion {one.deletion:.3f} (random {one.random_deletion:.3f}), insertion "
            f"{one.insertion:.3f} (random {one.random_insertion:.3f}), folds agree {one.agreement:.2f}, "
            f"randomised network {one.randomised:.2f}"
        )
    terminal.say(f"\nMaps: {run_dir / FOLDER}")


@command(app)
def embed(
    run_dir: Annotated[Path, typer.Argument(help="Folder of a finished run of an image study.")],
    cohort: Annotated[Path, typer.Argument(help="The cohort.yaml of the subjects whose images are embedded.")],
    out: Annotated[Path, typer.Option("--out", help="JSON file to write, for `image.embedding.file` of a study.")],
    stage: Annotated[
        Literal["finetune", "pretrain"],
        typer.Option("--stage", help="Networks of each outer fold, or that of stage 1, which saw the source alone."),
    ] = "finetune",
    base: Annotated[
        Path | None, typer.Option("--base", help="Folder the cohort paths of study.yaml are relative to.")
    ] = None,
) -> None:
    """Embeddings of images by the networks of a finished run, and the brain-age gap where they predict age."""
    from connectome_tl.workflows.embed import embed_cohort

    found = embed_cohort(run_dir, cohort, out, stage=stage, base=base, show_progress=terminal.shows_progress)
    terminal.answer(file=out, images=len(found.images), fits=len(found.fits))
    terminal.say(f"{len(found.images)} images, {len(found.fits)} fits: {out}")
