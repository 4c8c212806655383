"""Methods paragraph of a run, derived from its settings and counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from connectome_tl.plurals import counted
from connectome_tl.report.labels import listed
from connectome_tl.report.text.probes import probes_text
from connectome_tl.report.text.training import training_text
from connectome_tl.settings.baselines import describe_baseline
from connectome_tl.settings.metrics import METRICS
from connectome_tl.settings.model_table import model_named
from connectome_tl.settings.records.results import People
from connectome_tl.settings.records.statistics import AdaptationProbe
from connectome_tl.settings.study import StudySettings
from connectome_tl.tasks import Task

SITES_OUT = "was held out in turn"


@dataclass(frozen=True)
class StudyFacts:
    """Facts about a study and its cohorts that the methods section states.

    Attributes:
        version: version of this package.
        people: noun and numbers of subjects and scans, by role of the cohort.
        n_train, n_adapt: smallest and largest number of rows on which a network of the last stage, and of stage 2, is
            trained.
        n_regions, atlas, measures: of the target's connectomes; `n_regions` is 0 without connectomes.
        modalities: inputs of the models. source_tasks: outcomes of stage 1.
        families: whether the target declares families. sites: number of declared sites. stratum: column that folds are
            stratified by; empty if there is none.
        tangent: whether the closed-form core has a block in tangent space. regional: whether it has one of regional
            measures. presence: whether it has one of the presence of a connectome.
        source_scores: whether the core has a block of source scores.
        regressions: whether an outcome of any stage is a regression.
        baselines: names of the fitted baselines. permuted: names of those also fitted to permuted outcomes.
        origins: one sentence per cohort on how its connectomes were made.
        contrasts: contrast of the volumes, by role of the cohort; without cohorts whose contrast is unknown.
        probes: scores of linear probes of the embedding during stage 2.
    """

    version: str
    people: dict[str, People]
    n_train: tuple[int, int]
    n_regions: int
    atlas: str
    measures: tuple[str, ...]
    modalities: tuple[str, ...]
    source_tasks: tuple[str, ...] = ()
    n_adapt: tuple[int, int] = (0, 0)
    families: bool = False
    sites: int = 0
    stratum: str = ""
    tangent: bool = False
    regional: bool = False
    presence: bool = False
    source_scores: bool = False
    baselines: tuple[str, ...] = ()
    probes: tuple[AdaptationProbe, ...] = ()
    permuted: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    contrasts: Mapping[str, str] = field(default_factory=dict)
    regressions: bool = False


def methods_paragraph(settings: StudySettings, facts: StudyFacts, tasks: Sequence[Task]) -> str:
    """Paragraphs for the methods section of a paper: data and model, stages, baselines, evaluation."""
    target = facts.people["target"].text
    what = f"Clinical covariates of {target}"
    if "connectome" in facts.modalities:
        what = (
            f"Connectomes of {target} ({counted(facts.n_regions, 'region')}, {facts.atlas}; "
            f"{', '.join(facts.measures)})"
        )
        what += " and volumes" * _sees_volumes(settings, facts)
    elif _sees_volumes(settings, facts):
        what = f"Volumes of {target}"
    about = f"{what} were used to predict {listed([task.label for task in tasks])} with connectome_tl {facts.version}."
    paragraphs = (
        [about, *facts.origins, *_model(settings, facts, tasks)],
        [*_stages(settings, facts, tasks), *(_volumes(settings, facts) if _sees_volumes(settings, facts) else ())],
        _baselines(settings, facts),
        [
            *_features(settings),
            _splits(settings, facts),
            *_tuning(settings),
            *_learning_curve(settings, facts),
            _recalibration(settings, tasks),
            *_judgement(tasks),
        ],
    )
    return "\n\n".join(" ".join(sentences) for sentences in paragraphs if sentences)


def _model(settings: StudySettings, facts: StudyFacts, tasks: Sequence[Task]) -> list[str]:
    blocks = ["edges"] * ("connectome" in facts.modalities) + ["edges in tangent space"] * facts.tangent
    blocks += ["regional measures"] * facts.regional + ["the presence of a connectome"] * facts.presence
    blocks += ["clinical covariates"] * ("clinical" in facts.modalities)
    volumes = _sees_volumes(settings, facts)
    blocks += ["brain volumes with grey-level quantiles", "coarse voxels"] * volumes
    blocks += [m for m in facts.modalities if m not in ("connectome", "clinical") and not (volumes and m == "image")]
    unpenalised = settings.core.unpenalised if "clinical" in facts.modalities else ()
    free = f", and {listed(list(unpenalised))} without a penalty" if unpenalised else ""
    encoders = [branch.describe() for name, branch in settings.model.branches.items() if name in facts.modalities]
    networks = str(settings.stages.finetune.ensemble.networks)
    if settings.n_seeds > 1:
        networks = f"{settings.n_seeds} ensembles, with different initial weights, of {networks}"
    share = settings.model.modality_dropout
    hiding = f"; each modality was dropped with probability {share:g} during training" if share else ""
    below = settings.core.average_below
    average = "ridge regression on their sum and a non-negative combination of the blocks"
    if below:
        average = (
            "ridge regression on their sum, a non-negative combination of the blocks and, with fewer than "
            f"{counted(below, 'training family')}, an average over the scales of the blocks weighted by restricted "
            "likelihood"
        )
    return [
        "The full model is a weighted mean of two models. The closed-form core is kernel ridge regression with one "
        f"block each for {listed(blocks)}{free}: the mean of {average}.{_curved(settings, facts)} "
        "Penalties and the weights of the combination were chosen on leave-one-family-out predictions of the training "
        "rows.",
        f"The network had {listed(encoders)}, fused by {settings.model.fusion.describe()} of width "
        f"{settings.model.fused_width}{hiding}; "
        f"the predictions of {networks} networks were averaged; {settings.stages.finetune.ensemble.describe()}.",
        *(
            [
                "Predicted values of the network were shrunk towards the mean by the slope of the outcome on held-out "
                "predictions."
            ]
            if "values" in _linear_heads(settings, tasks)
            else []
        ),
        "The weight of the network was chosen per outcome on held-out training rows; it is 0 unless the network "
        "improves on the core by more than one standard error.",
        *_heads_and_embeddings(settings, facts),
    ]


def _curved(settings: StudySettings, facts: StudyFacts) -> str:
    """The kernels of the core that are not linear, if a cohort is large enough for them."""
    core, largest = settings.core, max(one.n_scans for one in facts.people.values())
    quadratic = f"quadratic kernels of {core.quadratic_components} leading components" * (core.quadratic_components > 0)
    found: dict[int, list[str]] = {}
    for least, kernels in ((core.rbf_from, "radial kernels"), (core.quadratic_from, quadratic)):
        if kernels and least <= largest:
            found.setdefault(least, []).append(kernels)
    return "".join(
        f" With at least {counted(least, 'training family')}, the combination also had {listed(kernels)} of each block "
        "but covariates."
        for least, kernels in found.items()
    )


def _linear_heads(settings: StudySettings, tasks: Sequence[Task]) -> list[str]:
    """Outcomes whose heads have a single linear output: values, binary outcomes."""
    values = settings.model.regression.kind == "value" and any(task.form == "value" for task in tasks)
    return ["values"] * values + ["binary outcomes"] * any(task.is_binary for task in tasks)


def _heads_and_embeddings(settings: StudySettings, facts: StudyFacts) -> list[str]:
    said = [settings.model.regression.describe()] if facts.regressions else []
    use = settings.image.embedding
    said += [use.describe()] if use is not None and "image" in facts.modalities else []
    return [sentence for sentence in said if sentence]


def _tuning(settings: StudySettings) -> list[str]:
    tuned = settings.tuned
    if tuned is None:
        return []
    how = {"tpe": "a tree-structured Parzen estimator", "random": "random search"}.get(tuned.sampler, tuned.sampler)
    names = listed([METRICS[metric].words for metric in tuned.objectives])
    return [
        f"For each outer fold, {listed(list(tuned.folds[0].settings))} were chosen by {tuned.trials} completed trials "
        f"of {how} (Optuna), by {names} of {tuned.task} on the inner folds of its training rows; elsewhere in "
        "this section these settings have their values before the search. Controls used the same settings, "
        "baselines those of the study. Permutation tests did not repeat the search."
    ]


def _stages(settings: StudySettings, facts: StudyFacts, tasks: Sequence[Task]) -> list[str]:
    stages, found = settings.stages, []
    noun, inputs = facts.people["target"].noun, facts.modalities
    pretrained = stages.pretrain is not None and "source" in facts.people
    adapted = stages.adapt is not None and "pool" in facts.people
    if stages.pretrain is not None and "source" in facts.people:
        scores = (
            " The core also uses the scores of a core fitted on the same subjects. It is a weighted mean of the fit "
            "without them and of fits in which they replace the data from which they are computed: ridge on all "
            "scores, each score alone, and the score of the outcome itself at slope 1; the weights follow the "
            "leave-one-family-out errors. In its control the source's outcomes are permuted."
            if facts.source_scores
            else ""
        )
        n = facts.people["source"].n_scans
        found.append(
            f"Stage 1: supervised pretraining of the network on {facts.people['source'].text} "
            f"({listed(list(facts.source_tasks))}; "
            f"{training_text(stages.pretrain.training, n, n, modalities=inputs)}).{scores}{_use_if(settings, facts)}"
        )
    if stages.adapt is not None and "pool" in facts.people:
        included = (
            f"including the images of the tested {noun} (transductive)"
            if stages.adapt.transductive
            else f"excluding the tested {noun} and their families"
        )
        found.append(
            f"Stage 2: {'' if stages.adapt.objective.needs_age else 'unsupervised '}adaptation of the network by "
            f"{stages.adapt.objective.describe()} on up to {facts.people['pool'].text} without outcomes, {included} "
            f"({training_text(stages.adapt.training, *facts.n_adapt, modalities=inputs, transfer=pretrained)})."
        )
        found += probes_text(facts.probes)
    last = training_text(
        stages.finetune.training, *facts.n_train, modalities=facts.modalities, transfer=pretrained or adapted
    )
    own = [f"{task.spec.loss} for {task.name}" for task in tasks if task.spec.loss]
    losses = f", by {listed(own)}" if own else ""
    found.append(f"Last stage: joint training on all outcomes, missing ones masked{losses} ({last}).")
    if (pretrained or adapted) and stages.finetune.averages_random(facts.modalities):
        found.append(
            "The networks were averaged with as many from random weights, and those of each control of the earlier "
            "stages with the same ones; per outcome, the ratio of both weights is the square root of the likelihood "
            "ratio of held-out training rows."
        )
    started = _linear_heads(settings, tasks)
    if pretrained and started and "heads" in stages.finetune.carry:
        found.append(
            f"Where stage 1 is used, heads of {listed(started)} that it does not have start as the linear "
            "combination of its heads that predicts the training rows best (ridge regression)."
        )
    if len(found) > 1:
        scaled = "; without an earlier stage they fit their own feature steps" * (stages.finetune.scaling == "parent")
        found.append(
            "Controls without a stage start from the weights of the remaining earlier stage or, if there is none, from "
            f"initial ones, and are otherwise identical, with the same number of steps{scaled}. Learning rates of "
            "parts, frozen parts and penalties on the distance to earlier weights apply only to transferred weights; "
            "others are trained at the full rate."
        )
        if pretrained and adapted and stages.adapt is not None and stages.adapt.objective.source_replay:
            found.append("Where stage 1 is left out or not used, stage 2 is the reconstruction of the pool alone.")
    return found + _only_stage(settings, facts)


def _use_if(settings: StudySettings, facts: StudyFacts) -> str:
    """When the results of stage 1 are used."""
    pretrain = settings.stages.pretrain
    if pretrain is None or pretrain.use_if == "always":
        return ""
    what, single = ("Weights and scores", ", and single scores likewise") if facts.source_scores else ("Weights", "")
    return (
        f" {what} of stage 1 are used only if the closed-form core predicts at least one of the source's "
        f"outcomes in held-out subjects of the source (t >= 3){single}; otherwise models start as without stage 1."
    )


def _only_stage(settings: StudySettings, facts: StudyFacts) -> list[str]:
    """Name the controls that are omitted because a single earlier stage makes them the model from scratch."""
    stages = settings.stages
    one, two = (
        stages.pretrain is not None and "source" in facts.people,
        stages.adapt is not None and "pool" in facts.people,
    )
    if one == two:
        return []
    left_out = {"no_pretrain", "network_no_pretrain"} if one else {"no_adapt", "network_no_adapt"}
    if not left_out & set(settings.controls):
        return []
    missing = "" if "scratch" in settings.controls else ", which is not among the controls of this study"
    return [
        f"Stage {1 if one else 2} is the only earlier stage; the model without it is the model from scratch"
        f"{missing}. It therefore has no control of its own."
    ]


def _baselines(settings: StudySettings, facts: StudyFacts) -> list[str]:
    if not facts.baselines:
        return []
    described = [describe_baseline(name, settings.baseline_settings) for name in facts.baselines]
    text = f"Baselines fitted on the same training rows: {'; '.join(described)}."
    if facts.permuted:
        named = listed([model_named(name).label for name in facts.permuted])
        text += (
            f" {named} were also fitted to {counted(settings.baseline_permutations, 'permutation')} of the "
            "outcomes (first repeat)."
        )
    return [text]


def _sees_volumes(settings: StudySettings, facts: StudyFacts) -> bool:
    return "image" in facts.modalities and settings.model.reads_volumes


def _volumes(settings: StudySettings, facts: StudyFacts) -> list[str]:
    """Volumes and their processing: contrast, grid, intensities, augmentation, mirrored copies, precision."""
    image, augment = settings.image, settings.image.augment
    chances = {
        "flips": augment.flip,
        "small rotations and shifts": augment.affine,
        "bias fields": augment.bias,
        "noise": augment.noise,
        "changes of contrast": augment.gamma,
        "inversions of contrast": augment.invert,
        "random contrasts": augment.contrast,
    }
    used = [name for name, chance in chances.items() if chance]
    found = []
    if facts.contrasts:
        shown = [f"{contrast} in the {role} cohort" for role, contrast in facts.contrasts.items()]
        found.append(f"The contrast of the volumes was {listed(shown)}.")
    found.append(image.describe())
    found += [f"Training volumes were augmented at random by {listed(used)}."] if used else []
    if image.flip_test:
        found.append("Predictions are averaged over each volume and its mirror image.")
    if image.precision == "bf16":
        found.append("The networks on volumes were trained in bfloat16.")
    return found


def _features(settings: StudySettings) -> list[str]:
    found = []
    tangent = settings.edges.projected
    if tangent is not None:
        found.append(
            f"Edges were projected to the tangent space at the {tangent.mean} mean of the training {tangent.values}s."
        )
    if settings.confounds is not None:
        found.append(
            f"{listed(list(settings.confounds.columns))} were regressed out of every edge, fitted on training rows."
        )
    if settings.harmonise.method != "none":
        name = "ComBat" if settings.harmonise.method == "combat" else "a log-link gamma model"
        found.append(f"Site effects were removed by {name}, fitted on training rows.")
    if settings.edges.consensus is not None:
        found.append(f"Only edges present in at least {settings.edges.consensus:.0%} of the training rows were kept.")
    if settings.edges.n_edges is not None:
        found.append(f"Only the {settings.edges.n_edges} edges of highest variance over the training rows were kept.")
    return found


def _recalibration(settings: StudySettings, tasks: Sequence[Task]) -> str:
    inner, given = settings.splits.inner, settings.recalibration
    if not any(task.is_binary for task in tasks):
        return "Scalers and imputation were fitted on the training rows of each fold."
    start = "Scalers and imputation were fitted on the training rows of each fold."
    if not inner:
        return f"{start} Risks were classified at the threshold {settings.threshold:g}, fixed in advance."
    name = "Platt scaling" if given.method == "platt" else "temperature scaling"
    return (
        f"{start} {name} and the threshold with a specificity of {given.specificity:g} were fitted on held-out risks "
        "of the training rows of each outer fold and applied to its test fold. Raw risks are also reported and "
        f"classified at {settings.threshold:g}."
    )


def _splits(settings: StudySettings, facts: StudyFacts) -> str:
    splits = settings.splits
    by = f", stratified by {facts.stratum}" if facts.stratum else ""
    kin = "; members of a family were assigned to the same fold" if facts.families else ""
    if facts.families and splits.families == "ignored":
        kin = "; members of a family were not kept in the same fold (a leak, for demonstration)"
    elif facts.families and splits.scheme == "few_labels":
        kin = "; labelled subjects were of different families, and their relatives were not tested"
    if splits.scheme == "site_out":
        return f"Each of {facts.sites} sites {SITES_OUT}{kin}."
    if splits.scheme == "few_labels":
        return (
            f"In each of {splits.repeats} draws, {splits.n_labelled} labelled subjects{by} were used for training and "
            f"the others were divided into {splits.outer} test folds{kin}."
        )
    times = "" if splits.repeats == 1 else f", repeated {splits.repeats} times"
    return f"Models were evaluated by {splits.outer}-fold cross-validation{times}{by}{kin}."


def _learning_curve(settings: StudySettings, facts: StudyFacts) -> list[str]:
    if not settings.learning_curve:
        return []
    sizes = listed([str(n) for n in settings.learning_curve])
    rows = "scans" if facts.people["target"].rows == "scans" else "subjects"
    return [
        f"For the learning curve, all models were refitted on stratified, nested subsets of {sizes} labelled {rows} "
        "of the training rows of each fold and tested on the same folds."
    ]


def _judgement(tasks: Sequence[Task]) -> list[str]:
    found = []
    if any(task.is_binary for task in tasks):
        found.append("AUC is computed over pairs of a positive and a negative subject within one repeat and test fold.")
    found.append(
        "A stage helps or harms when the 95 % interval of the paired difference to the model without it "
        "excludes 0. It brings no benefit when the interval lies within the margin given with each comparison. "
        "Otherwise, no conclusion is drawn."
    )
    return found
