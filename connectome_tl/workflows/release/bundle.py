"""`connectome-tl bundle`: write a model of a finished run as a bundle."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from connectome_tl.arguments import checked_arguments
from connectome_tl.atlas import atlas_names, load_atlas
from connectome_tl.bundle.bundle import files_of, open_bundle
from connectome_tl.bundle.evidence import bundled_tasks
from connectome_tl.bundle.extensions import needed_extensions
from connectome_tl.bundle.folder import CARD, CARD_JSON, FILES, write_folder
from connectome_tl.bundle.images import image_input
from connectome_tl.bundle.limits import limits_of
from connectome_tl.bundle.members import Members
from connectome_tl.bundle.needs import needed_covariates
from connectome_tl.bundle.release import Release
from connectome_tl.bundle.scan import Secrets, refuse_secrets
from connectome_tl.cohort.cohort import Cohort
from connectome_tl.cohort.people import people_of
from connectome_tl.errors import DataError, InternalError
from connectome_tl.provenance import canonical_json, content_hash, versions
from connectome_tl.report.text.model_card import card_json, card_markdown
from connectome_tl.settings.model_table import model_named
from connectome_tl.settings.records.bundles import SMALLEST_COUNT, BundleFacts, FitKind, Inputs, count_text
from connectome_tl.training.fitted_models import MixtureModel
from connectome_tl.training.interface import FittedModel
from connectome_tl.workflows.folder import claim
from connectome_tl.workflows.progress import Steps
from connectome_tl.workflows.release.bundle_fits import (
    SAME,
    FinishedStudy,
    ReleasedFits,
    fits_of,
    fitted_scheme,
    read_finished,
)
from connectome_tl.workflows.study.ledger import reveal

_PACKAGES = ("connectome-tl", "numpy", "scipy", "pandas", "scikit-learn", "torch", "safetensors")


@dataclass(frozen=True)
class BundleOptions:
    """Options of a bundle.

    Attributes:
        model: name of the model. fit: the mean over its fits, or one refit on all subjects.
        site_names: whether names of sites, and parameters of each site, may be released.
        title, authors, licence: entries of the card; an empty title is replaced by that of the study.
    """

    model: str = "full"
    fit: FitKind = "mean"
    site_names: bool = False
    title: str = ""
    authors: str = ""
    licence: str = ""


@checked_arguments
def bundle_run(
    run_dir: str | Path,
    out: str | Path,
    options: BundleOptions | None = None,
    *,
    base: str | Path | None = None,
    show_progress: bool = False,
) -> Path:
    """Create a bundle of one model of a finished run.

    Before it is written, all contents are searched for ids, paths and dates, and the bundle is opened in a temporary
    folder, where its predictions are compared with those of the fits (tolerance 1e-6).

    Args:
        base: folder that the cohort paths of study.yaml are relative to; the run folder by default.

    Raises:
        MissingInputError: the run or a cohort does not exist. UsageError: the study has no such model.
        DataError: a part of the model cannot be released, or the data of the run have changed.
    """
    wanted = options or BundleOptions()
    with Steps(shown=show_progress) as steps:
        with steps.step("reading the run and its cohorts"):
            study = read_finished(Path(run_dir), base)
        scheme = fitted_scheme(study, wanted.model)
        with claim(study.folder), steps.counted("fits of the model") as progress:
            found = fits_of(study, scheme, wanted.fit, progress)
        reveal(study.folder, "bundle", study.record)
        with steps.step("selecting, scanning and testing the bundle"):
            release = Release(study.cohorts.by_name(), wanted.site_names)
            members = Members(tuple(release.model(model) for model in found.models), study.tasks)
            facts = _facts(study, wanted, found, members)
            files = files_of(members, facts)
            files[CARD] = card_markdown(facts).encode()
            files[CARD_JSON] = (canonical_json(card_json(facts), indent=1) + "\n").encode()
            atlas = load_atlas(facts.inputs.atlas).names if facts.inputs.atlas in atlas_names() else ()
            public = {*(set(atlas) & set(facts.inputs.regions)), facts.inputs.atlas_sha256}
            secrets = Secrets.of(study.cohorts.roles.values(), site_names=wanted.site_names, public=public)
            refuse_secrets(
                {name: files[name] for name in FILES},
                secrets,
                "the bundle",
                "Rename these items in cohort.yaml or study.yaml and run again, or give another --title; names "
                "of sites may be released with --site-names",
            )
            with tempfile.TemporaryDirectory() as scratch:  # an older bundle stays if a check fails
                write_folder(Path(scratch), files)
                _check_same(found.models, study, Path(scratch), wanted)
            write_folder(Path(out), files)
    return Path(out)


def _facts(study: FinishedStudy, options: BundleOptions, found: ReleasedFits, members: Members) -> BundleFacts:
    target, settings = study.cohorts.target, study.settings
    _refuse_few(study)
    people = people_of(target)
    needed = needed_covariates(members)
    modalities = tuple(dict.fromkeys(name for features in members.features() for name in features.steps))
    sees_brain = "connectome" in modalities
    inputs = Inputs(
        regions=target.regions if sees_brain else (),
        atlas=target.atlas if sees_brain else "",
        atlas_sha256=_atlas_hash(target) if sees_brain else "",
        measures=target.measures if sees_brain else (),
        transforms=target.edge_transforms if sees_brain else (),
        region_features=target.region_feature_names if sees_brain and target.region_features is not None else (),
        modalities=modalities,
        image=image_input(members, target),
    )
    return BundleFacts(
        format_version=1,
        title=options.title or settings.title,
        model=options.model,
        model_label=model_named(options.model).label,
        fit=options.fit,
        n_fits=len(found.models),
        n_without_network=sum(
            isinstance(model, MixtureModel) and not any(model.weights.values()) for model in found.models
        ),
        linear_core=found.linear_core,
        n_subjects=count_text(people.n_subjects),
        n_train=found.n_train,
        noun=people.noun,
        simulated=study.record.simulated,
        exploratory=study.record.exploratory,
        transductive=study.record.transductive,
        inputs=inputs,
        limits=limits_of(
            target if sees_brain else _without_brain(target),
            needed,
            site_names=options.site_names,
            grid=None if inputs.image is None else inputs.image.grid,
        ),
        tasks=bundled_tasks(
            found.predictions,
            study.tasks,
            options.model,
            study.cohorts.target.families,
            kfold=settings.splits.scheme == "kfold",
            n_labelled=settings.splits.n_labelled,
            n_subjects=people.n_subjects,
        ),
        authors=options.authors,
        licence=options.licence,
        versions=versions(_PACKAGES),
        extensions=needed_extensions(members),
    )


def _without_brain(cohort: Cohort) -> Cohort:
    n = cohort.n_subjects
    return replace(
        cohort,
        regions=(),
        measures=(),
        weights=np.zeros((n, 0, 0, 0), dtype=np.float32),
        node_mask=np.zeros((n, 0), dtype=bool),
        region_features=None,
        region_feature_names=(),
    )


def _refuse_few(study: FinishedStudy) -> None:
    target = study.cohorts.target
    for task in study.tasks:
        for _, _, fold in study.splits.folds():
            known = int(target.targets.loc[list(fold.train), task.name].notna().sum())
            if known < SMALLEST_COUNT:
                raise DataError(
                    f"{task.name}: a fit with so few known outcomes cannot be released",
                    expected=f"{SMALLEST_COUNT} or more in every training fold",
                    got=str(known),
                    remedy="Use fewer folds, or leave the outcome out.",
                )


def _atlas_hash(cohort: Cohort) -> str:
    if cohort.atlas in atlas_names():
        return content_hash(load_atlas(cohort.atlas).table())
    return content_hash(list(cohort.regions))


def _check_same(models: Sequence[FittedModel], study: FinishedStudy, out: Path, options: BundleOptions) -> None:
    """Check that the bundle predicts like the fits, for subjects of a new site (or of known sites, if named)."""
    cohort = study.cohorts.target
    if not options.site_names:
        cohort = replace(cohort, site=np.full(cohort.n_subjects, "a site that no cohort has", dtype=object))
    before = Members(tuple(models), study.tasks).predict(cohort, cohort.ids)
    opened = open_bundle(out)
    brain = bool(opened.facts.inputs.regions)
    after = opened.predict(cohort if brain else replace(cohort, regions=cohort.regions))
    far = np.abs(after - before) / np.maximum(1.0, np.abs(before))
    if not (far <= SAME).all():
        raise InternalError(
            "the bundle does not reproduce the predictions of its fits", got=f"{np.nanmax(far):.3g} apart"
        )
