"""Fit and apply the feature steps of a cohort: a list of fitted steps per modality.

Networks, the closed-form core, baselines, permutations and explanations obtain their rows here. Every step is fitted on
the given rows only and stores their ids.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from connectome_tl.cohort.cohort import Cohort
from connectome_tl.errors import DataError, UsageError
from connectome_tl.features.arrays import Arrays
from connectome_tl.features.combat import ComBat
from connectome_tl.features.confounds import ConfoundModel
from connectome_tl.features.edge_selection import ConsensusMask
from connectome_tl.features.embeddings import EmbeddingSteps, fit_embedding
from connectome_tl.features.gamma_sites import GammaSites
from connectome_tl.features.harmonise import Harmoniser
from connectome_tl.features.modalities import ClinicalSteps, ConnectomeSteps, fit_clinical, fit_connectome
from connectome_tl.features.scaling import CovariateEncoder, EdgeScaler, RegionScaler
from connectome_tl.features.state import pack, unpack
from connectome_tl.features.tangent import TangentEdges
from connectome_tl.features.volumes import VolumeSteps, fit_volumes
from connectome_tl.settings.features import FeatureSettings


class Steps(Protocol):
    """Interface of the fitted steps of one modality. `ids` are the training rows; `apply` never refits."""

    @property
    def ids(self) -> tuple[str, ...]:
        """The training rows."""
        ...

    def apply(self, cohort: Cohort, ids: Sequence[str]) -> Arrays:
        """Features of these subjects, one row each in this order."""
        ...


Fitter = Callable[[Cohort, Sequence[str], FeatureSettings], Steps | None]
"""Fits the steps of a modality on training rows; None where the cohort does not have the modality."""


def _fit_images(cohort: Cohort, ids: Sequence[str], settings: FeatureSettings) -> Steps | None:
    use = settings.image.embedding
    return fit_volumes(cohort, ids, settings) if use is None else fit_embedding(cohort, ids, use)


MODALITIES: dict[str, Fitter] = {"connectome": fit_connectome, "clinical": fit_clinical, "image": _fit_images}
RECORDS: list[type] = [
    ConnectomeSteps,
    ClinicalSteps,
    TangentEdges,
    Harmoniser,
    ComBat,
    GammaSites,
    ConfoundModel,
    ConsensusMask,
    EdgeScaler,
    RegionScaler,
    CovariateEncoder,
    VolumeSteps,
    EmbeddingSteps,
]


def register_modality(name: str, fitter: Fitter, *records: type) -> None:
    """Register a modality of an extension: the function that fits its steps, and its record types of fitted state.

    Raises:
        UsageError: a record type of another module has the same name, by which stored state names it.
    """
    taken = {kind.__name__: kind.__module__ for kind in RECORDS}
    for kind in records:
        if taken.get(kind.__name__, kind.__module__) != kind.__module__:
            raise UsageError(f"a record of fitted state is already called {kind.__name__}", remedy="Rename the class.")
    MODALITIES[name] = fitter
    RECORDS[:] = [*(one for one in RECORDS if one.__name__ not in {kind.__name__ for kind in records}), *records]


@dataclass(frozen=True, eq=False)
class Rows:
    """Arrays of some subjects by modality."""

    ids: tuple[str, ...]
    arrays: Mapping[str, Arrays]


@dataclass(frozen=True, eq=False)
class Features:
    """Fitted steps by modality, with the ids they were fitted on."""

    steps: Mapping[str, Steps]

    @property
    def ids(self) -> tuple[str, ...]:
        """All ids that any step was fitted on."""
        return tuple(dict.fromkeys(subject for steps in self.steps.values() for subject in steps.ids))

    def rows(self, cohort: Cohort, ids: Sequence[str]) -> Rows:
        """Arrays of these subjects of a cohort with the same regions and measures."""
        return Rows(tuple(ids), {name: steps.apply(cohort, ids) for name, steps in self.steps.items()})

    def with_steps_of(self, parent: Features) -> Features:
        """The steps of a parent fit for its modalities, and these steps for other modalities."""
        return Features({name: parent.steps.get(name, own) for name, own in self.steps.items()})

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """All fitted state as arrays and plain JSON, for checkpoints and leakage tests."""
        arrays: dict[str, np.ndarray] = {}
        # A list, since the order of the modalities matters and JSON sorts keys.
        return arrays, {"modalities": [[name, pack(steps, arrays, name)] for name, steps in self.steps.items()]}

    @staticmethod
    def of(arrays: dict[str, np.ndarray], plain: Mapping[str, Any]) -> Features:
        """The inverse of `state`.

        Raises:
            OutputError: damaged state.
        """
        return Features({name: unpack(steps, arrays, RECORDS) for name, steps in plain["modalities"]})


def fit_steps(cohort: Cohort, ids: Sequence[str], settings: FeatureSettings, modalities: Sequence[str]) -> Features:
    """Fit the steps of these modalities on these rows only.

    Args:
        ids: ids of the training rows. modalities: requested modalities; those that the cohort lacks are omitted.

    Raises:
        DataError: the cohort has none of the modalities.
    """
    found = {name: MODALITIES[name](cohort, ids, settings) for name in modalities}
    steps = {name: fitted for name, fitted in found.items() if fitted is not None}
    if not steps:
        raise DataError(
            f"cohort {cohort.name!r} has nothing to learn from",
            expected=f"one of {', '.join(modalities)}",
            remedy="Give connectomes, volumes or covariates in its cohort.yaml.",
        )
    return Features(steps)
