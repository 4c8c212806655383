"""Compare the stored fits of a run with the same fits made again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from connectome_tl.audit.rounding import alike_in_shape, near, same_state
from connectome_tl.errors import OutputError
from connectome_tl.plurals import counted
from connectome_tl.provenance import canonical_json
from connectome_tl.settings.records.audit import Finding
from connectome_tl.training.checkpoint import FitResult, FitStore
from connectome_tl.training.core_stage import PREDICTABLE

# Another processor or library version moves float32 fits by about this much (share of the scores' spread).
TOLERANCE = 0.02
Apply = Callable[[FitResult], list[np.ndarray]]


@dataclass
class _Compared:
    """Results of the comparison of stored fits with the same fits made again."""

    wrong: list[str]
    trained_equal: int = 0  # networks that predict the same to the last bit
    trained_apart: int = 0
    silent: list[tuple[FitResult, FitResult]] = field(default_factory=list)  # fits without predictions, and mixtures
    rounded: int = 0  # of these, fits of the same outputs whose numbers differ


def stored_finding(
    results: dict[str, FitResult], store: FitStore, *, exactly: bool = True, apply: Apply | None = None
) -> Finding:
    """Compare the stored fits of a run, used by explanations, bundles and the page, with those fitted again.

    Fits without predictions (stages 1 and 2) are compared bit for bit if all networks of the folder are equal bit for
    bit, since it was then made on the same kind of machine. Otherwise their outputs for some rows are compared.

    Args:
        exactly: whether the device of the fits repeats them to the last bit (`repeats_exactly`).
        apply: returns the outputs of a fit for some of its own rows, arrays (n_rows, n_columns).
    """
    check = "stored fits are those fitted again"
    seen = _Compared([])
    n_seen = 0
    for key, again in results.items():
        try:
            stored = store.load(key, state=bool(again.arrays))
        except OutputError as error:
            seen.wrong.append(f"{key[:12]}: {error.problems[0].what}")
            continue
        if stored is not None:
            n_seen += 1
            _compare(stored, again, seen, exactly)
    here = exactly and seen.trained_equal > 0 and not seen.trained_apart
    for stored, again in seen.silent:
        if here and _rounded(stored, again, apply):
            seen.rounded += 1
            continue
        seen.wrong += [f"{again.key[:12]} ({again.stage}): {what}" for what in _silent(stored, again, here, apply)]
    if seen.wrong:
        more = f" and {len(seen.wrong) - 5} more" if len(seen.wrong) > 5 else ""
        return Finding(
            check=check,
            status="failed",
            what=f"{counted(len(seen.wrong), 'difference')}: {'; '.join(seen.wrong[:5])}{more}",
            remedy="Stored fits or settings were edited. Delete the folder models/ and run the study again.",
        )
    if not n_seen:
        return Finding(check=check, status="skipped", what="the run keeps no fit of this version of the package")
    apart = seen.trained_apart + seen.rounded
    if exactly and seen.trained_equal and apart:
        return Finding(
            check=check,
            status="warning",
            what=f"equal to the last bit: {counted(seen.trained_equal, 'network')}; only up to rounding: {apart}",
            remedy="A run that was resumed on another machine is like this. On one machine, all networks are equal.",
        )
    return Finding(check=check, status="passed", what=f"{counted(n_seen, 'fit')} predict the same")


def _compare(stored: FitResult, again: FitResult, seen: _Compared, exactly: bool) -> None:
    """Compare one fit, and collect the fits that are compared after all others."""
    seen.wrong += [f"{again.key[:12]} ({again.stage}): {what}" for what in unlike(stored, again, exactly=exactly)]
    if stored.stage == "mixture" or not again.predictions:
        seen.silent.append((stored, again))
    elif stored.stage == "finetune":
        equal = all(np.array_equal(stored.predictions.get(i, np.zeros(0)), v) for i, v in again.predictions.items())
        seen.trained_equal += equal
        seen.trained_apart += not equal


def _silent(stored: FitResult, again: FitResult, here: bool, apply: Apply | None) -> list[str]:
    """Differences of a mixture, or of a fit without predictions.

    Args:
        here: whether the folder was made on a machine on which fits are repeated bit for bit.
    """
    if here:
        found = [] if not stored.arrays or same_state(stored, again, exactly=True) else ["fitted numbers"]
        kept = (stored.facts, stored.curve.tolist(), stored.notes), (again.facts, again.curve.tolist(), again.notes)
        return found + (
            [] if canonical_json(kept[0]) == canonical_json(kept[1]) else ["facts, notes or training curve"]
        )
    if stored.stage == "mixture" or not stored.arrays or apply is None:
        return []
    if not alike_in_shape(stored, again) or not near(stored.plain, again.plain):
        return ["fitted numbers of other names or shapes"]
    gaps = _gaps(stored, again, apply)
    return [f"what it computes differs by up to {max(gaps):.3g}"] if gaps else []


def _rounded(stored: FitResult, again: FitResult, apply: Apply | None) -> bool:
    """Whether a network that the run did not use differs in its numbers but not in its outputs.

    It may have been made on another machine before the run was resumed here. Others would have changed the networks
    that were trained from them.
    """
    is_used = bool(again.facts.get(PREDICTABLE, 1.0))
    if is_used or not stored.arrays or apply is None or same_state(stored, again, exactly=True):
        return False
    if not alike_in_shape(stored, again) or not near(stored.plain, again.plain):
        return False
    return not _gaps(stored, again, apply)


def _gaps(stored: FitResult, again: FitResult, apply: Apply) -> list[float]:
    """Largest differences of the outputs that differ by more than another processor explains."""
    pairs = zip(apply(replace(stored, plain=again.plain)), apply(again), strict=True)
    return [
        float(np.abs(one - two).max(initial=0.0)) for one, two in pairs if not (_close(one, two) or _near(one, two))
    ]


def _near(one: np.ndarray, two: np.ndarray) -> bool:
    """Whether all columns together agree; single columns of an embedding may hardly vary between subjects."""
    return bool(np.linalg.norm(one - two) <= TOLERANCE * np.linalg.norm(two - two.mean(axis=0)))


def _close(one: np.ndarray, two: np.ndarray) -> bool:
    """Whether columns agree within what another processor may do to them."""
    spread = np.maximum(np.nanstd(two, axis=0), 0.05 * np.nanmax(np.abs(two), initial=1e-6))
    return bool(np.isclose(one, two, rtol=0, atol=TOLERANCE * spread, equal_nan=True).all())


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
        if not _close(a, b):
            gap = np.nanmax(np.abs(a - b), initial=0.0)
            blank = (np.isnan(a) != np.isnan(b)).any()
            found.append(f"{name} are missing elsewhere" if blank else f"{name} differ by up to {gap:.3g}")
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
