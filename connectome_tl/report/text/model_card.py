"""Model card of a bundle, as Markdown and JSON.

Follows Mitchell et al. 2019 (doi:10.1145/3287560.3287596). The Markdown starts with the metadata block of a
Hugging Face card.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from connectome_tl.report.labels import interval, metric_label, number
from connectome_tl.settings.records.bundles import BundledTask, BundleFacts, ExpectedScore

_MARKUP = re.compile(r"([\\`*_{}\[\]<>#|!])")
_FITS = {
    "mean": "The prediction is the mean over the {n} fits of the cross-validation (every fold, repeat and seed); each "
    "fit was trained on a part of the {noun}.",
    "refit": "The prediction is that of one refit on all {noun} of the study ({n} seed{s}); the scores below are those "
    "of the cross-validation, since no {noun} remain to test the refit.",
}
_CLINICAL = {
    "helps": "better than clinical covariates alone",
    "harms": "worse than clinical covariates alone",
    "no benefit": "no benefit over clinical covariates alone",
    "cannot tell": "unclear whether it is better than clinical covariates alone",
    "not applicable": "not compared with clinical covariates alone",
    "not compared": "not compared with clinical covariates alone",
}


def card_sections(facts: BundleFacts) -> list[dict[str, Any]]:
    """Sections with `title`, `lines` and, for some, a table (`columns`, `rows`)."""
    return [
        {"title": "Model", "lines": _what(facts)},
        {
            "title": "Use",
            "lines": [
                "For research only, not for care. Its predictions must not guide the treatment of a child.",
                "Intended use: external validation, and comparison of groups of subjects within the limits below.",
                "Out of scope: decisions about single subjects; subjects outside the limits; other measures, "
                "atlases, transforms of the edges or contrasts of the volumes (these are refused).",
                "Risks of single subjects are withheld unless the model was better than clinical covariates alone "
                "and the bundle contains a validation on another cohort (`connectome-tl validate`).",
            ],
        },
        {"title": "Expected scores", "lines": _score_lines(facts), **_score_table(facts)},
        {"title": "Limits", "lines": _limit_lines(facts), **_limit_table(facts)},
        {"title": "Calibration", "lines": [_calibration(one) for one in facts.tasks]},
        {"title": "Contents and privacy", "lines": _inside(facts)},
        {"title": "Software versions", "lines": [f"{name} {value}" for name, value in sorted(facts.versions.items())]},
    ]


def card_json(facts: BundleFacts) -> dict[str, Any]:
    """The card as plain JSON."""
    return {
        "title": facts.title,
        "authors": facts.authors or "not stated",
        "licence": facts.licence or "not stated",
        "stamps": _stamps(facts),
        "sections": card_sections(facts),
    }


def card_markdown(facts: BundleFacts) -> str:
    """The card as Markdown; names from the study cannot add markup."""
    out = [
        "---",
        "library_name: connectome-tl",
        "license: other",
        "tags: [connectome, neurodevelopment, research-only]",
        "---",
        f"# {_plain(facts.title)}",
        "",
        *[f"**{stamp}**" for stamp in _stamps(facts)],
        "",
        f"Authors: {_plain(facts.authors or 'not stated')}. Licence: {_plain(facts.licence or 'not stated')}.",
    ]
    for section in card_sections(facts):
        out += ["", f"## {section['title']}", ""]
        out += [f"- {_plain(line)}" for line in section["lines"]]
        if "rows" in section:
            out += ["", *_table(section["columns"], section["rows"])]
    return "\n".join(out) + "\n"


def _stamps(facts: BundleFacts) -> list[str]:
    flags = {
        "Simulated data: no real subjects": facts.simulated,
        "Exploratory: not specified in advance, or scans without the usual corrections": facts.exploratory,
        "Transductive: adaptation used the scans of the tested subjects": facts.transductive,
    }
    return ["Research only, not for care", *(text for text, is_set in flags.items() if is_set)]


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = ["| " + " | ".join(_plain(cell) for cell in row) + " |" for row in (columns, *rows)]
    return [lines[0], "|" + " --- |" * len(columns), *lines[1:]]


def _plain(text: str) -> str:
    return _MARKUP.sub(r"\\\1", " ".join(str(text).split()))


def _what(facts: BundleFacts) -> list[str]:
    fits = _FITS[facts.fit].format(n=facts.n_fits, noun=facts.noun, s="" if facts.n_fits == 1 else "s")
    found = [
        f"{facts.model_label} of a study of {facts.n_subjects} {facts.noun}, for: "
        f"{', '.join(one.task.label for one in facts.tasks)}.",
        fits + f" The smallest training set of a fit had {facts.n_train} {facts.noun}.",
    ]
    if facts.inputs.regions:
        measures = ", ".join(
            measure if transform == "none" else f"{measure} ({transform})"
            for measure, transform in zip(facts.inputs.measures, facts.inputs.transforms, strict=True)
        )
        found.append(
            f"Input: connectomes of {len(facts.inputs.regions)} regions of {facts.inputs.atlas}, edges: {measures}."
        )
    image = facts.inputs.image
    if image is not None:
        contrast = f"contrast {image.contrast or 'not stated'}"
        found.append(f"Input: a volume of each subject, {contrast}. {image.grid.describe()}")
    needed = [one.column for one in facts.limits.covariates if one.needed]
    if needed:
        found.append(f"Input: the covariates {', '.join(needed)}.")
    if facts.extensions:
        parts = [f"the {one.part} of {one.words}" for one in facts.extensions]
        found.append(f"Needs {'extensions' if len(parts) > 1 else 'an extension'} of this package: {', '.join(parts)}.")
    if facts.n_without_network:
        found.append(
            f"In {facts.n_without_network} of {facts.n_fits} fits the network has weight 0, and only the closed-form "
            "core is stored."
        )
    if facts.linear_core:
        found.append(
            "The closed-form core of the study also has radial kernels, which contain training rows. They were "
            "removed, and every fold was refitted and scored without them; this card describes that model."
        )
    return found


def _score_lines(facts: BundleFacts) -> list[str]:
    return [
        "Cross-validated in the study, with 95 % intervals for this procedure on a new cohort of this size. "
        "Expect lower scores on other populations (other sites, ages, scanners).",
        *(f"{one.task.label}: {_CLINICAL[one.against_clinical]}{_difference(one.difference)}." for one in facts.tasks),
    ]


def _difference(found: ExpectedScore | None) -> str:
    if found is None:
        return ""
    return f" ({metric_label(found.metric).label} difference {number(found.value)} {interval(found.low, found.high)})"


def _score_table(facts: BundleFacts) -> dict[str, Any]:
    rows = [
        [
            one.task.label,
            metric_label(score.metric).label,
            number(score.value),
            interval(score.low, score.high) or "n/a",
            one.n + (f" ({one.n_positive} positive)" if one.n_positive else ""),
        ]
        for one in facts.tasks
        for score in one.expected
    ]
    return {"columns": ["Outcome", "Score", "Value", "95 % interval", "n"], "rows": rows}


def _limit_lines(facts: BundleFacts) -> list[str]:
    n, names = facts.limits.n_sites, facts.limits.sites
    sites = f"{n} site{'' if n == 1 else 's'}" if n else "an unknown number of sites (none declared)"
    return [
        f"Trained on data of {sites}{': ' + ', '.join(names) if names else ''}.",
        "Limits are rounded outwards. Subjects outside are flagged; a cohort is refused if none of its subjects is "
        "within the limits of age, density, mean weight or head volume.",
    ]


def _limit_table(facts: BundleFacts) -> dict[str, Any]:
    limits, rows = facts.limits, []

    def add(what: str, span: Any, unit: str = "") -> None:
        if span is not None:
            rows.append([what, f"{span.low:g} to {span.high:g}{' ' + unit if unit else ''}"])

    since = "" if limits.age_reference == "birth" else f" ({limits.age_reference})"
    add(f"age{since}", limits.age, limits.age_unit)
    add("density", limits.density)
    for measure, span in zip(facts.inputs.measures, limits.mean_weight, strict=False):
        add(f"mean {measure}", span)
    if facts.inputs.regions:
        rows.append(["missing regions", f"at most {limits.most_missing}"])
    images = limits.images
    if images is not None:
        add("native voxel edge", images.voxel, "mm")
        add("field of view", images.extent, "mm")
        add("head volume", images.head_ml, "ml")
        rows.append(["volume", "of every subject" if images.all_have_one else "may be absent"])
        if images.stripped != "unknown":
            rows.append(["skull stripping", f"{images.stripped} of the images"])
    for one in limits.covariates:
        add(one.column, one.span, one.unit)
        if one.levels:
            rows.append([one.column, ", ".join(one.levels)])
    return {"columns": ["Of", "Limit"], "rows": rows}


def _calibration(one: BundledTask) -> str:
    known = {score.metric: score for score in one.expected}
    parts = [
        f"{metric_label(name).words} {number(known[name].value)} {interval(known[name].low, known[name].high)}"
        for name in ("calibration_intercept", "calibration_slope")
        if name in known
    ]
    if one.scaling is not None:
        parts.append(
            f"recalibrated risk = sigmoid({one.scaling.intercept:.4g} + {one.scaling.slope:.4g} logit(risk)), from "
            "out-of-fold risks"
        )
    if one.held_from:
        parts.append(f"conformal sets contain the true class for {100 * one.level:.0f} % of subjects of each class")
    elif one.half_width is not None:
        parts.append(f"conformal interval of {100 * one.level:.0f} %: +- {one.half_width:g} {one.task.unit}".strip())
    return f"{one.task.label}: {'; '.join(parts) or 'not available'}."


def _inside(facts: BundleFacts) -> list[str]:
    return [
        "Included: weights, settings, names of regions, means and standard deviations of scalers over all training "
        "subjects (of volumes: on a coarse grid), medians of covariates, the minimum and maximum training value of "
        "regression outcomes, calibration, limits, simulated subjects for the self-test.",
        "Not included: rows of training subjects, their ids, predictions, hashes or dates; paths; counts under 10; "
        + ("names of sites were allowed by the authors." if facts.limits.sites else "names of sites."),
        "Weights are learned from personal data. Anyone who has the data of a subject may be able to infer from the "
        "weights whether the subject took part: consult your ethics board or data owner before sharing.",
    ]
