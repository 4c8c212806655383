"""Table of models: names, labels, colours, roles and the question that each answers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from connectome_tl.errors import UsageError
from connectome_tl.tasks import Form

Role = Literal["full", "control", "baseline"]
Engine = Literal["mixture", "core", "network"]
Listed = Literal["always", "default", "named", "never"]
FULL = "full"
CORE = "core"
UNINFORMED = "prevalence"  # predicts the share or the mean of the training rows
STAGES = {  # titles of the stages of a fit, in the order of tables
    "pretrain": "Stage 1: pretraining",
    "adapt": "Stage 2: adaptation",
    "finetune": "Stage 3: fine-tuning",
    "source": "Closed-form core of the source",
    "core": "Closed-form core of the target",
    "mixture": "Mixture of core and network",
}


@dataclass(frozen=True)
class Scheme:
    """Definition of the full model or a control: engine, stages and inputs of the last stage.

    Attributes:
        permuted: the source's outcomes are permuted, so that stage 1 is uninformative.
        without: omitted modalities. single_task: one fit per outcome.
    """

    name: str
    engine: Engine = "mixture"
    pretrain: bool = True
    adapt: bool = True
    permuted: bool = False
    without: frozenset[str] = frozenset()
    single_task: bool = False


@dataclass(frozen=True)
class ModelSpec:
    """One model of a study.

    Attributes:
        name: as in the prediction table.
        label: as a table or a legend names it.
        colour: hexadecimal; colour-blind safe palette of Okabe & Ito and shades of it.
        role: `full`, a `control` (differs from another model in one respect) or a `baseline`.
        question: question that a comparison with this model answers.
        of: model that this model is compared with.
        subject: part that a control omits, as the subject of a sentence ("Pretraining ..."); empty otherwise.
        words: name in a sentence after "better than".
        stage: whether it is a control of the earlier stages, so that harm is negative transfer.
        listed: whether a study has it always, by default, if named in `controls` or `baselines`, or by other settings.
        scheme: definition; None for a baseline.
        method: description of a baseline without settings, for the methods section.
    """

    name: str
    label: str
    colour: str
    role: Role
    question: str = ""
    of: str = FULL
    subject: str = ""
    words: str = ""
    stage: bool = False
    listed: Listed = "never"
    scheme: Scheme | None = None
    method: str = ""


_TRANSFER = "Transfer (both earlier stages together)"
_PRETRAINING = "Pretraining on the source cohort"
_ADAPTATION = "Adaptation on subjects without outcomes"
_BOTH, _FIRST, _SECOND = (
    "Does transfer help (both earlier stages together)?",
    "Does pretraining on the source cohort help?",
    "Does adaptation on subjects without outcomes help?",
)


def _control(
    scheme: Scheme,
    label: str,
    colour: str,
    question: str,
    subject: str,
    of: str = FULL,
    listed: Listed = "default",
) -> ModelSpec:
    words = label[:1].lower() + label[1:]
    stage = subject in (_TRANSFER, _PRETRAINING, _ADAPTATION)
    return ModelSpec(scheme.name, label, colour, "control", question, of, subject, words, stage, listed, scheme)


def _baseline(
    name: str, label: str, colour: str, words: str, method: str = "", listed: Listed = "default"
) -> ModelSpec:
    question = f"Is it better than {words}?"
    return ModelSpec(name, label, colour, "baseline", question, words=words, listed=listed, method=method)


MODELS: dict[str, ModelSpec] = {
    spec.name: spec
    for spec in (
        ModelSpec(
            "full", "Full model", "#0072B2", "full", words="the full model", listed="always", scheme=Scheme("full")
        ),
        _control(
            Scheme("core", "core"),
            "Closed-form core",
            "#004C77",
            "Does the network add to the closed-form core?",
            "Adding the network to the closed-form core",
            listed="always",
        ),
        _control(
            Scheme("network", "network"),
            "Network alone",
            "#3F9FD6",
            "Does the closed-form core add to the network?",
            "Adding the closed-form core to the network",
            listed="always",
        ),
        _control(Scheme("scratch", pretrain=False, adapt=False), "From scratch", "#D55E00", _BOTH, _TRANSFER),
        _control(
            Scheme("no_pretrain", pretrain=False), "Without stage 1 (pretraining)", "#E69F00", _FIRST, _PRETRAINING
        ),
        _control(Scheme("no_adapt", adapt=False), "Without stage 2 (adaptation)", "#CC79A7", _SECOND, _ADAPTATION),
        _control(
            Scheme("network_scratch", "network", pretrain=False, adapt=False),
            "Network from scratch",
            "#A64A00",
            _BOTH,
            _TRANSFER,
            of="network",
        ),
        _control(
            Scheme("network_no_pretrain", "network", pretrain=False),
            "Network without stage 1",
            "#B57B00",
            _FIRST,
            _PRETRAINING,
            of="network",
        ),
        _control(
            Scheme("network_no_adapt", "network", adapt=False),
            "Network without stage 2",
            "#9E5A80",
            _SECOND,
            _ADAPTATION,
            of="network",
        ),
        _control(
            Scheme("core_scratch", "core", pretrain=False),
            "Core without stage 1",
            "#6B93B0",
            "Do the scores of the source's core help the core?",
            "The scores of the source's core",
            of="core",
        ),
        _control(
            Scheme("core_permuted_source", "core", permuted=True),
            "Core with a permuted source",
            "#9FB7C9",
            "Does the core benefit from the outcomes of the source, and not only from more columns?",
            "Using the true outcomes of the source",
            of="core",
        ),
        _control(
            Scheme("single_task", single_task=True),
            "Single task",
            "#009E73",
            "Does learning the outcomes jointly help?",
            "Learning the outcomes jointly",
        ),
        _control(
            Scheme("no_clinical", without=frozenset({"clinical"})),
            "Without clinical covariates",
            "#56B4E9",
            "Do clinical covariates add to the rest of the model?",
            "Adding clinical covariates to the rest",
        ),
        _control(
            Scheme("no_image", without=frozenset({"image"})),
            "Without images",
            "#7FB069",
            "Do images add to the rest of the model?",
            "Adding images to the rest",
            listed="named",
        ),
        _control(
            Scheme("no_connectome", without=frozenset({"connectome"})),
            "Without the connectome",
            "#A8763E",
            "Does the connectome add to the rest of the model?",
            "Adding the connectome to the rest",
            listed="named",
        ),
        _baseline(
            "clinical_only", "Clinical covariates only", "#332288", "clinical covariates alone", "clinical covariates"
        ),
        _baseline(
            "nuisance_only",
            "Nuisance only",
            "#7A7A7A",
            "nuisance variables alone (age at scan, sex, site, motion)",
            "nuisance variables (age at scan, site, covariates of that role)",
        ),
        _baseline("site_only", "Site only", "#5E6B75", "the site alone", "the site", listed="never"),
        _baseline(
            "ridge", "Ridge on edges", "#8C510A", "ridge on the same edges", "ridge regression on standardised edges"
        ),
        _baseline(
            "linear_all",
            "Linear on everything",
            "#BF812D",
            "a linear model of all inputs",
            "ridge regression on everything the full model sees",
        ),
        _baseline(
            "tangent_ridge",
            "Ridge in tangent space",
            "#6A3D9A",
            "ridge in tangent space",
            "ridge regression in tangent space (Varoquaux et al. 2010, doi:10.1007/978-3-642-15705-9_25)",
        ),
        _baseline("kernel_ridge", "Kernel ridge", "#882255", "kernel ridge on the same edges"),
        _baseline("cpm", "CPM", "#AA4499", "connectome-based predictive modelling"),
        _baseline("elastic_net", "Elastic net", "#117733", "an elastic net on the same edges", listed="named"),
        _baseline("pca_logistic", "PCA and logistic", "#999933", "logistic regression on principal components"),
        _baseline("linear_svm", "Linear SVM", "#661100", "a linear support vector machine on the same edges"),
        _baseline("linear_transfer", "Linear transfer", "#44AA99", "linear transfer from the source cohort"),
        _baseline("meta_matching", "Meta-matching", "#88CCEE", "meta-matching"),
        _baseline(
            "random_encoder",
            "Random encoder",
            "#7B3F61",
            "a linear model on a random, untrained 3D network",
            "ridge regression on the pooled maps of a random 3D ResNet-10 that was not trained",
        ),
        _baseline("volumes", "Volumes", "#5A7D2B", "brain and tissue volumes", "head and tissue volumes"),
        _baseline(
            "quantiles",
            "Quantiles",
            "#2B7D6E",
            "head volume and grey-level quantiles",
            "the volume of the head and quantiles of its grey levels",
        ),
        _baseline(
            "volumes_quantiles",
            "Volumes and quantiles",
            "#1F5B8F",
            "tissue volumes and grey-level quantiles",
            "head and tissue volumes with quantiles of the grey levels",
        ),
        _baseline(
            "pca_gpr",
            "PCA and Gaussian process",
            "#8F5B1F",
            "a Gaussian process on principal components",
            "a Gaussian process on principal components of blocks of voxels",
        ),
        _baseline("two_stage", "Age in two stages", "#B03A67", "an age network in two stages", listed="named"),
        _baseline(
            "synthetic_volumes",
            "With synthetic volumes",
            "#3A7D44",
            "a network on volumes trained with synthetic ones",
            listed="named",
        ),
        _baseline(
            "mixed_volumes",
            "With mixed volumes",
            "#5C8F3A",
            "the same network on volumes trained with mixed ones",
            "a network on volumes, trained as the one with synthetic volumes but with volumes made by mixing voxels",
            listed="named",
        ),
        _baseline(
            "real_volumes",
            "Without synthetic volumes",
            "#7FA98A",
            "the same network on volumes trained without synthetic ones",
            "a network on volumes, trained as the one with synthetic volumes but without them",
            listed="named",
        ),
        _baseline(
            "prevalence", "Prevalence", "#A9A9A9", "the prevalence alone", "the mean or base rate of the training rows"
        ),
    )
}


def register(spec: ModelSpec, *, has_function: bool = False) -> None:
    """Register the model of an extension with its label, colour and question.

    Args:
        has_function: whether the baseline has one (`evaluation.baselines.fixed.register_baseline`).

    Raises:
        UsageError: another model has this name, `of` is not the name of a model, or a study is to list a baseline or
            control without a definition.
    """
    if MODELS.get(spec.name, spec) != spec:
        raise UsageError(f"a model is already called {spec.name!r}", remedy="Choose another name.")
    if spec.of not in MODELS:
        raise UsageError(f"model {spec.name!r} is a control of an unknown model", got=repr(spec.of))
    if spec.listed != "never" and spec.scheme is None and spec.name not in MODELS and not has_function:
        raise UsageError(f"model {spec.name!r} has no function", remedy='Register it with listed="never".')
    MODELS[spec.name] = spec


def register_control(spec: ModelSpec) -> Scheme:
    """Register the control of an extension, which a study has if `controls` names it; returns its definition.

    Raises:
        UsageError: it is no control, has no definition or one of another name, or its name is taken.
    """
    scheme = spec.scheme
    if spec.role != "control" or scheme is None or scheme.name != spec.name:
        raise UsageError(
            f"model {spec.name!r} is no control",
            expected=f'role "control" and a scheme of this name, such as Scheme({spec.name!r}, pretrain=False)',
            got=f"role {spec.role!r}, scheme {None if scheme is None else scheme.name!r}",
        )
    register(replace(spec, listed="named") if spec.listed == "never" else spec)
    return scheme


def listed_models(role: Role, *listed: Listed) -> tuple[str, ...]:
    """Names of the models of a role that a study has always, by default or if named."""
    return tuple(spec.name for spec in MODELS.values() if spec.role == role and spec.listed in listed)


def model_named(name: str) -> ModelSpec:
    """The record of a model; an unregistered model is treated as a baseline."""
    if name in MODELS:
        return MODELS[name]
    words = name.replace("_", " ").strip()
    return ModelSpec(
        name, words[:1].upper() + words[1:], "#44546A", "baseline", f"Is it better than {words}?", words=words
    )


def words_of(name: str, form: Form) -> str:
    """Name of a model in a sentence after "better than", for predictions of this form."""
    if name == UNINFORMED and form == "value":
        return "the mean alone"
    return model_named(name).words


def model_order(name: str) -> int:
    """Position in the table; unregistered models come last."""
    names = list(MODELS)
    return names.index(name) if name in MODELS else len(names)


def in_order(names: set[str]) -> list[str]:
    """Names in the order of the table."""
    return sorted(names, key=lambda name: (model_order(name), name))
