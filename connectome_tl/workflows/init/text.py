"""Text of the generated cohort.yaml and study.yaml, with comments."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from connectome_tl.cohort.columns.guesses import ColumnGuess, numbers_of
from connectome_tl.cohort.findings import listed
from connectome_tl.plurals import counted
from connectome_tl.workflows.init.look import Seen, age_of, all_of, first_of, span_of

_IMAGE_LINES = (
    "image: {size: 64, voxel: 2.5}                        # grid of 64 x 64 x 64 voxels of 2.5 mm; smaller is faster",
    "model: {encoder: {kind: resnet}}",
    "stages: {pretrain: null, adapt: null}                # remove what source and pool are given for",
    "controls: []",
    "baselines: [prevalence, volumes, quantiles, volumes_quantiles, pca_gpr]",
)
_FEWEST_POSITIVE = 5
_MOST_PATTERNS = 5
_LARGEST_Z, _LARGEST_SCALED = 6.0, 19.0


def cohort_text(seen: Seen, answers: Mapping[str, str], folder: Path) -> str:
    """A commented cohort.yaml."""
    lines = [
        "# Written by `connectome-tl init`: check every line. Paths are relative to this file.",
        "# Check it with: connectome-tl cohort cohort.yaml",
        f"name: {_quoted(seen.table.stem)}",
        f"participants: {_quoted(os.path.relpath(seen.table, folder))}",
        f"id: {_ids(seen)}                    # "
        + ("the ids of the matrices" if seen.is_stack else f"its values occur in the names of the {files_in(seen)}"),
    ]
    lines += _joined_lines(seen, folder)
    age = age_of(seen, answers)
    if age is not None:
        unit = age.unit or answers["age_unit"]
        reference = age.reference or (answers.get("age_reference", "birth") if unit == "weeks" else "birth")
        lines.append(
            f"age: {{column: {_quoted(age.column)}, unit: {unit}, reference: {reference}}}   # {span_of(seen, age)}"
        )
    for meaning in ("site", "family"):
        columns = [one.column for one in all_of(seen, meaning)]
        if columns:
            given = _quoted(columns[0]) if meaning == "site" or len(columns) == 1 else json.dumps(columns)
            said = (
                "rows that share it are kept in one fold"
                if meaning == "family"
                else "permutations are restricted to sites"
            )
            lines.append(f"{meaning}: {given}                 # {said}")
    lines += _covariate_lines(seen) + _outcome_lines(seen, answers) + _unused_lines(seen)
    lines += _volume_lines(seen) if seen.images else _connectome_lines(seen, answers)
    return "\n".join(lines) + "\n"


def _ids(seen: Seen) -> str:
    return f"[{', '.join(map(_quoted, seen.scan_ids))}]" if seen.scan_ids else _quoted(seen.ids)


def _joined_lines(seen: Seen, folder: Path) -> list[str]:
    """How rows of events become one row per subject, and which columns are joined to them."""
    lines = [] if seen.events is None else [f"select: {_quoted(seen.events.select)}   # one row per subject"]
    if seen.joined:
        lines.append("tables:")
    for one in seen.joined:
        keys = {"file": os.path.relpath(one.file or seen.table, folder), "id": one.ids, "select": one.select}
        given = [f"{key}: {_quoted(value)}" for key, value in keys.items() if value]
        lines.append(f"  - {{{', '.join(given)}, columns: [{', '.join(map(_quoted, one.columns))}]}}")
    if seen.events is not None and seen.events.several:
        used = ", ".join(f"{column} ({event})" for column, event in seen.events.several)
        lines.append(f"# values at several events, and the event that is used: {used}")
    return lines


def files_in(seen: Seen) -> str:
    """What the files of the subjects are."""
    return "images" if seen.images else "matrices"


def _volume_lines(seen: Seen) -> list[str]:
    lines = ["", "volumes:", f"  files: {_quoted(seen.pattern)}   # images of {seen.n_matched} of {seen.n_rows} rows"]
    lines += [
        f"  # {'labels' if 'dseg' in other else 'files'}: {_quoted(other)}   # of the same subjects"
        for other in seen.other_patterns[:_MOST_PATTERNS]
    ]
    lines += [f"  contrast: {seen.measure}"] if seen.measure else ["  # contrast: T1w    # T2w, FLAIR, ADC, FA, ..."]
    if seen.n_matched < seen.n_rows:
        lines.append("  missing: allow             # rows without an image are kept; exclude them by `select`")
    return lines


def _connectome_lines(seen: Seen, answers: Mapping[str, str]) -> list[str]:
    lines = [
        "",
        "connectomes:",
        f"  {'stack' if seen.is_stack else 'files'}: {_quoted(seen.pattern)}   "
        f"# matrices of {seen.n_matched} of {seen.n_rows} rows",
    ]
    lines += [f"  rows: {_quoted(seen.rows)}   # ids in the order of the matrices"] if seen.rows else []
    lines += [f"  key: {_quoted(seen.key)}"] if seen.key else []
    lines += [f"  # files: {_quoted(other)}   # of the same subjects" for other in seen.other_patterns[:_MOST_PATTERNS]]
    lines += [f"  format: {_quoted(seen.format)}"] if seen.format != "auto" else []
    lines += [f"  measure: {_quoted(seen.measure)}"] if seen.measure else []
    atlas = answers.get("atlas", seen.atlases[0] if seen.atlases else None)
    if atlas in (None, "numbered"):
        value, how = ("named", "the files name their rows") if seen.named else ("numbered", "rows are called 1, 2, ...")
        lines.append(f"  labels: {value:<18} # {how}; or atlas: NAME (connectome-tl atlas list)")
    else:
        how = (
            "regions are named in the matrices"
            if seen.named
            else f"{counted(seen.n_regions, 'row')} without names, in the order of the atlas"
        )
        lines.append(f"  atlas: {atlas}              # {how}")
    if seen.n_matched < seen.n_rows:
        lines.append("  unmatched: drop            # rows without a matrix are excluded and counted")
    lines.append(f"  transform: {seen.transform}         # none, log1p (counts) or fisher_z (correlations)")
    return lines


def _covariate_lines(seen: Seen) -> list[str]:
    lines = ["", "covariates:                        # must be known by the time of the scan; remove others"]
    used: list[str] = []
    unsure: list[str] = []
    gestational = all_of(seen, "gestational_age")
    for one in (*gestational, *all_of(seen, "covariate")):
        parts = [f"column: {_quoted(one.column)}"]
        if one.levels and (not one.numeric or len(one.levels) == 2):
            parts.append("type: categorical")
        elif one.meaning == "gestational_age":
            parts.append(f"unit: {one.unit or 'weeks'}")
        if one.codes:
            parts.append(_missing(one))
        if one.known_at_birth:
            parts.append("available_at: birth")
        if one.nuisance:
            parts.append("role: nuisance")
        sure = one.known_at_birth or one.nuisance
        (used if sure else unsure).append(f"  {'' if sure else '# '}- {{{', '.join(parts)}}}")
    if unsure:
        unsure = ["  # Remove the # from those known by the time of the scan:", *unsure]
    if not used:
        lines[-1] = "# covariates:                      # known by the time of the scan"
    return lines + used + unsure if used or unsure else []


def _unused_lines(seen: Seen) -> list[str]:
    """Comments on columns that are of no use as they are."""
    dates = [f"{one.column!r} ({one.date})" for one in seen.columns if one.date]
    text = [repr(one.column) for one in seen.columns if one.meaning == "other" and not one.numeric and not one.date]
    lines = [f"# not used, text: {', '.join(text)}"] if text else []
    if dates:
        lines += [
            f"# not used, dates: {', '.join(dates)}",
            "#   an age needs a separate column: the date of the scan minus the date of birth, in one unit",
        ]
    return ["", *lines] if lines else []


def notes_on(seen: Seen) -> list[str]:
    """Important notes for the user: other matrices of the same subjects, and ages that are dates."""
    notes = []
    if seen.other_patterns:
        others = listed(seen.other_patterns, _MOST_PATTERNS)
        notes.append(
            f"the subjects have several {files_in(seen)}: {seen.pattern} was taken, not {others}; --pattern chooses "
            "another"
        )
    if seen.events is not None:
        notes.append("the rows are events: check `select` and `tables` in cohort.yaml")
        if seen.events.n_without:
            notes.append(f"{counted(seen.events.n_without, 'subject')} without a row where {seen.events.select}")
    if seen.joined:
        notes += [
            f"column {one.column!r} is in the same event or table as an outcome, and may be the age at follow-up; if it"
            f" is the age at scan: --answer 'age={one.column}'"
            for one in seen.columns
            if one.meaning == "other" and one.numeric and one.looks_like_age
        ]
    if first_of(seen, "age") is None:
        notes += [
            f"column {one.column!r} holds dates ({one.date}), not ages: add a column with the date of the scan minus "
            f"the date of birth, in one unit"
            for one in seen.columns
            if one.date and one.looks_like_age
        ]
    return notes


def without_outcome(seen: Seen, cohort: Path) -> str:
    """What to do if no column was taken as an outcome."""
    said = "No outcome column was recognised"
    able = [one.column for one in seen.columns if one.readable and one.meaning in ("covariate", "other")]
    if not able:
        return f"{said}: add outcomes to cohort.yaml, then write a study.yaml."
    return (
        f"{said}. If a column is one, delete {cohort} and repeat the command with --answer outcomes=COLUMN "
        f"(columns with numbers or a few values: {listed(able)})."
    )


def _outcome_lines(seen: Seen, answers: Mapping[str, str]) -> list[str]:
    lines: list[str] = []
    status = first_of(seen, "status")
    for one in all_of(seen, "outcome"):
        edition = one.edition or answers.get(f"edition:{one.column}")
        more = f", edition: {_quoted(edition)}" if edition else ""
        column, name = _quoted(one.column), _task_name(one.column)
        if len(one.levels) == 2:
            positive = answers[f"positive:{one.column}"]
            levels = json.dumps(sorted(one.levels, key=lambda level: level == positive), ensure_ascii=False)
            more += f", {_missing(one)}" if one.codes else ""
            lines.append(
                f"  - {{name: {name}, column: {column}, kind: binary, levels: {levels}{more}}}   # negative first"
            )
        elif one.levels and not one.numeric:
            levels = json.dumps(list(one.levels), ensure_ascii=False)
            lines.append(f"  - {{name: {name}, column: {column}, kind: multiclass, levels: {levels}{more}}}")
        elif one.numeric:
            values = numbers_of(seen.cells[one.column])
            unit = one.unit or answers["age_unit"] if one == age_of(seen, answers) else _score_unit(one, values)
            if (
                one.developmental
                and _is_score(values)
                and _FEWEST_POSITIVE <= (values < 85).sum() <= len(values) - _FEWEST_POSITIVE
            ):
                lines.append(
                    f'  - {{name: {name}_below_85, column: {column}, kind: binary, operator: "<", cutoff: 85{more}}}   '
                    f"# {(values < 85).sum()} of {len(values)}"
                )
            lines.append(f"  - {{name: {name}, column: {column}, kind: regression, unit: {unit}{more}}}")
    if not lines:
        return [
            "",
            "# outcomes:                        # none was found",
            "#   - {name: NAME, column: COLUMN, kind: binary, levels: [no, yes]}",
        ]
    if status is not None:
        lines.append(f"  # reasons of missing outcomes: status: {{column: {_quoted(status.column)}, died: missing}}")
    return ["", "outcomes:", *lines]


def _missing(one: ColumnGuess) -> str:
    """The codes for a missing value as a setting of their column."""
    return f"missing: {json.dumps(list(one.codes))}"


def _score_unit(one: ColumnGuess, values: np.ndarray) -> str:
    """The unit of a score: values of both signs are z scores, whole numbers of 1 to 19 are scaled scores."""
    if not one.developmental or not len(values):
        return "points"
    if values.min() < 0 < values.max() and np.abs(values).max() <= _LARGEST_Z:
        return "z"
    is_scaled = values.min() >= 1 and values.max() <= _LARGEST_SCALED and bool((values == np.round(values)).all())
    return "scaled" if is_scaled else "points"


def _task_name(column: str) -> str:
    """The column's name in letters, digits and underscores."""
    name = re.sub(r"[^A-Za-z0-9]+", "_", column).strip("_")
    return name if name[:1].isalpha() else f"outcome_{name}"


def _is_score(values: np.ndarray) -> bool:
    """Standard scores: mean 100, standard deviation 15."""
    return bool(len(values) > 10 and 70 <= values.mean() <= 125 and values.min() >= 35 and values.max() <= 165)


def study_text(seen: Seen) -> str:
    """A commented study.yaml of the target cohort alone."""
    repeats = 5 if seen.n_matched <= 100 and not seen.images else 1
    return "\n".join(
        [
            "# Written by `connectome-tl init`: check every line.",
            "# Run it with: connectome-tl run study.yaml --out results",
            f"title: Outcome from {'the volume' if seen.images else 'the connectome'}",
            "# source: {cohort: older.yaml, tasks: [age, sex]}    # stage 1: older subjects, in another cohort file",
            "# pool: {cohort: neonates.yaml}                      # stage 2: scans without outcomes",
            "target: {cohort: cohort.yaml}",
            *(_IMAGE_LINES if seen.images else ()),
            f"splits: {{repeats: {repeats}, outer: 5, seed: 0}}",
            "permutations: 199",
            "n_jobs: 2                                            # processes; results do not depend on it",
            "",
        ]
    )


def _quoted(text: str) -> str:
    """A text as YAML takes it, in quotes where needed."""
    plain = text.isascii() and text and all(c.isalnum() or c in "_-./{}" for c in text) and text[0] not in "-{"
    word = text.casefold() in {"yes", "no", "true", "false", "null", "on", "off", "y", "n"} or text[:1].isdigit()
    return text if plain and not word else json.dumps(text, ensure_ascii=False)
