"""The methods paragraph of a run, written from its settings and counts, so that it says what was done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from connectome_tl.settings.study import StudySettings
from connectome_tl.settings.training import Training
from connectome_tl.tasks import Task


@dataclass(frozen=True)
class StudyFacts:
    """What the methods section needs to know of a study's cohorts.

    Attributes:
        version: of this package.
        noun: what the target's subjects are (infants, children, subjects).
        sizes: subjects by role of the cohort.
        n_train: training rows of a fold, the fewest and the most.
        n_regions, atlas, measures: of the target; no regions without connectomes.
        modalities: what the models see. source_tasks: outcomes of stage 1.
        families: whether the target declares any. sites: number of declared sites.
        tangent: whether the closed-form core has a block in tangent space.
        source_scores: whether the core has a block of source scores.
    """

    version: str
    noun: str
    sizes: dict[str, int]
    n_train: tuple[int, int]
    n_regions: int
    atlas: str
    measures: tuple[str, ...]
    modalities: tuple[str, ...]
    source_tasks: tuple[str, ...] = ()
    families: bool = False
    sites: int = 0
    tangent: bool = False
    source_scores: bool = False


def methods_paragraph(settings: StudySettings, facts: StudyFacts, tasks: Sequence[Task]) -> str:
    """Plain sentences for a paper's methods section."""
    n, noun = facts.sizes["target"], facts.noun
    what = f"Clinical covariates of {n} {noun}"
    if "connectome" in facts.modalities:
        what = f"Connectomes of {n} {noun} ({facts.n_regions} regions, {facts.atlas}; {', '.join(facts.measures)})"
        what += " and volumes" * _sees_volumes(settings, facts)
    elif _sees_volumes(settings, facts):
        what = f"Volumes of {n} {noun}"
    sentences = [
        f"{what} were used to predict {listed([task.label for task in tasks])} with connectome_tl {facts.version}.",
        *_model(settings, facts),
        *_stages(settings, facts),
        *(_volumes(settings) if _sees_volumes(settings, facts) else ()),
        *_features(settings),
        _splits(settings, facts),
        _recalibration(settings, tasks),
        *_judgement(tasks),
    ]
    return " ".join(sentences)


def _model(settings: StudySettings, facts: StudyFacts) -> list[str]:
    blocks = ["edges"] * ("connectome" in facts.modalities) + ["edges in tangent space"] * facts.tangent
    blocks += ["clinical covariates"] * ("clinical" in facts.modalities)
    volumes = _sees_volumes(settings, facts)
    blocks += ["brain volumes with grey-level quantiles", "coarse voxels"] * volumes
    blocks += [m for m in facts.modalities if m not in ("connectome", "clinical") and not (volumes and m == "image")]
    encoders = [branch.describe() for name, branch in settings.model.branches.items() if name in facts.modalities]
    networks = settings.stages.finetune.ensemble.networks
    return [
        "The full model is a weighted mean of two models. The closed-form core is kernel ridge regression with one "
        f"block each for {listed(blocks)}; penalties and the weights of the blocks were chosen by leaving out whole "
        "families of the training rows.",
        f"The network had {listed(encoders)}, fused by a dense layer of width {settings.model.fused_width}; "
        f"{networks} networks were each trained without one part of the training rows, which chose the number of "
        "steps, and averaged.",
        "The weight of the network was chosen per outcome by held-out training rows, and is 0 unless it improves on "
        "the core by more than one standard error.",
    ]


def _stages(settings: StudySettings, facts: StudyFacts) -> list[str]:
    stages, found = settings.stages, []
    images = "image" in facts.modalities
    if stages.pretrain is not None and "source" in facts.sizes:
        scores = (
            " The core takes the scores of a core fitted on the same subjects: that of the outcome itself without a "
            "penalty, others as the mean of fits with and without them. Its control has the source's outcomes permuted."
            if facts.source_scores
            else ""
        )
        n = facts.sizes["source"]
        found.append(
            f"Stage 1: supervised pretraining of the network on {n} subjects ({listed(list(facts.source_tasks))}; "
            f"{training_text(stages.pretrain.training, n, n, images=images)}).{scores}"
        )
    if stages.adapt is not None and "pool" in facts.sizes:
        sight = (
            f"with the images of the tested {facts.noun} (transductive)"
            if stages.adapt.transductive
            else f"without any of the tested {facts.noun} or their family"
        )
        n = facts.sizes["pool"]
        found.append(
            f"Stage 2: unsupervised adaptation of the network by {stages.adapt.objective.describe()} on up to {n} "
            f"subjects without outcomes, {sight} ({training_text(stages.adapt.training, n, n, images=images)})."
        )
    found.append(
        "Last stage: joint training on all outcomes, missing ones masked "
        f"({training_text(stages.finetune.training, *facts.n_train, images=images)})."
    )
    if len(found) > 1:
        found.append(
            "Controls without a stage start from random weights, train all of them at the full rate for the same "
            "number of steps, and differ in nothing else; part rates, frozen parts and pulls apply only to weights "
            "that were taken over."
        )
    return found


def training_text(training: Training, fewest: int, most: int, *, images: bool = False) -> str:
    """How a network was trained on so many rows; `images` says whether it sees volumes."""
    steps = {training.steps_for(n) for n in (fewest, most)}
    sizes = {training.batch_for(n, images=images) for n in (fewest, most)}
    falling = " falling to 0 as a cosine" if training.schedule == "cosine" else ""
    weighted = ", classes weighted by their frequency" if training.class_weights == "balanced" else ""
    return (
        f"AdamW, at most {_range(steps)} steps with batches of {_range(sizes)}, learning rate "
        f"{training.learning_rate:g}{falling}, weight decay {training.weight_decay:g}{weighted}"
    )


def _range(values: set[int]) -> str:
    low, high = min(values), max(values)
    return str(low) if low == high else f"{low} to {high}"


def _sees_volumes(settings: StudySettings, facts: StudyFacts) -> bool:
    return "image" in facts.modalities and settings.model.reads_volumes


def _volumes(settings: StudySettings) -> list[str]:
    """What was done to volumes: grid, grey levels, augmentation, mirror images, arithmetic."""
    image, augment = settings.image, settings.image.augment
    chances = {
        "flips": augment.flip,
        "small rotations and shifts": augment.affine,
        "bias fields": augment.bias,
        "noise": augment.noise,
        "changes of contrast": augment.gamma,
        "inversions of contrast": augment.invert,
    }
    used = [name for name, chance in chances.items() if chance]
    found = [image.describe()]
    found += [f"Training volumes were changed at random by {listed(used)}."] if used else []
    if augment.mixup:
        found.append(f"Pairs of training volumes and their outcomes were mixed (mixup, alpha {augment.mixup:g}).")
    if image.flip_test:
        found.append("Predictions are the mean of those from a volume and from its mirror image.")
    if image.precision == "bf16":
        found.append("The networks on volumes were trained in bfloat16.")
    return found


def _features(settings: StudySettings) -> list[str]:
    found = []
    tangent = settings.edges.tangent
    if tangent is not None:
        found.append(
            f"Edges were displacements in tangent space from the {tangent.mean} mean of the training {tangent.values}s."
        )
    if settings.confounds is not None:
        found.append(
            f"{listed(list(settings.confounds.columns))} were regressed out of every edge, fitted on training rows."
        )
    if settings.harmonise.method != "none":
        name = "ComBat" if settings.harmonise.method == "combat" else "a log-link gamma model"
        found.append(f"Site effects were removed by {name}, fitted on training rows.")
    if settings.edges.consensus is not None:
        found.append(f"Only edges that {settings.edges.consensus:.0%} of the training rows have were kept.")
    if settings.edges.n_edges is not None:
        found.append(f"Only the {settings.edges.n_edges} edges that vary most over the training rows were kept.")
    return found


def _recalibration(settings: StudySettings, tasks: Sequence[Task]) -> str:
    inner, given = settings.splits.inner, settings.recalibration
    if not any(task.is_binary for task in tasks):
        return "Scalers and imputation were fitted on the training rows of each fold."
    start = "Scalers and imputation were fitted on the training rows of each fold."
    if not inner:
        return f"{start} Classes are those at the threshold {settings.threshold:g}, fixed in advance."
    name = "Platt scaling" if given.method == "platt" else "temperature scaling"
    return (
        f"{start} {name} and the threshold with a specificity of {given.specificity:g} were fitted on held-out risks "
        "of the training rows of each outer fold and applied to its test fold. Raw risks are reported beside them, "
        f"with classes at {settings.threshold:g}."
    )


def _splits(settings: StudySettings, facts: StudyFacts) -> str:
    splits, stratum = settings.splits, settings.splits.stratum
    by = f", stratified by {stratum}" if stratum else ""
    kin = "; families stayed on one side" if facts.families else ""
    if splits.scheme == "site_out":
        return f"Each of {facts.sites} sites was held out in turn{kin}."
    if splits.scheme == "few_labels":
        return (
            f"In {splits.repeats} draws, {splits.n_labelled} subjects{by} were labelled and the others cut into "
            f"{splits.outer} test parts, each tested once{kin}."
        )
    times = "once" if splits.repeats == 1 else f"{splits.repeats} times"
    return f"Cross-validation had {splits.outer} folds and was done {times}{by}{kin}."


def _judgement(tasks: Sequence[Task]) -> list[str]:
    found = []
    if any(task.is_binary for task in tasks):
        found.append("AUC counts pairs of a positive and a negative subject within one repeat and test fold.")
    found.append(
        "A stage is said to help or harm when the 95 % interval of the paired difference to the model without it "
        "excludes 0, to bring no benefit when the interval lies within the margin given with each comparison, and "
        "otherwise nothing is concluded."
    )
    return found


def listed(names: Sequence[str]) -> str:
    """`a, b and c`."""
    names = list(names)
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}" if names else "nothing"
