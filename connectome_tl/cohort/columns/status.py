"""Reasons for missing outcomes: words and codes in a status column, or in columns that state deaths."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from connectome_tl.cohort.columns.plausible import DAYS
from connectome_tl.cohort.columns.spellings import answers
from connectome_tl.cohort.findings import Findings
from connectome_tl.cohort.tables.cells import fold, is_missing, whole
from connectome_tl.settings.columns import Outcome
from connectome_tl.tasks import Status

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
         "deceduto", "deceduta", "decesso", "overleden", "mortality",
         "morto", "morta", "nnd", "stillborn", "stillbirth", "dod"}  # fmt: skip
# Such a word alone, or in "neonatal death" and "died (day 3)"; "mother died" is not a death of the child.
_DEATH = re.compile(
    r"(?:(?:neonatal|perinatal|infant|early|late|in hospital) )?"
    rf"(?:{'|'.join(sorted(_DIED))}|non survivor|did not survive)"
    r"(?:[ ,:]*(?:\(.*|[0-9].*|(?:at|on|in|before|after|day|dol|age|aged) .*))?"
)
# Words of columns on death that say nothing on the outcome.
_ALIVE = frozenset({"alive", "living", "survived", "survivor", "survival", "lebend", "lebt", "überlebt", "vivant",
                    "vivante", "vivo", "viva", "levend"})  # fmt: skip
_LETTERS = {"a": "alive", "v": "alive", "d": "died"}  # in columns such as vital_status, also vivant, décédé
_RELATIVES = frozenset({"mother", "maternal", "father", "paternal", "parent", "parents", "sibling", "siblings", "twin",
                        "cotwin", "family", "brother", "sister"})  # fmt: skip
_NUMERIC = frozenset({"age", "day", "days", "week", "weeks", "month", "months", "time", "score", "probability", "risk"})
_MOST_CODES = 6
NO_CODES: Mapping[str, Mapping[str, str]] = {}
_YES, _NO = frozenset({"1", "1.0", *answers("yes")}), frozenset({"0", "0.0", *answers("no")})
_ABOUT_STATUS = ("status", "statut", "vital", "follow", "outcome", "reason", "dropout", "drop_out")


def read_status(
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
    column = status_column(table, spec)
    if column is None:
        _ask_who_died(table, spec, absent, ids, file, findings)
    if column in (None, spec.column):  # words among the scores were read with them
        return status
    is_age = spec.status is None and spec.unit in DAYS  # at the scan, which those who died later had, too
    unknown: list[tuple[str, str]] = []
    against: list[tuple[str, str]] = []
    for i, cell in enumerate(table[column]):
        if is_missing(cell):
            continue
        word = status_word(cell, column)
        if _is_alive(cell, column):
            continue
        if word is None:
            unknown.append((ids[i], repr(cell[:60])))
        elif (unread[i] and word == "observed") or (is_age and not absent[i]):
            continue
        elif (word == "observed") == bool(absent[i]):
            against.append((ids[i], f"status {cell!r} {'without' if absent[i] else 'with'} a value"))
        else:
            status[i] = word
    findings.several(
        unknown,
        f"status column {column!r} holds an unknown word",
        file,
        "Known are observed, lost, died, alive, untestable, and n/a for unknown. Others are named by codes: status: "
        f"{{column: {column}, codes: {{{', '.join(f'{cell}: ...' for cell in _cells(unknown))}}}}}.",
    )
    findings.several(
        against,
        f"outcome {spec.name!r} and its status in column {column!r} contradict each other",
        file,
        "Correct one of them."
        if spec.status is not None
        else f"Correct one of them. If {column!r} is about other outcomes, set status: {{column: {spec.column}}} for "
        "this one.",
    )
    return status


def _cells(rows: Iterable[tuple[str, str]]) -> list[str]:
    """The distinct cells of rows (id, cell in quotes)."""
    return list(dict.fromkeys(cell for _, cell in rows))


def with_status_words(table: pd.DataFrame, spec: Outcome, codes: Mapping[str, Mapping[str, str]]) -> pd.DataFrame:
    """The table with words for the codes of columns that may hold a status."""
    named: dict[str, Mapping[str, str]] = {
        name: {code: word for code, word in levels.items() if status_word(word) or fold(word) in _ALIVE | {"unknown"}}
        for name, levels in codes.items()
        if name in table.columns and name != spec.column
    }
    named = {name: levels for name, levels in named.items() if levels}
    if spec.status is not None and spec.status.codes and spec.status.column in table.columns:
        named[spec.status.column] = spec.status.codes
    for name in table.columns:
        if "vital" in name.lower() and name not in named:
            named[name] = _LETTERS
    changed = {}
    for name, levels in named.items():
        words = {whole(fold(code)): word for code, word in levels.items()}
        found = [words.get(whole(fold(cell)), cell) for cell in table[name]]
        changed[name] = pd.Series(["" if fold(cell) == "unknown" else cell for cell in found], table.index, dtype="str")
    return table.assign(**changed) if changed else table


def _ask_who_died(
    table: pd.DataFrame, spec: Outcome, absent: np.ndarray, ids: Sequence[str], file: str | Path, findings: Findings
) -> None:
    """Report a column that names deaths among others, or whose codes may mean death; only if outcomes are missing."""
    if not absent.any():
        return
    for name in table.columns:
        about = _tokens(name)
        cells = [str(cell) for cell in table[name]]
        known = [None if is_missing(cell) else status_word(cell, name) for cell in cells]
        other = [
            not (is_missing(cell) or word or _is_alive(cell, name)) for cell, word in zip(cells, known, strict=True)
        ]
        codes = list(dict.fromkeys(cell for cell, unread in zip(cells, other, strict=True) if unread))
        died = np.array([word == "died" for word in known], dtype=bool)
        words = {fold(cell) for cell in cells}
        open_ = absent & np.array(other)
        lettered = _like_a_status(name, words) and _only_in(np.array([fold(cell) == "d" for cell in cells]), absent)
        coded = open_.any() and len(words) <= _MOST_CODES and (_about_death(name) or lettered)
        named_deaths = _only_in(died, absent)
        coded |= len(words) <= _MOST_CODES and _about_status(name) and _tells_apart(cells, absent)
        if name == spec.column or about & (_RELATIVES | _NUMERIC) or not (coded or named_deaths):
            continue
        rows = np.flatnonzero(died if died.any() else open_)
        findings.several(
            [(ids[i], repr(cells[i][:60])) for i in rows.tolist()],
            f"column {name!r} may say who died, and outcome {spec.name!r} is missing there",
            file,
            _to_name(name, codes),
        )
        return


def _only_in(rows: np.ndarray, absent: np.ndarray) -> bool:
    """Whether there are such rows, and none of them has an outcome."""
    return bool(rows.any() and not (rows & ~absent).any())


def _about_status(name: str) -> bool:
    return any(word in name.lower() for word in _ABOUT_STATUS)


def _tells_apart(cells: Sequence[str], absent: np.ndarray) -> bool:
    """Whether all rows with an outcome share one code or blank, and all others have another code."""
    codes = np.array(["" if is_missing(cell) else whole(fold(cell)) for cell in cells])
    return (
        len(set(codes[~absent])) == 1
        and bool((codes[absent] != "").all())
        and not set(codes[~absent]) & set(codes[absent])
    )


def _to_name(column: str, codes: Sequence[str]) -> str:
    """Remedy for a column whose other cells are `codes`."""
    rule = "died: missing, positive or negative"
    if len(codes) > _MOST_CODES:
        return f"Add a column with the words observed, died, lost or n/a, and set status: {{column: ..., {rule}}}."
    guessed = {"d": "died", "a": "alive"}
    named = ", ".join(f"{code}: {guessed.get(fold(code), '...')}" for code in codes)
    if not named:
        return f"Set status: {{column: {column}, {rule}}} for this outcome."
    words = "observed, alive, died, lost, untestable or unknown"
    return f"Set status: {{column: {column}, {rule}, codes: {{{named}}}}} for this outcome; a code is {words}."


def _about_death(name: str) -> bool:
    """Whether a column is about deaths by its name."""
    return "vital" in name.lower() or bool(_tokens(name) & (_DIED | _ALIVE))


def _like_a_status(name: str, letters: Collection[str]) -> bool:
    """Whether a column named a status holds the letters for alive and dead."""
    return _about_status(name) and "d" in letters and bool(set(letters) & (_ALIVE | {"a"}))


def _plain(cell: str) -> str:
    return " ".join(fold(cell).replace("-", " ").split())


def _tokens(column: str) -> set[str]:
    """Words of a column's name; `tot` is a total there."""
    return set(re.split(r"[\W_]+", fold(column))) - {"tot"}


def status_word(cell: str, column: str = "") -> Status | None:
    """The status that a cell names; case, hyphens and blanks are ignored.

    Args:
        column: its column, in which yes may mean a death, or no in a column of survival.
    """
    about, said = _tokens(column), _plain(cell)
    if about & _DIED and (said in _YES or (about & {"date", "dod"} and said not in _NO)):
        return "died"
    if about & _ALIVE and said in _NO:
        return "died"
    return "died" if _DEATH.fullmatch(said) else _WORDS.get(said)


def _is_alive(cell: str, column: str) -> bool:
    """Whether a cell states only that the child is alive."""
    about, said = _tokens(column), _plain(cell)
    return said in _ALIVE or bool(about & _DIED and said in _NO) or bool(about & _ALIVE and said in _YES)


def status_column(table: pd.DataFrame, spec: Outcome) -> str | None:
    """The declared status column, else a column that is clearly a status with deaths or untestable subjects."""
    if spec.status is not None:
        return spec.status.column if spec.status.column in table.columns else None
    for name in table.columns:
        about = _about_status(name) or _tokens(name) & (_DIED | _ALIVE)
        if name == spec.column or not about or _tokens(name) & _RELATIVES:
            continue
        words = [status_word(cell, name) for cell in table[name] if not is_missing(cell) and not _is_alive(cell, name)]
        if words and None not in words and any(word in ("died", "untestable") for word in words):
            return str(name)
    return None
