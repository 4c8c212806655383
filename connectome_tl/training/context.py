"""Data that fitters share: cohorts by role, finished parents, common features."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from connectome_tl.cohort.cohort import Cohort
from connectome_tl.errors import InternalError
from connectome_tl.features.steps import Features, fit_steps
from connectome_tl.provenance import content_hash
from connectome_tl.settings.features import FeatureSettings
from connectome_tl.training.checkpoint import FitResult
from connectome_tl.training.networks.loop import StepHook
from connectome_tl.training.plans import FitPlan

Check = Callable[[FitPlan, int, Mapping[str, float]], None]
"""(plan, number of the checkpoint, held-out loss by outcome); it raises its own exception to stop the fit."""
_CHECK = "held-out loss"


def check_name(number: int, task: str) -> str:
    """Name of the fact that stores a checked loss."""
    return f"{_CHECK} {number} {task}"


def checks_of(result: FitResult) -> dict[int, dict[str, float]]:
    """Held-out losses of a finished fit by checkpoint and outcome."""
    found: dict[int, dict[str, float]] = {}
    for name, value in result.facts.items():
        if name.startswith(f"{_CHECK} "):
            number, _, task = name.removeprefix(f"{_CHECK} ").partition(" ")
            found.setdefault(int(number), {})[task] = value
    return found


@dataclass
class Context:
    """Data of one chunk of fits, in one process.

    Attributes:
        hook: called after every optimiser step. check: called at each checkpoint of the first network of an ensemble.
    """

    cohorts: Mapping[str, Cohort]
    done: Mapping[str, FitResult]
    hook: StepHook | None = None
    check: Check | None = None
    _features: dict[str, Features] = field(default_factory=dict)

    def cohort(self, role: str) -> Cohort:
        """The cohort with this role."""
        if role not in self.cohorts:
            raise InternalError(f"a fit needs the cohort {role!r}")
        return self.cohorts[role]

    def parent(self, plan: FitPlan, name: str) -> FitResult | None:
        """The finished parent of that name, or None."""
        parent = plan.parent(name)
        return None if parent is None else self.done[parent.key]

    def features(self, plan: FitPlan, cohort: Cohort, settings: FeatureSettings | None = None) -> Features:
        """Feature steps fitted on the plan's training rows, cached within the chunk."""
        asked = settings or plan.features
        where = content_hash(plan.train.cohort, plan.train.ids, plan.train.data, asked, plan.modalities)
        if where not in self._features:
            self._features = {**dict(list(self._features.items())[-3:]), where: _fit(cohort, plan, asked)}
        return self._features[where]

    def seen(self, plan: FitPlan) -> frozenset[str]:
        """Ids of the training rows of the plan and of all its parents."""
        parents = (self.done[parent.key].rows for _, parent in plan.parents)
        others = (rows.ids for _, rows in plan.others)
        chosen_by = () if plan.chosen_by is None else plan.chosen_by.ids
        return frozenset().union(plan.train.ids, chosen_by, *parents, *others)


def _fit(cohort: Cohort, plan: FitPlan, settings: FeatureSettings) -> Features:
    return fit_steps(cohort, plan.train.ids, settings, plan.modalities)
