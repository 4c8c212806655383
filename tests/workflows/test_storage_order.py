"""The connectome of a head does not depend on the order in which the voxels of its files are stored."""

from __future__ import annotations

from itertools import permutations, product
from pathlib import Path

import numpy as np
import pytest

from connectome_tl.imaging.read.images import Volume, in_usual_order, write_volume
from connectome_tl.provenance import write_json, write_text
from connectome_tl.simulation.phantom import PhantomSettings, make_anatomy, make_head
from connectome_tl.simulation.phantom_folder import write_template
from connectome_tl.workflows.scans.connectomes import build_connectomes

ORDERS = [(order, signs) for order in permutations(range(3)) for signs in product((1, -1), repeat=3)]
SIZE = PhantomSettings(
    n_regions=6,
    n_edges=5,
    half_axes=(22.0, 26.0, 20.0),
    anatomical_voxel=2.0,
    region_radius=6.0,
    shells=((0.0, 2), (1000.0, 16)),
)
CONFIG = """\
name: phantom
labels: template/tpl-Phantom_atlas-Phantom_dseg.tsv
template:
  image: template/tpl-Phantom_T2w.nii.gz
  labels: template/tpl-Phantom_atlas-Phantom_dseg.nii.gz
  mask: template/tpl-Phantom_desc-brain_mask.nii.gz
tracking: {n_streamlines: 200}
reconstruction: {response_voxels: 60, sh_order: 4}
preprocessing: {denoise: none, motion: none}
registration: {engine: dipy, orientation: header, affine_steps: [30, 10], nonlinear_mm: 1.8, nonlinear_steps: [5, 2, 0]}
"""


def stored(image: Volume, order: tuple[int, ...], signs: tuple[int, ...]) -> Volume:
    """The same image with other axes and directions of storage."""
    data, affine = np.moveaxis(image.data, order, range(3)), image.affine.copy()
    affine[:3, :3] = image.affine[:3, order]
    for axis in np.flatnonzero(np.array(signs) < 0):
        affine[:3, 3] += affine[:3, axis] * (data.shape[axis] - 1)
        affine[:3, axis] *= -1
        data = np.flip(data, axis)
    return Volume(np.ascontiguousarray(data), affine)


@pytest.mark.parametrize("shape", [(3, 4, 5), (3, 4, 5, 2)])
def test_all_48_orders_of_an_image_become_one(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    affine = np.eye(4)
    affine[:3] = np.linalg.qr(np.eye(3) + 0.1 * rng.normal(size=(3, 3)))[0] @ np.diag([1.0, 2.0, 3.0]) @ np.eye(3, 4)
    affine[:3, 3] = (5.0, -7.0, 11.0)
    image = Volume(rng.normal(size=shape), affine)
    usual = in_usual_order(image)
    assert np.sign(np.diag(usual.affine)[:3]).tolist() == [-1, 1, 1]
    for order, signs in ORDERS:
        found = in_usual_order(stored(image, order, signs))
        np.testing.assert_array_equal(found.data, usual.data)
        np.testing.assert_allclose(found.affine, usual.affine, atol=1e-12)


@pytest.mark.slow
def test_a_connectome_does_not_depend_on_the_order_of_storage(tmp_path: Path) -> None:
    anatomy = make_anatomy(SIZE)
    head = make_head(anatomy, seed=1)
    write_json(tmp_path / "dataset_description.json", {"Name": "Phantom", "BIDSVersion": "1.10.1"})
    write_template(tmp_path / "template", anatomy, make_head(anatomy, still=True))
    write_text(tmp_path / "config.yaml", CONFIG)
    orders = [((0, 1, 2), (1, 1, 1)), ((2, 0, 1), (-1, -1, -1))]
    for number, (order, signs) in enumerate(orders):
        name = f"sub-{number}"
        dwi = stored(Volume(head.dwi, head.affine), order, signs)
        t2w = stored(Volume(head.t2w, head.t2w_affine), order, signs)
        axes = dwi.affine[:3, :3] / np.linalg.norm(dwi.affine[:3, :3], axis=0)
        vectors = head.directions @ axes * [-1 if np.linalg.det(axes) > 0 else 1, 1, 1]
        write_volume(tmp_path / name / "anat" / f"{name}_T2w.nii.gz", t2w.data, t2w.affine)
        write_volume(tmp_path / name / "dwi" / f"{name}_dwi.nii.gz", dwi.data, dwi.affine)
        write_text(tmp_path / name / "dwi" / f"{name}_dwi.bval", " ".join(f"{b:g}" for b in head.bvals))
        lines = (" ".join(f"{value:.8f}" for value in row) + "\n" for row in vectors.T)
        write_text(tmp_path / name / "dwi" / f"{name}_dwi.bvec", "".join(lines))
    run = build_connectomes(tmp_path, tmp_path / "out", config=tmp_path / "config.yaml")
    assert [done.state for done in run.done] == ["computed"] * 2
    for measure, rtol in (("count", 0), ("length", 1e-3), ("FA", 1e-3)):
        files = sorted((tmp_path / "out").rglob(f"*meas-{measure}_relmat.tsv"))
        first, *others = (np.genfromtxt(file, skip_header=1) for file in files)
        assert (first > 0).any()
        for other in others:
            np.testing.assert_allclose(other, first, rtol=rtol, equal_nan=True)
