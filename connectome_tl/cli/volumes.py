"""Commands on image studies."""

from __future__ import annotations

from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from connectome_tl.cli.app import app
from connectome_tl.cli.terminal import command, terminal
from connectome_tl.plurals import counted

if TYPE_CHECKING:
    from connectome_tl.settings.records.segmentation import DiceDifference, MeanDice


@command(app)
def maps(
    run_dir: Annotated[Path, typer.Argument(help="Folder of a finished run of an image study.")],
    model: Annotated[str, typer.Option("--model", help="A model with a network on volumes.")] = "network",
    subjects: Annotated[int, typer.Option(min=1, help="Number of held-out subjects of each fold.")] = 10,
    steps: Annotated[int, typer.Option(min=1, help="Training steps of the map by learned noise.")] = 100,
    base: Annotated[
        Path | None, typer.Option("--base", help="Folder that the cohort paths of study.yaml are relative to.")
    ] = None,
) -> None:
    """Compute voxel maps of a finished image study: learned noise, occlusion, integrated gradients."""
    from connectome_tl.settings.images.descent import Descent
    from connectome_tl.settings.images.importance import NoiseMap
    from connectome_tl.workflows.images.map_files import FOLDER
    from connectome_tl.workflows.images.maps import PAGE, map_volumes

    noise = NoiseMap(descent=Descent(steps=steps, learning_rate=3e-3))
    found = map_volumes(
        run_dir, model=model, n_subjects=subjects, noise=noise, base=base, show_progress=terminal.shows_progress
    )
    page = run_dir / FOLDER / PAGE
    terminal.answer(folder=run_dir / FOLDER, page=page, maps=found.maps, withheld=found.withheld)
    for task, reason in found.withheld.items():
        terminal.say(f"withheld: {task}, {model}: {reason}")
    for one in found.maps:
        terminal.say(
            f"{one.task}, {one.kind}: deletion {one.deletion:.3f} (random {one.random_deletion:.3f}), insertion "
            f"{one.insertion:.3f} (random {one.random_insertion:.3f}), folds agree {_number(one.agreement)}, "
            f"randomised network {_number(one.randomised)}"
        )
    if found.maps:
        terminal.say("A map is informative if its deletion is larger, and its insertion smaller, than of random maps.")
    terminal.say(f"\nPage: {page}")


@command(app)
def embed(
    run_dir: Annotated[Path, typer.Argument(help="Folder of a finished run of an image study.")],
    cohort: Annotated[Path, typer.Argument(help="cohort.yaml of the subjects with images.")],
    out: Annotated[Path, typer.Option("--out", help="JSON file to write, for `image.embedding.file` of a study.")],
    stage: Annotated[
        Literal["finetune", "pretrain"],
        typer.Option(
            "--stage", help="Networks of the outer folds, or the network of stage 1, trained on the source only."
        ),
    ] = "finetune",
    base: Annotated[
        Path | None, typer.Option("--base", help="Folder that the cohort paths of study.yaml are relative to.")
    ] = None,
) -> None:
    """Compute image embeddings with the networks of a finished run, and brain-age gaps if they predict age."""
    from connectome_tl.workflows.images.embed import embed_cohort

    found = embed_cohort(run_dir, cohort, out, stage=stage, base=base, show_progress=terminal.shows_progress)
    terminal.answer(file=out, images=len(found.images), fits=len(found.fits), notes=found.notes)
    for note in found.notes:
        terminal.note(f"note: {note}")
    terminal.say(f"{counted(len(found.images), 'image')}, {counted(len(found.fits), 'fit')}: {out}")


@command(app)
def prune(
    run_dir: Annotated[Path, typer.Argument(help="Folder of a finished run of an image study.")],
    target: Annotated[
        float, typer.Option("--target", help="Fraction of the multiply-accumulate operations to remove.")
    ] = 0.4,
    task: Annotated[str | None, typer.Option("--task", help="Outcome whose head is kept; default: the first.")] = None,
    steps: Annotated[int, typer.Option("--steps", min=0, help="Fine-tuning steps after pruning.")] = 100,
    base: Annotated[
        Path | None, typer.Option("--base", help="Folder that the cohort paths of study.yaml are relative to.")
    ] = None,
) -> None:
    """Prune filters of the networks of a finished run by Taylor scores, and compare with the unpruned ones."""
    from connectome_tl.config import checked
    from connectome_tl.settings.images.pruning import TaylorPruning
    from connectome_tl.workflows.images.prune import FOLDER, PAGE, prune_run

    usual = TaylorPruning()
    settings = checked(TaylorPruning, target=target, after=usual.after.model_copy(update={"steps": steps}))
    found = prune_run(run_dir, task=task, settings=settings, base=base, show_progress=terminal.shows_progress)
    page = run_dir / FOLDER / PAGE
    seconds = {one.file: one.seconds for one in found.networks}
    terminal.answer(folder=run_dir / FOLDER, page=page, pruned=found, cpu_seconds=seconds)
    for one in found.networks:
        cost = ", ".join(
            f"{name} {100 * (after / before - 1):+.0f} %"
            for name, (before, after) in (
                ("multiply-accumulates", one.macs),
                ("weights", one.parameters),
                *([("CPU seconds", one.seconds)] if one.seconds is not None else []),
            )
        )
        terminal.say(
            f"fold {one.fold + 1}, network {one.network + 1}: {cost}; loss {_number(one.pruned_loss, '.3f')} "
            f"(unpruned, same number of steps: {_number(one.tuned_loss, '.3f')}; before: {_number(one.loss, '.3f')})"
        )
    terminal.say(
        f"\n{found.task}: loss {_number(100 * found.relative_loss, '+.1f')} % [{_number(100 * found.low, '+.1f')}, "
        f"{_number(100 * found.high, '+.1f')}] against the unpruned networks.\n\nPage: {page}"
    )


@command(app)
def contrasts(
    cohort: Annotated[Path, typer.Argument(help="cohort.yaml of the subjects with label maps.")],
    out: Annotated[Path, typer.Option("--out", help="Folder to write volumes and a cohort.yaml into.")],
    labels: Annotated[
        str | None,
        typer.Option(
            "--labels",
            help="Pattern of the label maps with {id}, relative to cohort.yaml; default: its volumes.labels.",
        ),
    ] = None,
    copies: Annotated[int, typer.Option("--copies", min=1, help="Volumes per label map.")] = 1,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the grey levels.")] = 0,
) -> None:
    """Synthesise volumes of random contrast from label maps, as a cohort for pretraining."""
    from connectome_tl.settings.images.synthesis import RandomContrast
    from connectome_tl.workflows.images.contrasts import contrast_cohort

    written = contrast_cohort(cohort, labels, out, settings=RandomContrast(copies=copies), seed=seed)
    terminal.answer(cohort=written)
    terminal.say(f"cohort: {written}")


@command(app)
def segment(
    cohort: Annotated[Path, typer.Argument(help="cohort.yaml of subjects with volumes, some with label maps.")],
    out: Annotated[Path, typer.Option("--out", help="Folder to write the label maps into.")],
    study: Annotated[
        Path | None, typer.Option("--study", help="study.yaml whose image settings and device are used.")
    ] = None,
    model: Annotated[
        Path | None, typer.Option("--model", help="Folder of an earlier call, whose network is used.")
    ] = None,
    folds: Annotated[
        int | None, typer.Option("--folds", min=2, help="Parts of the cross-validation; default: 5.")
    ] = None,
    steps: Annotated[
        int | None, typer.Option("--steps", min=1, help="Training steps of each network; default: 200.")
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", min=0, help="Seed of folds and networks; default: 0.")] = None,
) -> None:
    """Segment volumes by networks trained on label maps, with Dice on subjects that were not used for training."""
    from connectome_tl.settings.images.contrast import Segmentation
    from connectome_tl.workflows.images.segment import FOLDER, segment_cohort

    settings, usual = None, Segmentation()
    if steps is not None:
        settings = usual.model_copy(update={"descent": usual.descent.model_copy(update={"steps": steps})})
    found = segment_cohort(
        cohort,
        out,
        study=study,
        settings=settings,
        folds=folds,
        model=model,
        seed=seed,
        show_progress=terminal.shows_progress,
    )
    terminal.answer(folder=out / FOLDER, segmentation=found)
    for one in found.scores:
        if one.label is None or one.arm == found.scores[0].arm:
            what = "mean of the classes" if one.label is None else f"label {one.label}"
            terminal.say(f"{one.arm}, {what}: {_overlap(one)}, {counted(one.n, 'subject')}")
    for other in found.differences:
        terminal.say(f"{other.arm} minus {other.control}: {other.difference:+.3f} {_interval(other, '+.3f')}")
    terminal.say(f"\n{counted(len(found.segmented), 'label map')}: {out / FOLDER}")


def _number(value: float, form: str = ".2f") -> str:
    return f"{value:{form}}" if isfinite(value) else "n/a"


def _overlap(one: MeanDice) -> str:
    return f"Dice {one.dice:.3f} {_interval(one, '.3f')}" if one.n else "in no tested subject"


def _interval(one: MeanDice | DiceDifference, form: str) -> str:
    return f"[{one.low:{form}}, {one.high:{form}}]" if isfinite(one.low) else "[no interval from one family]"
