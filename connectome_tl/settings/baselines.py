"""Settings of the baselines, with their sentences for the methods section."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal

from pydantic import Field

from connectome_tl.settings.base import Settings
from connectome_tl.settings.images.baselines import SynthesisSettings, TwoStageSettings
from connectome_tl.settings.model_table import model_named

Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(gt=0, le=1)]
Count = Annotated[int, Field(ge=1)]


class OneBaseline(Settings):
    """Base of the settings of one baseline."""

    def describe(self) -> str:
        """A noun phrase for the methods section of a report."""
        raise NotImplementedError(f"{type(self).__name__} has no describe()")


class KernelRidgeSettings(OneBaseline):
    """Kernel ridge regression on edges; kernel and penalty minimise the leave-one-family-out error.

    `correlation` is Pearson's correlation between the edges of two subjects; `rbf` is a radial kernel on standardised
    edges whose width is the median distance between training rows.
    """

    kernels: tuple[Literal["correlation", "rbf"], ...] = Field(default=("correlation", "rbf"), min_length=1)

    def describe(self) -> str:
        names = {"correlation": "correlation", "rbf": "radial"}
        kernels = " or ".join(names[kernel] for kernel in self.kernels)
        return (
            f"kernel ridge regression with a {kernels} kernel between subjects' edges, penalty"
            f"{' and kernel' if len(self.kernels) > 1 else ''} chosen by leave-one-family-out cross-validation "
            "(He et al. 2020, doi:10.1016/j.neuroimage.2019.116276)"
        )


class CpmSettings(OneBaseline):
    """Connectome-based predictive modelling (Shen et al. 2017, doi:10.1038/nprot.2016.178).

    Args:
        threshold: edges are selected if the p value of their correlation with the outcome is below this value.
        network: sum of positively correlated edges, of negatively correlated edges, or both sums in one linear model.
    """

    threshold: Annotated[float, Field(gt=0, lt=1)] = 0.01
    network: Literal["both", "positive", "negative"] = "both"

    def describe(self) -> str:
        sums = {
            "both": "the sums of positively and of negatively correlated edges",
            "positive": "the sum of positively correlated edges",
            "negative": "the sum of negatively correlated edges",
        }
        return (
            f"connectome-based predictive modelling, a linear model of {sums[self.network]} (p < {self.threshold:g}; "
            "Shen et al. 2017, doi:10.1038/nprot.2016.178)"
        )


class ElasticNetSettings(OneBaseline):
    """Elastic net on standardised edges (squared error, for a binary outcome too).

    Args:
        l1_ratios: candidate shares of the L1 penalty.
        n_penalties: number of penalties between the smallest one that removes all edges and `smallest` times it.
    """

    l1_ratios: tuple[Share, ...] = Field(default=(0.1, 0.5), min_length=1)
    n_penalties: Count = 12
    smallest: Annotated[float, Field(gt=0, lt=1)] = 0.05

    def describe(self) -> str:
        return (
            "an elastic net on standardised edges, penalty and share of the L1 penalty chosen on five inner folds "
            "(Zou & Hastie 2005, doi:10.1111/j.1467-9868.2005.00503.x)"
        )


class PcaLogisticSettings(OneBaseline):
    """Logistic regression on whitened principal components of standardised edges; binary and graded outcomes only.

    Args:
        components: candidate numbers of components, limited by the number of training rows.
        penalty: L2 penalty, 1 / C in scikit-learn.
    """

    components: tuple[Count, ...] = Field(default=(2, 5, 10, 20), min_length=1)
    penalty: Positive = 1.0

    def describe(self) -> str:
        return "logistic regression on principal components of the edges, their number chosen on five inner folds"


class LinearSvmSettings(OneBaseline):
    """Linear support vector machine on standardised edges, rows scaled to a mean squared length of 1.

    Args:
        costs: candidate values of C.
    """

    costs: tuple[Positive, ...] = Field(default=(0.01, 0.1, 1.0, 10.0, 100.0), min_length=1)

    def describe(self) -> str:
        return (
            "a linear support vector machine on standardised edges, its cost chosen on five inner folds "
            "(Cortes & Vapnik 1995, doi:10.1007/BF00994018)"
        )


class LinearTransferSettings(OneBaseline):
    """Ridge regression towards the weights of a ridge model of the source cohort.

    Args:
        pulls: candidate factors on the source's weights that the target's weights are shrunk towards. If the source
            has no outcome of the same name and kind, the weights of each of its outcomes are tried, with either
            sign, scaled by the standard deviations of both outcomes.
    """

    pulls: tuple[Annotated[float, Field(ge=0)], ...] = Field(default=(0.0, 0.25, 0.5, 0.75, 1.0), min_length=1)

    def describe(self) -> str:
        return (
            "ridge regression towards the weights of a ridge model of the source cohort, pull and penalty chosen by "
            "leave-one-family-out cross-validation"
        )


class MetaMatchingSettings(OneBaseline):
    """Meta-matching: predict source outcomes in the target, and combine the predictions for the target's outcome.

    Args:
        variant: `stacking` (He et al. 2022, doi:10.1038/s41593-022-01059-9) or `fine_tune`, which then fits the
            residuals of the stack on edges.
        form: scaling of the predicted source outcomes. `unit_length` subtracts each subject's mean and scales to
            length 1, as published for dozens of outcomes; `standardised` scales columns; `auto` is `unit_length` for
            ten or more outcomes.
        largest: largest number of source outcomes; those with the smallest error on their own are kept.
        penalties: candidate penalties of the unit-length form, as published.
    """

    variant: Literal["stacking", "fine_tune"] = "stacking"
    form: Literal["auto", "unit_length", "standardised"] = "auto"
    largest: Count = 33
    penalties: tuple[Positive, ...] = Field(default=(5.0, 10.0, 15.0, 20.0), min_length=1)

    def describe(self) -> str:
        after = ", then ridge regression of the residuals on the edges" if self.variant == "fine_tune" else ""
        return (
            "meta-matching, ridge models of all source outcomes whose predictions are stacked on the training rows"
            f"{after} (He et al. 2022, doi:10.1038/s41593-022-01059-9; Chen et al. 2024, doi:10.1162/imag_a_00233)"
        )


class BaselineSettings(Settings):
    """One block per baseline with settings."""

    kernel_ridge: KernelRidgeSettings = KernelRidgeSettings()
    cpm: CpmSettings = CpmSettings()
    elastic_net: ElasticNetSettings = ElasticNetSettings()
    pca_logistic: PcaLogisticSettings = PcaLogisticSettings()
    linear_svm: LinearSvmSettings = LinearSvmSettings()
    linear_transfer: LinearTransferSettings = LinearTransferSettings()
    meta_matching: MetaMatchingSettings = MetaMatchingSettings()
    two_stage: TwoStageSettings = TwoStageSettings()
    synthetic_volumes: SynthesisSettings = SynthesisSettings()


def describe_baseline(name: str, settings: BaselineSettings) -> str:
    """Description of a baseline for the methods section, or its name if there is none."""
    block: object = getattr(settings, name, None)
    describe: Callable[[], str] | None = getattr(block, "describe", None)
    return describe() if describe is not None else model_named(name).method or name.replace("_", " ")
