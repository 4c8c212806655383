"""Age from ABIDE's functional connectomes with and without ComBat, compared with the means of the sites.

Two questions: does the model generalise to unseen sites (each site held out in turn), and does it predict within a
site (five folds inside sites)? ComBat is fitted on training rows. Age is the outcome and therefore not protected; sex
is. Skipped, with a reason, where the data are absent.

    OMP_NUM_THREADS=1 python benchmarks/site_effects.py [--data DIR]
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import StratifiedKFold

from connectome_tl.cohort.cohort import Cohort
from connectome_tl.cohort.reading import read_cohort
from connectome_tl.features.harmonise import fit_harmoniser
from connectome_tl.settings.features import HarmoniseSettings

ALPHAS = tuple(10.0**k for k in range(2, 7))
COHORT = """
participants: {folder}/participants.tsv
id: sub
age: {{column: age, unit: years}}
site: site
covariates: [{{column: sex, type: categorical}}]
connectomes:
  stack: {folder}/fc_upper_f16.npz
  key: fc
  rows: {folder}/participants.tsv
  layout: upper
  atlas: aal116
  transform: fisher_z
"""


def ridge(train: np.ndarray, age: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Predictions of standardised ridge, with the penalty chosen by leave-one-out within the training rows."""
    mean, scale = train.mean(axis=0), train.std(axis=0) + 1e-9
    model = RidgeCV(alphas=ALPHAS).fit((train - mean) / scale, age)
    return np.asarray(model.predict((test - mean) / scale))


def folds(cohort: Cohort, by_site: bool) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    site = cohort.site.astype(str)
    if by_site:
        for name in np.unique(site):
            yield np.flatnonzero(site != name), np.flatnonzero(site == name)
    else:
        yield from StratifiedKFold(5, shuffle=True, random_state=0).split(site, site)


def predicted(cohort: Cohort, settings: HarmoniseSettings, *, by_site: bool) -> np.ndarray:
    first, second = np.triu_indices(cohort.n_regions, 1)
    out = np.full(cohort.n_subjects, np.nan)
    for train, test in folds(cohort, by_site):
        training = cohort.take([cohort.ids[i] for i in train])
        testing = cohort.take([cohort.ids[i] for i in test])
        harmoniser = fit_harmoniser(training, settings)
        weights = [training.weights, testing.weights]
        if harmoniser is not None:
            weights = [harmoniser.apply(training), harmoniser.apply(testing)]
        train_edges, test_edges = (w[:, 0, first, second] for w in weights)
        out[test] = ridge(train_edges, training.age, test_edges)
    return out


def r2(age: np.ndarray, guess: np.ndarray, reference: np.ndarray) -> float:
    return 1 - float(((age - guess) ** 2).sum() / ((age - reference) ** 2).sum())


def site_means(age: np.ndarray, site: np.ndarray) -> np.ndarray:
    return np.array([age[site == name].mean() for name in site])


def out_of_fold_site_means(cohort: Cohort) -> np.ndarray:
    """Prediction from the site only: its training mean."""
    site, out = cohort.site.astype(str), np.empty(cohort.n_subjects)
    for train, test in folds(cohort, by_site=False):
        for i in test:
            same = train[site[train] == site[i]]
            out[i] = cohort.age[same].mean() if same.size else cohort.age[train].mean()
    return out


def main() -> None:
    parser = argparse.ArgumentParser()
    here = Path(__file__).resolve().parents[2] / "shared" / "data"
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("CONNECTOME_TL_DATA", here)))
    folder = parser.parse_args().data / "abide_fc_aal116"
    if not folder.is_dir():
        print(f"skipped: no data at {folder}; give --data or CONNECTOME_TL_DATA")
        sys.exit(0)
    with tempfile.TemporaryDirectory() as place:
        file = Path(place) / "cohort.yaml"
        file.write_text(COHORT.format(folder=folder.resolve()))
        cohort = read_cohort(file)
    age, site = cohort.age, cohort.site.astype(str)
    methods = {
        "none": HarmoniseSettings(),
        "combat": HarmoniseSettings(method="combat", protect=("sex",), unseen="none"),
    }
    centred = site_means(age, site)
    print(f"{cohort.n_subjects} subjects, {len(np.unique(site))} sites; age, R2")
    print("method                sites held out   5 folds   5 folds within sites   CPU s")
    for name, settings in methods.items():
        started = time.process_time()
        unseen = predicted(cohort, settings, by_site=True)
        seen = predicted(cohort, settings, by_site=False)
        inside = seen - site_means(seen, site) + centred
        row = (r2(age, unseen, np.full_like(age, age.mean())), r2(age, seen, np.full_like(age, age.mean())))
        spent = time.process_time() - started
        print(f"ridge, {name:<14} {row[0]:>14.2f} {row[1]:>9.2f} {r2(age, inside, centred):>22.2f} {spent:>7.0f}")
    alone = out_of_fold_site_means(cohort)
    print(f"site means alone                   - {r2(age, alone, np.full_like(age, age.mean())):>9.2f} {0:>22.2f}")


if __name__ == "__main__":
    main()
