"""Simulate three cohorts with known truth: older subjects, neonates, very preterm infants.

Edges are log-normal around a distance-dependent backbone. Maturation (from age), sex and latent vulnerability of a
subject change known edges; Bayley scores depend on the vulnerability and the clinical course. Source scores depend on
the same pattern of vulnerability, so that transfer is possible.
"""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral

import numpy as np
import pandas as pd

from connectome_tl.arguments import Count, checked_arguments
from connectome_tl.atlas import Atlas, load_atlas
from connectome_tl.cohort.cohort import Cohort
from connectome_tl.errors import UsageError
from connectome_tl.settings.cohort import Covariate
from connectome_tl.settings.records.results import FlowStep
from connectome_tl.simulation.fields import smooth_field
from connectome_tl.tasks import Task

DOMAINS = ("cognitive", "language", "motor")


@dataclass(frozen=True)
class SimulatedStudy:
    """The three cohorts and their ground truth.

    Attributes:
        pattern: (n_regions, n_regions) in the target's order: effect of vulnerability on each edge.
        liability: (n_target, 3) true risk per domain on the latent scale.
    """

    source: Cohort
    pool: Cohort
    target: Cohort
    pattern: np.ndarray
    liability: np.ndarray


@checked_arguments
def simulate_study(
    *,
    seed: Count = 0,
    n_source: int = 240,
    n_pool: int = 120,
    n_target: int = 33,
    effect: float = 1.0,
    shared: float = 1.0,
    adult: str = "aal90",
    infant: str = "unc_aal90",
    smooth: bool = False,
) -> SimulatedStudy:
    """Simulate a study; equal arguments give equal cohorts.

    Args:
        effect: strength of the outcome's effect on the connectome (0: a null study).
        shared: 1 if the older subjects' score has the infants' pattern, 0 if it has another one (pretraining is then
            useless).
        adult, infant: names of the atlases of the older subjects and of the infants.
        smooth: patterns are smooth functions of position and equal in every atlas; otherwise they involve twelve
            regions. Atlases with different regions need smooth patterns.

    Raises:
        UsageError: atlases have different regions and patterns are not smooth; numbers that are impossible.
    """
    for name, n in (("n_source", n_source), ("n_pool", n_pool), ("n_target", n_target)):
        if not isinstance(n, Integral) or n < 2:
            raise UsageError(f"{name} is a number of subjects", expected="a whole number of at least 2", got=repr(n))
    if not np.isfinite(effect) or not 0 <= shared <= 1:
        raise UsageError("effect is a finite number, and shared is 0 to 1", got=f"{effect!r} and {shared!r}")
    of_adults, of_infants = load_atlas(adult), load_atlas(infant)
    alike = of_adults.node_set == of_infants.node_set
    if not alike and not smooth:
        raise UsageError(f"the footprints of twelve regions of {adult} are not in {infant}", remedy="Set smooth.")
    older = _Draws(seed, of_adults, smooth)
    draw = older if alike else _Draws(seed, of_infants, smooth)
    base = draw.atlas
    order = of_infants.order_of(base.names)  # row of the infant table for each row that is drawn
    own_pattern = draw.pattern("vulnerability")
    source_pattern = shared * older.pattern("vulnerability") + np.sqrt(1 - shared**2) * older.pattern("unrelated")
    source = _older(older, of_adults, n_source, source_pattern)
    pool, _ = _infants(draw, base, of_infants, "pool", n_pool, own_pattern, effect)
    target, liability = _infants(draw, base, of_infants, "target", n_target, own_pattern, effect)
    pattern = np.zeros_like(own_pattern)
    pattern[np.ix_(order, order)] = own_pattern
    return SimulatedStudy(source, pool, target, pattern, liability)


class _Draws:
    """Random draws by name, so that the draws of a cohort do not depend on the size of another."""

    def __init__(self, seed: int, atlas: Atlas, smooth: bool = False) -> None:
        self.seed, self.atlas, self.smooth = seed, atlas, smooth
        distance = np.linalg.norm(atlas.coordinates[:, None] - atlas.coordinates[None], axis=2)
        rng = self.rng("backbone")
        hub = rng.normal(0, 0.4, atlas.n_regions)
        log_weight = 3.5 - distance / 30 + hub[:, None] + hub[None] + _symmetric(rng, atlas.n_regions)
        self.backbone = log_weight
        self.exists = _upper_rank(-log_weight) < 0.35  # the strongest 35 % of edges exist in all subjects

    def rng(self, *name: str) -> np.random.Generator:
        words = [int.from_bytes(part.encode()[:8].ljust(8, b"\0"), "little") for part in name]
        return np.random.default_rng([self.seed, *words])

    def pattern(self, name: str) -> np.ndarray:
        """A symmetric pattern: edges of twelve random regions with signs by pair, or a smooth pattern of all regions
        with the same total strength."""
        rng = self.rng("pattern", name)
        n_regions = self.atlas.n_regions
        if self.smooth:
            involved = smooth_field(rng, self.atlas) * np.sqrt(12 / n_regions)
        else:
            involved = np.zeros(n_regions)
            involved[rng.choice(n_regions, 12, replace=False)] = rng.choice([-1.0, 1.0], 12)
        return (involved[:, None] + involved[None]) * self.exists / np.sqrt(2)

    def weights(self, cohort: str, moves: list[tuple[np.ndarray, np.ndarray]], n_subjects: int) -> np.ndarray:
        """(n_subjects, 1, n_regions, n_regions): log1p of noisy weights; `moves` are (per subject, per edge)."""
        rng = self.rng("edges", cohort)
        n_regions = self.atlas.n_regions
        log_weight = np.repeat(self.backbone[None], n_subjects, axis=0)
        for amount, pattern in moves:
            log_weight += amount[:, None, None] * pattern
        for i in range(n_subjects):
            log_weight[i] += 0.5 * _symmetric(rng, n_regions) + rng.normal(0, 0.15)
        weights = np.where(self.exists, np.exp(log_weight), 0.0)
        weights[:, np.arange(n_regions), np.arange(n_regions)] = 0.0
        return np.log1p(weights).astype(np.float32)[:, None]


def _symmetric(rng: np.random.Generator, n_regions: int) -> np.ndarray:
    noise = np.triu(rng.normal(0, 1, (n_regions, n_regions)), 1)
    return noise + noise.T


def _upper_rank(values: np.ndarray) -> np.ndarray:
    """Rank of each edge among the upper triangle, in (0, 1], symmetric; the diagonal is 1."""
    rows, columns = np.triu_indices(len(values), 1)
    flat = values[rows, columns]
    rank = np.empty(len(flat))
    rank[np.argsort(flat, kind="stable")] = (np.arange(len(flat)) + 1) / len(flat)
    out = np.ones_like(values)
    out[rows, columns] = out[columns, rows] = rank
    return out


def _older(draw: _Draws, atlas: Atlas, n_subjects: int, pattern: np.ndarray) -> Cohort:
    rng = draw.rng("older")
    age = rng.uniform(6, 30, n_subjects)
    sex = rng.integers(0, 2, n_subjects)
    vulnerability = rng.normal(0, 1, n_subjects)
    score = 100 - 15 * (0.8 * vulnerability + 0.6 * rng.normal(0, 1, n_subjects))
    weights = draw.weights(
        "older",
        [
            ((age - 18) / 7, 0.20 * draw.pattern("maturation")),
            (sex - 0.5, 0.25 * draw.pattern("sex")),
            (vulnerability, 0.35 * pattern),
        ],
        n_subjects,
    )
    ids = tuple(f"older{i + 1:04d}" for i in range(n_subjects))
    tasks = (
        Task(name="age", kind="regression", column="age", unit="years"),
        Task(name="sex", kind="binary", column="sex_male"),
        Task(name="score", kind="regression", column="score", unit="points"),
    )
    targets = pd.DataFrame({"age": age, "sex": sex.astype(float), "score": score}, index=list(ids))
    return Cohort(
        name="older",
        ids=ids,
        regions=atlas.names,
        atlas=atlas.name,
        measures=("fbc",),
        weights=weights,
        node_mask=np.ones((n_subjects, atlas.n_regions), dtype=bool),
        covariates=pd.DataFrame(index=list(ids)),
        covariate_specs=(),
        tasks=tasks,
        targets=targets,
        status=_status(targets),
        age=age,
        age_unit="years",
        site=np.array(["A", "B", "C"], dtype=object)[rng.integers(0, 3, n_subjects)],
        family=np.full(n_subjects, "", dtype=object),
        flow=(FlowStep(label="simulated", n_left=n_subjects),),
        simulated=True,
    )


def _infants(
    draw: _Draws, adult: Atlas, infant: Atlas, name: str, n_subjects: int, pattern: np.ndarray, effect: float
) -> tuple[Cohort, np.ndarray]:
    rng = draw.rng("infants", name)
    pma = rng.normal(40.5, 1.3, n_subjects).clip(37, 44)
    gestation = rng.uniform(24, 32, n_subjects)
    birth_weight = (gestation - 24) * 130 + 700 + rng.normal(0, 150, n_subjects)
    male = rng.integers(0, 2, n_subjects)
    ivh = np.minimum(rng.poisson(0.5 + 0.1 * (32 - gestation)), 4)
    motion = np.exp(rng.normal(-1.5, 0.4, n_subjects))
    vulnerability = rng.normal(0, 1, (n_subjects, 1))
    clinical = ((28 - gestation) / 2.3 + (ivh - 1) / 1.2)[:, None] / np.sqrt(2)
    liability = 0.75 * effect * vulnerability + 0.45 * clinical
    noise = 0.45 * rng.normal(0, 1, (n_subjects, 3)) + 0.25 * rng.normal(0, 1, (n_subjects, 1))
    bayley = np.round((90 - 14 * (liability + noise)).clip(45, 145))
    weights = draw.weights(
        name,
        [
            ((pma - 40.5) / 1.3, 0.20 * draw.pattern("maturation")),
            (male - 0.5, 0.15 * draw.pattern("sex")),
            (vulnerability[:, 0] * effect, 0.35 * pattern),
            (np.ones(n_subjects), -0.5 * draw.pattern("neonatal")),
        ],
        n_subjects,
    )
    to_infant = infant.order_of(adult.names)
    aligned = np.zeros_like(weights)
    aligned[:, :, to_infant[:, None], to_infant[None, :]] = weights
    node_mask = np.ones((n_subjects, infant.n_regions), dtype=bool)
    if n_subjects > 3:
        small = ["OLF.L", "OLF.R"] if "OLF.L" in infant.names else infant.names[:2]
        node_mask[3, infant.order_of(small)] = False  # one infant lacks two small regions
        aligned[3] *= node_mask[3][None, :, None] * node_mask[3][None, None, :]
    ids = tuple(f"{name}{i + 1:03d}" for i in range(n_subjects))
    family = np.full(n_subjects, "", dtype=object)
    for pair in range(min(2, n_subjects // 10)):  # two pairs of twins
        family[[2 * pair, 2 * pair + 1]] = f"{name}-twins{pair + 1}"
    covariates = pd.DataFrame(
        {
            "gestational_age": gestation,
            "birth_weight": birth_weight,
            "sex": pd.Series(np.where(male, "male", "female"), dtype="str").to_numpy(),
            "ivh_grade": ivh.astype(float),
            "mean_fd": motion,
        },
        index=list(ids),
    )
    covariates.iloc[min(5, n_subjects - 1), 1] = np.nan
    tasks: tuple[Task, ...] = ()
    targets, status = pd.DataFrame(index=list(ids)), pd.DataFrame(index=list(ids))
    if name == "target":
        tasks, targets, status = _outcomes(bayley, ids, rng)
    cohort = Cohort(
        name=name,
        ids=ids,
        regions=infant.names,
        atlas=infant.name,
        measures=("fbc",),
        weights=aligned,
        node_mask=node_mask,
        covariates=covariates,
        covariate_specs=(
            Covariate(column="gestational_age", unit="weeks", available_at="birth"),
            Covariate(column="birth_weight", unit="g", available_at="birth"),
            Covariate(column="sex", type="categorical", available_at="birth", role="both"),
            Covariate(column="ivh_grade", available_at="discharge"),
            Covariate(column="mean_fd", unit="mm", role="nuisance"),
        ),
        tasks=tasks,
        targets=targets,
        status=status,
        age=pma,
        age_unit="weeks",
        age_reference="postmenstrual",
        site=np.array(["A", "B"], dtype=object)[rng.integers(0, 2, n_subjects)],
        family=family,
        flow=(FlowStep(label="simulated", n_left=n_subjects),),
        simulated=True,
    )
    return cohort, liability


def _outcomes(
    bayley: np.ndarray, ids: tuple[str, ...], rng: np.random.Generator
) -> tuple[tuple[Task, ...], pd.DataFrame, pd.DataFrame]:
    """Three scores and their cut-offs; some infants are lost, one died, one was untestable for language."""
    tasks, columns = [], {}
    scores = bayley.copy()
    n_subjects = len(ids)
    state = np.full((n_subjects, len(DOMAINS)), "observed", dtype=object)
    gone = rng.permutation(n_subjects)[: max(1, n_subjects // 10)] if n_subjects > 5 else np.array([], dtype=int)
    state[gone] = "lost"
    if len(gone) > 1:
        state[gone[0]] = "died"
        state[(gone[0] + 7) % n_subjects, 1] = "untestable"
    scores[state != "observed"] = np.nan
    status = {}
    for d, domain in enumerate(DOMAINS):
        column = f"bayley_{domain}"
        binary = Task(name=domain, kind="binary", column=column, operator="<", cutoff=85, edition="Bayley-III")
        score = Task(name=f"{domain}_score", kind="regression", column=column, unit="points", edition="Bayley-III")
        tasks += [binary, score]
        columns[binary.name], columns[score.name] = binary.from_scores(scores[:, d]), scores[:, d]
        status[binary.name] = status[score.name] = state[:, d]
    return tuple(tasks), pd.DataFrame(columns, index=list(ids)), pd.DataFrame(status, index=list(ids))


def _status(targets: pd.DataFrame) -> pd.DataFrame:
    return targets.notna().map(lambda seen: "observed" if seen else "unknown")
