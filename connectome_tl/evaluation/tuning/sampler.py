"""Optuna sampler whose draws depend only on the seed and the earlier trials.

Optuna's samplers draw from one stream: a resumed study would repeat its first draws, and two workers with the same seed
would try the same settings. Here, the seed of a trial depends on its position among the trials that were not lost, so
that an interrupted search gives the same result as an uninterrupted one. Abandoned trials keep their position, so that
the next trial tries other settings.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

from optuna import Study
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState

from connectome_tl.evaluation.tuning.storage import given_up
from connectome_tl.provenance import content_hash
from connectome_tl.settings.tuning import TuneSettings


class PlacedSampler(BaseSampler):
    """Wrapper that creates a sampler for each trial, seeded by the trial's position."""

    def __init__(self, make: Callable[[int], BaseSampler], seed: int) -> None:
        self._make, self._seed = make, seed
        self._inner, self._place = make(seed), 0

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        earlier = study.get_trials(deepcopy=False)
        kept = [one for one in earlier if one.state != TrialState.FAIL or given_up(one)]
        self._place = sum(one.number < trial.number for one in kept)
        self._inner = self._make(int(content_hash(self._seed, self._place)[:8], 16))
        self._inner.before_trial(study, trial)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self._inner.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return self._inner.sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        # A repeated trial keeps the parameters that it has drawn, so that a draw must not depend on earlier draws:
        # each parameter has its own seed.
        own = self._make(int(content_hash(self._seed, self._place, param_name)[:8], 16))
        own.before_trial(study, trial)
        return own.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None) -> None:
        self._inner.after_trial(study, trial, state, values)


def sampler_of(tune: TuneSettings, seed: int) -> PlacedSampler:
    """Build the sampler of a study."""

    def make(own: int) -> BaseSampler:
        if tune.sampler == "random":
            return RandomSampler(seed=own)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return TPESampler(seed=own, n_startup_trials=tune.startup)

    return PlacedSampler(make, seed)
