"""One subject's structural images to a network and a table for a cohort; and a run of dHCP-33's cohorts."""

from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import zscore

from connectome_tl.cli import main
from connectome_tl.cohort.reading import read_cohort
from connectome_tl.errors import DataError, UsageError
from connectome_tl.imaging.read.images import read_labels, read_volume, write_volume
from connectome_tl.workflows.scans.morphometry import morphometry_files

AFFINE = np.diag([2.0, 2.0, 2.0, 1.0])
ROOT = Path(__file__).parents[2]
SLICES = (3, 4, 5, 4, 6, 2)  # of each block


def subject(folder: Path, seed: int) -> tuple[Path, Path, Path]:
    """Six blocks of labels (sparse, above 2000), two images with means by block."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.repeat([3, 128, 300, 1999, 2001, 2035], SLICES)[:, None, None], 12, axis=1).repeat(10, axis=2)
    level = np.searchsorted(np.unique(labels), labels)
    images = [100 * level + rng.normal(500, 40, labels.shape), -60 * level + rng.normal(900, 50, labels.shape)]
    paths = [write_volume(folder / f"sub-{seed:02d}_dseg.nii.gz", labels.astype(np.int16), AFFINE)]
    paths += [
        write_volume(folder / f"sub-{seed:02d}_{kind}.nii.gz", image.astype(np.float32), AFFINE)
        for kind, image in zip(("T1w", "T2w"), images, strict=True)
    ]
    return paths[0], paths[1], paths[2]


def test_networks_and_measures_become_a_cohort(tmp_path: Path) -> None:
    for seed in (1, 2):
        labels, *images = subject(tmp_path, seed)
        made = morphometry_files(images, labels, tmp_path / f"sub-{seed:02d}_relmat.tsv")
    assert made.measures.read_text().splitlines()[0].split("\t")[:3] == ["name", "volume_mm3", "T1w_mean"]
    (tmp_path / "participants.tsv").write_text("participant_id\nsub-01\nsub-02\n")
    names = "[volume_mm3, T1w_mean, T2w_p50]"
    (tmp_path / "labels.tsv").write_text(
        "index\tname\n" + "".join(f"{n}\t{n}\n" for n in (3, 128, 300, 1999, 2001, 2035))
    )
    (tmp_path / "cohort.yaml").write_text(
        "participants: participants.tsv\n"
        "connectomes: {files: '{id}_relmat.tsv', labels: labels.tsv, measure: morphometric_divergence}\n"
        f"region_features: {{files: '{{id}}_relmat_measures.tsv', names: {names}}}\n"
    )
    cohort = read_cohort(tmp_path / "cohort.yaml")
    assert cohort.weights.shape == (2, 1, 6, 6)
    near, far = cohort.weights[:, 0, 0, 1], cohort.weights[:, 0, 0, 5]
    assert (near > far).all()  # similar blocks have stronger connections
    np.testing.assert_allclose(cohort.region_features[0, :, 0], np.array(SLICES) * 12 * 10 * 8.0, rtol=1e-12)


def test_similarity_is_that_of_the_measures_written(tmp_path: Path) -> None:
    labels, *images = subject(tmp_path, 1)
    made = morphometry_files([images[0]], labels, tmp_path / "one_relmat.tsv", network="similarity")
    rows = [line.split("\t")[1:] for line in made.measures.read_text().splitlines()[1:]]
    expected = np.corrcoef(zscore(np.array(rows, dtype=float), axis=0))
    np.fill_diagonal(expected, 0)
    np.testing.assert_allclose(np.loadtxt(made.network, skiprows=1, delimiter="\t"), expected, atol=1e-6)


@pytest.mark.parametrize("network", ["divergence", "similarity"])
def test_a_voxel_without_a_number_in_one_image_has_no_part_in_any(tmp_path: Path, network: str) -> None:
    labels, *images = subject(tmp_path, 1)
    lacking = np.asarray(read_volume(images[0]).data).copy()
    lacking[0, :5, 0] = np.nan, np.inf, np.nan, -np.inf, np.nan
    first = write_volume(tmp_path / "lacking_T1w.nii.gz", lacking, AFFINE)
    made = morphometry_files([first, images[1]], labels, tmp_path / "a_relmat.tsv", network=network)
    parcels = np.where(np.isfinite(lacking), read_labels(labels).data, 0).astype(np.int16)
    fewer = write_volume(tmp_path / "fewer_dseg.nii.gz", parcels, AFFINE)
    expected = morphometry_files(images, fewer, tmp_path / "b_relmat.tsv", network=network)
    assert made.network.read_bytes() == expected.network.read_bytes()
    assert made.measures.read_bytes() == expected.measures.read_bytes()
    assert "5 labelled voxels are not a number" in made.network.with_suffix(".json").read_text()


def test_images_of_one_suffix_keep_the_measures_of_both(tmp_path: Path) -> None:
    labels, *images = subject(tmp_path, 1)
    runs = [image.rename(tmp_path / f"sub-01_run-{k}_T2w.nii.gz") for k, image in enumerate(images, 1)]
    made = morphometry_files(runs, labels, tmp_path / "c_relmat.tsv", network="similarity")
    header = made.measures.read_text().splitlines()[0].split("\t")
    assert header[2::5] == ["run-1_T2w_mean", "run-2_T2w_mean"]
    with pytest.raises(UsageError, match="same name"):
        morphometry_files([runs[0], runs[0]], labels, tmp_path / "c_relmat.tsv")


def test_images_on_another_grid_and_wrong_words_are_refused(tmp_path: Path) -> None:
    labels, image, _ = subject(tmp_path, 1)
    other = write_volume(tmp_path / "small_T2w.nii.gz", np.ones((4, 4, 4), dtype=np.float32), AFFINE)
    with pytest.raises(DataError, match="small_T2w"):
        morphometry_files([image, other], labels, tmp_path / "x.tsv")
    with pytest.raises(SystemExit) as left:
        main(["morphometry", str(labels), str(image), "--out", str(tmp_path / "x.tsv"), "--network", "likeness"])
    assert left.value.code == 64


@pytest.mark.slow
@pytest.mark.data
def test_dhcp33_is_read_as_its_settings_say(shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = runpy.run_path(str(ROOT / "benchmarks" / "dhcp33.py"))
    made["prepare"](shared_data / "dhcp_cortex_regional" / "data", tmp_path)
    monkeypatch.setenv("DHCP33", str(tmp_path))
    sizes = {}
    for name in ("term", "preterm", "everyone"):
        cohort = read_cohort(ROOT / "configs" / "dhcp33" / f"{name}.yaml")
        sizes[name] = (cohort.n_subjects, cohort.n_regions, cohort.region_features.shape[2])
    assert sizes == {"term": (63, 286, 8), "preterm": (76, 286, 8), "everyone": (139, 286, 8)}
    expected = np.corrcoef(zscore(cohort.region_features[100], axis=0))
    np.fill_diagonal(expected, 0)
    np.testing.assert_allclose(cohort.weights[100, 0], expected, atol=1e-6)
