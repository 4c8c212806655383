"""Common interface to explain core, network and mixture: prediction, attributions, occlusion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from connectome_tl.cohort.cohort import Cohort
from connectome_tl.errors import InternalError
from connectome_tl.evaluation.explain.core_view import CoreView
from connectome_tl.evaluation.explain.items import Items
from connectome_tl.evaluation.explain.network_view import NetworkView
from connectome_tl.evaluation.explain.targets import Target, slope_of
from connectome_tl.features.steps import Features
from connectome_tl.training.core_stage import CoreModel
from connectome_tl.training.fitted_models import MixtureModel, NetworkModel
from connectome_tl.training.interface import FittedModel


class Explained(Protocol):
    """A fitted model on some rows."""

    def value(self, target: Target) -> np.ndarray:
        """(n_rows,) the explained number."""
        ...

    def attributions(self, target: Target) -> np.ndarray:
        """(n_rows, n_items) integrated gradients, in the order of `Places.onto`."""
        ...

    def occlusions(self, target: Target) -> np.ndarray:
        """Decrease of the explained number, (n_sets, n_rows), for the sets of `Places.sets`."""
        ...

    def gap(self, target: Target) -> float:
        """Mean absolute completeness error of the latest attributions."""
        ...


@dataclass(frozen=True, eq=False)
class ExplainedCore:
    """The closed-form core."""

    view: CoreView

    def value(self, target: Target) -> np.ndarray:
        fit, column = self.view.model.fit, target.column
        score = self.view.score(fit)[:, column]
        if not target.is_risk:
            return score
        centre = fit.risks.center[column]
        return np.asarray(fit.risks.intercept[column] + self._slope(target) * (score - centre))

    def attributions(self, target: Target) -> np.ndarray:
        found = self.view.attributions(self.view.model.fit, target.column) * self._slope(target)
        return np.asarray((self.view.onto @ found.T).T)

    def occlusions(self, target: Target) -> np.ndarray:
        return self.view.occlusions(self.view.model.fit)[:, :, target.column] * self._slope(target)

    def gap(self, target: Target) -> float:  # noqa: ARG002 - they are in closed form
        return 0.0

    def _slope(self, target: Target) -> float:
        return slope_of(self.view.model.fit, target.column, is_risk=target.is_risk)


@dataclass(frozen=True, eq=False)
class ExplainedMixture:
    """`(1 - weight) core + weight network` on the explained scale; parts of weight 0 are skipped.

    For classes the log-odds of the parts are mixed; the model itself mixes their probabilities.
    """

    core: ExplainedCore
    network: NetworkView
    weights: dict[str, float]

    def value(self, target: Target) -> np.ndarray:
        return self._mixed(target, "value")

    def attributions(self, target: Target) -> np.ndarray:
        return self._mixed(target, "attributions")

    def occlusions(self, target: Target) -> np.ndarray:
        return self._mixed(target, "occlusions")

    def gap(self, target: Target) -> float:
        return self.weights[target.task.name] * self.network.gap(target)

    def _mixed(self, target: Target, what: str) -> np.ndarray:
        weight = self.weights[target.task.name]
        parts = [
            share * np.asarray(getattr(side, what)(target))
            for share, side in ((1.0 - weight, self.core), (weight, self.network))
            if share > 0
        ]
        return np.sum(parts, axis=0)


def explained(model: FittedModel, cohort: Cohort, ids: Sequence[str], items: Items) -> Explained:
    """A fitted model on these rows.

    Raises:
        InternalError: a kind of model that cannot be explained.
    """
    if isinstance(model, CoreModel):
        return ExplainedCore(CoreView.of(model, cohort, ids, items))
    if isinstance(model, NetworkModel):
        return NetworkView.of(model, cohort, ids, items)
    if (
        isinstance(model, MixtureModel)
        and isinstance(model.core, CoreModel)
        and isinstance(model.network, NetworkModel)
    ):
        core = ExplainedCore(CoreView.of(model.core, cohort, ids, items))
        return ExplainedMixture(core, NetworkView.of(model.network, cohort, ids, items), dict(model.weights))
    raise InternalError(f"no explanation for {type(model).__name__}")


def features_of(model: FittedModel) -> Features:
    """The steps that make a model's features; those of the core, for a mixture."""
    if isinstance(model, MixtureModel):
        return features_of(model.core)
    if isinstance(model, (CoreModel, NetworkModel)):
        return model.features
    raise InternalError(f"no features of {type(model).__name__}")
