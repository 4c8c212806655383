"""Search of one outer fold: one Optuna study, shared by any number of workers."""

from __future__ import annotations

import logging
import warnings
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np

from connectome_tl.errors import DataError, DivergedError, UsageError
from connectome_tl.evaluation.tuning.inner import InnerFolds
from connectome_tl.evaluation.tuning.space import decoded, suggest
from connectome_tl.evaluation.tuning.storage import BEGUN, SET_ASIDE, requeue_lost, surplus
from connectome_tl.evaluation.tuning.watch import STOPPED, Watch
from connectome_tl.plurals import counted
from connectome_tl.provenance import content_hash
from connectome_tl.settings.metrics import METRICS
from connectome_tl.settings.tuning import FoldChoice, TuneSettings

if TYPE_CHECKING:
    from optuna import Study, Trial
    from optuna.storages import RDBStorage
    from optuna.trial import FrozenTrial

Wants = Literal["nothing", "a trial", "to wait"]
_PATIENCE = 20  # allowed number of stopped trials, in addition to ten per requested trial if one was completed


class _SetAside(Exception):
    """The trial is not needed."""


@dataclass(frozen=True, eq=False)
class FoldSearch:
    """Hyperparameter search for one outer fold.

    Attributes:
        name: name of the Optuna study, unique to study, data, splits, space and fold.
        repeat, number: repeat and number of the outer fold. inner: its inner folds. seed: seed of the sampler.
    """

    name: str
    repeat: int
    number: int
    inner: InnerFolds
    tune: TuneSettings
    storage: RDBStorage
    seed: int

    @cached_property
    def study(self) -> Study:
        """The study of Optuna in the storage, created if needed."""
        import optuna

        from connectome_tl.evaluation.tuning.sampler import sampler_of

        directions = ["maximize" if METRICS[metric].sign > 0 else "minimize" for metric in self.inner.metrics]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return optuna.create_study(
                storage=self.storage,
                study_name=self.name,
                directions=directions,
                sampler=sampler_of(self.tune, int(content_hash(self.seed, self.repeat, self.number)[:8], 16)),
                pruner=optuna.pruners.NopPruner(),  # `Watch` decides
                load_if_exists=True,
            )

    @property
    def _prunes(self) -> bool:
        enough = len(self.inner.fold.inner) > 2 or self.tune.prune == "inside"
        return bool(self.tune.prune) and len(self.inner.metrics) == 1 and enough

    def requeue(self, *, all_running: bool = False) -> None:
        """Requeue the trials of workers that have stopped."""
        requeue_lost(self.study, self.storage, all_running=all_running)

    def n_complete(self) -> int:
        """Number of complete trials."""
        return self._counts()["COMPLETE"]

    def wants(self) -> Wants:
        """Whether a worker should run a trial of this fold, or wait for others to finish theirs.

        Raises:
            DataError: nearly all trials end early.
        """
        counts, wanted = self._counts(), self.tune.trials
        if counts["COMPLETE"] >= wanted:
            return "nothing"
        # No trial is stopped by others before one is complete: all of these failed.
        if counts["PRUNED"] > (10 * wanted if counts["COMPLETE"] else 0) + _PATIENCE:
            why = Counter(str(t.user_attrs.get(STOPPED, "pruned")) for t in self.study.get_trials(deepcopy=False))
            raise DataError(
                f"repeat {self.repeat}, fold {self.number}: {counted(counts['PRUNED'], 'trial')} ended early, "
                f"{counts['COMPLETE']} did not",
                got="; ".join(f"{text} ({n})" for text, n in why.most_common(3)),
                remedy="Search a space whose values fit together and in which training does not diverge."
                + (" Or set tune.prune: false." if counts["COMPLETE"] else ""),
            )
        if counts["WAITING"] or sum(counts[state] for state in ("COMPLETE", "RUNNING", "WAITING")) < wanted:
            return "a trial"
        return "to wait"

    def _counts(self) -> Counter[str]:
        return Counter(trial.state.name for trial in self.study.get_trials(deepcopy=False))

    def run_trial(self) -> None:
        """Run a queued trial, or a new one, to completion."""
        ended: list[float | tuple[float, ...]] = []

        def objective(trial: Trial) -> float | tuple[float, ...]:
            ended.append(self._objective(trial))
            return ended[0]

        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self.study.optimize(objective, n_trials=1, catch=(_SetAside,))
        except (ValueError, AssertionError, RuntimeError):
            # Raised by Optuna if another worker has finished this trial.
            if not ended:
                raise
            logging.getLogger("connectome_tl").warning("a trial missed its heartbeats and was queued again")

    def _objective(self, trial: Trial) -> float | tuple[float, ...]:
        from optuna import TrialPruned

        self.storage.record_heartbeat(trial._trial_id)  # before setting the attribute that marks the trial as begun
        trial.set_user_attr(BEGUN, trial.number)
        if surplus(self.study, self.storage.get_trial(trial._trial_id), self.tune.trials):
            trial.set_user_attr(SET_ASIDE, True)
            raise _SetAside
        try:
            study = self.inner.study.with_settings(suggest(trial, self.tune.space))
            found = self.inner.scores(study, self._watch(trial) if self._prunes else None)
        except (UsageError, DivergedError) as error:  # the settings are incompatible, or training diverges
            trial.set_user_attr(STOPPED, str(error)[:200])
            raise TrialPruned(str(error)) from error
        return found[0] if len(found) == 1 else found

    def _watch(self, trial: Trial) -> Watch:
        return Watch(self.study, trial, METRICS[self.inner.metrics[0]].sign, self.tune.prune == "inside")

    def trials(self) -> list[FrozenTrial]:
        """The trials that count: completed and stopped ones, in order."""
        kept = ("COMPLETE", "PRUNED")
        return [trial for trial in self.study.get_trials(deepcopy=False) if trial.state.name in kept]

    def best(self) -> FoldChoice:
        """The best completed trial; of several metrics, the one with the best mean rank."""
        complete = [(at, trial) for at, trial in enumerate(self.trials()) if trial.state.name == "COMPLETE"]
        signs = [METRICS[metric].sign for metric in self.inner.metrics]
        at, trial = complete[best_of(np.array([trial.values for _, trial in complete]) * signs)]
        return FoldChoice(
            repeat=self.repeat,
            fold=self.number,
            trial=at,
            values=tuple(trial.values or ()),
            settings=decoded(trial.params, self.tune.space),
        )


def best_of(values: np.ndarray) -> int:
    """Position of the best row of (n_trials, n_metrics), larger being better.

    The lowest mean rank over the metrics, each among all rows, wins: no other row is better in every metric. Ties
    go to the first metric, then to the earlier row.
    """
    ranks = np.array([(values > row).sum(axis=0).mean() for row in values])
    return min(range(len(values)), key=lambda i: (ranks[i], -values[i, 0], i))
