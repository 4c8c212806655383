"""One page of every kind, drawn from examples."""

from __future__ import annotations

from report_example import domain_tasks, example_record
from report_parts import example_cohorts, example_quality
from test_explanation_figures import example
from test_volume_pages import maps_page, mean_map, network, pruning_page, segmentation_page

from connectome_tl.report.cohort_report import render_cohort_report
from connectome_tl.report.explanations import render_explanations
from connectome_tl.report.render import render_report
from connectome_tl.report.scan_page import BEGIN, END, ScanIndex, ScanPage, beside_cohort, render_index, render_scan
from connectome_tl.report.tuning import render_search
from connectome_tl.report.validation import render_validation
from connectome_tl.settings.records.bundles import ExpectedScore, ShiftRow, ValidatedTask, ValidationRecord
from connectome_tl.settings.records.results import RunRecord
from connectome_tl.settings.tuning import Dimension, FoldChoice, SearchRecord, TrialRecord, Tuned

PIXEL = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAAB"
    "JRU5ErkJggg=="
)
NUMBERS = {"brain_ml": 412.0, "mean_fd": 0.31, "max_fd": 1.9, "b0_snr": 18.2, "snr_b1000": 7.4, "mean_fa": 0.21,
           "mean_md": 1.1e-3, "n_regions_present": 90.0, "share_assigned": 0.83, "density": 0.42}  # fmt: skip


def every_page() -> dict[str, str]:
    """HTML by kind of page."""
    record = example_record(n_tasks=2, n_repeats=2, n_permutations=40)
    return {
        "run": render_report(record),
        "cohort": render_cohort_report(example_cohorts(domain_tasks())[2], example_quality()),
        "scan": scan_page(),
        "index": index_page(),
        "validation": render_validation(validation(record)),
        "tune": render_search(search()),
        "prune": pruning_page(network(), network(fold=1, loss=0.8)),
        "maps": maps_page(mean_map("noise"), mean_map("occlusion"), withheld={"other": "AUC 0.38: not above chance"}),
        "segment": segmentation_page(),
        "explanation": render_explanations(
            example("unc_aal90"), example_record(n_tasks=1, n_repeats=1, n_permutations=0)
        ),
    }


def scan_page() -> str:
    page = render_scan(
        ScanPage(
            name="sub-01_ses-1",
            warnings=("12 of 64 volumes are flagged for motion",),
            told="Template of 40 weeks; registered to the T2w.",
            pictures=((PIXEL, "cuts: FA; MD"),),
            matrix=PIXEL,
            measure="streamline count",
            lines="90 regions, density 0.42.",
            numbers=NUMBERS,
            index="../index.html",
            stamps=("no correction of susceptibility",),
            notes=("bvecs were turned by the b-matrix",),
        )
    )
    typical = {key: (value * 0.9, abs(value) * 0.05) for key, value in NUMBERS.items()}
    beside = beside_cohort(NUMBERS, typical, [("Before: sub-00", "sub-00.html"), ("After: sub-02", "sub-02.html")])
    return page[: page.index(BEGIN)] + beside + page[page.index(END) + len(END) :]


def index_page() -> str:
    scans = [(f"sub-{i:02d}", f"sub-{i:02d}/report.html", {k: v * (1 + i / 50) for k, v in NUMBERS.items()})
             for i in range(8)]  # fmt: skip
    return render_index(
        ScanIndex(
            name="neonates",
            scans=scans,
            failed=[("sub-09", "no mask: expected sub-09_mask.nii.gz")],
            notes=("one scan has no T2w",),
            stamps=("8 of 8: no correction of susceptibility",),
            typical={key: (value, abs(value) * 0.02) for key, value in NUMBERS.items()},
        )
    )


def validation(record: RunRecord) -> ValidationRecord:
    """The scores of an example of a run as if they came from another cohort."""
    task = record.tasks[0]
    scores = tuple(one for one in record.scores if one.task == task.name and one.model == "full")
    known = ("auc", "brier", "sensitivity", "specificity")
    expected = tuple(
        ExpectedScore(metric=one.metric, value=round(one.value, 2), low=round(one.low, 2), high=round(one.high, 2))
        for one in scores
        if one.metric in known
    )
    curve = next(one for one in record.calibration_curves if one.task == task.name)
    decision = next(one for one in record.decision_curves if one.task == task.name)
    return ValidationRecord(
        title="Infants of one hospital",
        cohort="another hospital",
        bundle="ab" * 32,
        n_subjects=60,
        noun="infants",
        tasks=(
            ValidatedTask(task=task, n="58", n_positive="14", scores=scores, expected=expected, shift=0.4,
                          recalibrated=scores, curve=curve, decision=decision, above_chance=True),
        ),
        shifts=(
            ShiftRow(what="postmenstrual age", limit="24 to 32 weeks", here="25 to 41 weeks", outside="12"),
            ShiftRow(what="skull stripping", limit="none of the images", here="0 of 60 images", outside="0"),
        ),
        warnings=("3 subjects have no sex",),
        simulated=True,
    )  # fmt: skip


def search() -> SearchRecord:
    space = {
        "core.rbf_from": Dimension(choices=(50, 100)),
        "stages.finetune.training.learning_rate": Dimension(low=1e-4, high=1e-2, log=True),
    }
    trials = tuple(
        TrialRecord(repeat=0, fold=fold, trial=i, state="complete", values=(0.6 + 0.02 * i,),
                    params={"core.rbf_from": 50 * (1 + i % 2), "stages.finetune.training.learning_rate": 1e-4 * 2**i})
        for fold in range(2)
        for i in range(5)
    )  # fmt: skip
    folds = tuple(
        FoldChoice(repeat=0, fold=fold, trial=4, values=(0.68,), settings=trials[4].params) for fold in range(2)
    )
    tuned = Tuned(study="a", split_plan="b", data="c", model="full", task="delay", objectives=("auc",), trials=5,
                  sampler="tpe", folds=folds)  # fmt: skip
    return SearchRecord(title="Infants", outcome="delay", noun="infants", space=space, tuned=tuned, trials=trials,
                        simulated=True)  # fmt: skip
