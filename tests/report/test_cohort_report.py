"""The report of a cohort: findings first, self-contained, without scripts, the same bytes every time."""

from __future__ import annotations

import base64
import re

import numpy as np
import pytest
from matplotlib.image import imread
from page import HOSTILE, Page
from report_example import domain_tasks
from report_parts import example_cohorts, example_quality

from connectome_tl.report.cohort_report import render_cohort_report
from connectome_tl.report.figures.cohort import matrix_pngs, outliers
from connectome_tl.settings.records.results import (
    CohortQualityRecord,
    CohortRecord,
    MatrixImage,
    OutcomeCounts,
    People,
    SubjectMeasure,
)


@pytest.fixture(scope="module")
def cohort() -> CohortRecord:
    return example_cohorts(domain_tasks())[2]


@pytest.fixture(scope="module")
def quality() -> CohortQualityRecord:
    return example_quality()


def test_it_loads_nothing_is_well_formed_and_repeats_itself(cohort: CohortRecord, quality: CohortQualityRecord) -> None:
    html = render_cohort_report(cohort, quality)
    page = Page(html)
    assert page.loads() == []
    assert page.faults == []
    assert "http" not in html.replace("http-equiv", "")
    assert len(page.ids) == len(set(page.ids))
    assert render_cohort_report(cohort, example_quality()) == html
    again = CohortQualityRecord.model_validate_json(quality.model_dump_json())
    assert render_cohort_report(cohort, again) == html


def test_findings_come_first_worst_first(cohort: CohortRecord, quality: CohortQualityRecord) -> None:
    html = render_cohort_report(cohort, quality)
    assert re.findall(r'<section id="([a-z]+)"', html)[0] == "findings"
    levels = re.findall(r'class="findings level-([a-z]+)"', html)
    assert levels == ["error", "warning", "note"]
    calm = render_cohort_report(cohort, quality.model_copy(update={"findings": ()}))
    assert "None: all checks passed." in calm


def test_the_page_says_who_they_are_and_why_outcomes_are_missing(
    cohort: CohortRecord, quality: CohortQualityRecord
) -> None:
    people = People(noun="children", n_subjects=31, n_scans=40)
    counts = OutcomeCounts(task="cognitive", observed=20, lost=3, unknown=17, n_positive=5)
    html = render_cohort_report(cohort.model_copy(update={"people": people, "outcomes": (counts,)}), quality)
    assert html.count("40 scans of 31 children") == 2
    row = next([cell.strip() for cell in row] for row in Page(html).rows if row and row[0].strip() == "Cognitive")
    assert row[-5:] == ["20 (5+)", "3", "0", "0", "17"]
    assert 'class="unknown" style="width:42.5%"' in html


def test_every_subject_has_a_row_with_its_missing_regions(cohort: CohortRecord, quality: CohortQualityRecord) -> None:
    rows = {row[0]: row for row in Page(render_cohort_report(cohort, quality)).rows if row and len(row) == 8}
    lacking = [subject for subject, _ in quality.missing]
    for i, subject in enumerate(quality.subjects):
        assert rows[subject][3] == str(lacking.count(i))
    assert "n/a" in rows[quality.subjects[-1]]  # the one without a value for motion


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_names_are_shown_and_do_nothing(cohort: CohortRecord, quality: CohortQualityRecord, text: str) -> None:
    def poisoned(word: str) -> str:
        few = quality.model_copy(
            update={
                "subjects": tuple(word + s for s in quality.subjects),
                "regions": tuple(word + r for r in quality.regions),
                "sites": tuple(word + s for s in quality.sites),
                "age_unit": word,
                "measures": tuple(m.model_copy(update={"name": word, "unit": word}) for m in quality.measures),
                "findings": tuple(
                    f.model_copy(update={"check": word, "message": word, "subject": word, "regions": (word,) * 9})
                    for f in quality.findings
                ),
                "matrices": tuple(m.model_copy(update={"title": word}) for m in quality.matrices[:2]),
                "versions": {word: word},
            }
        )
        return render_cohort_report(cohort.model_copy(update={"name": word}), few)

    page = Page(poisoned(text))
    assert page.loads() == []
    assert page.faults == []
    assert page.tags == Page(poisoned("harmless")).tags
    assert text.split("\u202e")[0] in "".join(page.text)


def test_a_bare_cohort_can_be_shown(cohort: CohortRecord) -> None:
    bare = CohortQualityRecord(subjects=("a", "b"), regions=())
    page = Page(render_cohort_report(cohort, bare))
    assert page.faults == []
    assert "Simulated data" not in page.visible


@pytest.mark.parametrize(
    "update",
    [
        {"sites": ("one",)},
        {"ages": (1.0,)},
        {"measures": (SubjectMeasure(name="density", values=(1.0,)),)},
        {"matrices": (MatrixImage(title="m", n_rows=3, values=(1.0,) * 8),)},
    ],
)
def test_records_that_do_not_fit_are_refused(cohort: CohortRecord, quality: CohortQualityRecord, update: dict) -> None:
    with pytest.raises(ValueError, match="expected"):
        render_cohort_report(cohort, quality.model_copy(update=update))


def test_outliers_are_beyond_the_limits_and_never_undefined() -> None:
    measure = SubjectMeasure(name="m", values=(1.0, 5.0, float("nan"), 3.0), low=2.0, high=4.0)
    np.testing.assert_array_equal(outliers(measure), [True, True, False, False])
    free = measure.model_copy(update={"low": None, "high": None})
    assert not outliers(free).any()


@pytest.mark.parametrize("negative", [False, True])
def test_a_matrix_becomes_one_pixel_per_edge(tmp_path, negative: bool) -> None:
    values = np.arange(16.0).reshape(4, 4)
    values = values + values.T - (20 if negative else 0)
    one = MatrixImage(title="m", n_rows=4, values=tuple(values.ravel()))
    half = one.model_copy(update={"values": tuple(values.ravel() / 2)})
    pictures = []
    for url in matrix_pngs([one, half]):
        (tmp_path / "m.png").write_bytes(base64.b64decode(url.removeprefix("data:image/png;base64,")))
        pictures.append(imread(tmp_path / "m.png"))
    picture = pictures[0]
    assert picture.shape[:2] == (4, 4)
    np.testing.assert_array_equal(picture, picture.transpose(1, 0, 2))
    assert len({tuple(pixel) for pixel in picture.reshape(16, -1)}) == len(np.unique(values))
    assert (pictures[1] != picture).any()  # one colour range: half the weights are paler


def test_no_matrices_no_pictures() -> None:
    assert matrix_pngs([]) == []
