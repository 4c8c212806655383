"""Atlas tables: complete, alike in their node sets, and matched by name."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from connectome_tl.atlas import Atlas, atlas_folders, atlas_names, load_atlas, read_atlas
from connectome_tl.errors import DataError, MissingInputError, UsageError

LOBES = {"Frontal", "Parietal", "Temporal", "Occipital", "Limbic", "Insula", "Subcortical", "Cerebellum", "Brainstem"}


@pytest.fixture(params=atlas_names())
def atlas(request: pytest.FixtureRequest) -> Atlas:
    return load_atlas(request.param)


def test_the_promised_atlases_are_there() -> None:
    assert {"aal90", "aal116", "unc_aal90"} <= set(atlas_names())
    assert [load_atlas(name).n_regions for name in ("aal90", "aal116", "unc_aal90")] == [90, 116, 90]


def test_every_atlas_says_its_source_licence_and_where_the_image_is(atlas: Atlas) -> None:
    assert "doi:10." in atlas.source
    assert len(atlas.licence) > 20
    assert len(atlas.image) > 20
    assert {region.lobe for region in atlas.regions} <= LOBES


def test_left_is_left_of_right(atlas: Atlas) -> None:
    """Centroids are RAS+: a left region lies at a smaller x than its right partner."""
    x_of = {region.name: region.x for region in atlas.regions}
    pairs = 0
    for region in atlas.regions:
        if region.hemisphere == "L":
            assert region.x < 0, region
            partner = _partner(region.name)
            if partner in x_of:
                pairs += 1
                assert x_of[partner] > 0
        elif region.hemisphere == "M":
            assert abs(region.x) < 5
        else:
            assert region.x > 0, region
    assert pairs > 0.4 * sum(region.hemisphere != "M" for region in atlas.regions) or atlas.name.startswith("schaefer")


def _partner(name: str) -> str:
    for left, right in ((".L", ".R"), ("_L", "_R"), ("L_", "R_"), ("lh", "rh"), ("Left", "Right"), ("LH", "RH")):
        if name.endswith(left) or name.startswith(left) or f"-{left}-" in name or f"_{left}_" in name:
            return name.replace(left, right)
    return ""


def test_no_alias_means_two_regions(atlas: Atlas) -> None:
    for region in atlas.regions:
        for alias in (region.name, *region.aliases):
            assert atlas.resolved([alias]) == (region.name,), alias


def test_atlases_of_one_node_set_have_the_same_names() -> None:
    sets: dict[str, set[frozenset[str]]] = {}
    for name in atlas_names():
        atlas = load_atlas(name)
        sets.setdefault(atlas.node_set, set()).add(frozenset(atlas.names))
    assert all(len(found) == 1 for found in sets.values())


def test_adult_and_neonatal_order_differ_and_line_up_by_name() -> None:
    adult, neonate = load_atlas("aal90"), load_atlas("unc_aal90")
    assert adult.node_set == neonate.node_set == "aal90"
    assert adult.names != neonate.names
    order = adult.order_of(neonate.names)
    assert tuple(adult.names[i] for i in order) == neonate.names
    assert neonate.order != ""
    # the label numbers of both images mean the same region
    assert {r.name: r.index for r in adult.regions} == {r.name: r.index for r in neonate.regions}
    assert [neonate.names[i] for i in neonate.label_order] == list(adult.names)


def test_neonatal_centroids_are_a_newborns() -> None:
    """About 0.7 of an adult brain, in the same arrangement."""
    adult, neonate = load_atlas("aal90"), load_atlas("unc_aal90")
    moved = neonate.coordinates[neonate.order_of(adult.names)]
    assert (moved.std(axis=0) < 0.85 * adult.coordinates.std(axis=0)).all()
    for axis in range(3):
        assert np.corrcoef(moved[:, axis], adult.coordinates[:, axis])[0, 1] > 0.95


def test_aliases_are_understood_whatever_their_separator() -> None:
    atlas = load_atlas("aal116")
    names = ["Precentral_L", "precentral.l", "PreCG.L", "PreCG_L", "Cerebelum_Crus1_R", "Cerebellum_Crus1_R"]
    assert atlas.resolved(names) == ("PreCG.L",) * 4 + ("CRUS1.R",) * 2
    assert atlas.order_of(["Vermis_10", "Frontal_Sup_Orb_R"]).tolist() == [115, 5]


def test_unknown_region_names_the_nearest() -> None:
    with pytest.raises(DataError, match=r"PreCG\.L"):
        load_atlas("aal90").order_of(["PreCGG.L"])


def test_unknown_atlas_names_the_nearest() -> None:
    with pytest.raises(UsageError, match="aal90"):
        load_atlas("aal91")


def test_a_broken_table_lists_every_fault(tmp_path: Path) -> None:
    folder = tmp_path / "broken"
    shutil.copytree(next(f for f in atlas_folders()) / "aal90", folder)
    text = (folder / "regions.tsv").read_text()
    text = text.replace("PreCG.R\tR", "PreCG.L\tX").replace("\t-39.6\t", "\tn/a\t")
    (folder / "regions.tsv").write_text(text)
    with pytest.raises(DataError) as caught:
        read_atlas(folder)
    assert len(caught.value.problems) == 3
    (folder / "atlas.json").unlink()
    with pytest.raises(MissingInputError):
        read_atlas(folder)


def test_the_aal_names_and_order_are_those_of_the_shared_data(shared_data: Path) -> None:
    lines = (shared_data / "abide_fc_aal116" / "aal116.csv").read_text().split()
    rows = [line.split(",") for line in lines[1:]]
    atlas = load_atlas("aal116")
    assert [row[1] for row in rows] == list(atlas.names)
    theirs = np.array([[float(value) for value in row[5:8]] for row in rows])
    assert np.linalg.norm(theirs - atlas.coordinates, axis=1).max() < 1.5


def test_neonatal_centroids_match_the_label_image(shared_data: Path) -> None:
    import nibabel as nib
    from scipy.ndimage import center_of_mass

    image = nib.load(shared_data / "neonatal_atlases" / "AAL_UNCneo_in_extdhcp40wk.nii.gz")
    labels = np.asarray(image.dataobj)[::2, ::2, ::2]
    affine = image.affine @ np.diag([2, 2, 2, 1])
    atlas = load_atlas("unc_aal90")
    centres = center_of_mass(np.ones(labels.shape), labels, [region.index for region in atlas.regions])
    millimetres = np.asarray(centres) @ affine[:3, :3].T + affine[:3, 3]
    assert np.abs(millimetres - atlas.coordinates).max() < 0.5
