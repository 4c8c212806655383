"""Compare the fits that a run keeps with the same fits made again."""

from __future__ import annotations

import numpy as np

from connectome_tl.errors import OutputError
from connectome_tl.plurals import counted
from connectome_tl.provenance import canonical_json
from connectome_tl.settings.records.audit import Finding
from connectome_tl.training.checkpoint import FitResult, FitStore

# Another processor or library version moves float32 fits by about this much (share of the scores' spread).
TOLERANCE = 0.02


def stored_finding(results: dict[str, FitResult], store: FitStore) -> Finding:
    """The fits that the run keeps, for explanations, bundles and the page, beside those fitted again."""
    check = "stored fits are those fitted again"
    wrong, n_seen = [], 0
    for key, again in results.items():
        try:
            stored = store.load(key, state=bool(again.arrays))
        except OutputError as error:
            wrong.append(f"{key[:12]}: {error.problems[0].what}")
            continue
        if stored is not None:
            n_seen += 1
            wrong += [f"{key[:12]} ({again.stage}): {what}" for what in unlike(stored, again)]
    if wrong:
        more = f" and {len(wrong) - 5} more" if len(wrong) > 5 else ""
        return Finding(
            check=check,
            status="failed",
            what="; ".join(wrong[:5]) + more,
            remedy="They were edited, or the settings were. Delete the folder models/ and run the study again.",
        )
    if not n_seen:
        return Finding(check=check, status="skipped", what="the run keeps none of this version of the package")
    return Finding(check=check, status="passed", what=f"{counted(n_seen, 'fit')} predict the same")


def unlike(stored: FitResult, again: FitResult) -> list[str]:
    """In what a stored fit differs from the same one made again, beyond what another processor may do."""
    found = [name for name in ("stage", "rows", "tasks") if getattr(stored, name) != getattr(again, name)]
    exact = True
    for name in ("predictions", "held_out"):
        one, two = getattr(stored, name), getattr(again, name)
        if not two.keys() <= one.keys() or (name == "held_out" and one.keys() != two.keys()):
            found.append(f"{name} of other subjects")
            continue
        if not one:
            continue
        a, b = (np.array([side[subject] for subject in two], dtype=float) for side in (one, two))
        if a.shape != b.shape:
            found.append(f"{name} of another shape")
            continue
        exact &= bool(np.array_equal(a, b, equal_nan=True))
        spread = np.maximum(np.nanstd(b, axis=0), 0.05 * np.nanmax(np.abs(b), initial=1e-6))
        if not np.isclose(a, b, rtol=0, atol=TOLERANCE * spread, equal_nan=True).all():
            found.append(f"{name} differ by up to {float(np.nanmax(np.abs(a - b))):.3g}")
    # On the machine of the run everything is equal to the last bit; on another one only predictions are compared.
    if exact and stored.predictions:
        if stored.arrays and again.arrays and not equal_state(stored, again):
            found.append("fitted numbers")
        if canonical_json(stored.facts) != canonical_json(again.facts) or stored.notes != again.notes:
            found.append("facts and notes")
        if not np.array_equal(stored.curve, again.curve, equal_nan=True):
            found.append("training curve")
    return found


def equal_state(one: FitResult, two: FitResult) -> bool:
    """Whether two fits are equal to the last bit."""
    a, b = one.arrays, two.arrays
    if a.keys() != b.keys() or any(a[name].tobytes() != b[name].tobytes() for name in a):
        return False
    return canonical_json(one.plain) == canonical_json(two.plain)
