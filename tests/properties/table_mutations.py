"""Tables of a small study, damaged and rewritten in ways with a known correct result.

`mutant(seed)` writes a study's tables after one to three mutations. Each mutation defines the expected result: the same
values, values with some of them missing, or nothing (a refusal). `judged` compares it with the result of `read_cohort`.
"""

from __future__ import annotations

import csv
import io
import json
import resource
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from connectome_tl.cohort.cohort import Cohort
from connectome_tl.cohort.reading import read_cohort
from connectome_tl.errors import ConnectomeTLError

REGIONS = ("alpha", "beta", "gamma", "delta", "epsilon")
MEASURES = ("thickness", "area", "volume")
NUMERIC = ("pma", "ga", "weight", "score")
CATEGORIES = ("sex", "site")
SECONDS, BYTES = 5.0, 1_000_000_000


@dataclass
class Study:
    """Cells to be written, their format, and the true values; `None` is a missing value."""

    rng: np.random.Generator
    table: dict[str, list[str]]
    phenotype: dict[str, list[str]]
    regional: dict[str, list[str]]
    truth: dict[str, dict[str, Any]]  # column -> subject -> value
    settings: dict[str, Any]
    ids: list[str]
    mark: str = "\t"
    encoding: str = "utf-8"
    newline: str = "\n"
    above: str = ""
    quoted: bool = False
    excel: bool = False
    cut: tuple[str, float] | None = None
    dictionary: dict[str, Any] = field(default_factory=dict)
    refused: bool = False  # there is no correct value: only a refusal is right
    history: list[str] = field(default_factory=list)

    def some(self, share: float = 0.3) -> list[int]:
        """A few of the selected rows, one at least."""
        n = max(1, int(self.rng.integers(1, max(2, int(share * len(self.ids)) + 1))))
        return sorted(self.rng.choice(len(self.ids), n, replace=False).tolist())

    def one_of(self, values: Sequence[Any]) -> Any:
        return values[int(self.rng.integers(len(values)))]


def study(rng: np.random.Generator) -> Study:
    """A study without errors: infants and, in the same table, rows of another group."""
    n = int(rng.integers(14, 24))
    ids = [f"sub-{i:03d}" for i in rng.permutation(np.arange(1, 90))[:n]]
    days = rng.integers(24 * 7, 33 * 7, n)
    truth: dict[str, dict[str, Any]] = {
        "pma": dict(zip(ids, np.round(rng.uniform(37, 44, n), 1).tolist(), strict=True)),
        "ga": dict(zip(ids, (days / 7).tolist(), strict=True)),
        "weight": dict(zip(ids, rng.integers(605, 1995, n).tolist(), strict=True)),
        "score": dict(zip(ids, rng.integers(56, 140, n).tolist(), strict=True)),
        "sex": {one: "MF"[i % 2] for i, one in enumerate(ids)},
        "site": {one: ("Kings", "Leeds", "St Thomas")[i % 3] for i, one in enumerate(ids)},
        "family": {one: f"F{i // 2}" if i < 6 else None for i, one in enumerate(ids)},
        "apgar": {one: int(rng.integers(1, 7)) for one in ids},
        "steroids": {one: ("partial", "full")[int(rng.integers(2))] for one in ids},
        "status": dict.fromkeys(ids, "observed"),
    }
    others = [f"sub-{i}" for i in range(100, 104)]
    everyone = [*ids, *others]
    table = {
        "participant_id": everyone,
        "group": ["preterm"] * n + ["term"] * 4,
        "pma": [f"{truth['pma'][one]:g}" for one in ids] + ["40"] * 4,
        "ga": [f"{day // 7}+{day % 7}" for day in days] + ["39+0"] * 4,
        "weight": [str(truth["weight"][one]) for one in ids] + ["3300"] * 4,
        "sex": [truth["sex"][one] for one in ids] + ["M", "F", "M", "F"],
        "site": [truth["site"][one] for one in ids] + ["Kings"] * 4,
        "family": [truth["family"][one] or "n/a" for one in ids] + ["n/a"] * 4,
        "score": [str(truth["score"][one]) for one in ids] + ["100"] * 4,
        "comment": ["fine"] * (n + 4),
    }
    order = rng.permutation(n).tolist()
    phenotype = {
        "participant_id": [ids[i] for i in order],
        "apgar": [str(truth["apgar"][ids[i]]) for i in order],
        "steroids": [truth["steroids"][ids[i]] for i in order],
    }
    values = np.round(rng.uniform(1, 9, (n, len(REGIONS), len(MEASURES))), 3)
    truth["regional"] = {one: values[i] for i, one in enumerate(ids)}
    regional = {"subject": list(ids)}
    for r, region in enumerate(REGIONS):
        for m, measure in enumerate(MEASURES):
            regional[f"{region}_{measure}"] = [f"{value:.3f}" for value in values[:, r, m]]
    settings = {
        "name": "mutant",
        "participants": "participants.tsv",
        "select": "group == 'preterm'",
        "age": {"column": "pma", "unit": "weeks", "reference": "postmenstrual"},
        "gestational_age": {"column": "ga", "unit": "weeks"},
        "site": "site",
        "family": "family",
        "tables": [{"file": "phenotype.tsv"}],
        "covariates": [
            {"column": "weight", "unit": "g", "available_at": "birth"},
            {"column": "ga", "unit": "weeks", "available_at": "birth"},
            {"column": "sex", "type": "categorical", "available_at": "birth"},
            {"column": "apgar", "available_at": "birth"},
            {"column": "steroids", "type": "categorical", "available_at": "birth"},
        ],
        "outcomes": [{"name": "score", "column": "score", "kind": "regression", "unit": "points"}],
        "region_features": {
            "table": "regional.tsv",
            "columns": "{region}_{name}",
            "names": list(MEASURES),
            "id": "subject",
        },
        "connectomes": {"network": "similarity"},
    }
    return Study(rng, table, phenotype, regional, truth, settings, ids)


# --- mutations that change no value ---


def resaved(s: Study) -> None:
    s.encoding = s.one_of(["utf-8", "utf-8-sig", "utf-16"])
    s.newline = s.one_of(["\n", "\r\n", "\r"])
    s.mark = s.one_of(["\t", ",", ";"])
    s.above = s.one_of(["", "\n", "\n\n \n"])
    s.quoted = bool(s.rng.integers(2))


def as_excel(s: Study) -> None:
    s.excel = True


def reordered(s: Study) -> None:
    for table in (s.table, s.phenotype, s.regional):
        rows = s.rng.permutation(len(next(iter(table.values())))).tolist()
        columns = list(table)
        s.rng.shuffle(columns)
        moved = {name: [table[name][i] for i in rows] for name in columns}
        table.clear()
        table.update(moved)


def padded_cells(s: Study) -> None:
    invisible = ["\u200b", "\u00a0", " ", "\ufeff", "\u200e", "\u202e"]
    for table in (s.table, s.phenotype):
        name = s.one_of(list(table))
        table[name] = [cell + s.one_of(invisible) for cell in table[name]]


def respelled_categories(s: Study) -> None:
    turned = [str.upper, str.lower, str.title, lambda text: f" {text}", lambda text: text.replace(" ", "  ")]
    for name in (*CATEGORIES, "group", "family"):
        if s.rng.random() < 0.6:
            s.table[name] = [s.one_of(turned)(cell) for cell in s.table[name]]


def respelled_sex(s: Study) -> None:
    words = {"M": ["M", "m", "Male", "MALE", "boy"], "F": ["F", "f", "Female", "female ", "girl"]}
    s.table["sex"] = [s.one_of(words.get(cell, [cell])) for cell in s.table["sex"]]


def respelled_weeks(s: Study) -> None:
    ways = ["{w}+{d}", "{w} + {d}", "{w}w{d}d", "{w} {d}/7", "{w} weeks {d} days", "{w}wk{d}", "{w}+{d}/7"]
    parts = [cell.split("+") for cell in s.table["ga"]]
    if all(len(part) == 2 and all(one.strip().isdigit() for one in part) for part in parts):
        s.table["ga"] = [s.one_of(ways).format(w=w.strip(), d=d.strip()) for w, d in parts]


def coded_sex(s: Study) -> None:
    """Codes with a dictionary, whole or as pandas writes them."""
    point = s.one_of(["", ".0"])
    codes = {"m": f"1{point}", "f": f"2{point}"}
    s.table["sex"] = [codes.get(cell.strip().lower()[:1], cell) for cell in s.table["sex"]]
    s.dictionary["sex"] = {"Levels": {"1": "M", "2": {"Description": "F"}}}


def noise_column(s: Study) -> None:
    s.table["notes"] = [
        s.one_of(["a,b", 'say "x"', "line\nbreak", "", "1" * 5000, "<b>", "=1+1"]) for _ in s.table["pma"]
    ]


def bare_phenotype_ids(s: Study) -> None:
    s.phenotype["participant_id"] = [one.removeprefix("sub-") for one in s.phenotype["participant_id"]]


def plus_signs(s: Study) -> None:
    s.phenotype["apgar"] = [f"+{cell}" if cell.isdigit() else cell for cell in s.phenotype["apgar"]]


def broken_dictionary(s: Study) -> None:
    s.dictionary["__broken__"] = True


def coded_phenotype(s: Study) -> None:
    """A phenotype's categories as numbers, explained by its dictionary or by the cohort file."""
    codes = {"partial": "1", "full": "2"}
    point = s.one_of(["", ".0"])
    s.phenotype["steroids"] = [f"{codes[cell]}{point}" if cell in codes else cell for cell in s.phenotype["steroids"]]
    named = {code: name for name, code in codes.items()}
    if s.rng.random() < 0.5:
        s.settings["covariates"][4]["levels"] = named
    else:
        s.dictionary.setdefault("phenotype", {})["steroids"] = {"Levels": named}


def agreeing_units(s: Study) -> None:
    s.dictionary["pma"] = {"Units": s.one_of(["week", "weeks", "Weeks", "wk"]), "Description": "age"}
    s.dictionary["weight"] = {"Units": s.one_of(["g", "gram", "grams"])}


def units_behind_numbers(s: Study) -> None:
    s.table["weight"] = [
        f"{cell}{s.one_of([' g', 'g', ' grams'])}" if cell.isdigit() else cell for cell in s.table["weight"]
    ]
    s.table["pma"] = [
        f"{cell}{s.one_of([' weeks', 'w', ' wk'])}" if cell[:1].isdigit() else cell for cell in s.table["pma"]
    ]


# --- mutations after which some values are missing ---

WORDS = ["n/a", "", "-", "NA", "unknown", "NULL", "?", "--", "not available", "Missing", "N.A.", "nan", "."]
FAR = ["-9", "-99", "-999", "999", "9999", "-9.0", "-88", "99999"]


def _gone(s: Study, name: str, rows: Sequence[int], word: str) -> None:
    table = s.phenotype if name in ("apgar", "steroids") else s.table
    id_column = list(table["participant_id"])
    for row in rows:
        subject = s.ids[row]
        at = _row_of(id_column, subject)
        if at is None:
            continue
        table[name][at] = word
        s.truth[name][subject] = None
        if name == "score":
            s.truth["status"][subject] = "unknown"


def _row_of(written: Sequence[str], subject: str) -> int | None:
    bare = subject.removeprefix("sub-")
    return next(
        (i for i, one in enumerate(written) if one.strip("\u200b\u00a0 \ufeff\u200e\u202e").endswith(bare)), None
    )


def words_for_missing(s: Study) -> None:
    for _ in range(int(s.rng.integers(1, 4))):
        _gone(s, s.one_of([*NUMERIC, *CATEGORIES, "family", "apgar", "steroids"]), s.some(), s.one_of(WORDS))


def codes_for_missing(s: Study) -> None:
    name = s.one_of([*NUMERIC, *CATEGORIES, "family", "apgar", "steroids"])
    far = [code for code in FAR if name != "weight" or code != "999"]  # a child may weigh 999 g
    _gone(s, name, s.some(), s.one_of(far))


def declared_codes(s: Study) -> None:
    code = s.one_of(["-4", "ND", "not tested", "995", "88.5"])
    s.settings["missing"] = [code]
    for name in (s.one_of(NUMERIC), s.one_of(CATEGORIES), "family", "apgar"):
        _gone(s, name, s.some(), s.one_of([code, code.upper(), f"{code} "]))


def dictionary_codes(s: Study) -> None:
    word = s.one_of(["Not recorded", "missing", "unknown", "refused", "n/a"])
    s.dictionary["phenotype"] = {"apgar": {"Levels": {"8": word}}}
    _gone(s, "apgar", s.some(), "8")


def words_in_scores(s: Study) -> None:
    for row in s.some():
        subject = s.ids[row]
        word, status = s.one_of([("LTFU", "lost"), ("withdrawn", "lost"), ("Died", "died"), ("deceased", "died")])
        _gone(s, "score", [row], word)
        s.truth["status"][subject] = status
    s.settings["outcomes"][0]["status"] = {"column": "score", "died": "missing", "untestable": "missing"}


def singletons(s: Study) -> None:
    code = s.one_of(["0", "-9", "999", "none", "single", "-", "Singleton", "unknown", "no", "0.0"])
    s.table["family"] = [code if cell.strip().lower() in ("n/a", "") else cell for cell in s.table["family"]]


def phenotype_ends_early(s: Study) -> None:
    """Whole lines are missing without a trace, and those subjects have no values."""
    n = int(s.rng.integers(1, 4))
    for name in s.phenotype:
        kept, gone = s.phenotype[name][:-n], s.phenotype[name][-n:]
        if name == "participant_id":
            for one in gone:
                subject = next((own for own in s.ids if _row_of([one], own) is not None), None)
                if subject is not None:
                    s.truth["apgar"][subject] = s.truth["steroids"][subject] = None
        s.phenotype[name] = kept


def regional_holes(s: Study) -> None:
    for _ in range(2):
        row, r, m = int(s.rng.integers(len(s.ids))), int(s.rng.integers(2)), int(s.rng.integers(len(MEASURES)))
        at = _row_of(s.regional["subject"], s.ids[row])
        if at is not None:
            s.regional[f"{REGIONS[r]}_{MEASURES[m]}"][at] = s.one_of(["n/a", "", "NaN"])
            s.truth["regional"][s.ids[row]][r, m] = np.nan


# --- conventions of numbers ---


def decimal_commas(s: Study) -> None:
    s.mark = s.one_of(["\t", ";"])
    if s.rng.random() < 0.5:
        s.settings["decimal"] = ","
    for name in ("pma", "weight"):
        s.table[name] = [cell.replace(".", ",") for cell in s.table[name]]
    for name in s.regional:
        if name != "subject":
            s.regional[name] = [cell.replace(".", ",") for cell in s.regional[name]]


def thousands(s: Study) -> None:
    s.mark = "\t"
    s.table["weight"] = [f"{int(cell):,}" if cell.isdigit() else cell for cell in s.table["weight"]]
    if s.rng.random() < 0.3:
        s.settings["decimal"] = "."


def censored(s: Study) -> None:
    rule = s.one_of([None, "limit", "missing"])
    for row in s.some():
        subject = s.ids[row]
        _gone(s, "score", [row], s.one_of(["<55", "≤ 55", "<= 55"]))
        if rule == "limit":
            s.truth["score"][subject] = 55
            s.truth["status"][subject] = "observed"
    if rule is None:
        s.refused = True
    else:
        s.settings["outcomes"][0]["censored"] = rule


# --- mutations that must be refused ---


def _written(s: Study, rows: Sequence[int], name: str, change: Callable[[float], float]) -> None:
    for row in rows:
        at = _row_of(s.table["participant_id"], s.ids[row])
        value = s.truth[name][s.ids[row]]
        if at is not None and value is not None:
            s.table[name][at] = f"{change(float(value)):.5g}"
            s.refused = True


def other_units(s: Study) -> None:
    rows = s.some(0.6) if s.rng.random() < 0.6 else list(range(len(s.ids)))
    name, change = s.one_of(
        [
            ("pma", lambda v: v * 7),
            ("pma", lambda v: v / 4.348),
            ("pma", lambda v: v / 52.18),
            ("weight", lambda v: v / 1000),
            ("ga", lambda v: v * 7),
        ]
    )
    _written(s, rows, name, change)


def same_id_twice(s: Study) -> None:
    at = _row_of(s.table["participant_id"], s.one_of(s.ids))
    if at is None:
        return
    for name in s.table:
        s.table[name].append(s.table[name][at])
    twin = s.one_of([str.upper, lambda one: one, lambda one: one.replace("sub-0", "sub-"), lambda one: f"{one}\u200b"])
    s.table["participant_id"][-1] = twin(s.table["participant_id"][-1])
    s.refused = True


def other_ids(s: Study) -> None:
    table, column = s.one_of([(s.phenotype, "participant_id"), (s.regional, "subject")])
    changed = [
        s.one_of([str.upper, lambda one: one.replace("sub-0", "sub-").replace("sub-0", "sub-")])(one)
        for one in table[column]
    ]
    if changed != table[column]:
        table[column] = changed
        s.refused = True


def cut_off(s: Study) -> None:
    s.cut = (s.one_of(["participants", "phenotype", "regional"]), float(s.rng.uniform(0.3, 0.95)))


def renamed_column(s: Study) -> None:
    name = s.one_of(["participant_id", *NUMERIC, *CATEGORIES, "family", "group"])
    s.table = {s.one_of([one.upper(), one + "_1", "x" + one]) if one == name else one: v for one, v in s.table.items()}
    s.refused = True


def column_twice(s: Study) -> None:
    name = s.one_of([*NUMERIC, *CATEGORIES])
    s.table[f"{name}\u200b"] = list(reversed(s.table[name]))
    s.refused = True


def swapped_names(s: Study) -> None:
    one, other = s.one_of([("pma", "ga"), ("weight", "score"), ("pma", "weight")])
    s.table = {{one: other, other: one}.get(name, name): cells for name, cells in s.table.items()}
    s.refused = True


def junk_in_numbers(s: Study) -> None:
    name = s.one_of(NUMERIC)
    junk = ["x" * 300_000, "1" * 100_000 + "x", "12abc", "1_000", "0x1f", "inf", "1e999", "#REF!", "40-42", "\ud7ff"]
    at = _row_of(s.table["participant_id"], s.one_of(s.ids))
    if at is not None:
        s.table[name][at] = s.one_of(junk)
        s.refused = True


def contradicting_units(s: Study) -> None:
    column, unit = s.one_of(
        [("pma", "year"), ("pma", "months"), ("ga", "day"), ("weight", "kg"), ("weight", "kilograms")]
    )
    s.dictionary[column] = {"Units": unit}
    s.refused = True


def two_codes_of_sex(s: Study) -> None:
    """Words and numbers in one column, without an explanation of the numbers."""
    if "sex" in s.dictionary:
        return
    for row in s.some(0.4):
        at = _row_of(s.table["participant_id"], s.ids[row])
        if at is not None:
            s.table["sex"][at] = s.one_of(["1", "2", "0"])
    left = {cell.strip().lower()[:1] for cell in s.table["sex"]} & {"m", "f"}
    s.refused = (bool(left) and "sex" not in s.dictionary) or s.refused


def dots_of_thousands(s: Study) -> None:
    """1.065 for 1065, as Germans write it; no birth weight in grams is that small."""
    dotted = [f"{int(cell):,}".replace(",", ".") if cell.isdigit() else cell for cell in s.table["weight"]]
    s.refused |= dotted[: len(s.ids)] != s.table["weight"][: len(s.ids)]
    s.table["weight"] = dotted


def other_classes(s: Study) -> None:
    row = s.one_of(s.some())
    at = _row_of(s.table["participant_id"], s.ids[row])
    if at is not None:
        s.settings["covariates"][2]["levels"] = {"M": "male", "F": "female"}
        s.table["sex"][at] = s.one_of(["X", "3", "inter", "Mann"])
        s.refused = True


def regions_twice(s: Study) -> None:
    name = f"{REGIONS[0]}_{MEASURES[0]}"
    s.regional[f"{name} "] = list(reversed(s.regional[name]))
    s.refused = True


MUTATIONS: tuple[Callable[[Study], None], ...] = (
    resaved, as_excel, reordered, padded_cells, respelled_categories, respelled_sex, respelled_weeks, coded_sex,
    noise_column, bare_phenotype_ids, plus_signs, broken_dictionary, coded_phenotype, agreeing_units,
    units_behind_numbers, words_for_missing, codes_for_missing, declared_codes, dictionary_codes, words_in_scores,
    singletons, phenotype_ends_early, regional_holes,
    decimal_commas, thousands, censored, other_units, same_id_twice, other_ids, cut_off, renamed_column, column_twice,
    swapped_names, junk_in_numbers, contradicting_units, two_codes_of_sex, dots_of_thousands, other_classes,
    regions_twice,
)  # fmt: skip


# --- writing, reading, judging ---


def mutant(seed: int) -> Study:
    """A study after one to three mutations, drawn from the seed."""
    rng = np.random.default_rng([seed, 12])
    made = study(rng)
    chosen = rng.choice(len(MUTATIONS), int(rng.integers(1, 4)), replace=False)
    for k in sorted(chosen.tolist()):  # values first, then what only rewrites them would be another study
        try:
            MUTATIONS[k](made)
        except KeyError:  # an earlier one renamed its column, and the study is refused anyway
            assert made.refused
        made.history.append(MUTATIONS[k].__name__)
    return made


def write(s: Study, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in (("participants", s.table), ("phenotype", s.phenotype), ("regional", s.regional)):
        rows = [list(table), *map(list, zip(*table.values(), strict=True))]
        if s.excel and name == "participants":
            _write_excel(folder / f"{name}.tsv", rows)
            continue
        out = io.StringIO()
        quoting = csv.QUOTE_ALL if s.quoted else csv.QUOTE_MINIMAL
        csv.writer(out, delimiter=s.mark, lineterminator="\n", quoting=quoting).writerows(rows)
        text = s.above + out.getvalue()
        if s.cut is not None and s.cut[0] == name:
            text = _cut(text, s.cut[1], s.mark)
        (folder / f"{name}.tsv").write_bytes(text.replace("\n", s.newline).encode(s.encoding))
    said = dict(s.dictionary)
    phenotype, broken = said.pop("phenotype", None), said.pop("__broken__", False)
    if said or broken:
        (folder / "participants.json").write_text('{"x": ' if broken and not said else json.dumps(said))
    if phenotype:
        (folder / "phenotype.json").write_text(json.dumps(phenotype))
    (folder / "cohort.yaml").write_text(yaml.safe_dump(s.settings, sort_keys=False))
    return folder / "cohort.yaml"


def _cut(text: str, share: float, mark: str) -> str:
    """The file truncated within a line: a cut between lines, or in a last cell, leaves no trace."""
    at = int(len(text) * share)
    start = text.rfind("\n", 0, at) + 1
    end = text.find("\n", at)
    last = text.rfind(mark, start, end if end >= 0 else len(text))
    return text[: max(start + 1, min(at, last))]


def _write_excel(path: Path, rows: list[list[str]]) -> None:
    from openpyxl import Workbook

    book = Workbook()
    for row in rows:
        book.active.append([cell if _not_a_number(cell) else float(cell) for cell in row])
    with path.open("wb") as file:
        book.save(file)


def _not_a_number(cell: str) -> bool:
    return not (cell.replace(".", "", 1).isdigit() and cell.isascii() and len(cell) < 12)


@dataclass(frozen=True)
class Verdict:
    """`right`, `refused`, `refused wrongly`, or a failure: `silently wrong`, `traceback`, `hang`, `memory`."""

    word: str
    detail: str = ""


FAULTS = ("silently wrong", "traceback", "hang", "memory")
# After these only, nothing is ambiguous, so that a refusal would be wrong.
HARMLESS = frozenset(
    one.__name__
    for one in (
        resaved, as_excel, reordered, padded_cells, respelled_categories, respelled_sex, respelled_weeks, coded_sex,
        noise_column, bare_phenotype_ids, plus_signs, broken_dictionary, coded_phenotype, agreeing_units,
        units_behind_numbers, words_for_missing, declared_codes, dictionary_codes, words_in_scores, regional_holes,
    )
)  # fmt: skip


def judged(seed: int, folder: Path) -> Verdict:
    """Write the mutant of this seed, read it, and compare with what is true."""
    made = mutant(seed)
    return verdict(made, folder, f"seed {seed}: {', '.join(made.history)}")


def verdict(made: Study, folder: Path, label: str) -> Verdict:
    """The result of the reader compared with the true values."""
    path = write(made, folder)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # memory of other tests in this process
    started = time.process_time()
    try:
        cohort = read_cohort(path)
    except ConnectomeTLError as error:
        if error.exit_code not in (64, 65, 66):
            return Verdict("traceback", f"{label}: exit {error.exit_code}")
        harmless = set(made.history) <= HARMLESS and len(made.history) == 1
        return Verdict("refused wrongly" if harmless else "refused", f"{label}: {error}")
    except Exception as error:
        return Verdict("traceback", f"{label}: {error!r}")
    finally:
        took = time.process_time() - started
    if took > SECONDS:
        return Verdict("hang", f"{label}: {took:.1f} s")
    if (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 > BYTES:
        return Verdict("memory", label)
    if made.refused:
        return Verdict("silently wrong", f"{label}: was read and should not be")
    differ = differences(made, cohort)
    return Verdict("silently wrong", f"{label}: {'; '.join(differ[:4])}") if differ else Verdict("right", label)


def differences(s: Study, cohort: Cohort) -> list[str]:
    """Differences between the cohort and the true values, without functions of the reader."""
    found = [] if set(cohort.ids) == set(s.ids) else [f"ids {sorted(set(cohort.ids) ^ set(s.ids))}"]
    if found:
        return found
    at = {one: i for i, one in enumerate(cohort.ids)}
    read: dict[str, Callable[[str], Any]] = {
        "pma": lambda one: cohort.age[at[one]],
        "score": lambda one: cohort.targets["score"].to_numpy()[at[one]],
        **{
            name: (lambda one, name=name: cohort.covariates[name].to_numpy()[at[one]])
            for name in ("ga", "weight", "apgar")
        },
    }
    for name, of in read.items():
        for one in s.ids:
            true, value = s.truth[name][one], float(of(one))
            if (true is None) != np.isnan(value) or (true is not None and abs(value - true) > 1e-9):
                found.append(f"{name} of {one} is {value}, not {true}")
    texts: dict[str, Callable[[str], Any]] = {
        "sex": lambda one: cohort.covariates["sex"].to_numpy(dtype=object)[at[one]],
        "steroids": lambda one: cohort.covariates["steroids"].to_numpy(dtype=object)[at[one]],
        "site": lambda one: cohort.site[at[one]] or None,
        "family": lambda one: cohort.family[at[one]] or None,
    }
    for name, of in texts.items():
        names: dict[str, str] = {}
        for one in s.ids:
            true, value = s.truth[name][one], of(one)
            value = value if isinstance(value, str) else None
            if (true is None) != (value is None):
                found.append(f"{name} of {one} is {value!r}, not {true!r}")
            elif true is not None and names.setdefault(true, value) != value:
                found.append(f"{name}: {true!r} is both {names[true]!r} and {value!r}")
        if len(set(names.values())) < len(names):
            found.append(f"{name}: two categories became one")
        if name == "sex":
            found += [f"sex {true} is {value}" for true, value in names.items() if value.strip().lower()[0] not in
                      {"M": "mb", "F": "fg"}[true]]  # fmt: skip
    for one in s.ids:
        if cohort.status["score"].iloc[at[one]] != s.truth["status"][one]:
            found.append(f"status of {one} is {cohort.status['score'].iloc[at[one]]}, not {s.truth['status'][one]}")
    for one in s.ids:
        assert cohort.region_features is not None
        order = [cohort.regions.index(region) for region in REGIONS]
        names_at = [cohort.region_feature_names.index(name) for name in MEASURES]
        own = cohort.region_features[at[one]][order][:, names_at]
        if not np.allclose(own, s.truth["regional"][one], equal_nan=True, atol=1e-9):
            found.append(f"regional measures of {one}")
    return found
