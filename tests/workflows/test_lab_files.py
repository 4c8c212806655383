"""`init` on realistic folders and tables: each gives a correct result or one clear line."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.io import savemat
from typer.testing import CliRunner, Result

from connectome_tl.cli.entry import app
from connectome_tl.cohort.columns.guesses import guess_columns, negative_level
from connectome_tl.cohort.reading import read_cohort
from connectome_tl.errors import DataError, UsageError
from connectome_tl.workflows.init.from_files import init_study, start_from

N, REGIONS = 12, 10
ANSWERS = {"atlas": "numbered"}
IDS = [f"INF{i:02d}" for i in range(1, N + 1)]


def sheet(ids: list[str], **more: object) -> pd.DataFrame:
    rng = np.random.default_rng(1)
    columns = {
        "Subject": ids,
        "GA (weeks)": rng.uniform(24, 32, N).round(1),
        "PMA at scan": rng.uniform(38, 44, N).round(1),
        "Sex": ["female", "male"] * (N // 2),
        "Bayley3 cognitive": rng.normal(85, 14, N).round().astype(int),
    }
    return pd.DataFrame({**columns, **more})


def square(seed: int, n: int = REGIONS) -> np.ndarray:
    upper = np.triu(np.random.default_rng(seed).poisson(30, (n, n)), 1)
    return upper + upper.T


def lay(folder: Path, names: list[str], table: pd.DataFrame | None = None, *, mats: str = "mats") -> None:
    for i, name in enumerate(names):
        path = folder / mats / name
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savetxt(path, square(i), "%d", ",")
    (sheet(IDS) if table is None else table).to_csv(folder / "sheet.csv", index=False)


def init(folder: Path, *more: str, mats: str = "mats", table: str = "sheet.csv") -> Result:
    words = ["init", str(folder / "study"), "--from", str(folder / table), "--matrices", str(folder / mats)]
    return CliRunner().invoke(app, [*words, "--answer", "atlas=numbered", *more])


def start(folder: Path, **answers: str) -> str:
    """The written cohort file, without reading the cohort."""
    told = {"atlas": "numbered", **answers}
    start_from([folder / "sheet.csv"], folder / "mats", folder / "study", answers=told, ask=None)
    return (folder / "study" / "cohort.yaml").read_text("utf-8")


@pytest.mark.parametrize("encoding", ["cp1252", "utf-8-sig", "utf-16"])
def test_a_german_sheet_with_semicolons_and_decimal_commas(tmp_path: Path, encoding: str) -> None:
    names = ["Proband", "Gestationsalter (Wochen)", "Alter bei MRT (Wochen PMA)", "Geschlecht", "Bayley kognitiv"]
    table = sheet(IDS).set_axis(names, axis=1).assign(Geschlecht=["männlich", "weiblich"] * (N // 2))
    table = table.assign(Zentrum=["Köln", "Graz"] * (N // 2), **{"Größe der Mutter": 160.5 + np.arange(N)})
    lay(tmp_path, [f"{one}.csv" for one in IDS])
    table.to_csv(tmp_path / "sheet.csv", sep=";", decimal=",", index=False, encoding=encoding)
    done = init(tmp_path)
    assert done.exit_code == 0, done.output
    assert ("Windows-1252" in done.output) == (encoding == "cp1252")
    cohort = read_cohort(tmp_path / "study" / "cohort.yaml")
    assert sorted(set(cohort.site)) == ["Graz", "Köln"]
    assert cohort.age_reference == "postmenstrual"
    assert np.allclose(cohort.age, table["Alter bei MRT (Wochen PMA)"])
    assert [spec.column for spec in cohort.covariate_specs] == ["Gestationsalter (Wochen)", "Geschlecht"]
    assert {task.name for task in cohort.tasks} == {"Bayley_kognitiv_below_85", "Bayley_kognitiv"}


@pytest.mark.parametrize(
    ("name", "cells", "meaning", "unit"),
    [
        ("Âge au scanner (semaines)", ["39,7", "40,1", "41"], "age", "weeks"),
        ("Age at visit 1", ["3,1", "4", "5"], "age", None),
        ("Âge gestationnel (SA)", ["29+4", "30+1", "28+0"], "gestational_age", "weeks"),
        ("PMA at scan", ["38+2", "40+1", "41+6"], "age", "weeks"),
        ("GA", ["29 4/7", "30 1/7", "28 0/7"], "gestational_age", "weeks"),
        ("Mother age", ["30", "31", "25"], "covariate", None),
        ("Mother's height", ["160.5", "171", "165"], "covariate", None),
        ("Mother ID", ["M1", "M2", "M2"], "family", None),
        ("Hôpital", ["Lyon", "Tours", "Lyon"], "site", None),
        ("Scanner drift", ["0.31", "0.52", "0.73"], "covariate", None),
        ("Diagnose", ["ja", "nein", "nein"], "outcome", None),
        ("Date of scan", ["01.03.2019", "12.04.2019", "30.12.2018"], "other", None),
        ("Age", ["2019-03-01", "2019-04-12 10:30", "2018-12-30"], "other", None),
    ],
)
def test_columns_of_other_languages_and_notations(name: str, cells: list[str], meaning: str, unit: str | None) -> None:
    found = guess_columns(pd.DataFrame({name: cells}, dtype=str), [])[0]
    assert (found.meaning, found.unit) == (meaning, unit)


def test_the_absence_of_something_in_other_languages() -> None:
    assert negative_level(("ja", "nein")) == "nein"
    assert negative_level(("Témoin", "malade")) == "Témoin"


def test_weeks_and_days_become_ages(tmp_path: Path) -> None:
    cells = [f"{38 + i % 5}+{i % 7}" for i in range(N)]
    lay(tmp_path, [f"{one}.csv" for one in IDS], sheet(IDS, **{"PMA at scan": cells}))
    assert init(tmp_path).exit_code == 0
    age = read_cohort(tmp_path / "study" / "cohort.yaml").age
    assert np.allclose(age, [38 + i % 5 + i % 7 / 7 for i in range(N)])


def test_dates_are_no_ages_and_that_is_said(tmp_path: Path) -> None:
    dates = [f"{i:02d}.03.2019" for i in range(1, N + 1)]
    lay(tmp_path, [f"{one}.csv" for one in IDS], sheet(IDS, **{"PMA at scan": dates, "Born": dates}))
    done = init(tmp_path)
    assert done.exit_code == 0
    assert "column 'PMA at scan' holds dates (01.03.2019), not ages" in done.output
    text = (tmp_path / "study" / "cohort.yaml").read_text()
    assert "# not used, dates: 'PMA at scan' (01.03.2019), 'Born' (01.03.2019)" in text
    with pytest.raises(UsageError, match=r"column 'PMA at scan' holds dates.*date of birth"):
        start(tmp_path, age="PMA at scan")


@pytest.mark.parametrize(
    ("cells", "files", "said"),
    [
        ([str(i) for i in range(1, N + 1)], [f"{i:03d}.csv" for i in range(1, N + 1)], "'1' in the table, 001.csv"),
        ([f"{i}.0" for i in range(101, 101 + N)], [f"{i}_c.csv" for i in range(101, 101 + N)], "'101.0' in the"),
        ([one.lower() for one in IDS], [f"sub-{one}/c.csv" for one in IDS], "'inf01' in the table, sub-INF01/c.csv"),
        ([f"Kind {i}" for i in range(101, 101 + N)], [f"Kind_{i}/c.csv" for i in range(101, 101 + N)], "'Kind 101' in"),
    ],
)
def test_ids_that_a_spreadsheet_has_changed_are_named(
    tmp_path: Path, cells: list[str], files: list[str], said: str
) -> None:
    lay(tmp_path, files, sheet(cells))
    with pytest.raises(DataError, match=f"ids in column 'Subject' are written differently.*{said}.*as text"):
        start(tmp_path)


def test_ids_with_accents_are_found_however_the_file_system_composes_them(tmp_path: Path) -> None:
    ids = [f"Mü{i:02d}" for i in range(1, N + 1)]
    lay(tmp_path, [unicodedata.normalize("NFD", f"Größe/{one}_é.csv") for one in ids], sheet(ids))
    done = init(tmp_path)
    assert done.exit_code == 0, done.output
    cohort = read_cohort(tmp_path / "study" / "cohort.yaml")
    assert cohort.ids == tuple(ids)
    np.testing.assert_allclose(cohort.weights[3, 0], np.log1p(square(3)), rtol=1e-6)


def test_session_ids_blanks_and_accents_in_paths(tmp_path: Path) -> None:
    ids = [f"sub-{i:03d}_ses-1" for i in range(1, N + 1)]
    folder = tmp_path / "Matrizen für Größe"
    lay(folder, [f"{one}_conn.csv" for one in ids], sheet(ids), mats="alle Matrizen")
    done = init(folder, mats="alle Matrizen")
    assert done.exit_code == 0, done.output
    assert "connectome-tl run '" in done.output  # the next command can be pasted
    assert read_cohort(folder / "study" / "cohort.yaml").n_subjects == N


@pytest.mark.parametrize("name", ["a*b", "{id}", "x[1]", "what?", "sub-{id} *"])
def test_names_of_folders_that_look_like_patterns_are_names(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    lay(folder, [f"{one}.csv" for one in IDS], mats=name)
    done = init(folder, mats=name)
    assert done.exit_code == 0, done.output
    assert read_cohort(folder / "study" / "cohort.yaml").n_subjects == N


def test_other_files_in_the_folder_do_no_harm(tmp_path: Path) -> None:
    lay(tmp_path, [f"{one}.csv" for one in IDS])
    mats = tmp_path / "mats"
    (mats / "README.txt").write_text("The matrices of INF01 to INF12.\n")
    (mats / "Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0")
    (mats / ".DS_Store").write_bytes(b"\0\1")
    (mats / "._INF01.csv").write_bytes(b"\0\5\x16\x07")
    (mats / "labels.txt").write_text("\n".join("ABCDEFGHIJ"))
    done = init(tmp_path)
    assert done.exit_code == 0, done.output
    assert read_cohort(tmp_path / "study" / "cohort.yaml").n_subjects == N


def test_of_several_matrices_one_is_taken_and_the_others_can_be(tmp_path: Path) -> None:
    lay(tmp_path, [f"{one}_{measure}.csv" for one in IDS for measure in ("count", "fa")])
    done = init(tmp_path)
    assert "../mats/{id}_count.csv was taken, not ../mats/{id}_fa.csv; --pattern" in " ".join(done.output.split())
    text = (tmp_path / "study" / "cohort.yaml").read_text()
    taken, other = "  files: ../mats/{id}_count.csv", "  # files: ../mats/{id}_fa.csv"
    (tmp_path / "study" / "cohort.yaml").write_text(
        text.replace(taken, "  #").replace(other, "  files: ../mats/{id}_fa.csv")
    )
    written = read_cohort(tmp_path / "study" / "cohort.yaml").weights[0, 0]
    np.testing.assert_allclose(written, np.log1p(square(1)), rtol=1e-6)


def test_unnamed_matrices_of_another_size_are_refused(tmp_path: Path) -> None:
    lay(tmp_path, [f"{one}.csv" for one in IDS])
    np.savetxt(tmp_path / "mats" / "INF04.csv", square(0, 5), "%d", ",")
    done = init(tmp_path)
    assert isinstance(done.exception, DataError)
    assert "The files are written. Correct what follows, then: connectome-tl cohort " in done.output
    with pytest.raises(DataError, match=r"INF04, .*differ in size.*expected 10 rows, as the first.*INF01.*got 5"):
        read_cohort(tmp_path / "study" / "cohort.yaml")


def test_a_damaged_first_file_is_named_as_itself(tmp_path: Path) -> None:
    lay(tmp_path, [f"{one}.csv" for one in IDS])
    (tmp_path / "mats" / "INF01.csv").write_text("")
    start(tmp_path)
    with pytest.raises(DataError, match=r"INF01.csv: the file is empty"):
        read_cohort(tmp_path / "study" / "cohort.yaml")


def test_files_that_are_no_matrices_say_why(tmp_path: Path) -> None:
    lay(tmp_path, [f"{one}.csv" for one in IDS])
    for one in IDS:
        (tmp_path / "mats" / f"{one}.csv").write_text("time,signal\n" + "1,2\n" * 30)
    with pytest.raises(DataError, match=r"INF01.csv: .*cannot be read as matrices: the matrix is not square"):
        start(tmp_path)


def test_a_file_that_holds_only_names_says_so(tmp_path: Path) -> None:
    lay(tmp_path, [f"{one}.csv" for one in IDS])
    (tmp_path / "mats" / "INF03.csv").write_text("a,b\n")
    start(tmp_path)
    with pytest.raises(DataError, match=r"INF03\.csv: the file holds names and no numbers; .*got only a, b"):
        read_cohort(tmp_path / "study" / "cohort.yaml")


def test_a_file_that_is_no_stack_and_a_folder_without_ids_are_told_apart(tmp_path: Path) -> None:
    lay(tmp_path, ["a.csv"])
    with pytest.raises(UsageError, match=r"one file with the matrices of all subjects.*\.npy, \.npz, \.mat"):
        start_from([tmp_path / "sheet.csv"], tmp_path / "mats" / "a.csv", tmp_path, answers={}, ask=None)
    with pytest.raises(DataError, match=r"no column of the table.*--matrices FILE"):
        start(tmp_path)


@pytest.mark.parametrize("kind", ["npy", "npz", "mat", "mat and list"])
@pytest.mark.parametrize("header", ["", "participant\n"])
def test_one_file_with_all_matrices_and_the_list_of_its_ids_become_a_cohort(
    tmp_path: Path, kind: str, header: str
) -> None:
    stack = np.stack([square(i) for i in range(N)]).astype(float)
    file = tmp_path / f"all.{kind.split()[0]}"
    inside = {"subjects": np.array(IDS, dtype=object)} if kind == "mat" else {}
    if kind == "npz":
        np.savez(file, fc=stack, age=np.ones((N, 2)))
    elif kind == "npy":
        np.save(file, stack)
    else:
        savemat(file, {"fc": np.moveaxis(stack, 0, -1), "age": np.ones((N, 1)), **inside})
    (tmp_path / "order.txt").write_text(header + "\n".join(IDS) + "\n")
    sheet(IDS).sample(frac=1, random_state=3).to_csv(tmp_path / "sheet.csv", index=False)
    if not inside:
        assert "sheet.csv, order.txt" in str(init(tmp_path, mats=file.name).exception)  # the order is never guessed
    done = init(tmp_path, *([] if inside else ["--answer", "rows=order.txt"]), mats=file.name)
    assert done.exit_code == 0, done.output
    cohort = read_cohort(tmp_path / "study" / "cohort.yaml")
    assert sorted(cohort.ids) == IDS
    for subject, weights in zip(cohort.ids, cohort.weights, strict=True):
        np.testing.assert_allclose(weights[0], np.log1p(square(IDS.index(subject))), rtol=1e-5)


def test_the_measure_in_bids_names_is_kept_and_a_pattern_may_be_copied_from_the_note(tmp_path: Path) -> None:
    names = [f"sub-{one}_meas-{measure}_relmat.csv" for measure in ("abs", "corr") for one in IDS]
    lay(tmp_path, names)
    said = init(tmp_path).output
    (other,) = re.findall(r"not (\S+); --pattern", " ".join(said.split()))
    start_from([tmp_path / "sheet.csv"], tmp_path / "mats", tmp_path / "more", answers=ANSWERS, ask=None, pattern=other)
    measures = {read_cohort(tmp_path / out / "cohort.yaml").measures for out in ("study", "more")}
    assert measures == {("abs",), ("corr",)}


def test_without_a_list_of_ids_the_order_of_a_stack_is_asked_for(tmp_path: Path) -> None:
    np.save(tmp_path / "all.npy", np.stack([square(i) for i in range(N - 1)]))
    sheet(IDS).to_csv(tmp_path / "sheet.csv", index=False)
    with pytest.raises(DataError, match="one id per line, in the order of the matrices"):
        start_from([tmp_path / "sheet.csv"], tmp_path / "all.npy", tmp_path / "study", answers={}, ask=None)


def test_numbered_rows_are_called_so_whatever_the_files_are_called(tmp_path: Path) -> None:
    lay(tmp_path, [f"{one}_atlas-aal90.csv" for one in IDS])
    done = init(tmp_path)
    assert "10 regions (numbered)" in done.output


def test_time_series_are_asked_about_and_the_answer_works(tmp_path: Path) -> None:
    """Tables that are not square may be cut off: they are never taken as time series without an answer."""
    rng = np.random.default_rng(0)
    (tmp_path / "series").mkdir()
    ids = [f"S{i:02d}" for i in range(12)]
    for one in ids:
        frames = rng.normal(size=(60, 4)) @ rng.normal(size=(4, 90))
        np.savetxt(tmp_path / "series" / f"{one}_bold.csv", frames, "%.4f", ",")
    table = pd.DataFrame({"id": ids, "bayley_motor": rng.normal(90, 14, 12).round()})
    table.to_csv(tmp_path / "sheet.csv", index=False)
    files = (tmp_path / "sheet.csv", tmp_path / "series", tmp_path / "study")
    with pytest.raises(UsageError, match=r"are they time series.*--answer 'format=\.\.\.'"):
        init_study(*files, answers={"atlas": "aal90"})
    cohort = read_cohort(init_study(*files, answers={"atlas": "aal90", "format": "series"})[0])
    assert cohort.measures == ("correlation",)
    assert cohort.edge_transforms == ("fisher_z",)
