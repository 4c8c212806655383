"""The report of a run: self-contained, without scripts, with n in every row, the same bytes every time."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from page import Page
from report_example import MODELS, domain_tasks, example_record

from connectome_tl.report.figures.fits import training_figure
from connectome_tl.report.figures.tasks import class_names
from connectome_tl.report.labels import count, model_label, number, task_title
from connectome_tl.report.render import render_report
from connectome_tl.report.tables.downloads import collected
from connectome_tl.report.tables.levels import level_table
from connectome_tl.report.tables.plain import lettered
from connectome_tl.report.views import task_views
from connectome_tl.settings.records.results import NetworkWeight, Prediction, RunRecord, TrainingCurve
from connectome_tl.tasks import Task

NAN = float("nan")
SMALL = {"n_tasks": 4, "n_repeats": 2, "n_permutations": 19}


@pytest.fixture(scope="module")
def record() -> RunRecord:
    return example_record()


@pytest.fixture(scope="module")
def small() -> RunRecord:
    """A record with every kind of figure: three binary outcomes and a score, few repeats."""
    return example_record(**SMALL)


@pytest.fixture(scope="module")
def html(record: RunRecord) -> str:
    return render_report(record)


@pytest.fixture(scope="module")
def page(html: str) -> Page:
    return Page(html)


def test_it_loads_nothing_and_runs_nothing(html: str, page: Page) -> None:
    assert page.loads() == []
    assert "http://" not in html
    assert "https://" not in html
    policy = next(value for tag, key, value in page.attributes if tag == "meta" and value.startswith("default-src"))
    assert policy.startswith("default-src 'none'")
    assert "script" not in policy
    # The policy precedes everything that it applies to.
    assert html.index("Content-Security-Policy") < html.index("<style")


def test_it_is_well_formed_and_its_ids_are_unique_and_found(html: str, page: Page) -> None:
    assert page.faults == []
    assert len(page.ids) == len(set(page.ids))
    wanted = {value[1:] for _, key, value in page.attributes if key == "href" and value.startswith("#")}
    wanted |= set(re.findall(r"url\(#([^)]+)\)", html))
    assert wanted <= set(page.ids)


def test_the_same_record_gives_the_same_bytes(small: RunRecord) -> None:
    """In this process, and in another one with other hashes."""
    html = render_report(small)
    assert render_report(example_record(**SMALL)) == html
    code = (
        "import sys, hashlib; sys.path.insert(0, sys.argv[1]); from report_example import example_record\n"
        "from connectome_tl.report.render import render_report\n"
        f"print(hashlib.sha256(render_report(example_record(**{SMALL})).encode()).hexdigest())\n"
        "heavy = {'torch', 'monai', 'torch_geometric', 'nilearn', 'pandas'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    seed = "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"
    printed = subprocess.run(
        [sys.executable, "-c", code, str(Path(__file__).parent)],
        env={**os.environ, "PYTHONHASHSEED": seed},
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert printed.strip() == hashlib.sha256(html.encode()).hexdigest()


def test_a_record_read_back_from_json_gives_the_same_report(small: RunRecord) -> None:
    scores = (small.scores[0].model_copy(update={"value": NAN, "low": NAN, "high": NAN}), *small.scores[1:])
    holed = small.model_copy(update={"scores": scores})
    again = RunRecord.model_validate_json(holed.model_dump_json())
    assert render_report(again) == render_report(holed) != render_report(small)


def test_the_verdict_comes_first_then_warnings_evidence_cohorts_scores_methods_provenance(html: str) -> None:
    sections = re.findall(r'<section id="([a-z]+)"', html)
    assert sections == [
        "verdict", "warnings", "evidence", "training", "cohorts", "scores", "methods", "provenance",
    ]  # fmt: skip


@pytest.mark.usefixtures("blank_figures")
def test_every_score_is_shown_with_n_and_positives(record: RunRecord) -> None:
    """Each leading score is drawn; its n is that of the title or stands next to it, and is saved with it."""
    few = record.scores[3].model_copy(update={"n": 7, "n_positive": 2})
    with collected() as tables:
        page = Page(render_report(record.model_copy(update={"scores": (*record.scores[:3], few, *record.scores[4:])})))
    assert any(row[0].endswith("n = 7 (2+)") for row in page.rows) == (few.metric == "auc")
    for view in task_views(record):
        assert view.n_text in page.visible
        saved = next(table for table in tables if table.title == f"{task_title(view.task)}, all models")
        for score in record.scores:
            if (score.task, score.metric) == (view.task.name, view.task.spec.primary) and score != record.scores[3]:
                label, value = model_label(score.model).label, number(score.value)
                assert any(len(row) == 5 and row[0] == label and value in row[2] for row in page.rows), score
                assert any(
                    row[:2] == (label, value) and row[3] == count(score.n, score.n_positive) for row in saved.rows
                )


def test_every_model_and_every_difference_of_every_task_is_in_the_forest(page: Page, record: RunRecord) -> None:
    forest = [row for row in page.rows if len(row) == 5 and row[1].isspace()]
    for model in MODELS:
        rows = [row for row in forest if row[0] == model_label(model).label]
        assert len(rows) == len(record.tasks), model
        assert sum(bool(row[4]) for row in rows) == sum(c.control == model for c in record.comparisons), model


@pytest.mark.usefixtures("blank_figures")
def test_negative_transfer_is_said_aloud(record: RunRecord) -> None:
    harms = [
        c for c in record.comparisons if c.verdict == "harms" and c.control in ("no_pretrain", "no_adapt", "scratch")
    ]
    assert harms  # the example has some
    assert render_report(record).count("Negative transfer.") == len(harms)
    calm = tuple(c.model_copy(update={"verdict": "cannot tell"}) for c in record.comparisons)
    assert "Negative transfer." not in render_report(record.model_copy(update={"comparisons": calm}))


@pytest.mark.usefixtures("blank_figures")
def test_weights_of_the_network_and_of_transferred_networks_are_shown_at_a_glance(record: RunRecord) -> None:
    task = record.tasks[0].name
    weights = {
        "network_weights": (NetworkWeight(task=task, mean=0.31, low=0.1, high=0.5, n_fits=15),),
        "transferred_weights": (NetworkWeight(task=task, mean=0.84, low=0.84, high=0.84, n_fits=15),),
    }
    shown = Page(render_report(record.model_copy(update=weights))).visible
    assert "The network has weight 0.31, 0.10 to 0.50 over 15 fits" in shown
    assert "those from transferred weights have weight 0.84 in 15 fits" in shown


@pytest.mark.usefixtures("blank_figures")
def test_what_a_comparison_says_in_words_is_its_verdict(record: RunRecord) -> None:
    one = next(c for c in record.comparisons if c.control == "no_pretrain")
    base = next(c for c in record.comparisons if c.control == "clinical_only")
    small = record.model_copy(update={"predictions": (), "permutations": (), "curves": ()})
    words = {"helps": ("helps", "better"), "harms": ("harms (negative transfer)", "worse"),
             "no benefit": ("no benefit", "no benefit"), "cannot tell": ("cannot tell", "cannot tell")}  # fmt: skip
    for verdict, (stage, baseline) in words.items():
        pair = tuple(c.model_copy(update={"verdict": verdict}) for c in (one, base))
        rows = Page(render_report(small.model_copy(update={"comparisons": pair}))).rows
        said = {(row[0], row[4]) for row in rows if len(row) == 5 and row[1].isspace()}
        assert ("Without stage 1 (pretraining)", stage) in said
        assert ("Clinical covariates only", baseline) in said


@pytest.mark.parametrize("flags", [(False,) * 3, (True, False, False), (False, True, True), (True,) * 3])
def test_the_stamp_is_on_every_table_and_figure(small: RunRecord, flags: tuple[bool, bool, bool]) -> None:
    names = dict(zip(("simulated", "transductive", "exploratory"), flags, strict=True))
    stamped = render_report(small.model_copy(update=names))
    short = {"simulated": "Simulated data", "transductive": "Transductive", "exploratory": "Exploratory"}
    captions = re.findall(r"<caption.*?</caption>", stamped, flags=re.S)
    drawings = re.findall(r"<svg.*?</svg>", stamped, flags=re.S)
    flows = [drawing for drawing in drawings if "Flow of subjects through the study" in drawing]
    assert len(captions) > 15
    assert len(drawings) > 15
    assert len(flows) == 1  # all cohorts in one
    assert all(cohort.name in stamped for cohort in small.cohorts)
    for flag, is_set in names.items():
        for part in (*captions, *drawings, *flows):
            assert (short[flag] in part) == is_set
    assert stamped.count("Research only") >= 2


def test_undefined_numbers_are_n_a_with_their_reason(record: RunRecord) -> None:
    undefined = {"value": NAN, "low": NAN, "high": NAN, "reason": "only one class in every test fold"}
    gone = {"difference": NAN, "low": NAN, "high": NAN, "verdict": "cannot tell"}
    html = render_report(
        record.model_copy(
            update={
                "scores": tuple(s.model_copy(update=undefined) for s in record.scores),
                "comparisons": tuple(c.model_copy(update=gone) for c in record.comparisons),
                "permutations": tuple(
                    p.model_copy(update={"observed": NAN, "p_value": NAN, "p_value_max": NAN, "null": (NAN,)})
                    for p in record.permutations
                ),
                "curves": tuple(
                    c.model_copy(update={"median": (NAN,) * 60, "low": (NAN,) * 60, "high": (NAN,) * 60})
                    for c in record.curves
                ),
            }
        )
    )
    page = Page(html)
    assert page.faults == []
    assert "only one class in every test fold" in page.visible
    assert page.visible.count("n/a") > len(record.scores) / 2
    assert not re.search(r"\b(nan|None|inf)\b", page.visible)
    assert not any(re.search(r"nan|None", value) for _, key, value in page.attributes if key == "style")


@pytest.mark.usefixtures("blank_figures")
def test_an_interval_without_bounds_is_said_to_be_missing(record: RunRecord) -> None:
    scores = tuple(s.model_copy(update={"low": NAN, "high": NAN}) for s in record.scores if s.model == "full")
    visible = Page(render_report(record.model_copy(update={"scores": scores, "predictions": ()}))).visible
    assert "[no interval]" in visible
    assert not re.search(r"\b(nan|inf)\b", visible)


@pytest.mark.usefixtures("blank_figures")
def test_no_permutations_is_said() -> None:
    visible = Page(render_report(example_record(n_permutations=0, n_tasks=1, n_repeats=2))).visible
    assert "No permutation test was run" in visible
    assert "p = " not in visible


@pytest.mark.parametrize(("n_tasks", "n_repeats"), [(1, 1), (1, 3), (12, 2)])
def test_one_task_one_repeat_and_a_dozen_tasks(n_tasks: int, n_repeats: int) -> None:
    record = example_record(n_tasks=n_tasks, n_repeats=n_repeats, n_permutations=19)
    page = Page(render_report(record))
    assert page.faults == []
    assert page.loads() == []
    assert sum(tag == "article" and value == "task" for tag, key, value in page.attributes if key == "class") == n_tasks
    assert ("over 1 repeat)" in page.visible) == (n_repeats == 1)


def test_a_record_with_nothing_in_it_still_says_so() -> None:
    empty = RunRecord(title="Nothing yet", tasks=(), cohorts=(), verdicts=(), scores=(), comparisons=())
    page = Page(render_report(empty))
    assert page.faults == []
    assert "Nothing yet" in page.visible
    lonely = empty.model_copy(update={"tasks": domain_tasks(6)})
    page = Page(render_report(lonely))
    assert page.visible.count("No verdict.") == 6
    assert "No paired differences for this task: n/a." in page.visible


@pytest.mark.parametrize("kind", ["ordinal", "multiclass"])
def test_other_kinds_of_tasks_are_shown(record: RunRecord, kind: str) -> None:
    task = Task(name="severity", kind=kind, column="severity", levels=("none", "mild", "severe"))
    metric = "r2" if kind == "ordinal" else "auc"
    score = record.scores[0].model_copy(update={"task": "severity", "metric": metric, "n_positive": None})
    rows = tuple(
        Prediction(
            subject=f"s{i}", task="severity", model="full", repeat=0, fold=i % 3, y_true=i % 3, y_score=i % 4, y_pred=0
        )
        for i in range(20)
    )
    page = Page(render_report(record.model_copy(update={"tasks": (task,), "scores": (score,), "predictions": rows})))
    assert page.faults == []
    assert "Severity" in page.visible
    assert ("Predicted against observed" in page.visible) == (kind == "ordinal")


def test_constant_predictions_and_one_class_do_not_break_it(small: RunRecord) -> None:
    constant = tuple(p.model_copy(update={"y_score": 0.25}) for p in small.predictions)
    assert Page(render_report(small.model_copy(update={"predictions": constant}))).faults == []
    binary = {t.name for t in small.tasks if t.is_binary}
    negative = tuple(p.model_copy(update={"y_true": 0.0}) for p in small.predictions if p.task in binary)
    page = Page(render_report(small.model_copy(update={"predictions": negative})))
    assert "ROC" not in page.visible.split()
    assert "Predicted risk by outcome" in page.visible


def test_models_that_share_their_fits_share_a_line_and_a_wide_loss_has_plain_numbers() -> None:
    step = tuple(range(30))
    loss = tuple(2.0 * 0.8**s for s in step)
    one = TrainingCurve(stage="adapt", model="full", n_fits=5, step=step, median=loss, low=loss, high=loss)
    same = one.model_copy(update={"model": "single_task"})
    other = one.model_copy(update={"model": "no_pretrain", "n_fits": 1})
    svg = training_figure([same, one, other], "t")
    assert svg is not None
    page = Page(svg)
    assert "Full model (5 fits, shared with 1 other model)" in page.visible
    assert "Without stage 1 (pretraining) (1 fit)" in page.visible
    assert "Single task" not in page.visible
    assert "0.05" in page.visible.split()
    assert "$" not in page.visible
    assert "^" not in page.visible


def test_clinical_results_are_shown_and_small_groups_are_named_without_a_score(page: Page) -> None:
    rows = [[cell.strip() for cell in row] for row in page.rows]
    assert ["Gestational age", ">= 28 weeks", "not shown", "too few to show"] in rows
    assert ["Sex", "female", "14 (4+)", "AUC 0.66 [0.42, 0.86]"] in rows
    assert ["Full model", "0.90", "0.91", "0.86", "0.93", "0.61", "0.00", "31"] in rows
    assert ["Full model", "0.90", "0.91", "18.40", "31"] in rows
    assert ["motor", "birth_weight", "1021 (n = 31)", "840 (n = 2)", "+0.70"] in rows
    assert any(row[:1] == ["binary"] and row[4:7] == ["655", "31", "too few"] for row in rows)
    assert any(row[1:] == ["31", "2 (all)", "0.70; 0.62 to 0.75"] for row in rows)
    assert any(row[::2] == ["Brier score", "0.21 [0.01, 0.41]"] for row in rows)
    assert any(row[::2] == ["Sensitivity", "0.40 [0.20, 0.60]"] for row in rows)
    assert "chosen for a specificity of 0.90, 0.60 (0.55 to 0.65) on the scale of the raw risk" in page.visible
    assert ["Ridge on edges", "0.13", "0.60", "22 %", "100", "3"] in rows
    assert any(row[2:] == ["interval excludes 0.5", "0.03", "0.16", "0.43", "0.84"] for row in rows)
    assert any(row[1:] == ["AUC", "0.58", "[0.30, 0.80]", "31"] for row in rows)


@pytest.mark.usefixtures("blank_figures")
def test_without_inner_folds_it_is_said_that_risks_are_raw(record: RunRecord) -> None:
    raw = record.model_copy(update={"recalibrated": ()})
    without, fixed = Page(render_report(raw)), Page(render_report(record))
    assert without.visible.count("No inner folds") == sum(task.is_binary for task in record.tasks)
    assert ["Metric", "Raw risks", "Recalibrated"] not in without.rows
    assert ["Metric", "Raw risks", "Recalibrated"] in fixed.rows


def test_classes_are_named_by_their_cut_off() -> None:
    below = Task(name="delay", kind="binary", column="score", operator="<", cutoff=85)
    assert class_names(below) == ("score < 85", "score ≥ 85")
    assert class_names(below.model_copy(update={"operator": ">="})) == ("score ≥ 85", "score < 85")
    assert class_names(Task(name="asd", kind="binary", column="dx", levels=("control", "ASD"))) == ("ASD", "control")
    assert class_names(Task(name="asd", kind="binary", column="dx")) == ("positive", "negative")


def test_a_table_says_which_levels_are_called_which(record: RunRecord) -> None:
    task = Task(name="severity", kind="ordinal", column="severity", levels=("none", "mild", "severe"))
    calls = [(0, 0), (0, 1), (1, 1), (2, 1), (2, 2)]
    rows = tuple(
        Prediction(
            subject=f"s{i}", task="severity", model="full", repeat=r, fold=0, y_true=y, y_score=p,
            y_pred=(p if r == 0 else y), probabilities=(0.2, 0.3, 0.5),
        )
        for r in range(2) for i, (y, p) in enumerate(calls)
    )  # fmt: skip
    header, found = level_table(record.model_copy(update={"predictions": rows}), task)
    assert header == ("Observed", "called none", "called mild", "called severe", "Share of correct calls")
    assert found == [
        ("none", "1.5", "0.5", "0.0", "0.75"),
        ("mild", "0.0", "1.0", "0.0", "1.00"),
        ("severe", "0.0", "0.5", "1.5", "0.75"),
    ]
    assert level_table(record, task)[1] == []
    assert level_table(record, record.tasks[0]) == ((), [])


@pytest.mark.usefixtures("blank_figures")
def test_a_baseline_that_scores_better_stands_at_a_glance(record: RunRecord) -> None:
    verdicts = tuple(v.model_copy(update={"better_baseline": "clinical_only"}) for v in record.verdicts[:1])
    glance = Page(render_report(record.model_copy(update={"verdicts": verdicts}))).visible
    first = glance.partition("At a glance")[2]
    assert "Better baseline" in first
    assert first.index("Clinical covariates only") < first.index("The verdicts in words")
    table = Page(render_report(record)).visible.partition("At a glance")[2].partition("The verdicts in words")[0]
    assert "Clinical covariates only" not in table


@pytest.mark.usefixtures("blank_figures")
def test_methods_of_a_table_are_letters_with_a_legend_and_whole_in_its_download(record: RunRecord) -> None:
    with collected() as tables:
        page = Page(render_report(record))
    found = [table for table in tables if table.columns[-1] == "Method" and table.title != "Methods of the intervals"]
    assert [table.title for table in found] == ["Permutation tests", "Paired differences"]
    for table, records in zip(found, (record.permutations, record.comparisons), strict=True):
        assert {row[-1] for row in table.rows} == {one.method for one in records}
    assert all(page.visible.count(one.method) == 1 for one in record.permutations)
    assert sum(row[-1:] == ["a"] for row in page.rows) == len(found[0].rows)


@pytest.mark.usefixtures("blank_figures")
def test_paired_differences_are_drawn_and_are_whole_in_a_download(record: RunRecord) -> None:
    with collected() as tables:
        page = Page(render_report(record))
    differences = next(table for table in tables if table.title == "Paired differences")
    assert len(differences.rows) == len(record.comparisons)
    assert not any(len(row) == len(differences.columns) and row[1] == differences.rows[0][1] for row in page.rows)


def test_letters_of_methods_do_not_repeat() -> None:
    rows, texts = lettered([("x", f"method {i % 60}") for i in range(120)])
    assert len({letter for letter, _ in texts}) == 60
    assert [letter for letter, _ in texts][24:28] == ["y", "z", "aa", "ab"]
    assert [dict(texts)[row[-1]] for row in rows] == [f"method {i % 60}" for i in range(120)]


@pytest.mark.usefixtures("blank_figures")
def test_what_is_not_folded_can_be_read_in_minutes_and_long_tables_are_downloads() -> None:
    html = render_report(example_record(n_tasks=3, n_repeats=2, n_permutations=19))
    unfolded = html
    while "<details" in unfolded:  # the innermost first
        unfolded = re.sub(r"<details[^>]*>((?!<details).)*?</details>", "", unfolded, flags=re.S)
    assert len(Page(unfolded).visible.split()) < 1500
    assert len(Page(html).visible.split()) < 6000
