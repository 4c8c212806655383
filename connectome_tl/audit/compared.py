"""Compare a table of predictions with the same predictions made again."""

from __future__ import annotations

import numpy as np
import pandas as pd

from connectome_tl.audit.rounding import SMALLEST, TIMES
from connectome_tl.audit.stored import TOLERANCE
from connectome_tl.plurals import counted
from connectome_tl.settings.records.audit import Finding

_KEY = ["task", "model", "repeat", "fold", "subject"]


def compared(
    check: str, again: pd.DataFrame, recorded: pd.DataFrame, *, classes: bool = False, rounding: float | None = None
) -> Finding:
    """Compare predictions with recorded ones, with the tolerance that different processors require.

    Args:
        classes: compare the classes as well.
        rounding: largest difference between two repetitions on this device, as a fraction of the scores' SD;
            more than `TIMES` as much is a warning.
    """
    both = again.merge(recorded, on=_KEY, how="left", suffixes=("", "_recorded"), indicator=True)
    absent = both[both["_merge"] == "left_only"]
    both = both[both["_merge"] == "both"]
    wrong, doubtful, largest = [], [], 0.0
    if len(absent):
        wrong.append(f"{counted(len(absent), 'prediction is', 'predictions are')} not in the table")
    for (task, model), rows in both.groupby(["task", "model"]):
        gap = (rows["y_score"] - rows["y_score_recorded"]).abs().to_numpy(dtype=float)
        everyone = recorded.loc[(recorded["task"] == task) & (recorded["model"] == model), "y_score"]
        spread = max(float(everyone.std()), 1e-6)
        turned = _turned(rows, TOLERANCE * spread) if classes else 0
        if turned:
            wrong.append(f"{model} on {task}: {counted(turned, 'subject is', 'subjects are')} in the other class")
        levels = [c for c in rows.columns if c.startswith("p_") and f"{c}_recorded" in rows.columns]
        for level in levels:
            apart = (rows[level] - rows[f"{level}_recorded"]).abs().to_numpy(dtype=float)
            if (apart[np.isfinite(apart)] > TOLERANCE).any() or (
                rows[level].isna() != rows[f"{level}_recorded"].isna()
            ).any():
                wrong.append(f"{model} on {task}: recorded {level} differs by up to {float(np.nanmax(apart)):.3g}")
        largest = max(largest, float(gap.max()))
        if not (gap <= TOLERANCE * spread).all():
            wrong.append(f"{model} on {task}: recorded scores differ by up to {float(gap.max()):.3g}")
        elif rounding is not None and not (gap <= TIMES * max(rounding, SMALLEST) * spread).all():
            doubtful.append(f"{model} on {task}: by up to {float(gap.max()):.3g}")
    if wrong:
        return Finding(
            check=check,
            status="failed",
            what="; ".join(wrong[:6]),
            remedy="These numbers do not come from the study's settings and data. Run the study again.",
        )
    if doubtful:
        return Finding(
            check=check,
            status="warning",
            what=f"recorded scores differ by far more than two repetitions on this device: {'; '.join(doubtful[:6])}",
            remedy="They were made on another device or version, or edited. Audit the run on the machine that made it.",
        )
    same = "exactly" if largest == 0 else f"up to {largest:.1e}"
    return Finding(check=check, status="passed", what=f"{len(both)} predictions are the same, {same}")


def _turned(rows: pd.DataFrame, near: float) -> int:
    """Subjects whose class differs although rounding cannot move their risk across the threshold of the fold."""
    found = 0
    for _, fold in rows.groupby(["repeat", "fold"]):
        score, cut = fold["y_score"].to_numpy(dtype=float), fold["y_pred"].to_numpy(dtype=float)
        other = fold["y_pred_recorded"].to_numpy(dtype=float) != cut
        below = np.max(score[cut == 0], initial=-np.inf)
        above = np.min(score[cut == 1], initial=np.inf)
        found += int((other & (score < below - near) | other & (score > above + near)).sum())
    return found


def unknown_models(recorded: pd.DataFrame, again: pd.DataFrame) -> Finding:
    """A warning if the table contains models that were not fitted again."""
    extra = sorted(set(recorded["model"]) - set(again["model"]))
    if extra:
        return Finding(
            check="every model is known",
            status="warning",
            what=f"not models of the settings, so not checked: {', '.join(extra)}",
            remedy="Their rows were added to predictions.tsv. Do not take them for results of this run.",
        )
    return Finding(check="every model is known", status="passed", what="all models of the table were fitted again")
