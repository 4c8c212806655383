"""Whether risks of single subjects may be shown: the model must beat covariates and be validated."""

from __future__ import annotations

from connectome_tl.settings.records.bundles import BundledTask, Validation

STAMP = "individual values requested by --research-individual"


def withheld(task: BundledTask, validation: Validation | None) -> str:
    """Reason for withholding values of single subjects; "" if they may be shown."""
    reasons = []
    if task.against_clinical != "helps":
        reasons.append(
            "the study did not compare the model with clinical covariates alone"
            if task.against_clinical == "not compared"
            else f"the study did not find the model better than clinical covariates alone ({task.against_clinical})"
        )
    passed = None if validation is None else {one.task: one for one in validation.tasks}.get(task.task.name)
    if passed is None:
        reasons.append("the bundle contains no validation on another cohort")
    elif not passed.above_chance:
        reasons.append("the validation on another cohort did not find it above chance")
    return "; ".join(reasons)
