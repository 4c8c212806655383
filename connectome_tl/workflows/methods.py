"""The methods paragraph of a run, written from its settings, so that it says what was done."""

from __future__ import annotations

from collections.abc import Sequence

from connectome_tl import __version__
from connectome_tl.settings.study import FlatEncoder, MaskedEdges, StudySettings, Training
from connectome_tl.tasks import Task
from connectome_tl.training.stages import StudyCohorts


def methods_paragraph(settings: StudySettings, cohorts: StudyCohorts, tasks: Sequence[Task]) -> str:
    """Plain sentences for a paper's methods section."""
    target = cohorts.target
    sentences = [
        f"Connectomes of {target.n_subjects} infants ({target.n_regions} regions, {target.atlas}; "
        f"{', '.join(target.measures)}) were used to predict {_listed([task.label for task in tasks])} with "
        f"connectome_tl {__version__}.",
        _encoder(settings),
    ]
    stages = settings.stages
    if stages.pretrain is not None and cohorts.source is not None and settings.source is not None:
        names = settings.source.tasks or [task.name for task in cohorts.source.tasks]
        sentences.append(
            f"Stage 1: supervised pretraining on {cohorts.source.n_subjects} older subjects ({_listed(list(names))}; "
            f"{_training(stages.pretrain.training)})."
        )
    if stages.adapt is not None and cohorts.pool is not None:
        kind = (
            "masked-edge reconstruction"
            if isinstance(stages.adapt.objective, MaskedEdges)
            else ("a denoising autoencoder")
        )
        sight = (
            "with the images of test infants (transductive)"
            if stages.adapt.transductive
            else ("without any infant of the test fold or their family")
        )
        sentences.append(
            f"Stage 2: unsupervised adaptation by {kind} on up to {cohorts.pool.n_subjects} infants without outcomes, "
            f"{sight} ({_training(stages.adapt.training)})."
        )
    sentences.append(
        f"Last stage: joint training on all outcomes, missing ones masked, with clinical covariates where given "
        f"({_training(stages.finetune.training)})."
    )
    if settings.confounds is not None:
        sentences.append(
            f"{_listed(list(settings.confounds.columns))} were regressed out of every edge, fitted on training rows."
        )
    if settings.features.method != "none":
        name = "ComBat" if settings.features.method == "combat" else "a log-link gamma model"
        sentences.append(f"Site effects were removed by {name}, fitted on training rows.")
    sentences.append(_splits(settings))
    sentences.append(_recalibration(settings))
    sentences.append(
        "Scalers, imputation and confound models were fitted on the training rows of each fold. AUC counts pairs of a "
        "positive and a negative infant within one repeat and test fold. A stage is said to help or harm when the 95 % "
        "interval of the paired difference to the model without it excludes 0, to bring no benefit when the interval "
        "lies within .05, and otherwise nothing is concluded."
    )
    return " ".join(sentences)


def _encoder(settings: StudySettings) -> str:
    encoder = settings.model.encoder
    if isinstance(encoder, FlatEncoder):
        widths = ", ".join(str(width) for width in encoder.widths)
        return f"The encoder was a dense network on upper-triangle edges (widths {widths})."
    direct = " beside a linear map of the edges" if encoder.direct else ""
    return (
        f"The encoder was a dense graph network of {encoder.n_layers} layers (width {encoder.width}, "
        f"{encoder.readout} readout){direct}."
    )


def _training(training: Training) -> str:
    batch = f"batches of {training.batch_size}" if training.batch_size else "full batch"
    return f"AdamW, {training.epochs} epochs, learning rate {training.learning_rate:g}, {batch}"


def _recalibration(settings: StudySettings) -> str:
    inner, given = settings.splits.inner, settings.recalibration
    if not inner:
        return (
            "There were no inner folds: calibration is that of the raw risks, and classes are those at the threshold "
            f"{settings.threshold:g} fixed in advance."
        )
    name = "Platt scaling" if given.method == "platt" else "temperature scaling"
    return (
        f"Within each outer training fold, {inner} inner folds gave out-of-fold risks of the training rows; {name} and "
        f"the threshold with a specificity of {given.specificity:g} were fitted on them and applied to the test fold. "
        f"Raw risks are reported beside them, with classes at {settings.threshold:g}."
    )


def _splits(settings: StudySettings) -> str:
    splits, stratum = settings.splits, settings.splits.stratum
    by = f", stratified by {stratum}" if stratum else ""
    if splits.scheme == "site_out":
        return "Each site was held out in turn."
    if splits.scheme == "few_labels":
        return (
            f"In {splits.repeats} draws, {splits.n_labelled} subjects{by} were labelled and the others cut into "
            f"{splits.outer} test parts, each tested once; families stayed on one side."
        )
    return (
        f"Cross-validation had {splits.outer} folds, repeated {splits.repeats} times{by}; families stayed on one side."
    )


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}" if names else "nothing"
