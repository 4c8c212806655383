"""The phantom has its stated properties: known edges, the same for the same seed, different between subjects."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from connectome_tl.imaging.read.dwi import read_dwi
from connectome_tl.imaging.read.images import read_labels, read_mask
from connectome_tl.simulation.phantom import (
    PhantomSettings,
    gradients,
    make_anatomy,
    make_head,
    strengths_of,
)
from connectome_tl.simulation.phantom_folder import write_phantom

SMALL = PhantomSettings(n_regions=8, n_edges=7, half_axes=(24.0, 28.0, 22.0), region_radius=6.0)


def test_the_same_seed_is_the_same_head_and_another_is_not() -> None:
    anatomy = make_anatomy(SMALL)
    again = make_anatomy(SMALL)
    np.testing.assert_array_equal(anatomy.edges, again.edges)
    np.testing.assert_array_equal(make_head(anatomy, seed=3).dwi, make_head(again, seed=3).dwi)
    assert not np.array_equal(make_head(anatomy, seed=3).dwi, make_head(anatomy, seed=4).dwi)


def test_bundles_end_in_their_regions_and_grow_with_their_strength() -> None:
    anatomy = make_anatomy(SMALL)
    assert len({tuple(sorted(edge)) for edge in anatomy.edges.tolist()}) == SMALL.n_edges
    thin = make_head(anatomy, np.full(SMALL.n_edges, 10.0), still=True)
    thick = make_head(anatomy, np.full(SMALL.n_edges, 60.0), still=True)
    assert thick.fibre.sum() > 2 * thin.fibre.sum()
    for i, j in anatomy.edges:
        for region in (i, j):
            assert thick.fibre[thick.labels == region + 1].max() > 0.3
    assert set(np.unique(thick.labels)) == set(range(SMALL.n_regions + 1))


def test_subjects_differ_in_known_edges_and_sessions_do_not() -> None:
    anatomy = make_anatomy(SMALL)
    a, b = strengths_of(anatomy, 0), strengths_of(anatomy, 1)
    np.testing.assert_array_equal(a, strengths_of(anatomy, 0))
    assert (np.abs(a - b) > 0.01).all()
    assert ((a / (np.pi * anatomy.radii**2) >= 0.5) & (a / (np.pi * anatomy.radii**2) <= 1.5)).all()


def test_gradients_are_unit_vectors_spread_over_shells() -> None:
    bvals, directions = gradients()
    norms = np.linalg.norm(directions, axis=1)
    np.testing.assert_allclose(norms[bvals > 0], 1)
    assert not norms[bvals == 0].any()
    assert sorted(set(bvals.tolist())) == [0.0, 400.0, 1000.0, 2600.0]


def test_the_signal_of_still_tissue_decays_as_it_should() -> None:
    head = make_head(make_anatomy(SMALL), still=True)
    plain = head.mask & (head.fibre == 0)
    b0, b1000 = (head.dwi[plain][:, head.bvals == b].mean(axis=1) for b in (0, 1000))
    grey = np.abs(b0 - 700) < 1  # neither fibre nor fluid
    np.testing.assert_allclose(b1000[grey] / b0[grey], np.exp(-1.2), rtol=1e-4)


def test_the_folder_reads_back_with_the_directions_it_was_made_with(tmp_path: Path) -> None:
    write_phantom(tmp_path, n_subjects=1, n_sessions=1, settings=SMALL)
    head = make_head(make_anatomy(SMALL), strengths_of(make_anatomy(SMALL), 0), seed=0)
    stem = tmp_path / "sub-01" / "ses-01" / "dwi" / "sub-01_ses-01_dwi"
    dwi = read_dwi(*(f"{stem}.{ending}" for ending in ("nii.gz", "bval", "bvec")))
    np.testing.assert_allclose(dwi.directions, head.directions, atol=1e-5)
    np.testing.assert_array_equal(dwi.data, head.dwi)
    truth = tmp_path / "derivatives" / "truth"
    edges = pd.read_csv(truth / "edges.tsv", sep="\t")
    assert len(edges) == SMALL.n_edges
    place = truth / "sub-01" / "ses-01" / "sub-01_ses-01_space-dwi_"
    np.testing.assert_array_equal(read_labels(f"{place}atlas-Phantom_dseg.nii.gz").data, head.labels)
    np.testing.assert_array_equal(read_mask(f"{place}desc-brain_mask.nii.gz").data, head.mask)
