"""Outcome columns: scores, targets, and the reasons for missing targets.

A missing outcome is NaN and has a status, `unknown` if no table states the reason. The user must declare the meaning
of death, untestable and censored scores for a task; if they occur without a declaration, the table is refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from connectome_tl.cohort.columns.categories import answers, outcome_levels
from connectome_tl.cohort.columns.numeric import CODES, read_numbers
from connectome_tl.cohort.findings import Findings
from connectome_tl.cohort.tables.cells import PLAIN, Marks, fold, is_missing, nearest, texts, whole
from connectome_tl.errors import Problem
from connectome_tl.settings.columns import Outcome
from connectome_tl.tasks import Status, kind_named

_WORDS: dict[str, Status] = {
    **dict.fromkeys(("observed", "seen", "assessed", "tested", "complete", "completed"), "observed"),
    **dict.fromkeys(("followed", "followed up", "ok"), "observed"),
    **dict.fromkeys(("lost", "ltfu", "lost to follow up", "lost to fu", "not seen", "withdrawn", "withdrew"), "lost"),
    **dict.fromkeys(("dropout", "drop out", "dropped out", "moved", "moved away"), "lost"),
    **dict.fromkeys(("no show", "dna", "did not attend", "not attended"), "lost"),
    **dict.fromkeys(("untestable", "not testable", "unable", "could not be tested", "unable to test"), "untestable"),
    **dict.fromkeys(("unable to complete", "could not complete", "uncooperative"), "untestable"),
}
# In English, German, French, Spanish, Italian and Dutch.
_DIED = {"died", "dead", "deceased", "death", "demise", "exitus", "expired", "†", "nonsurvivor", "verstorben",
         "gestorben",
         "tot", "tod", "décédé", "décédée", "décès", "deces", "mort", "morte", "fallecido", "fallecida", "muerte",
         "deceduto", "deceduta", "decesso", "overleden", "mortality"}  # fmt: skip
# Such a word alone, or in "neonatal death" and "died (day 3)"; "mother died" is not a death of the child.
_DEATH = re.compile(
    r"(?:(?:neonatal|perinatal|infant|early|late|in hospital) )?"
    rf"(?:{'|'.join(sorted(_DIED))}|non survivor|did not survive)"
    r"(?:[ ,:]*(?:\(.*|[0-9].*|(?:at|on|in|before|after) .*))?"
)
# Words of columns on death that say nothing on the outcome.
_ALIVE = frozenset({"alive", "living", "survived", "survivor", "survival", "lebend", "lebt", "überlebt", "vivant",
                    "vivante", "vivo", "viva", "levend"})  # fmt: skip
_YES, _NO = frozenset({"1", "1.0", *answers("yes")}), frozenset({"0", "0.0", *answers("no")})
_ABOUT_STATUS = ("status", "vital", "follow", "outcome")
_COMPOSITE = (40.0, 160.0)  # range of the Bayley composite scores (mean 100, SD 15)


@dataclass(frozen=True, eq=False)
class OutcomeColumn:
    """One outcome: its column, targets and scores (n_rows,) with NaN, and a status for every row."""

    column: str
    targets: np.ndarray
    scores: np.ndarray
    status: tuple[Status, ...]


def read_outcome(
    table: pd.DataFrame,
    spec: Outcome,
    ids: Sequence[str],
    file: str | Path,
    findings: Findings,
    *,
    marks: Marks = PLAIN,
    codes: Mapping[str, str] | None = None,
) -> OutcomeColumn:
    """Read one outcome; problems are added to `findings`.

    Args:
        codes: names of the codes in its column, from its covariate or the table's dictionary.
    """
    column = table[spec.column]
    levels = {fold(level) for level in spec.levels}
    said = [None if fold(cell) in levels else _word(cell) for cell in column]
    said = [None if word == "observed" else word for word in said]
    cells = column.where(np.array([word is None for word in said], dtype=bool), "")
    scores, bounds = _scores(cells, spec, ids, file, findings, marks, codes)
    targets = spec.task().from_scores(scores)
    _decide(spec, scores, bounds, targets, ids, file, findings)
    absent = np.isnan(targets)
    unread = absent & np.array([cell != "" for cell in texts(cells, marks.missing)], dtype=bool)
    status = _status(table, spec, said, absent, unread, ids, file, findings)
    _check_range(spec, scores, ids, file, findings)
    for state in ("died", "untestable"):
        rows = [i for i, found in enumerate(status) if found == state]
        rule = None if spec.status is None else getattr(spec.status, state)
        if rows and rule is None:
            findings.several(
                [(ids[i], state) for i in rows],
                f"no rule says what {state!r} means for outcome {spec.name!r}",
                file,
                f"Set status: {{column: {_status_column(table, spec) or spec.column}, "
                f"{state}: missing, positive or negative}} for this outcome.",
            )
        if rule in ("positive", "negative"):
            targets[rows] = float(rule == "positive")
    return OutcomeColumn(spec.column, targets, scores, tuple(status))


def _scores(
    cells: pd.Series,
    spec: Outcome,
    ids: Sequence[str],
    file: str | Path,
    findings: Findings,
    marks: Marks,
    codes: Mapping[str, str] | None,
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Scores (n_rows,) and, for censored ones, the sign of the limit."""
    if spec.levels:
        ranks = outcome_levels(cells, spec.name, spec.levels, ids, file, findings, marks=marks, codes=codes)
        return ranks, ("",) * len(cells)
    kind = kind_named(spec.kind)
    if kind.form == "risk" and spec.operator is None:
        values = read_numbers(cells, ids, file, Findings(), marks=marks, censored=spec.censored).values
        known = texts(cells, marks.missing)
        coded = sorted({cell for cell in known if whole(cell) in CODES})
        if coded:
            findings.notes.append(f"{spec.column}: {', '.join(coded)} was read as missing")
        wrong = [
            i
            for i, cell in enumerate(known)
            if cell and values[i] not in (0, 1) and cell not in coded and fold(cell) != "none"
        ]
        findings.several(
            [(ids[i], repr(cells.iloc[i][:60])) for i in wrong],
            f"binary outcome {spec.name!r} holds values other than 0 and 1",
            file,
            "Name the classes, levels: [negative, positive], or give operator and cutoff of a score.",
        )
        return np.where(np.isin(values, [0, 1]), values, np.nan), ("",) * len(cells)
    found = read_numbers(cells, ids, file, findings, marks=marks, unit=spec.unit, censored=spec.censored)
    if kind.valid is not None and spec.operator is None:
        wrong = np.flatnonzero(~(np.isnan(found.values) | kind.valid(found.values))).tolist()
        findings.several(
            [(ids[i], f"{found.values[i]:g}") for i in wrong],
            f"{spec.kind} outcome {spec.name!r} holds {kind.invalid}",
            file,
        )
    return found.values, found.bounds


def _decide(
    spec: Outcome,
    scores: np.ndarray,
    bounds: Sequence[str],
    targets: np.ndarray,
    ids: Sequence[str],
    file: str | Path,
    findings: Findings,
) -> None:
    """Set the classes of censored scores in `targets`, if the limit determines the side of the cut-off."""
    if spec.operator is None or spec.cutoff is None:
        return
    low_is_positive = spec.operator in ("<", "<=")
    open_: list[tuple[str, str]] = []
    for i, bound in enumerate(bounds):
        if not bound or np.isnan(scores[i]):
            continue
        below, limit, cut = bound.startswith("<"), float(scores[i]), float(spec.cutoff)
        without_limit = "=" not in bound
        if below:
            known = limit < cut or (limit == cut and (without_limit or spec.operator in ("<=", ">")))
        else:
            known = limit > cut or (limit == cut and (without_limit or spec.operator in ("<", ">=")))
        targets[i] = float(below == low_is_positive)
        if not known:
            open_.append((ids[i], f"{bound}{limit:g}"))
    findings.several(
        open_,
        f"a censored score does not decide whether outcome {spec.name!r} is {spec.operator} {spec.cutoff:g}",
        file,
        "Set censored: missing for this outcome, or another cutoff.",
    )


def _status(
    table: pd.DataFrame,
    spec: Outcome,
    said: Sequence[Status | None],
    absent: np.ndarray,
    unread: np.ndarray,
    ids: Sequence[str],
    file: str | Path,
    findings: Findings,
) -> list[Status]:
    """The status of each row; `unread` (n_rows,) bool: the score is invalid or censored."""
    derived: list[Status] = ["unknown" if missing else "observed" for missing in absent]
    status = [word or found for word, found in zip(said, derived, strict=True)]
    column = _status_column(table, spec)
    if column in (None, spec.column):  # words among the scores were read with them
        return status
    unknown: list[tuple[str, str]] = []
    against: list[tuple[str, str]] = []
    for i, cell in enumerate(table[column]):
        if is_missing(cell):
            continue
        word = _word(cell, column)
        if _is_alive(cell, column):
            continue
        if word is None:
            unknown.append((ids[i], repr(cell[:60])))
        elif unread[i] and word == "observed":
            continue
        elif (word == "observed") == bool(absent[i]):
            against.append((ids[i], f"status {cell!r} {'without' if absent[i] else 'with'} a value"))
        else:
            status[i] = word
    findings.several(
        unknown,
        f"status column {column!r} holds an unknown word",
        file,
        "Known are observed, lost, died, alive, untestable, and n/a for unknown.",
    )
    findings.several(against, f"outcome {spec.name!r} and its status contradict each other", file)
    return status


def _plain(cell: str) -> str:
    return " ".join(fold(cell).replace("-", " ").split())


def _tokens(column: str) -> set[str]:
    """Words of a column's name; `tot` is a total there."""
    return set(re.split(r"[\W_]+", fold(column))) - {"tot"}


def _word(cell: str, column: str = "") -> Status | None:
    """The status that a cell names; case, hyphens and blanks are ignored.

    Args:
        column: its column, in which yes may mean a death, or no in a column of survival.
    """
    about, said = _tokens(column), _plain(cell)
    if about & _DIED and (said in _YES or ("date" in about and said not in _NO)):
        return "died"
    if about & _ALIVE and said in _NO:
        return "died"
    return "died" if _DEATH.fullmatch(said) else _WORDS.get(said)


def _is_alive(cell: str, column: str) -> bool:
    """Whether a cell says nothing but that the child lives."""
    about, said = _tokens(column), _plain(cell)
    return said in _ALIVE or bool(about & _DIED and said in _NO) or bool(about & _ALIVE and said in _YES)


def _status_column(table: pd.DataFrame, spec: Outcome) -> str | None:
    """The declared status column, else a column that is clearly a status with deaths or untestable subjects."""
    if spec.status is not None:
        return spec.status.column if spec.status.column in table.columns else None
    for name in table.columns:
        about = any(word in name.lower() for word in _ABOUT_STATUS) or _tokens(name) & (_DIED | _ALIVE)
        if name == spec.column or not about:
            continue
        words = [_word(cell, name) for cell in table[name] if not is_missing(cell) and not _is_alive(cell, name)]
        if words and None not in words and any(word in ("died", "untestable") for word in words):
            return str(name)
    return None


def _check_range(spec: Outcome, scores: np.ndarray, ids: Sequence[str], file: str | Path, findings: Findings) -> None:
    said = f"{spec.name} {spec.column} {spec.edition}".lower()
    if not any(word in said for word in ("bayley", "bsid")) or spec.unit == "scaled" or spec.levels:
        return
    if kind_named(spec.kind).form != "value" and spec.operator is None:
        return
    low, high = _COMPOSITE
    outside = np.flatnonzero((scores < low) | (scores > high)).tolist()
    findings.several(
        [(ids[i], f"{scores[i]:g}") for i in outside],
        f"outcome {spec.name!r} is outside the composite range {low:g} to {high:g}",
        file,
        "Scaled scores are declared by unit: scaled; other missing-value codes by missing: [...].",
    )


def missing_columns(spec: Outcome, table: pd.DataFrame, file: str | Path) -> list[Problem]:
    """Columns an outcome names and the table lacks."""
    wanted = [spec.column] + ([spec.status.column] if spec.status is not None else [])
    return [
        Problem(
            f"outcome {spec.name!r} needs column {column!r}, which is missing",
            expected=f"one of {', '.join(table.columns[:30])}",
            file=file,
            remedy=f"Did you mean {' or '.join(near)}?" if (near := nearest(column, table.columns)) else None,
        )
        for column in wanted
        if column not in table.columns
    ]
