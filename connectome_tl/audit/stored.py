"""Compare the stored fits of a run with the same fits made again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import is_dataclass

import numpy as np

from connectome_tl.errors import OutputError
from connectome_tl.plurals import counted
from connectome_tl.provenance import canonical_json
from connectome_tl.settings.records.audit import Finding
from connectome_tl.training.checkpoint import FitResult, FitStore

# Another processor or library version moves float32 fits by about this much (share of the scores' spread).
TOLERANCE = 0.02
# A GPU repeats a fit up to rounding, which moves its numbers by at most this share, or this value.
NEAR, NEAR_ZERO = 0.01, 1e-3


def stored_finding(results: dict[str, FitResult], store: FitStore, *, exactly: bool = True) -> Finding:
    """Compare the stored fits of a run, used by explanations, bundles and the page, with those fitted again.

    Args:
        exactly: whether the device of the fits repeats them to the last bit (`repeats_exactly`).
    """
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
            wrong += [f"{key[:12]} ({again.stage}): {what}" for what in unlike(stored, again, exactly=exactly)]
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


def repeats_exactly(device: str) -> bool:
    """Whether fits on the device of a study are repeated to the last bit: on the CPU, and not on a GPU."""
    return device == "cpu"


def unlike(stored: FitResult, again: FitResult, *, exactly: bool = True) -> list[str]:
    """Differences between a stored fit and the same one made again that another processor does not explain.

    A mixture with network weight 0 has the same predictions, although its facts depend on the network.
    """
    exactly &= stored.stage != "mixture"
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
        if stored.arrays and again.arrays and not same_state(stored, again, exactly=exactly):
            found.append("fitted numbers")
        if not _same(stored.facts, again.facts, exactly) or (exactly and stored.notes != again.notes):
            found.append("facts and notes")
        if not _same(stored.curve.tolist(), again.curve.tolist(), exactly):
            found.append("training curve")
    return found


def _same(one: object, two: object, exactly: bool) -> bool:
    return canonical_json(one) == canonical_json(two) if exactly else near(one, two)


def near(one: object, two: object) -> bool:
    """Whether numbers, or mappings, sequences and records of them, agree up to the rounding of a GPU."""
    if isinstance(one, Mapping) and isinstance(two, Mapping):
        return one.keys() == two.keys() and all(near(one[name], two[name]) for name in one)
    if isinstance(one, list | tuple) and isinstance(two, list | tuple):
        return len(one) == len(two) and all(map(near, one, two))
    if is_dataclass(one) and is_dataclass(two):
        return type(one) is type(two) and near(vars(one), vars(two))
    if isinstance(one, float) and isinstance(two, float):
        return bool(np.isclose(one, two, rtol=NEAR, atol=NEAR_ZERO, equal_nan=True))
    return one == two


def same_state(one: FitResult, two: FitResult, *, exactly: bool) -> bool:
    """Whether two fits are equal to the last bit or, if not `exactly`, up to the rounding of a GPU.

    Rounding changes trained weights and losses only; fits on the CPU are equal to the last bit.
    """
    if exactly:
        return equal_state(one, two)
    a, b = one.arrays, two.arrays
    if a.keys() != b.keys() or any(a[name].shape != b[name].shape for name in a):
        return False
    trained = [name for name in a if name.startswith("state/")]
    if any(a[name].tobytes() != b[name].tobytes() for name in a if name not in trained):
        return False
    apart = sum(float(((a[name].astype(float) - b[name]) ** 2).sum()) for name in trained)
    size = sum(float((a[name].astype(float) ** 2).sum()) for name in trained)
    return apart <= NEAR**2 * size and near(one.plain, two.plain) and near(one.curve.tolist(), two.curve.tolist())


def equal_state(one: FitResult, two: FitResult) -> bool:
    """Whether two fits are equal to the last bit."""
    a, b = one.arrays, two.arrays
    if a.keys() != b.keys() or any(a[name].tobytes() != b[name].tobytes() for name in a):
        return False
    return canonical_json(one.plain) == canonical_json(two.plain)
