"""Parts of the example: cohorts, curves, further tables, quality."""

from __future__ import annotations

import numpy as np

from connectome_tl.settings.records.results import (
    CohortQualityRecord,
    CohortRecord,
    FlowStep,
    MatrixImage,
    OutcomeCounts,
    QualityFinding,
    ResultTable,
    SubjectMeasure,
    TableRow,
    TrainingCurve,
)
from connectome_tl.settings.records.scores import Score
from connectome_tl.settings.records.statistics import (
    AdaptationProbe,
    CalibrationCurve,
    ConformalCheck,
    DecisionCurve,
    GroupDifference,
    Instability,
    MissingOutcomes,
    Power,
    Recalibrated,
    SampleSize,
    SubgroupScore,
)
from connectome_tl.tasks import Task


def example_cohorts(tasks: tuple[Task, ...]) -> tuple[CohortRecord, ...]:
    older = CohortRecord(
        name="older",
        role="source",
        n_subjects=300,
        n_regions=90,
        atlas="aal90",
        measures=("streamline count",),
        flow=(
            FlowStep(label="In the table", n_left=318),
            FlowStep(label="With a connectome", n_left=304, n_excluded=14, reason="no diffusion MRI"),
            FlowStep(label="Passed quality checks", n_left=300, n_excluded=4, reason="motion above 2 mm"),
        ),
        table_groups=("All",),
        table=(
            TableRow(variable="Age, years, median (range)", values=("11.2 (6.1 to 17.9)",)),
            TableRow(variable="Female, n (%)", values=("139 (46 %)",)),
        ),
    )
    neonates = older.model_copy(
        update={
            "name": "neonates",
            "role": "pool",
            "n_subjects": 180,
            "atlas": "unc_aal90",
            "flow": (
                FlowStep(label="In the table", n_left=188),
                FlowStep(label="With a connectome", n_left=180, n_excluded=8, reason="no diffusion MRI"),
            ),
            "table": (TableRow(variable="PMA at scan, weeks, median (range)", values=("40.9 (37.0 to 44.7)",)),),
        }
    )
    outcomes = tuple(
        OutcomeCounts(
            task=t.name,
            observed=31 - i % 2,
            lost=1,
            died=1 if i % 2 == 0 else 0,
            untestable=2 * (i % 2),
            n_positive=8 if t.is_binary else None,
        )
        for i, t in enumerate(tasks)
    )
    infants = CohortRecord(
        name="infants",
        role="target",
        n_subjects=33,
        n_regions=90,
        atlas="unc_aal90",
        measures=("streamline count", "mean FA"),
        flow=(
            FlowStep(label="Very preterm infants enrolled", n_left=41),
            FlowStep(
                label="Scanned at term-equivalent age",
                n_left=36,
                n_excluded=5,
                reason="too ill to scan (3), declined (2)",
            ),
            FlowStep(
                label="Usable diffusion MRI", n_left=33, n_excluded=3, reason="motion: under 80 % of volumes left"
            ),
            FlowStep(
                label="Followed up at two years",
                n_left=31,
                n_excluded=2,
                reason="lost to follow-up; kept for adaptation",
            ),
        ),
        outcomes=outcomes,
        table_groups=("All (n = 33)", "No delay (n = 23)", "Cognitive delay (n = 8)"),
        table=(
            TableRow(
                variable="GA, weeks, median (range)",
                values=("27.9 (24 to 32)", "28.4 (25 to 32)", "26.2 (24 to 30)"),
            ),
            TableRow(variable="Birth weight, g, mean (SD)", values=("1010 (265)", "1068 (251)", "848 (240)")),
            TableRow(
                variable="PMA at scan, weeks, median (range)",
                values=("40.4 (38 to 44)", "40.4 (38 to 44)", "40.3 (39 to 43)"),
            ),
            TableRow(variable="Male, n (%)", values=("18 (55 %)", "11 (48 %)", "6 (75 %)")),
            TableRow(variable="Brain injury on MRI, n (%)", values=("7 (21 %)", "3 (13 %)", "4 (50 %)")),
            TableRow(variable="Mother's education, low, n (%)", values=("9 (27 %)", "5 (22 %)", "3 (38 %)")),
        ),
        missing_regions=(("Olfactory_L", 3), ("Heschl_R", 1), ("Amygdala_L", 1)),
    )
    return older, neonates, infants


def example_probes() -> tuple[AdaptationProbe, ...]:
    shares = (0.0, 0.125, 0.25, 0.5, 1.0)
    return (
        AdaptationProbe(cohort="pool", outcome="age", metric="R2", shares=shares, values=(0.31, 0.36, 0.4, 0.44, 0.45),
                        n_fits=5),
        AdaptationProbe(cohort="source", outcome="sex", metric="AUC", shares=shares,
                        values=(0.71, 0.7, 0.68, 0.66, 0.63), n_fits=5),
    )  # fmt: skip


def example_curves(rng: np.random.Generator) -> list[TrainingCurve]:
    curves = []
    for stage, models, n_fits in (
        ("pretrain", ("full",), 1),
        ("adapt", ("full", "no_pretrain"), 5),
        ("finetune", ("full", "scratch", "no_pretrain", "no_adapt", "single_task", "no_clinical"), 50),
    ):
        for k, model in enumerate(models):
            step = np.arange(60)
            median = 0.35 + 0.05 * k + (0.5 + 0.1 * k) * np.exp(-step / (8 + 3 * k)) + rng.normal(scale=0.006, size=60)
            curves.append(
                TrainingCurve(
                    stage=stage,
                    model=model,
                    n_fits=n_fits,
                    step=tuple(int(s) for s in step),
                    median=tuple(median),
                    low=tuple(median - 0.04),
                    high=tuple(median + 0.05),
                )
            )
    return curves


def example_extras(tasks: tuple[Task, ...], rng: np.random.Generator) -> dict[str, tuple]:
    """Decision curves, subgroups and further tables, for the tasks that have them."""
    threshold = np.linspace(0.05, 0.6, 23)
    decisions, subgroups = [], []
    for task in (t for t in tasks if t.is_binary):
        treat_all = 0.26 - 0.74 * threshold / (1 - threshold)
        for model, gain in (("full", 0.08), ("clinical_only", 0.05)):
            benefit = np.maximum(treat_all, 0.26 * (1 - threshold * 1.3) - 0.1 + gain)
            decisions.append(
                DecisionCurve(
                    task=task.name,
                    model=model,
                    threshold=tuple(threshold),
                    net_benefit=tuple(benefit),
                    treat_all=tuple(treat_all),
                    low=tuple(benefit - 0.08),
                    high=tuple(benefit + 0.09),
                    n=31,
                )
            )
        for variable, level, n, value in (
            ("Sex", "female", 14, 0.66),
            ("Sex", "male", 17, 0.74),
            ("Gestational age", "< 28 weeks", 22, 0.69),
            ("Gestational age", ">= 28 weeks", 9, float("nan")),
        ):
            score = Score(
                task=task.name,
                model="full",
                metric="auc",
                value=value,
                low=value - 0.24,
                high=value + 0.2,
                n=n,
                n_positive=4,
            )
            subgroups.append(
                SubgroupScore(
                    variable=variable,
                    group=level,
                    n=n if n >= 10 else None,
                    score=score if n >= 10 else None,
                    task=task.name,
                    model="full",
                )
            )
    tables = (
        ResultTable(
            section="adequacy",
            title="Smallest AUC that this study could show",
            columns=("Task", "AUC at 80 % power"),
            rows=(("cognitive_delay", "0.84"),),
            note="By simulation, with the interval that is used here.",
        ),
        ResultTable(
            section="audit",
            title="Reveals of test scores",
            columns=("When", "What", "Settings"),
            rows=(("1", "all models, all tasks", "3f9c0a"),),
        ),
    )
    return {
        "decision_curves": tuple(decisions),
        "subgroups": tuple(subgroups),
        "tables": tables,
        "calibration_curves": tuple(
            _calibration_curve(task, model) for task in tasks if task.is_binary for model in ("full", "clinical_only")
        ),
        "recalibrated": tuple(
            Recalibrated(
                task=task.name,
                model="full",
                specificity=0.9,
                scores=tuple(
                    Score(
                        task=task.name, model="full", metric=m, value=v, low=v - 0.2, high=v + 0.2, n=31, n_positive=8
                    )
                    for m, v in (
                        ("brier", 0.21),
                        ("calibration_slope", 0.93),
                        ("specificity", 0.88),
                        ("sensitivity", 0.4),
                    )
                ),
                curve=_calibration_curve(task, "full"),
                intercept=(0.1, -0.2),
                slope=(0.6, 0.7),
                threshold=(0.55, 0.65),
            )
            for task in tasks[:1]
        ),
        "instability": tuple(
            Instability(
                task=task.name,
                model="ridge",
                original=(0.2, 0.5, 0.7),
                low=(0.05, 0.2, 0.3),
                high=(0.5, 0.8, 0.9),
                mean_absolute_error=0.13,
                classification=0.22,
                n_refits=100,
                method="100 bootstrap refits",
            )
            for task in tasks[:1]
        ),
        "power": (
            Power(
                task=tasks[0].name,
                n=31,
                n_positive=8,
                auc=(0.6, 0.7, 0.8, 0.9),
                interval=(0.03, 0.16, 0.43, 0.84),
                permutation=(0.13, 0.31, 0.57, 0.9),
                n_studies=300,
                method="300 simulated studies",
            ),
        ),
        "missingness": (
            Score(task=tasks[0].name, model="missingness_only", metric="auc", value=0.58, low=0.3, high=0.8, n=31),
        ),
        "conformal": tuple(
            ConformalCheck(
                task=task.name,
                model="full",
                level=0.9,
                coverage=0.91,
                coverage_positive=0.86 if task.is_binary else None,
                coverage_negative=0.93 if task.is_binary else None,
                half_width=None if task.is_binary else 18.4,
                both=0.61 if task.is_binary else None,
                empty=0.0 if task.is_binary else None,
                n=31,
            )
            for task in tasks
        ),
        "sample_sizes": (
            SampleSize(
                kind="binary",
                n_parameters=12,
                anticipated=0.15,
                criteria=(("overall risk", 284), ("shrinkage", 655)),
                needed=655,
                n=31,
                method="Riley et al. 2020, doi:10.1136/bmj.m441",
            ),
        ),
        "returners": (
            GroupDifference(
                tasks=("motor",),
                variable="birth_weight",
                n_returned=31,
                n_lost=2,
                returned=1021.0,
                lost=840.0,
                standardised_difference=0.7,
            ),
        ),
        "missing_outcomes": (
            MissingOutcomes(
                task=tasks[0].name,
                model="full",
                metric="auc",
                filled="all",
                n_observed=31,
                n_missing=2,
                complete_cases=0.71,
                weighted=0.7,
                best_case=0.75,
                worst_case=0.62,
                method="weights from gestational age and birth weight",
            ),
        ),
    }


def _calibration_curve(task: Task, model: str) -> CalibrationCurve:
    return CalibrationCurve(
        task=task.name,
        model=model,
        predicted=(0.1, 0.25, 0.5),
        observed=(0.1, 0.1, 0.45),
        low=(0.02, 0.02, 0.21),
        high=(0.4, 0.4, 0.72),
        n=(10, 10, 11),
    )


def brain_coordinates(rng: np.random.Generator, n_pairs: int = 45) -> np.ndarray:
    """Points in the right half of an ellipsoid of a brain's size, mirrored to the left, (2 n_pairs, 3) mm."""
    direction = rng.normal(size=(n_pairs, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    right = direction * np.array([58.0, 82.0, 55.0]) * rng.uniform(0.55, 0.95, (n_pairs, 1)) + [0, -18, 15]
    right[:, 0] = np.abs(right[:, 0]) + 4
    return np.round(np.concatenate([right, right * [-1, 1, 1]]), 1)


def example_quality(n_subjects: int = 33, n_regions: int = 90, seed: int = 3) -> CohortQualityRecord:
    """Quality of a cohort with two sites, a few missing regions and one outlier."""
    rng = np.random.default_rng(seed)
    subjects = tuple(f"sub-{i + 1:02d}" for i in range(n_subjects))
    position = rng.uniform(-60, 60, (n_regions, 3))
    position = position[np.lexsort((position[:, 1], position[:, 0] > 0))]
    distance = np.linalg.norm(position[:, None] - position[None], axis=-1)
    matrices = []
    for title, flagged in (("median", False), *((s, s == "sub-05") for s in subjects[:9])):
        noise = rng.gamma(1.5, 1.0, (n_regions, n_regions))
        weights = np.log1p(60 * np.exp(-distance / 18) * (noise + noise.T) / 2) * (0.3 if flagged else 1)
        np.fill_diagonal(weights, 0)
        matrices.append(MatrixImage(title=title, n_rows=n_regions, values=tuple(weights.ravel()), flagged=flagged))
    strength = rng.normal(240, 20, n_subjects)
    strength[4] = 120
    return CohortQualityRecord(
        subjects=subjects,
        regions=tuple(f"Region_{i + 1:02d}" for i in range(n_regions)),
        sites=tuple("Leiden" if i % 3 else "Cincinnati" for i in range(n_subjects)),
        ages=tuple(rng.normal(40.5, 1.4, n_subjects)),
        age_unit="weeks PMA",
        missing=((4, 12), (4, 13), (4, 55), (10, 12), (21, 12), (21, 88)),
        measures=(
            SubjectMeasure(name="density", values=tuple(rng.normal(0.34, 0.02, n_subjects)), low=0.25, high=0.42),
            SubjectMeasure(name="mean strength", values=tuple(strength), low=180, high=310),
            SubjectMeasure(
                name="framewise displacement", unit="mm", values=(*rng.gamma(2, 0.2, n_subjects - 1), np.nan), high=1.2
            ),
            SubjectMeasure(
                name="correlation with the median", values=tuple(rng.normal(0.8, 0.03, n_subjects)), low=0.7
            ),
        ),
        findings=(
            QualityFinding(
                level="error",
                check="missing_regions",
                subject="sub-05",
                message="3 regions have no edge at all",
                regions=("Region_13", "Region_14", "Region_56"),
            ),
            QualityFinding(
                level="warning",
                check="strength",
                subject="sub-05",
                message="mean strength 120 is far below the others (median 240)",
            ),
            QualityFinding(level="note", check="site", message="11 subjects come from Cincinnati, 22 from Leiden"),
        ),
        matrices=tuple(matrices),
        simulated=True,
        versions={"connectome-tl": "0.1.0", "numpy": "2.4.6"},
    )
