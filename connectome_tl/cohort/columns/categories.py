"""Categorical columns: spelling variants, missing codes, names of levels.

Categories that differ only by case or blanks are merged; ambiguous spellings are reported as problems.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from connectome_tl.cohort.columns.codes import CODES, without_codes
from connectome_tl.cohort.columns.ids import bare
from connectome_tl.cohort.columns.spellings import are_sexes, is_sex, replies_of, same_category
from connectome_tl.cohort.findings import Findings
from connectome_tl.cohort.tables.cells import NO_VALUE, NOBODY, PLAIN, SPREADSHEET_ERRORS, Marks, fold, texts, whole
from connectome_tl.errors import Problem
from connectome_tl.plurals import counted

_BETWEEN = re.compile(r"[-_ .,;:'’‘`´/()]")
_NO_SEX = NO_VALUE | {"u", "nk", "not stated", "not specified"}
_NO_PLACE = frozenset({"none"})
_PLUS, _MINUS = re.compile(r"\++"), frozenset("-–—")


def covariate_categories(
    column: pd.Series,
    levels: Mapping[str, str],
    ids: Sequence[str],
    file: str | Path,
    findings: Findings,
    *,
    marks: Marks = PLAIN,
) -> list[str]:
    """Cells (n_rows,) by the names of their levels and in one spelling, "" where missing.

    Args:
        levels: names by code; a cell is a code or a name. Without levels the cells are the categories.
    """
    name = str(column.name)
    sex = is_sex(name)
    if levels:
        return _by_levels(column, levels, ids, file, findings, marks=marks, sex=sex)
    _ask_about_signs(column, marks, file, findings)
    cells = _known(column, findings, marks)
    none = sorted({cell for cell in cells if fold(cell) == "none"})
    if none:
        findings.problems.append(
            Problem(
                f"column {name!r}: does {none[0]!r} mean a category or a missing value?",
                file=file,
                remedy=f"Set levels: {{{none[0]}: {none[0]}, ...}} for this covariate, or missing: ['{none[0]}'].",
            )
        )
    _refuse_errors(cells, name, ids, file, findings)
    sex = sex or are_sexes(cells)
    gone = sorted({cell for cell in cells if sex and fold(cell) in _NO_SEX} - {""})
    if gone:
        findings.notes.append(f"{name}: {', '.join(gone)} was read as missing")
        cells = ["" if cell in gone else cell for cell in cells]
    _check_codes(cells, name, file, findings, sex=sex)
    return one_spelling(cells, name, file, findings, sex=sex)


def outcome_levels(
    column: pd.Series,
    outcome: str,
    levels: Sequence[str],
    ids: Sequence[str],
    file: str | Path,
    findings: Findings,
    *,
    marks: Marks = PLAIN,
    codes: Mapping[str, str] | None = None,
) -> np.ndarray:
    """The rank of each cell among the levels of an outcome, (n_rows,), NaN where missing.

    Args:
        codes: names of the codes from the covariate of this column or its dictionary.
    """
    sex = is_sex(str(column.name))
    named = {whole(fold(code)): name for code, name in (codes or {}).items()}
    replies = replies_of(levels)

    def key(cell: str) -> str:
        return same_category(cell, sex=sex, replies=replies)

    rank = {key(level): float(i) for i, level in enumerate(levels)}
    signs = any(map(_PLUS.fullmatch, levels))
    gone = [level for level in levels if fold(level) in NO_VALUE and not (signs and level in _MINUS)]
    if gone:
        what = f"levels of outcome {outcome!r} hold a word for a missing value: {', '.join(gone)}"
        remedy = (
            f"Remove it from levels, and add missing: {gone!r} to the cohort file where it is not known as missing."
        )
        findings.problems.append(Problem(what, file=file, remedy=remedy))
    if len(rank) < len(levels):
        findings.problems.append(Problem(f"levels of outcome {outcome!r} differ in case or blanks only", file=file))
    direct = [rank.get(key(cell)) for cell in column]
    coded_rank = [rank.get(key(named.get(whole(fold(cell)), "")), np.nan) for cell in column]
    found = np.array([b if a is None else a for a, b in zip(direct, coded_rank, strict=True)], dtype=float)
    spelled = {cell.strip(): levels[int(i)] for cell, i in zip(column, direct, strict=True) if i is not None}
    other = [f"{cell} as {level}" for cell, level in sorted(spelled.items()) if whole(cell) != level]
    if other:
        findings.notes.append(f"{column.name}: other spellings of levels were read as these: {'; '.join(other[:8])}")
    known = texts(column, marks.missing)
    wrong = [i for i in np.flatnonzero(np.isnan(found)).tolist() if known[i] and _as_code(known[i]) not in CODES]
    findings.several(
        [(ids[i], repr(known[i][:60])) for i in wrong],
        f"outcome {outcome!r} holds a value that is none of its levels {', '.join(levels)}",
        file,
        "Name it among the levels, or among the codes for a missing value: missing: [...].",
    )
    coded = sorted({known[i] for i in np.flatnonzero(np.isnan(found)) if known[i] and _as_code(known[i]) in CODES})
    if coded:
        findings.notes.append(f"{column.name}: {', '.join(coded)} was read as missing")
    return found


def labels(
    column: pd.Series, file: str | Path, findings: Findings, *, marks: Marks = PLAIN, ids: Sequence[str]
) -> list[str]:
    """Sites: one spelling each, "" where missing."""
    name = str(column.name)
    cells = ["" if fold(cell) in _NO_PLACE else cell for cell in _known(column, findings, marks)]
    _refuse_errors(cells, name, ids, file, findings)
    if _once_each(cells):
        findings.problems.append(
            Problem(
                f"column {name!r}: each site is in one row, and {counted(cells.count(''), 'row')} without a site",
                file=file,
                remedy="Merged cells of a spreadsheet leave all rows but the first empty: write the site into every "
                "row. If the column is right, leave out site.",
            )
        )
    return one_spelling(cells, name, file, findings)


def _once_each(cells: Sequence[str]) -> bool:
    """Whether some cells are empty and no two of the others, the first among them, are equal, as in merged cells."""
    known = [fold(cell) for cell in cells if cell]
    return 1 < len(known) < len(cells) and bool(cells[0]) and len(set(known)) == len(known)


def families(column: pd.Series, file: str | Path, findings: Findings, *, marks: Marks = PLAIN) -> list[str]:
    """Family ids in one spelling, "" where missing or where a word or code means no relatives."""
    name = str(column.name)
    known = _known(column, findings, marks)
    count = Counter(cell for cell in known if cell)
    nobody = {cell for cell in count if fold(cell) in NOBODY | _NO_PLACE or _is_family_code(cell, count)}
    largest = max((n for cell, n in count.items() if cell not in nobody and _as_code(cell).strip("0")), default=0)
    for cell in count:
        if cell not in nobody and not _as_code(cell).strip("0") and count[cell] > largest > 0:
            findings.problems.append(
                Problem(
                    f"column {name!r}: is {cell} a family, or does it mean that there is none?",
                    got=f"{counted(count[cell], 'row')}; the largest of the others has {largest}",
                    file=file,
                    remedy=f"Leave the cells without a family empty, or write {cell} as F{cell} where it is one.",
                )
            )
    if _once_each(known):
        findings.notes.append(
            f"{name}: each family is in one row; if empty cells below belong to it, as merged cells of a spreadsheet "
            "leave them, write it into every row"
        )
    for cell in sorted(nobody):
        findings.notes.append(f"{name}: {cell} in {counted(count[cell], 'row')} was read as no family")
    return one_spelling(["" if cell in nobody else cell for cell in known], name, file, findings)


def _is_family_code(cell: str, count: Mapping[str, int]) -> bool:
    """Whether 0, -9 or 999 is a code for "no family"; not if other families are numbers of similar size."""
    code = _as_code(cell)
    if code.strip("0") and code not in CODES:
        return False
    others = {other: n for other, n in count.items() if other != cell}
    numeric = all(_as_code(other).lstrip("-").isdigit() for other in others)
    return code.startswith("-") or not numeric or count[cell] > 2 * max(others.values(), default=0)


def largest_family(
    family: Sequence[str], limit: int, columns: Sequence[str], file: str | Path, findings: Findings
) -> None:
    """Report a family that is far larger than all others, which is probably a code for "no family"."""
    ordered = Counter(label for label in family if label).most_common(2)
    if not ordered:
        return
    label, size = ordered[0]
    second = ordered[1][1] if len(ordered) > 1 else 1
    if size > limit and size > 3 * second:
        findings.problems.append(
            Problem(
                f"one family of {size} rows; the next has {second}",
                file=file,
                got=f"{label[:60]!r} in {', '.join(columns)}",
                remedy="If it means that there is no family, leave these cells empty; "
                f"if it is one family, largest_family: {size}.",
            )
        )


def one_spelling(
    cells: Sequence[str], name: str, file: str | Path, findings: Findings, *, sex: bool = False
) -> list[str]:
    """Cells with each category in its most common spelling; merged spellings are noted.

    Categories that differ in leading zeros, hyphens or blanks are ambiguous and reported as problems.
    """
    spellings: dict[str, Counter[str]] = {}
    replies = replies_of(cells)
    for cell in cells:
        if cell:
            spellings.setdefault(same_category(cell, sex=sex, replies=replies), Counter())[cell] += 1
    chosen = {key: found.most_common(1)[0][0] for key, found in spellings.items()}
    several = [f"{', '.join(sorted(found))} as {chosen[key]}" for key, found in spellings.items() if len(found) > 1]
    if several:
        findings.notes.append(f"{name}: spellings of one category were read as one: {'; '.join(several[:8])}")
    alike: dict[str, list[str]] = {}
    for key in chosen:
        alike.setdefault(_loose(key), []).append(chosen[key])
    findings.problems += [
        Problem(
            f"column {name!r}: are these one category or two?",
            file=file,
            got=" and ".join(repr(one[:60]) for one in pair),
            remedy="Write each category in one way.",
        )
        for pair in alike.values()
        if len(pair) > 1
    ]
    return [chosen[same_category(cell, sex=sex, replies=replies)] if cell else "" for cell in cells]


def _loose(key: str) -> str:
    """Remove leading zeros of numbers and, in text with letters, blanks, hyphens, points and apostrophes."""
    key = bare(key)
    return _BETWEEN.sub("", key) if any(c.isalpha() for c in key) else key


def _known(column: pd.Series, findings: Findings, marks: Marks) -> list[str]:
    """Cells with "" for missing words and codes, and whole numbers without a decimal point."""
    cells = [whole(cell) for cell in texts(column, marks.missing)]
    found = [_as_code(cell) for cell in cells]
    rest = {code for code in found if code and code not in CODES and not _is_negative(code)}
    negative = sorted({code for code in found if _is_negative(code)}) if rest else []
    gone = set(negative)
    if all(code.isdigit() for code in rest):
        values = np.array([float(code) if code.isdigit() else np.nan for code in found])
        kept = without_codes(values, str(column.name), findings)
        gone |= {code for i, code in enumerate(found) if np.isnan(kept[i]) and not np.isnan(values[i])}
        told = negative
    else:
        gone |= {code for code in found if code in CODES}
        told = sorted(gone)
    if told:
        findings.notes.append(f"{column.name}: {', '.join(told)} was read as missing")
    return ["" if code in gone else cell for code, cell in zip(found, cells, strict=True)]


def _is_negative(code: str) -> bool:
    return code.startswith("-") and code[1:].isdigit()


def _as_code(cell: str) -> str:
    return whole(cell).lstrip("+")


def _by_levels(
    column: pd.Series,
    levels: Mapping[str, str],
    ids: Sequence[str],
    file: str | Path,
    findings: Findings,
    *,
    marks: Marks,
    sex: bool,
) -> list[str]:
    gone = {name for name in levels.values() if fold(name) in NO_VALUE}
    by_code = {whole(fold(code)): name for code, name in levels.items()}
    replies = replies_of(levels.values())
    by_name = {same_category(name, sex=sex, replies=replies): name for name in levels.values()}
    known = texts(column, marks.missing)
    found, wrong = [], []
    for i, cell in enumerate(column):
        if not known[i] and cell in marks.missing:
            found.append("")
            continue
        name = by_code.get(whole(fold(cell)), by_name.get(same_category(cell, sex=sex, replies=replies)))
        if name is None and known[i] and _as_code(cell) not in CODES:
            wrong.append((ids[i], repr(cell[:60])))
        found.append(name or "")
    for name in sorted(gone):
        findings.notes.append(f"{column.name}: level {name!r} in {counted(found.count(name), 'row')} is missing")
    found = ["" if name in gone else name for name in found]
    coded = sorted({cell for cell, name in zip(known, found, strict=True) if cell and not name} & set(CODES))
    if coded:
        findings.notes.append(f"{column.name}: {', '.join(coded)} was read as missing")
    said = ", ".join(f"{code}: {name}" for code, name in list(levels.items())[:8])
    what = f"column {str(column.name)!r} holds a code that its levels do not explain ({said})"
    findings.several(wrong, what, file, "Name it among the levels, or declare it as missing: missing: [...].")
    return found


def _ask_about_signs(column: pd.Series, marks: Marks, file: str | Path, findings: Findings) -> None:
    """Report a minus sign, which usually means missing, beside plus signs."""
    signs = sorted({cell for cell in column if cell in _MINUS and cell not in marks.missing})
    if signs and any(_PLUS.fullmatch(cell) for cell in column):
        findings.problems.append(
            Problem(
                f"column {str(column.name)!r}: does {signs[0]!r} mean negative or missing?",
                file=file,
                remedy=f"Set levels: {{'+': positive, '{signs[0]}': negative}} for this covariate, or missing: "
                f"['{signs[0]}'].",
            )
        )


def _refuse_errors(cells: Sequence[str], name: str, ids: Sequence[str], file: str | Path, findings: Findings) -> None:
    rows = [
        (ids[i] if ids else f"row {i + 1}", cell) for i, cell in enumerate(cells) if fold(cell) in SPREADSHEET_ERRORS
    ]
    findings.several(rows, f"column {name!r} holds errors of a spreadsheet", file, "Fix the formulas, or write n/a.")


def _check_codes(cells: Sequence[str], name: str, file: str | Path, findings: Findings, *, sex: bool) -> None:
    """Report codes mixed with words for sexes or for yes and no, more than two codes of sexes, and H mixed with M,
    which is male in French and female in Spanish."""
    known = {same_category(cell, sex=sex): cell for cell in cells if cell}
    codes = sorted(cell for key, cell in known.items() if key.lstrip("-").isdigit())
    words = {fold(cell).rstrip(".") for cell in cells if cell} - {fold(code) for code in codes}
    if sex and {"h", "m"} <= words:
        findings.problems.append(
            Problem(
                f"column {name!r} holds both H and M, and one of them means female",
                file=file,
                remedy="Write M and F, or male and female.",
            )
        )
    if sex and len(known) > 2 and not codes:
        several = ", ".join(sorted(known.values()))
        findings.notes.append(
            f"{name}: {len(known)} sexes ({several}); if some are spellings of one, write it in one way"
        )
    replies = replies_of(words)
    said = (
        sex
        or len({replies.get(word) for word in words}) > 1
        or any(len(word) > 1 and word in replies for word in words)
    )
    if said and codes and (len(known) > len(codes) or len(codes) > 2):
        example = ", ".join(f"{code}: ..." for code in codes)
        names = "M and F or male and female" if sex else "yes and no"
        findings.problems.append(
            Problem(
                f"column {name!r} has codes without an explanation",
                file=file,
                got=", ".join(sorted(known.values())),
                remedy=f"Name them: levels: {{{example}}}, with {names}; "
                "a code for a missing value belongs to missing: [...].",
            )
        )
    elif codes and (words_only := sorted(cell for cell in known.values() if not any(map(str.isdigit, cell)))):
        findings.notes.append(
            f"{name}: numbers ({', '.join(codes)}) and words ({', '.join(words_only)}) in one column; if a number "
            "stands for one of the words, name it in levels"
        )
