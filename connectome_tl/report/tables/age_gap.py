"""Table of the brain-age gap."""

from __future__ import annotations

from math import isfinite

from connectome_tl.report.labels import interval, model_label, number, signed
from connectome_tl.settings.records.results import RunRecord

Row = tuple[str, ...]
_CORRECTIONS = {
    "gap": "The corrected gap is the residual of a linear fit of the gap on age",
    "prediction": "The corrected age was divided by the slope of predicted age on age",
    "none": "The gap was not corrected for age",
}


def age_gap_table(record: RunRecord) -> tuple[tuple[str, ...], list[Row]]:
    """Header and rows, one per model."""
    first = record.age_gaps[0]
    noted = bool(first.case) or any(one.note for one in record.age_gaps)
    header = ["Model", "n", f"Mean absolute error ({first.unit})", "Gap per unit of age", "after correction"]
    if first.case:
        header += [f"n with {first.case}", f"Gap of cases minus controls ({first.unit})", "AUC of cases by the gap"]
    if noted and not first.case:
        header.append("Note")
    rows = []
    for one in record.age_gaps:
        row = [
            model_label(one.model).label,
            str(one.n),
            number(one.mae),
            signed(one.slope),
            signed(one.corrected_slope),
        ]
        if first.case:
            difference = f"{signed(one.difference)} {interval(one.low, one.high, with_sign=True)}"
            auc = f"{number(one.auc)} {interval(one.auc_low, one.auc_high)}"
            auc = "" if one.note and not isfinite(one.auc) else auc
            row += [str(one.n_cases), difference, "; ".join(part for part in (auc, one.note) if part)]
        elif noted:
            row.append(one.note)
        rows.append(tuple(row))
    return tuple(header), rows


def age_gap_note(record: RunRecord) -> str:
    """Note on the interpretation of the table."""
    first = record.age_gaps[0]
    fitted = "" if first.correction == "none" else ", fitted on out-of-fold predictions of each fold's training rows"
    cases = (
        " Cases were classified against controls by a linear support vector machine on the corrected gap, trained on "
        "the other folds. A difference may have causes other than brain age: scanner, motion, head size."
        if first.case
        else ""
    )
    return (
        f"{_CORRECTIONS[first.correction]}{fitted} (de Lange and Cole 2020, doi:10.1016/j.nicl.2020.102229). The mean "
        f"absolute error is that before the correction (Butler et al. 2021, doi:10.1002/hbm.25533).{cases}"
    )
