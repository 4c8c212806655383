"""Select what may be released of a fitted model: pooled numbers and weights, no ids, sites or rows.

Every record type that may be released has a rule in one table; types without a rule are refused, so that new feature
steps are not released by accident.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from connectome_tl.cohort.cohort import Cohort
from connectome_tl.errors import DataError
from connectome_tl.features.combat import ComBat
from connectome_tl.features.confounds import ConfoundModel
from connectome_tl.features.edge_selection import ConsensusMask
from connectome_tl.features.gamma_sites import GammaSites
from connectome_tl.features.harmonise import Harmoniser
from connectome_tl.features.modalities import ClinicalSteps, ConnectomeSteps
from connectome_tl.features.scaling import CovariateEncoder, EdgeScaler, RegionScaler, TargetScaler, edge_mask
from connectome_tl.features.steps import Features
from connectome_tl.features.tangent import TangentEdges
from connectome_tl.features.volumes import VolumeSteps
from connectome_tl.settings.encoders import EncoderSettings
from connectome_tl.settings.images.volumes import ImageEncoder
from connectome_tl.settings.model import ModelSettings
from connectome_tl.settings.records.bundles import SMALLEST_COUNT
from connectome_tl.training.closed_form.fitted_core import CoreFit
from connectome_tl.training.core_stage import CoreModel
from connectome_tl.training.fitted_models import MixtureModel, NetworkModel
from connectome_tl.training.interface import FittedModel

REFERENCE_SITE = "reference"


@dataclass(frozen=True, eq=False)
class Release:
    """Prepare the models of one study for release.

    Attributes:
        cohorts: cohorts by role, for the number of subjects behind each statistic.
        site_names: whether names of sites, and parameters of each site, may be released.
    """

    cohorts: Mapping[str, Cohort]
    site_names: bool = False

    def model(self, model: FittedModel) -> FittedModel:
        """The model without private data; its predictions for subjects of new sites are unchanged.

        A mixture whose network has weight 0 for every outcome is reduced to its core.

        Raises:
            DataError: a part cannot be released; the message names it and a remedy.
        """
        if isinstance(model, MixtureModel):
            if not any(model.weights.values()):
                return self.model(model.core)
            return MixtureModel(self.model(model.core), self.model(model.network), dict(model.weights))
        if isinstance(model, CoreModel):
            return replace(
                model,
                features=self.features(model.features),
                tangent=None if model.tangent is None else self.features(model.tangent),
                fit=_core_fit(model.fit),
                source=None if model.source is None else self._core(model.source),
                predictable=None,
            )
        if isinstance(model, NetworkModel):
            targets = TargetScaler(model.targets.mean, model.targets.scale, ())
            settings = _without_weight_files(model.settings)
            return replace(model, features=self.features(model.features), targets=targets, settings=settings)
        raise DataError(f"a model of the type {type(model).__name__} cannot be released in a bundle")

    def _core(self, model: CoreModel) -> CoreModel:
        found = self.model(model)
        assert isinstance(found, CoreModel)
        return found

    def features(self, features: Features) -> Features:
        """Steps without ids, each fitted on at least ten subjects."""
        return Features({name: self._record(steps, self._rows(steps.ids)) for name, steps in features.steps.items()})

    def _rows(self, ids: Sequence[str]) -> Cohort:
        if len(ids) < SMALLEST_COUNT:
            raise DataError(
                "a fit on so few subjects cannot be released: its means are close to their own values",
                expected=f"{SMALLEST_COUNT} training subjects or more",
                got=str(len(ids)),
                remedy="Use fewer folds, or more subjects.",
            )
        for cohort in self.cohorts.values():
            if set(ids) <= set(cohort.ids):
                return cohort.take(ids)
        raise DataError(
            "a feature step was fitted on subjects that are in no cohort of the study",
            remedy="Were the cohorts changed after the run? Run the study again.",
        )

    def _record(self, record: Any, train: Cohort) -> Any:
        rule = RULES.get(type(record), _of_extension)
        return rule(record, train, self)


Rule = Callable[[Any, Cohort, Release], Any]


def _of_extension(record: Any, train: Cohort, release: Release) -> Any:
    """What the record itself releases, by `released()`."""
    del train, release
    rule = getattr(record, "released", None)
    if rule is None:
        raise DataError(
            f"a feature step of the type {type(record).__name__} has no rule for its release",
            remedy="Bundle a model without it (--model), remove the step from study.yaml, or give the class of an "
            "extension a method `released` that returns a copy without ids and rows of subjects.",
        )
    found = rule()
    if type(found) is not type(record) or found.ids:
        raise DataError(f"released() of {type(record).__name__} has to return a copy of it without ids")
    return found


def _connectome(steps: ConnectomeSteps, train: Cohort, release: Release) -> ConnectomeSteps:
    return ConnectomeSteps(
        tuple(release._record(step, train) for step in steps.edge_steps),
        release._record(steps.scaler, train),
        None if steps.regional is None else release._record(steps.regional, train),
        steps.some_absent,
    )


def _clinical(steps: ClinicalSteps, train: Cohort, release: Release) -> ClinicalSteps:
    return ClinicalSteps(release._record(steps.encoder, train))


def _without_ids(record: Any, train: Cohort, release: Release) -> Any:
    del train, release
    return replace(record, ids=())


def _edges(scaler: EdgeScaler, train: Cohort, release: Release) -> EdgeScaler:
    del release
    count = edge_mask(train.node_mask).sum(axis=0)
    # Constant edges keep their mean, since networks use edges before scaling.
    few = (count < SMALLEST_COUNT) & (scaler.mean != 0)
    if few.any():
        region = train.regions[int(np.argwhere(few)[0][1])]
        raise DataError(
            f"edges of region {region!r} were learned from fewer than {SMALLEST_COUNT} subjects, and their mean "
            "cannot be released",
            remedy="Leave the region out (connectomes.regions in cohort.yaml), and run again.",
        )
    return replace(scaler, ids=())


def _regional(scaler: RegionScaler, train: Cohort, release: Release) -> RegionScaler:
    del release
    features = train.region_features
    known = np.zeros(scaler.mean.shape, dtype=int)
    if features is not None:
        known = (np.isfinite(features) & train.node_mask[:, :, None]).sum(axis=0)
    used = np.isfinite(scaler.scale)
    if (used & (known < SMALLEST_COUNT)).any():
        region, measure = np.argwhere(used & (known < SMALLEST_COUNT))[0]
        raise DataError(
            f"{train.region_feature_names[measure]} of region {train.regions[region]!r} is known for fewer than "
            f"{SMALLEST_COUNT} training subjects, and its mean cannot be released",
            remedy="Leave the region or the measure out, and run again.",
        )
    return replace(scaler, mean=np.where(used, scaler.mean, 0.0), ids=())


def _covariates(encoder: CovariateEncoder, train: Cohort, release: Release) -> CovariateEncoder:
    del release
    for column in encoder.medians:
        known = int(train.covariates[column].notna().sum())
        if known < SMALLEST_COUNT:
            raise DataError(
                f"covariate {column!r} is known for fewer than {SMALLEST_COUNT} training subjects, and its median "
                "cannot be released",
                remedy="Leave the covariate out of cohort.yaml, and run again.",
            )
    return replace(encoder, mean=np.where(np.isfinite(encoder.scale), encoder.mean, 0.0), ids=())


def _volumes(steps: VolumeSteps, train: Cohort, release: Release) -> VolumeSteps:
    del release
    known = sum(map(bool, train.volumes))
    if known < SMALLEST_COUNT:
        raise DataError(
            f"fewer than {SMALLEST_COUNT} training subjects have a volume, and its means cannot be released",
            remedy="Use fewer folds, or bundle a model without volumes (--model no_image).",
        )
    return replace(
        steps,
        mean=np.where(np.isfinite(steps.scale), steps.mean, 0.0),
        coarse_mean=np.where(np.isfinite(steps.coarse_scale), steps.coarse_mean, 0.0),
        ids=(),
    )


def _without_weight_files(settings: ModelSettings) -> ModelSettings:
    """Encoders without the path of their initial weight file."""

    def bare(encoder: EncoderSettings) -> EncoderSettings:
        if not isinstance(encoder, ImageEncoder):
            return encoder
        return encoder.model_copy(update={"weights": None, "weights_hash": ""})

    others = tuple(bare(one) for one in settings.others)
    return settings.model_copy(update={"encoder": bare(settings.encoder), "others": others})


def _harmoniser(step: Harmoniser, train: Cohort, release: Release) -> Harmoniser:
    """All sites if names may be released, else only the reference site, under another name.

    A new site is unknown to the model in both cases. With the policy `refuse`, no subject could be predicted.
    """
    if not release.site_names and step.unseen == "refuse":
        raise DataError(
            "site effects were fitted with unseen: refuse, so the model could not predict a subject of any new site",
            remedy="Run the study with --set harmonise.unseen=reference (or none), or bundle with --site-names to "
            "predict for the sites of the study only.",
        )
    wanted = step.models[0].sites if release.site_names else (step.reference,)
    counts = {site: int(np.sum([str(one) == site for one in train.site])) for site in wanted}
    few = [site for site, n in counts.items() if n < SMALLEST_COUNT]
    if few:
        raise DataError(
            f"site effects of {len(few)} site{'s' if len(few) > 1 else ''} were fitted on fewer than "
            f"{SMALLEST_COUNT} training subjects and cannot be released",
            remedy="Bundle without --site-names, use fewer folds, or set harmonise.reference to a larger site.",
        )
    names = wanted if release.site_names else (REFERENCE_SITE,)
    models = tuple(_of_sites(model, wanted, names) for model in step.models)
    reference = step.reference if release.site_names else REFERENCE_SITE
    return replace(step, models=models, reference=reference, ids=())


def _of_sites(model: ComBat | GammaSites, wanted: Sequence[str], names: Sequence[str]) -> ComBat | GammaSites:
    at = [model.sites.index(site) for site in wanted]
    if isinstance(model, ComBat):
        return replace(model, sites=tuple(names), gamma=model.gamma[at], delta=model.delta[at])
    # Only the shrunk effects are needed for adjustment.
    nothing = np.zeros((0, model.effect.shape[1]))
    return replace(
        model, sites=tuple(names), effect=model.effect[at], raw=nothing, slopes=nothing, dispersion=np.zeros(0)
    )


def _core_fit(fit: CoreFit) -> CoreFit:
    """Weights and risk models, without outcomes and left-out predictions of the training rows.

    Raises:
        DataError: the fit has a radial kernel, which contains training rows.
    """
    if fit.radial:
        raise DataError(
            f"the closed-form core has a radial kernel on {', '.join(fit.radial)}, which contains training rows",
            remedy="Fit it with linear kernels: run the study with --set core.rbf_from=1000000000.",
        )
    none = np.zeros((0, len(fit.kinds)))
    return replace(fit, left_out=none, steady=none, outcomes=none, sizes=np.zeros(len(fit.kinds), dtype=int))


RULES: dict[type, Rule] = {
    ConnectomeSteps: _connectome,
    ClinicalSteps: _clinical,
    TangentEdges: _without_ids,
    ConfoundModel: _without_ids,
    ConsensusMask: _without_ids,
    Harmoniser: _harmoniser,
    EdgeScaler: _edges,
    RegionScaler: _regional,
    CovariateEncoder: _covariates,
    VolumeSteps: _volumes,
}
