"""`connectome-tl embed`: compute image embeddings of a cohort with a finished image study."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import numpy as np

from connectome_tl.cohort.cohort import Cohort
from connectome_tl.cohort.reading import read_cohort
from connectome_tl.cohort.relatives import kin
from connectome_tl.cohort.splits import SplitPlan
from connectome_tl.errors import UsageError
from connectome_tl.evaluation.explain.units import planned_folds
from connectome_tl.evaluation.nested_cv import tasks_of
from connectome_tl.imaging.volumes.cache import image_hash
from connectome_tl.provenance import remove_halves, versions, write_json
from connectome_tl.settings.images.embedding import EmbeddedFit, ImageEmbeddings
from connectome_tl.settings.study import StudySettings
from connectome_tl.training.checkpoint import FitResult, FitStore
from connectome_tl.training.core_stage import PREDICTABLE
from connectome_tl.training.fitted_models import stored_fit
from connectome_tl.training.images.embedding import age_gap, image_embedding
from connectome_tl.training.plans import RANDOM, FitPlan
from connectome_tl.training.schemes import StudyCohorts
from connectome_tl.training.threads import one_thread
from connectome_tl.workflows.images.grids import with_grids
from connectome_tl.workflows.progress import Steps
from connectome_tl.workflows.study.inputs import read_run_cohorts, read_study
from connectome_tl.workflows.study.results import read_record
from connectome_tl.workflows.study.unchanged import refuse_changed

UNUSED = (
    "the run did not use this network of stage 1: none of the source's outcomes is predicted better than by chance in "
    "held-out subjects of it (stages.pretrain.use_if), so that the embeddings may carry no information; --stage "
    "finetune takes the networks that the run used"
)
Stage = Literal["finetune", "pretrain"]
Parts = tuple[tuple[str, ...], ...]


def embed_cohort(
    run_dir: str | Path,
    cohort_file: str | Path,
    out: str | Path,
    *,
    stage: Stage = "finetune",
    base: str | Path | None = None,
    show_progress: bool = False,
) -> ImageEmbeddings:
    """Write the embeddings of each image by each fit of a run, with the training subjects of the fit, to a JSON file.

    Args:
        stage: `finetune` uses the networks of each outer fold of the first repeat, and for a training row the network
            that held it out; `pretrain` uses that of stage 1, which was trained on the source cohort only. If the run
            did not use its source, the record contains a note.
        base: folder that the cohort paths of the run's study.yaml are relative to; the run folder by default.

    Raises:
        UsageError: the run has no network on volumes, or no such stage; the cohort has no volumes, or too few of the
            fit's training rows (see `training.images.embedding.out_of_fold`).
        MissingInputError: no finished run, or a fit is not stored.
        DataError: images cannot be converted to grids, or the data of the run have changed.
    """
    folder = Path(run_dir)
    results = read_record(folder)
    study = read_study(folder)
    if not study.model.reads_volumes:
        raise UsageError("this study uses no volumes", file=folder / "study.yaml")
    store = FitStore(folder / "models")
    # Write grids to another folder, since a finished run must not change.
    with Steps(shown=show_progress) as steps, TemporaryDirectory() as cache, one_thread():
        with steps.step("reading cohorts"):
            known = read_run_cohorts(study, folder, base)
            refuse_changed(folder, known, study)
            cohort = read_cohort(cohort_file)
        if not any(cohort.volumes):
            raise UsageError(f"cohort {cohort.name!r} has no volumes", file=cohort_file)
        with steps.counted("volumes") as progress:
            asked = known.with_role("target", cohort)
            asked = StudyCohorts({"target": asked.target})
            grids = with_grids(study, asked, Path(cache), fixed_by="the run", progress=progress)
        cohort = grids.target
        splits = SplitPlan.load(folder / "split_plan.json")
        planned = planned_folds(study, known, splits, tasks_of(study, known), "network")
        fits = _fits([plan for one in planned if one.repeat == 0 for plan in one.plans], store, stage)
        if not fits:
            raise UsageError(f"the run has no stage {stage} with a network on volumes", file=folder / "study.yaml")
        ids = tuple(i for i, image in zip(cohort.ids, cohort.volumes, strict=True) if image)
        made = []
        with steps.counted("embeddings") as progress:
            for i, (fit, parts) in enumerate(fits):
                made.append(_embedded(fit, parts, cohort, ids, known.roles.values()))
                progress(i + 1, len(fits))
    images = {i: image_hash(image) for i, image in zip(cohort.ids, cohort.volumes, strict=True) if image}
    made_of = {
        "study": results.provenance["configuration"],
        "split plan": results.split_hash,
        f"cohort {cohort.name}": cohort.rows_hash(cohort.ids),
        "stage": stage,
        **{f"version {name}": version for name, version in versions().items()},
    }
    notes = (UNUSED,) if is_unused(study, [fit for fit, _ in fits]) else ()
    record = ImageEmbeddings(made_of=made_of, images=images, notes=notes, fits=tuple(made))
    remove_halves(out)
    write_json(out, record)
    return record


def is_unused(study: StudySettings, fits: Iterable[FitResult]) -> bool:
    """Whether one of these networks is of stage 1 and was not used, since nothing of its source is predictable."""
    stage = study.stages.pretrain
    if stage is None or stage.use_if == "always":
        return False
    return any(fit.stage == "pretrain" and not fit.facts.get(PREDICTABLE, 1.0) for fit in fits)


def _fits(plans: Iterable[FitPlan], store: FitStore, stage: str) -> list[tuple[FitResult, Parts]]:
    """Stored fits of one stage with networks on volumes, each once, and the held-out ids of their networks."""
    parts = {
        member.key: member.inner
        for plan in plans
        for member in plan.lineage(without=RANDOM)
        if member.stage == stage and "image" in member.modalities
    }
    return [(stored_fit(store, key), inner) for key, inner in parts.items()]


def _embedded(
    fit: FitResult, parts: Parts, cohort: Cohort, ids: tuple[str, ...], known: Iterable[Cohort]
) -> EmbeddedFit:
    families, participants = kin(known, fit.rows)
    rows = image_embedding(fit, cohort, ids, parts)
    gaps, unit = age_gap(fit, cohort, ids)
    return EmbeddedFit(
        fit=fit.key,
        stage=fit.stage,
        seen=tuple(sorted(fit.rows)),
        families=families,
        participants=participants,
        age_unit=unit,
        embedding={i: tuple(map(float, row)) for i, row in zip(ids, rows, strict=True)},
        gap={i: float(gap) for i, gap in zip(ids, gaps, strict=True) if np.isfinite(gap)},
    )
