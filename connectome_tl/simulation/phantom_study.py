"""Phantom infants as raw scans with a planted outcome, with simulated source and pool cohorts.

A latent vulnerability reduces the cross-section of the same few bundles in infants and older subjects, and their
scores. Infants have simulated scans, from which their connectomes are computed; connectomes of the others are drawn
from the cross-sections of the bundles.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import norm

from connectome_tl.cohort.cohort import Cohort
from connectome_tl.cohort.writing import write_cohort
from connectome_tl.errors import UsageError
from connectome_tl.provenance import write_json, write_table, write_text
from connectome_tl.settings.records.results import FlowStep
from connectome_tl.simulation.phantom import Anatomy, PhantomSettings, make_anatomy, make_head
from connectome_tl.simulation.phantom_folder import write_session, write_template
from connectome_tl.tasks import Task

HEADS = PhantomSettings(
    n_regions=8,
    n_edges=8,
    half_axes=(24.0, 28.0, 22.0),
    voxel=3.0,
    anatomical_voxel=2.0,
    region_radius=6.0,
    shells=((0.0, 2), (1000.0, 20)),
)
FEWEST = 6
_THINNED = 3  # number of bundles affected by the vulnerability
_EFFECT, _OWN = 0.45, 0.15  # of the logarithm of a cross-section, per standard deviation
_STREAMLINES, _FALSE = 900, 0.5  # counted in a simulated connectome; expected on an edge that does not exist


@dataclass(frozen=True, eq=False)
class PhantomInfants:
    """Data of the infants other than scans.

    Attributes:
        table: one row per infant, as in `participants.tsv`.
        strengths: (n_infants, n_edges) cross-sections of the bundles in mm2.
        without: missing data by id: b-values, T2w, or scans.
    """

    table: pd.DataFrame
    strengths: np.ndarray
    without: dict[str, str]


def write_phantom_study(
    folder: str | Path,
    *,
    n_infants: int = 24,
    n_older: int = 80,
    n_neonates: int = 40,
    seed: int = 0,
    heads: PhantomSettings = HEADS,
) -> PhantomInfants:
    """Write `bids/` (raw scans of the infants), `older/` and `neonates/` (cohorts) into a folder.

    The scan of one infant lacks its b-values and another its T2w image; from 12 infants on, one has no scan and one
    no outcome.

    Returns:
        Data of the infants, including the truth.

    Raises:
        UsageError: too few infants. OutputError: the folder cannot be written.
    """
    if n_infants < FEWEST:
        raise UsageError("too few phantom infants", expected=f"at least {FEWEST}", got=str(n_infants))
    root, anatomy = Path(folder), make_anatomy(heads)
    infants = phantom_infants(anatomy, n_infants, seed)
    _write_scans(root / "bids", anatomy, infants, seed)
    write_cohort(_simulated(anatomy, "older", n_older, seed), root / "older")
    write_cohort(_simulated(anatomy, "neonates", n_neonates, seed), root / "neonates")
    return infants


def phantom_infants(anatomy: Anatomy, n_infants: int, seed: int) -> PhantomInfants:
    """Cross-sections, covariates and outcomes of the infants; half of the scores are below 85."""
    rng = np.random.default_rng([seed, 11])
    vulnerability = _spread(rng, n_infants)
    gestation = np.round(28 - 2.0 * _spread(rng, n_infants), 1).clip(24, 32)
    risk = 0.8 * vulnerability + 0.35 * (28 - gestation) / 2 + 0.25 * rng.normal(size=n_infants)
    scores = np.round(85 - 13 * (risk - np.median(risk)))
    ids = [f"sub-{i + 1:02d}" for i in range(n_infants)]
    table = pd.DataFrame(
        {
            "participant_id": ids,
            "scan_age": np.round(rng.normal(40.5, 1.2, n_infants).clip(37, 44), 1),
            "gestational_age": gestation,
            "birth_weight": np.round((gestation - 24) * 130 + 700 + rng.normal(0, 120, n_infants)),
            "sex": np.where(rng.permutation(n_infants) % 2, "female", "male"),
            "bayley_cognitive": scores.astype(object),
        }
    )
    without = {ids[n_infants // 3]: "b-values", ids[n_infants // 2]: "T2w"}
    if n_infants >= 2 * FEWEST:
        without[ids[-1]] = "scans"
        table.loc[1, "bayley_cognitive"] = None
    return PhantomInfants(table, _strengths(anatomy, vulnerability, rng), without)


def _write_scans(root: Path, anatomy: Anatomy, infants: PhantomInfants, seed: int) -> None:
    write_json(root / "dataset_description.json", {"Name": "Phantom", "BIDSVersion": "1.10.1", "DatasetType": "raw"})
    write_text(root / "README", "Simulated heads with known fibres. Nobody was scanned.\n")
    write_template(root / "template", anatomy, make_head(anatomy, still=True))
    for i, name in enumerate(infants.table["participant_id"]):
        lacking = infants.without.get(name, "")
        if lacking == "scans":
            continue
        write_session(root, name, name, make_head(anatomy, infants.strengths[i], seed=1000 * seed + i))
        if lacking == "b-values":
            (root / name / "dwi" / f"{name}_dwi.bval").unlink()
        elif lacking == "T2w":
            (root / name / "anat" / f"{name}_T2w.nii.gz").unlink()
    write_table(root / "participants.tsv", infants.table)


def _simulated(anatomy: Anatomy, name: str, n_subjects: int, seed: int) -> Cohort:
    """A cohort of connectomes without scans: older subjects with age and score, or neonates without outcomes."""
    older = name == "older"
    rng = np.random.default_rng([seed, 12 if older else 13])
    vulnerability = rng.normal(size=n_subjects)
    age = rng.uniform(6, 18, n_subjects) if older else rng.normal(40.5, 1.3, n_subjects).clip(37, 44)
    strengths = _strengths(anatomy, vulnerability, rng)
    # the cross-section of the last bundle increases with age
    strengths[:, -1] *= np.exp(0.25 * (age - age.mean()) / age.std())
    first, second = np.triu_indices(len(anatomy.names), 1)
    expected = np.full((n_subjects, len(anatomy.names), len(anatomy.names)), _FALSE)
    share = strengths / strengths.sum(axis=1, keepdims=True)
    expected[:, anatomy.edges.min(axis=1), anatomy.edges.max(axis=1)] = _STREAMLINES * share
    weights = np.zeros((n_subjects, 1, *expected.shape[1:]), dtype=np.float32)
    weights[:, 0, first, second] = np.log1p(rng.poisson(expected[:, first, second]))
    ids = tuple(f"{name}{i + 1:04d}" for i in range(n_subjects))
    tasks: tuple[Task, ...] = ()
    targets = pd.DataFrame(index=list(ids))
    if older:
        tasks = (
            Task(name="age", kind="regression", column="age", unit="years"),
            Task(name="score", kind="regression", column="score", unit="points"),
        )
        score = np.round(100 - 15 * (0.9 * vulnerability + 0.4 * rng.normal(size=n_subjects)))
        targets = pd.DataFrame({"age": age, "score": score}, index=list(ids))
    return Cohort(
        name=name,
        ids=ids,
        regions=anatomy.names,
        atlas="Phantom",
        measures=("count",),
        weights=weights + weights.swapaxes(2, 3),
        node_mask=np.ones((n_subjects, len(anatomy.names)), dtype=bool),
        covariates=pd.DataFrame(index=list(ids)),
        covariate_specs=(),
        tasks=tasks,
        targets=targets,
        status=targets.notna().map(lambda seen: "observed" if seen else "unknown"),
        age=age,
        age_unit="years" if older else "weeks",
        age_reference="birth" if older else "postmenstrual",
        site=np.full(n_subjects, "", dtype=object),
        family=np.full(n_subjects, "", dtype=object),
        flow=(FlowStep(label="simulated", n_left=n_subjects),),
        simulated=True,
    )


def _strengths(anatomy: Anatomy, vulnerability: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(n_subjects, n_edges) cross-sections: the first bundles are thinner in the vulnerable."""
    moved = rng.normal(0, _OWN, (len(vulnerability), len(anatomy.edges)))
    moved[:, :_THINNED] -= _EFFECT * vulnerability[:, None]
    return np.asarray(np.pi * anatomy.radii**2 * np.exp(moved))


def _spread(rng: np.random.Generator, n: int) -> np.ndarray:
    """Quantiles of the normal distribution in random order: as spread in six subjects as in many."""
    return np.asarray(norm.ppf((rng.permutation(n) + 0.5) / n))
