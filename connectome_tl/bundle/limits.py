"""Limits of use of a model: ranges of its training cohort, compared with a new cohort."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import numpy as np

from connectome_tl.bundle.images import image_flags, image_limits, image_problems
from connectome_tl.bundle.spans import Flag, outward
from connectome_tl.cohort.cohort import Cohort
from connectome_tl.cohort.columns.ages import in_unit
from connectome_tl.cohort.columns.spellings import is_sex, same_category
from connectome_tl.errors import DataError, Problem, raise_all
from connectome_tl.plurals import counted
from connectome_tl.settings.columns import AgeUnit
from connectome_tl.settings.images.volumes import ImageSettings
from connectome_tl.settings.records.bundles import (
    BundleFacts,
    CovariateInput,
    Inputs,
    Limits,
    ShiftRow,
    Span,
    count_text,
)

_MORE_MISSING = 0.1  # share of the regions that all subjects of a cohort may lack beyond the training subjects
_STRANGERS = "Check its unit and processing; if they are right, the model is not for such subjects."


def limits_of(cohort: Cohort, needed: Sequence[str], *, site_names: bool, grid: ImageSettings | None = None) -> Limits:
    """Limits from the subjects of the study.

    Args:
        needed: required covariates. grid: settings of its volumes; None without volumes.
    """
    sites = sorted({str(site) for site in cohort.site if site})
    covariates = []
    for spec in cohort.covariate_specs:
        column = cohort.covariates[spec.column]
        numeric = spec.type == "numeric"
        covariates.append(
            CovariateInput(
                column=spec.column,
                type=spec.type,
                unit=spec.unit,
                needed=spec.column in needed,
                span=outward(column.to_numpy(dtype=float)) if numeric else None,
                levels=() if numeric else tuple(sorted({str(value) for value in column.dropna()})),
            )
        )
    return Limits(
        age=outward(cohort.age) if cohort.age_unit else None,
        age_unit=cohort.age_unit,
        age_reference=cohort.age_reference,
        n_sites=len(sites),
        sites=tuple(sites) if site_names else (),
        density=outward(density(cohort)) if cohort.n_regions else None,
        mean_weight=tuple(span for values in mean_weights(cohort) if (span := outward(values)) is not None),
        most_missing=int((~cohort.node_mask).sum(axis=1).max(initial=0)),
        covariates=tuple(covariates),
        images=None if grid is None else image_limits(cohort, grid),
    )


def density(cohort: Cohort) -> np.ndarray:
    """Share of the possible edges that are not 0 in the first measure, (n_subjects,)."""
    present, there = _edges(cohort)
    return (there[:, 0] & present).sum(axis=1) / np.maximum(present.sum(axis=1), 1)


def mean_weights(cohort: Cohort) -> list[np.ndarray]:
    """Mean edge of each subject, (n_subjects,) per measure."""
    if not cohort.n_regions:
        return []
    present, _ = _edges(cohort)
    first, second = np.triu_indices(cohort.n_regions, 1)
    total = np.maximum(present.sum(axis=1), 1)
    return [
        np.where(present, cohort.weights[:, m][:, first, second], 0.0).sum(axis=1, dtype=float) / total
        for m in range(cohort.n_measures)
    ]


def _edges(cohort: Cohort) -> tuple[np.ndarray, np.ndarray]:
    first, second = np.triu_indices(cohort.n_regions, 1)
    return cohort.node_mask[:, first] & cohort.node_mask[:, second], cohort.weights[:, :, first, second] != 0


def fitted_to(inputs: Inputs, limits: Limits, cohort: Cohort) -> Cohort:
    """The cohort with its regions in the model's order.

    Raises:
        DataError: the model cannot be applied to this cohort; lists all reasons.
    """
    problems: list[Problem] = []
    if inputs.regions:
        problems += _connectome_problems(inputs, cohort)
        if not problems:
            try:
                # Use the coordinates of the model's atlas, independent of the cohort's atlas.
                cohort = replace(cohort.with_regions(inputs.regions), atlas=inputs.atlas)
            except DataError as error:
                problems += error.problems[:5]
    if inputs.image is not None:
        problems += image_problems(inputs.image, cohort, is_alone=inputs.modalities == ("image",))
    specs = {spec.column: spec for spec in cohort.covariate_specs}
    for wanted in limits.covariates:
        spec = specs.get(wanted.column)
        said = f"{wanted.type}{f' in {wanted.unit}' if wanted.unit else ''}"
        if spec is None:
            if wanted.needed:
                what = f"the model needs the covariate {wanted.column!r}"
                problems.append(Problem(what, expected=said, remedy="Add it to `covariates` in cohort.yaml."))
        elif (spec.type, spec.unit) != (wanted.type, wanted.unit) and (wanted.needed or spec.type == wanted.type):
            got = f"{spec.type}{f' in {spec.unit}' if spec.unit else ', without a unit'}"
            remedy = "Convert the column if necessary, and give this type and unit in cohort.yaml."
            what = f"covariate {wanted.column!r} is defined differently"
            problems.append(Problem(what, expected=said, got=got, remedy=remedy))
    if limits.age is not None and not cohort.age_unit:
        unit, since = limits.age_unit, limits.age_reference
        problems.append(
            Problem(
                "the model needs the age at scan",
                expected=f"{limits.age.low:g} to {limits.age.high:g} {unit}, reference {since}",
                remedy=f"Add `age: {{column: COLUMN, unit: {unit}, reference: {since}}}` to cohort.yaml.",
            )
        )
    elif limits.age is not None and cohort.age_reference != limits.age_reference:
        problems.append(
            Problem(
                "ages have another reference",
                expected=limits.age_reference,
                got=cohort.age_reference,
                remedy=f"Give `to: {limits.age_reference}` with the age in cohort.yaml, and gestational_age.",
            )
        )
    raise_all(f"the model cannot be applied to cohort {cohort.name!r}", problems)
    return _with_spellings(limits, cohort)


def _with_spellings(limits: Limits, cohort: Cohort) -> Cohort:
    """The cohort with categories spelled as in the model: case, blanks and words for sexes make no difference."""
    table = cohort.covariates.copy()
    for wanted in limits.covariates:
        if wanted.levels and wanted.column in table.columns:
            sex = is_sex(wanted.column)
            spelled = {same_category(level, sex=sex): level for level in wanted.levels}
            if len(spelled) == len(wanted.levels):
                table[wanted.column] = table[wanted.column].map(
                    lambda value, sex=sex, spelled=spelled: spelled.get(same_category(str(value), sex=sex), value),
                    na_action="ignore",
                )
    return replace(cohort, covariates=table)


def _connectome_problems(inputs: Inputs, cohort: Cohort) -> list[Problem]:
    if not cohort.regions:
        return [Problem("the model needs connectomes", remedy="Add `connectomes` to cohort.yaml.")]
    found = []
    for what, key, expected, got in (
        ("edges are another measure", "connectomes.measure", inputs.measures, cohort.measures),
        ("edges were transformed in another way", "connectomes.transform", inputs.transforms, cohort.edge_transforms),
        ("regional measures are others", "region_features", inputs.region_features, cohort.region_feature_names),
    ):
        if tuple(expected) != tuple(got):
            remedy = f"See {key} in cohort.yaml."
            found.append(
                Problem(what, expected=", ".join(expected) or "none", got=", ".join(got) or "none", remedy=remedy)
            )
    if not set(cohort.regions) <= set(inputs.regions):
        strange = [name for name in cohort.regions if name not in inputs.regions]
        found.append(
            Problem(
                f"{counted(len(strange), 'region is', 'regions are')} not of the model's atlas ({inputs.atlas})",
                expected=f"{counted(len(inputs.regions), 'region')}: {', '.join(inputs.regions[:3])} ...",
                got=", ".join(strange[:3]),
                remedy="Make connectomes of that atlas, or leave the other regions out (connectomes.regions).",
            )
        )
    return found


def flags(facts: BundleFacts, cohort: Cohort) -> list[Flag]:
    """Compare an aligned cohort with each limit."""
    limits = facts.limits
    found: list[Flag] = []

    def add(what: str, span: Span | None, values: np.ndarray, unit: str = "", *, decides: bool = False) -> None:
        if span is None:
            return
        tail = f" {unit}" if unit else ""
        known = values[np.isfinite(values)]
        here = f"{known.min():.4g} to {known.max():.4g}{tail}" if known.size else "unknown"
        outside = ~((values >= span.low) & (values <= span.high))  # unknown values are outside, too
        limit, missing = f"{span.low:g} to {span.high:g}{tail}", np.isnan(values)
        found.append(Flag(what, limit, outside, here, decides, missing=missing))

    age = np.full(cohort.n_subjects, np.nan)
    if limits.age is not None and cohort.age_unit:
        age = in_unit(cohort.age, cast(AgeUnit, cohort.age_unit), cast(AgeUnit, limits.age_unit))
    since = "" if limits.age_reference == "birth" else f"{limits.age_reference} "
    add(f"{since}age", limits.age, age, limits.age_unit, decides=True)
    if facts.inputs.regions:
        add("density", limits.density, density(cohort), decides=True)
        for measure, span, values in zip(facts.inputs.measures, limits.mean_weight, mean_weights(cohort), strict=False):
            add(f"mean {measure}", span, values, decides=True)
        missing = (~cohort.node_mask).sum(axis=1)
        found.append(
            Flag(
                "missing regions",
                f"at most {limits.most_missing}",
                missing > limits.most_missing,
                f"{missing.min(initial=cohort.n_regions)} to {missing.max(initial=0)}",
                bool((missing > limits.most_missing + _MORE_MISSING * cohort.n_regions).all()),
            )
        )
    if limits.images is not None and facts.inputs.image is not None:
        found += image_flags(limits.images, cohort, facts.inputs.image.grid)
    for wanted in limits.covariates:
        if wanted.column not in cohort.covariates.columns:
            continue
        column = cohort.covariates[wanted.column]
        decides = wanted.needed and bool(column.notna().any())  # values that are all missing are imputed
        if wanted.span is not None and wanted.type == "numeric":
            add(wanted.column, wanted.span, column.to_numpy(dtype=float), wanted.unit, decides=decides)
        elif wanted.levels:
            outside = ~column.astype("string").isin(wanted.levels).to_numpy(dtype=bool, na_value=False)
            others = sorted({str(value) for value in column.dropna()} - set(wanted.levels))
            said = ", ".join(others[:4]) or "the same"
            limit, missing = f"one of {', '.join(wanted.levels[:6])}", column.isna().to_numpy(dtype=bool)
            found.append(Flag(wanted.column, limit, outside, said, decides, missing=missing))
    found.append(_sites(limits, cohort))
    return found


def _sites(limits: Limits, cohort: Cohort) -> Flag:
    n_sites = len({str(site) for site in cohort.site if site})
    said = f"{limits.n_sites} site{'' if limits.n_sites == 1 else 's'}" if limits.n_sites else "not declared"
    outside = np.zeros(cohort.n_subjects, dtype=bool)
    if limits.sites:
        said += f": {', '.join(limits.sites)}"
        outside = np.array([str(site) not in limits.sites for site in cohort.site], dtype=bool)
    return Flag("site", said, outside, f"{n_sites} site{'' if n_sites == 1 else 's'}" if n_sites else "not declared")


def refuse_strangers(facts: BundleFacts, cohort: Cohort) -> None:
    """Refuse a cohort without any subject within one of the decisive limits.

    These are age, density, mean weight, head volume, number of regions, and the covariates that the model needs.

    Raises:
        DataError: names the limit; edges, voxels or covariates may have another unit, or subjects another age.
    """
    problems = [
        Problem(f"no subject is within the limits of {one.what}", expected=one.limit, got=one.here, remedy=_STRANGERS)
        for one in flags(facts, cohort)
        if one.decides and one.outside.all() and cohort.n_subjects
    ]
    raise_all(f"the model is not for cohort {cohort.name!r}", problems)


def said_of_each(facts: BundleFacts, cohort: Cohort) -> list[str]:
    """Names of exceeded limits and missing values of each subject, (n_subjects,), or ""."""
    found = flags(facts, cohort)
    return ["; ".join(filter(None, (one.said_of(i) for one in found))) for i in range(cohort.n_subjects)]


def shifts(facts: BundleFacts, cohort: Cohort) -> tuple[ShiftRow, ...]:
    """Each limit with the values of the cohort and the number of subjects outside."""
    return tuple(
        ShiftRow(what=one.what, limit=one.limit, here=one.here, outside=_share(one.outside))
        for one in flags(facts, cohort)
    )


def _share(outside: np.ndarray) -> str:
    n = int(outside.sum())
    return "0" if n == 0 else count_text(n)
